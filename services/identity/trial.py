"""Other rules, tried on the whole log or a span of it without touching anything; and applied to what was decided.

    python -m services.identity.trial RULES.json [--since MS] [--until MS]
    python -m services.identity.trial RULES.json --apply

A trial decides the same events twice, by the rules in force and by the others, side by side and from nothing, and
compares. Applying puts the rules in force and then decides again about everybody who comes out otherwise: one
decision, to which each regrouping refers. It may be interrupted; doing it again goes on.
"""

import argparse
import heapq
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from contracts.streams import TRACKING
from services.identity.domain.graph import Graph
from services.identity.domain.regrouping import Heard
from services.identity.domain.rules import Rules, rules_of
from services.identity.domain.trial import Report, biggest, differences, few, groups_of, told
from services.identity.domain.uniting import Alike, alike_of
from services.identity.regrouping import RESOLVE, Regrouping
from services.identity.resolver import Resolver
from services.identity.store import Change, IdentityStore
from shared.config import Settings
from shared.errors import SamlaError, SettingsError
from shared.eventlog import Event
from shared.eventlog.sealed import open_events
from shared.keyring import new_id
from shared.rebuild import Tools

PAGE: Final = 1_000
SAY_SECONDS: Final = 0.5

Say = Callable[[str, int, int], None]
"""Told from time to time: what is done, how much of it, of how much."""


class Trial:
    """See the module's text."""

    def __init__(self, tools: Tools, say: Say) -> None:
        self._tools = tools
        self._say = say
        self._store = IdentityStore(tools.db, tools.keyring)
        self._store.setup()
        self._resolver = Resolver(self._store, tools.keyring)
        _, number = self._store.version()
        self._now = self._store.rules(number)
        self._named: dict[str, str] = {}
        """Subject -> an event that names it."""
        self._made_up: dict[tuple[str, str], str] = {}
        self._count = 0

    def run(self, document: Mapping[str, Any], since: int = 0, until: int | None = None) -> dict[str, Any]:
        """What other rules would change. Raises SamlaError where they are none."""
        rules = rules_of(self._now.version + 1, dict(document))
        [before, after] = self._decided([self._now, rules], since, until)
        report = Report()
        old, new = groups_of(before), groups_of(after)
        for each in differences(old, new):
            report.add(each)
        largest = {"before": biggest(old), "after": biggest(new)}
        names = self._names(
            report.shown | {each for group in (*largest["before"], *largest["after"]) for each in few(group)}
        )
        return {
            "events": self._count,
            "people": {"before": len(old), "after": len(new)},
            "merging": report.merges,
            "parting": report.parts,
            "examples": report.examples(names),
            "biggest": {side: [told(group, names) for group in found] for side, found in largest.items()},
        }

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Puts the rules in force, for what was decided, too."""
        rules, decision = self._in_force(document)
        [after] = self._decided([rules], 0, None)
        changed = [each.subjects for each in differences(self._store.groups(), groups_of(after))]
        changed += [frozenset(each) for each in self._otherwise(after)]
        regrouping = self._regrouping()
        done, skipped = 0, []
        for number, each in enumerate(changed):
            self._say("people", number, len(changed))
            try:
                done += regrouping.regroup(each, decision, rules) is not None
            except SamlaError as error:
                if self._store.version()[1] != rules.version:
                    raise
                # The others need not wait for these; the same command tries them again.
                skipped.append({"identifiers": len(each), "why": str(error)})
        told = {"decision": decision, "version": rules.version, "events": self._count}
        return {**told, "regrouped": done, "skipped": skipped}

    def _otherwise(self, after: Graph) -> Iterator[set[str]]:
        """Identifiers that are the same person's, and whose events come out otherwise."""
        since = {subject: each.since for person in after.people.values() for subject, each in person.shared.items()}
        had = self._store.shared_since()
        for subject in since.keys() | had.keys():
            if since.get(subject) != had.get(subject):
                yield {subject}
        given = {event: pair[:2] for event, pair in after.given.items()}
        for each in self._store.all_given():
            if given.pop(each.event, None) != (each.subject, each.to):
                yield {each.subject, each.to}
        yield from (set(pair) for pair in given.values())

    def _in_force(self, document: Mapping[str, Any]) -> tuple[Rules, str]:
        """These rules, and the decision by which they are: one that was interrupted is gone on with."""
        for last in self._store.documents()[-1:]:
            if last["past"] and last["rules"] == document:
                return self._now, str(last["decision"])
        change = Change(new_id(), now_ms(), past=True)
        tools = self._tools
        made = self._resolver.change_rules(document, change, tools.transactor, tools.log, tools.checkpoints)
        return made, change.decision

    def _regrouping(self) -> Regrouping:
        tools = self._tools
        return Regrouping(
            self._store,
            self._resolver,
            tools.log,
            tools.keyring,
            tools.transactor,
            tools.checkpoints,
            now_ms,
        )

    # Deciding everything from nothing

    def _decided(self, rules: list[Rules], since: int, until: int | None) -> list[Graph]:
        """The graphs that all events, as far as they have been decided, would give."""
        graphs = [Graph(apart=self._store.all_apart()) for _ in rules]
        upto = {
            place.partition: at for place, at in self._tools.checkpoints.all().items() if place.subscription == RESOLVE
        }
        whole, self._count = sum(upto.values()), 0
        said = 0.0
        for page in _pages(heapq.merge(self._by_time(upto), self._said(), key=_time)):
            chosen = [each for each in page if since <= _time(each) and (until is None or _time(each) < until)]
            for graph, each in zip(graphs, rules, strict=True):
                for heard in self._heard(chosen, each):
                    heard.decided(graph)
                graph.settle(given=False)
            self._count += sum(isinstance(each, Event) for each in page)
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                self._say("events", self._count, whole)
        return graphs

    def _heard(self, page: Sequence[Event | Alike], rules: Rules) -> Iterator[Heard]:
        """What each says, in their order."""
        events = [each for each in page if isinstance(each, Event)]
        claims = {event.id: claim for event, claim in self._resolver.claims(events, rules, self._stands_for)}
        for claim in claims.values():
            for found in claim.found:
                self._named.setdefault(found.subject, claim.event)
        for each in page:
            if isinstance(each, Alike):
                yield Heard(each, rules)
            elif each.id in claims:
                yield Heard(claims[each.id], rules)

    def _stands_for(self, kind: str, value: str) -> str:
        """What stands for an identifier that nothing stands for, in memory: a trial touches nothing."""
        return self._made_up.setdefault((kind, value), new_id())

    def _said(self) -> Iterator[Alike]:
        """That two who look alike are one person: other rules decide about that, too."""
        return (alike_of(name, each) for name, each in self._store.accepted())

    def _by_time(self, upto: Mapping[int, int]) -> Iterator[Event]:
        partitions = [self._of_partition(each, at) for each, at in upto.items()]
        return heapq.merge(*partitions, key=lambda event: event.time)

    def _of_partition(self, partition: int, upto: int) -> Iterator[Event]:
        at = 0
        while at < upto and (page := self._tools.log.read(TRACKING, partition, at, min(PAGE, upto - at))):
            yield from page
            at = page[-1].position

    def _names(self, subjects: Collection[str]) -> dict[str, str]:
        """Subject -> the identifier that it stands for, `kind:value`."""
        ids = {self._named[each] for each in subjects if each in self._named}
        events = list(self._tools.log.find(TRACKING, ids).values())
        named = self._resolver.named(events, open_events(self._tools.keyring, events), self._now)
        return {subject: f"{kind}:{value}" for subject, (kind, value) in named.items() if subject in subjects}


def now_ms() -> int:
    """ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def _time(each: Event | Alike) -> int:
    return each.time if isinstance(each, Event) else each.received


def _pages(events: Iterable[Event | Alike]) -> Iterator[list[Event | Alike]]:
    page: list[Event | Alike] = []
    for event in events:
        page.append(event)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def main(arguments: list[str]) -> int:
    """The command line: 0, 1 where the rules are none, 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="python -m services.identity.trial")
    parser.add_argument("rules", type=Path, help="a file with the rules as JSON")
    parser.add_argument("--since", type=int, default=0, help="events received from this instant on (ms)")
    parser.add_argument("--until", type=int, help="events received before this instant (ms)")
    parser.add_argument("--apply", action="store_true", help="put them in force, for what was decided, too")
    options = parser.parse_args(arguments)
    try:
        document = orjson.loads(options.rules.read_bytes())
        trial = Trial(Tools.open(Settings.from_env(), "identity"), _say)
        told = trial.apply(document) if options.apply else trial.run(document, options.since, options.until)
    except (SamlaError, OSError, ValueError) as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    print(orjson.dumps(told).decode())
    return 1 if told.get("skipped") else 0


def _say(what: str, done: int, whole: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done} of {whole} ", end="\n" if done == whole else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
