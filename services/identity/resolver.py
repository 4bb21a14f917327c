"""From tracking events to decisions, and from erasures to a graph without those who are erased."""

from collections.abc import Sequence
from typing import Any, Final

from contracts.identity import ERASED
from contracts.privacy import SUBJECTS_ERASED
from contracts.streams import IDENTITY
from services.identity.domain.decide import Found, decide
from services.identity.domain.graph import Fact, Graph
from services.identity.store import IdentityStore
from shared.consumer import Finish, Output
from shared.eventlog import Event, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import open_events
from shared.keyring import Identifier, Keyring
from shared.transaction import Transaction

SERVICE: Final = "identity"
MOST_SETTLED: Final = 200_000


Identified = list[tuple[Event, list[Found]]]
"""Events with their identifiers."""


class Settled:
    """Whose the identifiers seen lately are, by the graph of one version: most events say nothing new, and of
    those nothing has to be looked up."""

    def __init__(self) -> None:
        self._version = -1
        self._links: dict[str, str] = {}

    def at(self, version: int) -> None:
        """Forgets what is of another version."""
        if version != self._version or len(self._links) > MOST_SETTLED:
            self._version = version
            self._links = {}

    def all_one(self, identifiers: Sequence[Found]) -> bool:
        """Whether they are one person's already: nothing is to be decided then."""
        owners = {self._links.get(each.subject) for each in identifiers}
        return len(owners) == 1 and None not in owners

    def learn(self, version: int, graph: Graph) -> None:
        """What was loaded after that version was read."""
        if version == self._version:
            self._links.update(graph.links)

    def changed(self, version: int, graph: Graph) -> None:
        """This process has moved the graph on from that version."""
        if version == self._version:
            self._version = version + 1
            self._links.update(graph.links)
            for subject in graph.unlinked:
                self._links.pop(subject, None)


class Resolver:
    """What identity's two subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: IdentityStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._settled = Settled()

    def resolve(self, events: Sequence[Event]) -> Finish | None:
        """Decides about the identifiers of tracking events."""
        found = self._found(events)
        version = self._store.version()
        self._settled.at(version)
        found = [(event, identifiers) for event, identifiers in found if not self._settled.all_one(identifiers)]
        graph = self._store.load({each.subject for _, identifiers in found for each in identifiers})
        self._settled.learn(version, graph)
        found = self._living(found, graph)
        decided = [(event, facts) for event, each in found if (facts := decide(graph, event.id, event.time, each))]
        made = [new for event, facts in decided for new in _events(event, facts)]

        def finish(within: Transaction) -> list[Output]:
            self._store.save(graph, version, within)
            within.on_commit(lambda: self._settled.changed(version, graph))
            return [(IDENTITY, made)]

        return finish if made else None

    def _living(self, found: Identified, graph: Graph) -> Identified:
        """Without who is being erased, though the erasure may not have come to us yet."""
        named = {each.subject for _, identifiers in found for each in identifiers}
        gone = self._keyring.fenced({*named, *graph.people})
        if not gone:
            return found
        graph.links = {
            subject: profile for subject, profile in graph.links.items() if subject not in gone and profile not in gone
        }
        return [
            (event, [each for each in identifiers if each.subject not in gone])
            for event, identifiers in found
            if event.subject not in gone
        ]

    def _found(self, events: Sequence[Event]) -> Identified:
        """The identifiers of each event as subjects; erased events have none."""
        bodies = open_events(self._keyring, events)
        named: list[list[Identifier]] = [
            [(kind, value) for kind, value in _identifiers(body)] if body else [] for body in bodies
        ]
        others = {pair for pairs in named for pair in pairs[1:]}
        subjects = self._keyring.subjects_of(list(others), create=True)
        found = []
        for event, body, pairs in zip(events, bodies, named, strict=True):
            if body is None:
                continue
            # The event's own subject is its first identifier's as of then; the table may have forgotten since.
            if not pairs:
                continue  # Nobody's: what came as identifiers was junk.
            mine = [Found(pairs[0][0], event.subject)]
            mine += [Found(pair[0], subject) for pair in pairs[1:] if (subject := subjects[pair])]
            found.append((event, mine))
        return found

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops erased people."""
        erasures = [event for event in events if event.type == SUBJECTS_ERASED]
        version = self._store.version()
        graph = self._store.load(
            {subject for event in erasures for subject in event.texts("subjects")},
            {profile for event in erasures for profile in event.texts("profiles")},
        )
        made = []
        for event in erasures:
            fact = Fact(ERASED, event.text("request"), _erased(event, graph))
            graph.evolve(fact.type, fact.data, event.time)
            made += _events(event, [fact])

        def finish(within: Transaction) -> list[Output]:
            self._store.save(graph, version, within)
            return [(IDENTITY, made)]

        return finish if made else None


def _erased(event: Event, graph: Graph) -> dict[str, Any]:
    profiles = set(event.texts("profiles"))
    merged = {each for profile in profiles if profile in graph.people for each in graph.people[profile].merged}
    members = {each for profile in profiles if profile in graph.people for each in graph.people[profile].members}
    return {
        "request": event.text("request"),
        "profiles": sorted(profiles | merged),
        "subjects": sorted({*event.texts("subjects"), *members}),
    }


def _identifiers(body: dict[str, object]) -> list[list[str]]:
    found: Any = body.get("identifiers") or []
    return [[str(kind), str(value)] for kind, value in found]


def _events(cause: Event, facts: Sequence[Fact]) -> list[NewEvent]:
    causes = latest_causes(cause.causes, {cause.place: cause.position})
    return [
        NewEvent(
            id=derive_id(SERVICE, cause.id, number),
            type=fact.type,
            source=SERVICE,
            subject=fact.subject,
            time=cause.time,
            data=fact.data,
            causes=causes,
            correlation=cause.correlation,
        )
        for number, fact in enumerate(facts)
    ]
