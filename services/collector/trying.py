"""A source's rules are tried on what it has sent last before they are put in force.

The last messages are taken as they were received. Rules that would set aside what the rules of now take in are
not put in force unless that is said to be meant.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from services.collector.domain.cleaning import cleaning_of
from services.collector.domain.intake import PIECE, Intake
from services.collector.domain.plan import Violation, learned, plan_of
from services.collector.domain.raw import message_of, retaken
from services.collector.domain.rules import Prepared, Rules, prepared
from services.collector.domain.source import Source
from services.collector.raw import Entry, RawStore
from services.collector.recleaning import changes
from services.collector.rulebook import CLEANING, KINDS
from services.collector.store import SourceStore
from shared.errors import SamlaError
from shared.policy import Policy

EXAMPLES: Final = 20
MOST_KINDS: Final = 200


class Trying:
    """See the module's text. `pause` gives others their turn, the broker's heartbeats among them."""

    def __init__(
        self, raw: RawStore, sources: SourceStore, policy: Policy, pause: Callable[[], None] | None = None
    ) -> None:
        self._raw = raw
        self._sources = sources
        self._policy = policy
        self._pause = pause or partial(time.sleep, 0)

    def change(self, source: str, kind: str, rule: Any, messages: int, meant: bool, now: int) -> dict[str, Any]:
        """Puts rules in force, unless they would set aside more than those of now do and that is not `meant`. A
        report as of `test`, with the version that is in force then and whether it is the new one."""
        report = self.test(source, kind, rule, messages)
        saved = meant or not report["newly_set_aside"]
        version, _ = self._sources.rules.latest(source, kind)
        if saved:
            version = self._sources.rules.add(source, kind, rule or {}, now)
        return {**report, "saved": saved, "version": version}

    def learn(self, source: str, messages: int, mode: str) -> dict[str, Any]:
        """A plan that the last messages fit, cleaned by the rules of now."""
        at = self._sources.one(source)
        found = self._in_turn(self._raw.latest(source, messages)[::-1])
        ready = (self._prepared(entry, number, at) for entry, number in found)
        return learned((each.message for each in ready if isinstance(each.message, dict) and not each.rejected), mode)

    def _in_turn(self, messages: list[tuple[Entry, int]]) -> Iterator[tuple[Entry, int]]:
        for count, each in enumerate(messages, 1):
            yield each
            if count % PIECE == 0:
                self._pause()

    def _prepared(self, entry: Entry, at: int, source: Source) -> Prepared:
        text = entry.request.messages[at][1]
        return prepared(message_of(text), entry.request.shared, source.rules._replace(plan=None))

    def test(self, source: str, kind: str, rule: object, messages: int) -> dict[str, Any]:
        """What rules would make of the last messages, without putting them in force."""
        at = self._sources.one(source)
        rules = changed(at.rules, kind, rule)
        tried = _Tried(rules)
        for entry, number in self._in_turn(self._raw.latest(source, messages)):
            request = entry.request
            identity, text = request.messages[number]
            message = message_of(text)
            now, then = (
                retaken(message, request, entry.received, at._replace(rules=each), self._policy, identity)
                for each in (at.rules, rules)
            )
            tried.add(identity, message, now, then)
        return tried.report()


def changed(rules: Rules, kind: str, rule: object) -> Rules:
    """The rules with one kind of them changed; None takes it away. Raises SamlaError."""
    if kind not in KINDS:
        raise SamlaError(f"rules are {' or '.join(KINDS)}")
    if rule is not None and (not isinstance(rule, dict) or not rule):
        raise SamlaError(f"{kind}: rules are an object that says something; null takes them away")
    if kind == CLEANING:
        return rules._replace(cleaning=None if rule is None else cleaning_of(0, rule))
    return rules._replace(plan=None if rule is None else plan_of(0, rule))


class _Tried:
    """What came of messages on which rules were tried."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._messages = 0
        self._newly = 0
        self._set_aside: Counter[str] = Counter()
        self._uncleaned: Counter[str] = Counter()
        self._violations: Counter[Violation] = Counter()
        self._examples: list[dict[str, Any]] = []

    def add(self, identity: str, message: Any, now: Intake, then: Intake) -> None:
        """One more: what the rules of now make of it, and what these would."""
        self._messages += 1
        for aside in then.set_aside:
            self._set_aside[aside.code] += 1
            self._newly += len(now.accepted)
            self._example({"event": identity, "code": aside.code, "path": aside.place})
        self._uncleaned.update(then.uncleaned)
        self._violations.update(each._replace(special=False) for each in then.violations)
        if self._rules.cleaning is not None and isinstance(message, Mapping) and len(self._examples) < EXAMPLES:
            for change in changes(message, self._rules.cleaning):
                if change["raw"] != change["clean"] or change["problem"]:
                    self._example({"event": identity, **change})

    def _example(self, row: dict[str, Any]) -> None:
        if len(self._examples) < EXAMPLES:
            self._examples.append(row)

    def report(self) -> dict[str, Any]:
        """All of it."""
        return {
            "messages": self._messages,
            "set_aside": dict(self._set_aside),
            "newly_set_aside": self._newly,
            "uncleaned": dict(self._uncleaned.most_common(MOST_KINDS)),
            "violations": [{**each.row(), "count": count} for each, count in self._violations.most_common(MOST_KINDS)],
            "examples": self._examples,
        }
