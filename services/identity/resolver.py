"""From tracking events to decisions, and from erasures to a graph without those who are erased."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts.identity import ERASED, RULES_CHANGED
from contracts.privacy import SUBJECTS_ERASED
from contracts.streams import IDENTITY
from services.identity.domain.decide import FIRST, Claim, Found, decide
from services.identity.domain.graph import Fact, Graph
from services.identity.domain.rules import WRITTEN, Rules, rules_of
from services.identity.store import LONGEST_CALM, Change, IdentityStore
from shared.checkpoints import Checkpoints, MongoCheckpoints, Place
from shared.consumer import Finish, Output
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import Body, open_events
from shared.keyring import ORDINARY, Keyring, Sealing
from shared.transaction import Transaction, Transactor, tried

SERVICE: Final = "identity"
RESOLVE: Final = "identity.resolve"
"""The subscription that decides."""
ATTEMPTS: Final = 20
MOST_SETTLED: Final = 200_000


Identified = list[tuple[Event, Claim]]
"""Events with what they say of who is who."""


def decided_upto(checkpoints: Checkpoints, session: Any = None) -> dict[Place, int]:
    """How far events have been decided about; as of a session, if one is given."""
    return {place: at for place, at in checkpoints.all(session).items() if place.subscription == RESOLVE}


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

    def all_one(self, claim: Claim) -> bool:
        """Whether all of them are one person's already: nothing is to be decided then."""
        owners = {self._links.get(each) for each in {claim.subject, *(one.subject for one in claim.found)}}
        return len(owners) == 1 and None not in owners

    def learn(self, version: int, graph: Graph) -> None:
        """What was loaded after that version was read."""
        if version == self._version:
            self._links.update(_plain(graph))

    def changed(self, version: int, graph: Graph) -> None:
        """This process has moved the graph on from that version."""
        if version == self._version:
            self._version = version + 1
            shared = {
                subject for profile in graph.touched & graph.people.keys() for subject in graph.people[profile].shared
            }
            for subject in graph.unlinked | shared:
                self._links.pop(subject, None)
            self._links.update(_plain(graph))


def _plain(graph: Graph) -> dict[str, str]:
    """Whose identifiers are, without devices that are shared: whose an event on those is, is decided each time."""
    shared = {subject for person in graph.people.values() for subject in person.shared}
    return {subject: profile for subject, profile in graph.links.items() if subject not in shared}


class Resolver:
    """What identity's two subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: IdentityStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._settled = Settled()

    def resolve(self, events: Sequence[Event]) -> Finish | None:
        """Decides about the identifiers of tracking events."""
        version, number = self._calmly()
        rules = self._store.rules(number)
        found = self.claims(events, rules)
        self._settled.at(version)
        found = [(event, claim) for event, claim in found if not self._settled.all_one(claim)]
        graph = self._store.load({each.subject for _, claim in found for each in claim.found})
        self._settled.learn(version, graph)
        found = self._living(found, graph)
        decided = [(event, facts) for event, claim in found if (facts := decide(graph, claim, rules))]
        made = [new for event, facts in decided for new in _events(event, facts)]

        def finish(within: Transaction) -> list[Output]:
            self._store.save(graph, version, within)
            within.on_commit(lambda: self._settled.changed(version, graph))
            return [(IDENTITY, made)]

        return finish if made else None

    def _calmly(self) -> tuple[int, int]:
        """The store's version, once nobody asks to wait any more, which may not be for ever."""
        deadline = time.monotonic() + LONGEST_CALM
        version = self._store.version()
        while (left := self._store.calm_left()) > 0 and time.monotonic() < deadline:
            time.sleep(min(left, 0.05))
            version = self._store.version()
        return version

    def _living(self, found: Identified, graph: Graph) -> Identified:
        """Without who is being erased, though the erasure may not have come to us yet."""
        named = {each.subject for _, claim in found for each in claim.found}
        gone = self._keyring.fenced({*named, *graph.people})
        if not gone:
            return found
        graph.links = {
            subject: profile for subject, profile in graph.links.items() if subject not in gone and profile not in gone
        }
        return [
            (event, claim._replace(found=[each for each in claim.found if each.subject not in gone]))
            for event, claim in found
            if event.subject not in gone
        ]

    def claims(
        self, events: Sequence[Event], rules: Rules, unknown: Callable[[str, str], str | None] | None = None
    ) -> Identified:
        """What each event says of who is who; erased events, and those of nobody, say nothing. `unknown` gives what
        stands for (kind, value) where nothing does; without it, something is made to."""
        bodies = open_events(self._keyring, events)
        named = [_named(body, rules) if body else [] for body in bodies]
        others = {(each.kind, each.value) for claims in named for each in claims if not each.own}
        subjects = self._keyring.subjects_of(list(others), create=unknown is None)
        if unknown is not None:
            subjects = {pair: subject or unknown(*pair) for pair, subject in subjects.items()}
        found = []
        for event, body, claims in zip(events, bodies, named, strict=True):
            # The event's own subject is its first identifier's as of then; the table may have forgotten since.
            mine = [
                Found(each.kind, event.subject if each.own else subject)
                for each in claims
                if (subject := event.subject if each.own else subjects[each.kind, each.value])
            ]
            if body is not None and mine:
                found.append((event, _claim(event, body, mine)))
        return found

    def claims_anew(
        self, events: Sequence[Event], rules: Rules, before: Callable[[Event], Sequence[Rules]]
    ) -> Identified:
        """As `claims`, by other rules than an event was decided by `before`. What these compare in a form that is new
        gets a subject; what was compared so before and has none any more was forgotten, and gets none, nor does what
        is suppressed."""
        bodies = open_events(self._keyring, events)
        forms: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for event, body in zip(events, bodies, strict=True):
            had = {(each.kind, each.value) for others in before(event) for each in _named(body or {}, others)}
            for kind, written in _identifiers(body or {}):
                value = rules.of(kind).value(written)
                if value is not None and (kind, value) not in had:
                    forms.setdefault((kind, value), set()).add((kind, written))
        suppressed = self._keyring.suppressed([*forms, *(each for written in forms.values() for each in written)])
        fresh = [pair for pair, written in forms.items() if suppressed.isdisjoint({pair, *written})]
        self._keyring.subjects_of(fresh, create=True)
        return self.claims(events, rules, nobody)

    def named(self, events: Sequence[Event], bodies: Sequence[Body | None], rules: Rules) -> dict[str, tuple[str, str]]:
        """Subject -> (kind, value) of the identifiers that these events name; of erased events, none."""
        pairs = [
            (event, each) for event, body in zip(events, bodies, strict=True) for each in _named(body or {}, rules)
        ]
        others = {(each.kind, each.value) for _, each in pairs if not each.own}
        known = self._keyring.subjects_of(list(others), create=False)
        found = {subject: pair for pair, subject in known.items() if subject}
        return found | {event.subject: (each.kind, each.value) for event, each in pairs if each.own}

    def change_rules(
        self,
        document: Mapping[str, Any],
        change: Change,
        transactor: Transactor,
        log: EventLog,
        checkpoints: MongoCheckpoints,
    ) -> Rules:
        """Puts rules in force for what is decided from now on, a fact like any other. Batches that are under way are
        decided by them. Raises SamlaError; Unavailable during a rebuild."""

        def once() -> Rules:
            version, number = self._store.version()
            rules = rules_of(number + 1, dict(document))
            [sealed] = self._keyring.seal([Sealing(change.decision, ORDINARY, change.decision, orjson.dumps(document))])

            def work(within: Transaction) -> None:
                checkpoints.guard(within)
                self._store.put_rules(rules.version, sealed, change, version, within)
                checkpoints.turn(within, decided_upto(checkpoints, within.session))
                event = NewEvent(
                    id=change.decision,
                    type=RULES_CHANGED,
                    source=SERVICE,
                    subject=change.decision,
                    time=change.time,
                    data={"version": rules.version, "past": change.past},
                    sealed={ORDINARY: sealed},
                    correlation=change.decision,
                )
                log.append(IDENTITY, [event], within)

            transactor.run(work)
            return rules

        otherwise = "events are decided about without a pause; the rules are as they were, try again"
        return tried(once, ATTEMPTS, otherwise)

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops erased people."""
        erasures = [event for event in events if event.type == SUBJECTS_ERASED]
        version, _ = self._store.version()
        subjects = {subject for event in erasures for subject in event.texts("subjects")}
        profiles = {profile for event in erasures for profile in event.texts("profiles")}
        graph = self._store.load(subjects, profiles)
        # With those that joined since it was asked for.
        members = {subject for each in profiles & graph.people.keys() for subject in graph.people[each].members}
        graph = self._store.load(subjects | members, profiles)
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


class Named(NamedTuple):
    """An identifier of a body, by the rules."""

    kind: str
    value: str
    own: bool
    """Whether the event's own subject is this one's."""


def _named(body: Mapping[str, Any], rules: Rules) -> list[Named]:
    """Those that are somebody's. Where the event's own is compared in another form, the event lies under the form in
    which it was written, which is one more of the person's."""
    found: list[Named] = []
    for number, (kind, written) in enumerate(_identifiers(body)):
        value = rules.of(kind).value(written)
        if value is None:
            continue
        found.append(Named(kind, value, not number and value == written))
        if not number and value != written:
            found.append(Named(WRITTEN, written, own=True))
    return found


def _identifiers(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, value as it was written), in order."""
    return [(str(kind), str(written)) for kind, written in body.get("identifiers") or ()]


def nobody(kind: str, value: str) -> None:
    """Nothing stands for it."""


def _claim(event: Event, body: Body, found: list[Found]) -> Claim:
    party, merges = str(body.get("party", FIRST)), body.get("merges") is True
    return Claim(event.id, event.time, event.subject, found, _time(body), party, merges)


def _time(body: Mapping[str, Any]) -> int:
    time = body.get("time")
    return time if isinstance(time, int) else 0


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
