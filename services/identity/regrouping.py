"""Taking people apart and putting them together anew: splits, and other rules for what was decided before.

Whom it may concern is found by what the graph remembers: people who have set one of these identifiers aside, and
whose events were given to whom. All of their events are read again, as far as they had been decided, and decided
again in their order. What comes of it is one event in identity's stream.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from contracts.identity import MERGED, REGROUPED, SPLIT
from contracts.streams import IDENTITY, TRACKING
from services.identity.domain.decide import Claim
from services.identity.domain.graph import SIDES, Graph, Person
from services.identity.domain.regrouping import Again, Cut, Heard, cut_of_identifier, cut_of_merge, decided_again
from services.identity.domain.rules import Rules
from services.identity.domain.uniting import alike_of
from services.identity.history import History, said_by
from services.identity.resolver import RESOLVE, SERVICE, Identified, Resolver, decided_upto, nobody
from services.identity.store import IdentityStore
from shared.checkpoints import MongoCheckpoints, Place
from shared.consumer import PARKS
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from shared.eventlog import Event, EventLog, NewEvent, latest_causes
from shared.keyring import Keyring, new_id
from shared.transaction import Transaction, Transactor

MOST_PEOPLE: Final = 200
"""Who is near somebody is decided again with them, up to so many; beyond that those alone who are asked about."""
MOST_EVENTS: Final = 100_000
TOO_MANY_EVENTS: Final = f"more than {MOST_EVENTS} events would be decided again: that is too many at once"
MOST_FACTS: Final = 15_000
PAGE: Final = 500
ATTEMPTS: Final = 20
PATIENCE: Final = 4
"""Attempts, until events are held off."""

T = TypeVar("T")


class Ground(NamedTuple):
    """What a decision is made on; if it moves, the decision is made again."""

    version: int
    handled: dict[Place, int]
    named: frozenset[str] = frozenset()
    """Subjects and profiles that it is about."""
    gone: frozenset[str] = frozenset()
    """Those of them that are being erased."""

    def holds(self, event: Event) -> bool:
        """Whether the event had been decided."""
        return event.position <= self.handled.get(Place(RESOLVE, TRACKING, event.partition), 0)


class Regrouping:
    """See the module's text."""

    def __init__(
        self,
        store: IdentityStore,
        resolver: Resolver,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        checkpoints: MongoCheckpoints,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._now_ms = now_ms
        self._history = History(store, log)

    # Splits

    def split_identifier(self, profile: str, subject: str) -> dict[str, Any]:
        """An identifier (its subject) is none of a person's. Raises SamlaError."""
        return self._split(profile, lambda person: cut_of_identifier(person, subject))

    def split_merge(self, merge: str) -> dict[str, Any]:
        """Two who were merged are not one person; `merge` is the decision's id. Raises SamlaError."""
        fact = self._history.fact(merge)
        if fact is None or fact["type"] != MERGED:
            raise NotFound(f"there is no merge {merge}: see `samla identity explain`")
        return self._split(fact["into"], lambda person: self._cut_of_merge(person, fact))

    def _cut_of_merge(self, person: Person, merge: dict[str, Any]) -> Cut:
        before = self._history.before(person, merge)
        if before is None:
            raise Conflict("this merge has been taken back already")
        return cut_of_merge(before, merge)

    def _split(self, profile: str, cut_of: Callable[[Person], Cut]) -> dict[str, Any]:
        return self._attempt(lambda: self._split_once(profile, cut_of))

    def _split_once(self, profile: str, cut_of: Callable[[Person], Cut]) -> dict[str, Any]:
        ground = self._ground()
        person = self._one(profile)
        cut = cut_of(person)
        decision = new_id()
        data: dict[str, Any] = {"decision": decision, **dict(zip(SIDES, cut, strict=True))}
        graph, again, ground, causes = self._again([person], person.members, ground, None, data)
        # Should they have begun to be erased since, they were left out.
        self._one(profile)
        data |= {"dissolved": again.dissolved, "facts": again.facts}
        self._happens(SPLIT, person.id, decision, data, graph, ground, causes)
        return _told(decision, person.id, person.members, graph)

    # Other rules

    def regroup(self, subjects: Collection[str], decision: str, rules: Rules) -> dict[str, Any] | None:
        """Decides again, by other rules, about whose these identifiers (subjects) are and who is near them; None where
        all stays as it is."""
        return self._attempt(lambda: self._regroup_once(subjects, decision, rules))

    def _regroup_once(self, subjects: Collection[str], decision: str, rules: Rules) -> dict[str, Any] | None:
        ground = self._ground()
        if self._store.version()[1] != rules.version:
            raise Conflict("other rules are in force by now: nothing more is decided by these")
        gone = self._keyring.fenced(subjects)
        living = [each for each in subjects if each not in gone]
        owners = self._store.profile_of(living)
        people = list(self._store.people_by_id(owners.values()).values())
        regrouping = new_id()
        data: dict[str, Any] = {"decision": decision, "regrouping": regrouping}
        graph, again, ground, causes = self._again(people, living, ground, rules, data)
        if not again.dissolved and not again.facts:
            return None
        about = again.dissolved[0] if again.dissolved else again.facts[0]["profile"]
        data |= {"dissolved": again.dissolved, "facts": again.facts}
        self._happens(REGROUPED, about, regrouping, data, graph, ground, causes)
        return _told(decision, about, living, graph)

    # Deciding again

    def _attempt(self, once: Callable[[], T]) -> T:
        """Again while others were faster; after some times those are asked to wait."""
        calm = False
        try:
            for number in range(ATTEMPTS):
                started = time.monotonic()
                try:
                    return once()
                except CheckpointMoved:
                    if calm := number + 1 >= PATIENCE:
                        # As long as it took, and half of that: what there is to be read may have grown.
                        self._store.calm(1.5 * (time.monotonic() - started) + 1.0)
            raise Conflict("this person's events keep coming; nothing was changed, try again")
        finally:
            if calm:
                self._store.calm(0)

    def _ground(self) -> Ground:
        version, _ = self._store.version()
        return Ground(version, decided_upto(self._checkpoints))

    def _one(self, profile: str) -> Person:
        person = self._store.people_by_id([profile]).get(profile)
        if person is None:
            raise NotFound(f"there is no profile {profile}")
        if self._keyring.fenced({person.id, *person.members}):
            raise Conflict("this person is being erased")
        return person

    def _again(
        self,
        whom: Sequence[Person],
        subjects: Iterable[str],
        ground: Ground,
        rules: Rules | None,
        data: dict[str, Any],
    ) -> tuple[Graph, Again, Ground, dict[str, int]]:
        """The graph to be changed, what came of deciding again, on what ground, and the causes. Who is being erased is
        left as they are, and nobody becomes one with them."""
        people, members, events, heard, graph = self._gathered(whom, set(subjects), ground, rules)
        named = {*members, *(subject for each in heard for subject in each.subjects), *graph.people}
        named |= {subject for each in graph.people.values() for subject in each.members}
        fenced = self._keyring.fenced(named)
        gone = fenced | {subject for each in graph.people.values() if each.id in fenced for subject in each.members}
        links = {subject: profile for subject, profile in graph.links.items() if not {subject, profile} & gone}
        tried = Graph(graph.people.values(), links, graph.apart)
        for side, name in enumerate(SIDES):
            for subject in data.get(name, ()):
                tried.apart.setdefault(subject, {})[data["decision"]] = side
        others = {shared.other for each in people for shared in each.shared.values()}
        living = [said for each in heard if (said := each.without(gone))]
        again = decided_again(tried, [each.id for each in people], living, self._keyring.fenced(others))
        if len(again.facts) > MOST_FACTS:
            raise SamlaError(f"more than {MOST_FACTS} decisions would be made again: that is too many at once")
        ground = ground._replace(named=frozenset(named), gone=frozenset(fenced))
        return graph, again, ground, latest_causes(*({each.place: each.position} for each in events))

    def _gathered(
        self, whom: Sequence[Person], subjects: set[str], ground: Ground, rules: Rules | None
    ) -> tuple[list[Person], set[str], list[Event], list[Heard], Graph]:
        """Who is decided again, their identifiers, their events, what these say, and the graph around."""
        near = self._near(whom)
        people = self._living(whom) if near is None else near
        while True:
            members = subjects | {subject for each in people for subject in each.members}
            events = self._events(people, members, ground)
            heard = [*self._heard(events, people, rules), *self._said(members, rules)]
            named = {subject for each in heard for subject in each.subjects}
            graph = self._store.load(members | named, [part for each in people for part in (each.id, *each.merged)])
            # On whose devices one of these is known as somebody else: only what was said names those.
            owners = [each for each in graph.people.values() if any(it.other in members for it in each.shared.values())]
            wider = self._near([*people, *owners]) if near is not None else None
            if wider is None or {each.id for each in wider} <= {each.id for each in people}:
                return people, members, events, heard, graph
            people = wider

    def _near(self, whom: Sequence[Person]) -> list[Person] | None:
        """These people, and who may be somebody else if they are; None where those are too many."""
        near = {each.id: each for each in whom}
        fresh = list(near.values())
        while fresh:
            members = {subject for each in fresh for subject in each.members}
            aside = {subject for each in fresh for subject in each.aside}
            given = self._store.given_around(members)
            said = self._store.verdicts(members).values()
            alike = {subject for each in said if each.accepted for subject in each.subjects}
            owners = self._store.profile_of((aside | given | alike) - members).values()
            found = self._store.people_by_id({*self._store.beside(members), *owners} - near.keys())
            fresh = [each for name, each in found.items() if name == each.id and name not in near]
            if len(near) + len(fresh) > MOST_PEOPLE:
                return None
            near |= {each.id: each for each in fresh}
        return self._living(near.values())

    def _living(self, people: Iterable[Person]) -> list[Person]:
        """Those of whom nothing is being erased."""
        these = list(people)
        gone = self._keyring.fenced({name for each in these for name in (each.id, *each.members)})
        return [each for each in these if gone.isdisjoint((each.id, *each.members))]

    def _events(self, people: Sequence[Person], members: Collection[str], ground: Ground) -> list[Event]:
        """Those that had been decided: all of these subjects', and those of others that said something of them."""
        found: dict[str, Event] = {}
        for event in self._theirs(members):
            if ground.holds(event):
                found[event.id] = event
            if len(found) > MOST_EVENTS:
                raise SamlaError(TOO_MANY_EVENTS)
        said = self._history.events(people)
        for each in self._store.given(members):
            said.add(each.event)
            if len(said) > MOST_EVENTS:
                raise SamlaError(TOO_MANY_EVENTS)
        others = self._log.find(TRACKING, said - found.keys())
        return [*found.values(), *(event for event in others.values() if ground.holds(event))]

    def _theirs(self, subjects: Iterable[str]) -> Iterator[Event]:
        for subject in subjects:
            at = 0
            while page := self._log.read_subject(TRACKING, subject, at, PAGE):
                yield from page
                at = page[-1].position

    def _heard(self, events: Sequence[Event], people: Sequence[Person], rules: Rules | None) -> list[Heard]:
        first = self._history.first_facts(people)
        by_time, by_version = self._store.rules_by_time(), self._store.rules_since()
        before = self._store.rules_before(rules.version) if rules is not None else None

        def of_then(event: Event) -> Rules:
            if rules is not None:
                return rules
            _, version = first.get(event.id, (0, None))
            return by_time(event.time) if version is None else by_version(version)

        def claims(of_version: list[Event], used: Rules) -> Identified:
            if before is None:
                return self._resolver.claims(of_version, used, nobody)
            known = {event.id: before(event.time, first.get(event.id, (0, None))[1]) for event in of_version}
            return self._resolver.claims_anew(of_version, used, lambda event: known[event.id])

        heard = []
        for start in range(0, len(events), PAGE):
            for event, claim, used in _claims(events[start : start + PAGE], of_then, claims):
                position, _ = first.get(event.id, (None, 0))
                heard.append(Heard(claim, used, position, (event.partition, event.position)))
        return heard

    def _said(self, subjects: Collection[str], rules: Rules | None) -> list[Heard]:
        """That somebody with one of these is one person with somebody else who looks alike; in its place among what was
        decided, as it was decided when it was said."""
        accepted = {name: each for name, each in self._store.verdicts(subjects).items() if each.accepted}
        gone = self._keyring.fenced({subject for each in accepted.values() for subject in each.subjects})
        accepted = {name: each for name, each in accepted.items() if gone.isdisjoint(each.subjects)}
        rules_at = self._store.rules_by_time() if rules is None else lambda _: rules
        events = self._log.find(IDENTITY, [said_by(name) for name in accepted])
        return [
            Heard(alike_of(name, each), rules_at(each.time), events[said_by(name)].position)
            for name, each in accepted.items()
        ]

    def _happens(
        self,
        kind: str,
        about: str,
        identity: str,
        data: dict[str, Any],
        graph: Graph,
        ground: Ground,
        causes: dict[str, int],
    ) -> None:
        graph.evolve(kind, data, self._now_ms())
        event = NewEvent(
            id=identity,
            type=kind,
            source=SERVICE,
            subject=about,
            time=self._now_ms(),
            data=data,
            causes=causes,
            correlation=data["decision"],
        )

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            if self._keyring.fenced(ground.named, within) != ground.gone:
                raise CheckpointMoved("somebody is being erased since this was read")
            self._store.save(graph, ground.version, within)
            self._checkpoints.turn(within, ground.handled)
            self._log.append(IDENTITY, [event], within)

        self._transactor.run(work)


def _claims(
    events: Sequence[Event], of_then: Callable[[Event], Rules], claims: Callable[[list[Event], Rules], Identified]
) -> Iterator[tuple[Event, Claim, Rules]]:
    """What each says, by the rules of then; what cannot be read was parked, and says nothing."""
    by_rules: dict[int, list[Event]] = {}
    for event in events:
        by_rules.setdefault(of_then(event).version, []).append(event)
    for of_version in by_rules.values():
        rules = of_then(of_version[0])
        try:
            found = claims(of_version, rules)
        except PARKS:
            if len(of_version) > 1:
                for event in of_version:
                    yield from _claims([event], of_then, claims)
            continue
        for event, claim in found:
            yield event, claim, rules


def _told(decision: str, was: str, subjects: Iterable[str], graph: Graph) -> dict[str, Any]:
    """{decision, was, profiles: [{profile, identifiers}]}: whose the identifiers are now."""
    found = {graph.links[subject] for subject in subjects if subject in graph.links}
    people = [{"profile": each, "identifiers": len(graph.people[each].members)} for each in sorted(found)]
    return {"decision": decision, "was": was, "profiles": people}
