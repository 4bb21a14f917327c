"""Evaluating: when a profile changes, when time has passed, when a segment is made, changed or deleted.

All of these end in the same place: facts asked of the profile service, answers by the pure core, and one
transaction that writes memberships which nobody has changed meanwhile, and appends who entered and left.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from prometheus_client import Counter

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED as PROFILE_CHANGED
from contracts.profile import merges_of
from contracts.segmentation import ENTERED, LEFT
from contracts.streams import SEGMENTATION
from services.segmentation.asking import Others, facts_of
from services.segmentation.domain.answer import Answer
from services.segmentation.domain.evaluate import Definitions, Facts, evaluate
from services.segmentation.domain.index import Index
from services.segmentation.domain.membership import Change, Membership, Segment, evolve, moved, passed
from services.segmentation.store import SegmentationStore
from shared.checkpoints import Checkpoints
from shared.clock import Clock
from shared.consumer import Finish, Output
from shared.errors import CheckpointMoved
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import open_events
from shared.keyring import Keyring
from shared.transaction import Transaction, Transactor

SERVICE: Final = "segmentation"
PAGE: Final = 200
EVALUATIONS: Final = Counter("samla_evaluations_total", "Segments evaluated for somebody")


class Cause(NamedTuple):
    """What an evaluation is about, for the events that follow from it."""

    reason: str
    now: int
    """When it is decided (ms)."""
    causes: dict[str, int]
    correlation: str
    seed: str
    """What the ids of the events follow from."""


class Evaluating:
    """See the module's text."""

    def __init__(
        self,
        store: SegmentationStore,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        checkpoints: Checkpoints,
        clock: Clock,
    ) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._clock = clock
        self._known = Index((), 0)

    def index(self) -> Index:
        """The segments as they are."""
        revision = self._store.revision()
        if revision != self._known.revision:
            # The revision first: whoever changes them now is found out at the end.
            self._known = Index(self._store.all(), revision)
        return self._known

    def _hold(self, index: Index, within: Transaction) -> None:
        """Raises CheckpointMoved where segments have changed since."""
        if self._store.revision(within) != index.revision:
            raise CheckpointMoved("segments have changed meanwhile")

    # What happens to profiles

    def follow(self, events: Sequence[Event], others: Others) -> Finish | None:
        """Evaluates the profiles that have changed, for the segments that depend on what has."""
        changed = self._changed(events)
        merges = [(event, old, into) for event in events for old, into in merges_of(event.type, event.data)]
        index = self.index()
        asked = {profile: index.concerned(names) for profile, (names, _) in changed.items()}
        profiles = {profile for profile, each in asked.items() if each}
        known = self._store.load(profiles | {name for _, old, into in merges for name in (old, into)})
        now = self._clock.now_ms()
        needs = index.needs({each.id: each for profile in profiles for each in asked[profile]}.values())
        causes = {profile: _cause(changed[profile][1], now) for profile in profiles}
        facts, nobody = facts_of(others, {profile: causes[profile].causes for profile in profiles}, needs)

        def judged(gone: Collection[str]) -> tuple[dict[str, Membership], list[NewEvent]]:
            people = {name: each for name, each in known.items() if name not in gone}
            made: list[NewEvent] = []
            for event, old, into in merges:
                if old in people and into in people:
                    made += _merge(people, event, old, into, index.segments.values(), now)
            for profile in sorted(profiles & people.keys() & facts.keys()):
                ready = {each.id: each for each in asked[profile]}
                made += _judge(people, profile, ready, index, facts[profile], causes[profile], now)
            for profile in sorted(nobody & people.keys()):
                made += _leave(people, profile, index.segments.values(), causes[profile])
            return people, made

        hoped = judged(())

        def finish(within: Transaction) -> list[Output]:
            self._hold(index, within)
            gone = self._keyring.fenced(known, within)
            people, made = judged(gone) if gone else hoped
            self._save(known, people, within)
            return [(SEGMENTATION, made)]

        return finish if hoped != (known, []) else None

    def _changed(self, events: Sequence[Event]) -> dict[str, tuple[set[str], list[Event]]]:
        """Profile -> (names of what changed, the events that say so)."""
        saying = [event for event in events if event.type == PROFILE_CHANGED]
        changed: dict[str, tuple[set[str], list[Event]]] = {}
        for event, body in zip(saying, open_events(self._keyring, saying), strict=True):
            if body is not None:
                names: Any = body["names"]
                have = changed.setdefault(event.text("profile"), (set(), []))
                have[0].update(names)
                have[1].append(event)
        return changed

    def _save(self, known: Mapping[str, Membership], people: Mapping[str, Membership], within: Transaction) -> None:
        # One that is as it was is not written.
        self._store.save({name: each for name, each in people.items() if each != known.get(name)}, within)

    # What time does

    def time_passes(self, others: Others) -> bool:
        """Evaluates who is due, each at the instant at which they are; whether there may be more at once."""
        now = self._clock.now_ms()
        due = self._store.due(now, PAGE)
        if not due:
            return False
        # A page at a time, and none of it beyond where the next begins: what is told is in the order of time.
        until = max(due[-1].next or 0, 1) if len(due) == PAGE and due[-1].next else now
        index = self.index()
        ready = {each.profile: _ready(each, index, until) for each in due}
        needs = index.needs({name: each for one in ready.values() for name, each in one.items()}.values())
        facts, _ = facts_of(others, {each.profile: {} for each in due}, needs)

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            self._hold(index, within)
            people = {each.profile: each for each in due}
            gone = self._keyring.fenced(people, within)
            made: list[NewEvent] = []
            for each in due:
                name = each.profile
                if name in facts and name not in gone:
                    cause = Cause("time", now, {}, "", "")
                    # Whoever was rebuilt is looked at as of now.
                    at = now if 0 in each.due.values() else until
                    made += _pass(people, name, ready[name], index, facts[name], cause, at)
                # Of deleted segments, and of profiles that are no more, nothing is due again.
                people[name] = _without_due(people[name], until, ready[name] if name in facts else ())
            self._store.save({name: each for name, each in people.items() if name not in gone}, within)
            self._store.erase(gone, within)
            made.sort(key=_at)
            self._log.append(SEGMENTATION, made, within)

        self._attempt(work)
        return len(due) == PAGE

    # Segments that are made, changed and deleted

    def fill(self, others: Others) -> bool:
        """Goes on looking through history for new segments, and emptying deleted ones; whether there is more."""
        index = self.index()
        segments = [each for each in self._store.being_changed() if each.deleted or each.id in index.evaluated()]
        for segment in segments:
            if segment.deleted:
                self._empty_page(segment)
            else:
                self._fill_page(segment, index, others)
        return bool(segments)

    def _fill_page(self, segment: Segment, index: Index, others: Others) -> None:
        page = others.scan(segment.after, PAGE, [])
        # Memberships before facts: whoever changes one of them later has seen newer facts than these.
        known = self._store.load(page["profiles"])
        now = self._clock.now_ms()
        facts, _ = facts_of(others, {name: {} for name in known}, index.needs([segment]))

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            self._hold(index, within)
            gone = self._keyring.fenced(known, within)
            people = {name: each for name, each in known.items() if name not in gone}
            made: list[NewEvent] = []
            for profile in sorted(people.keys() & facts.keys()):
                cause = Cause("definition", now, {}, "", f"{segment.id} {segment.version} {segment.round}")
                made += _judge(people, profile, {segment.id: segment}, index, facts[profile], cause, now)
            self._save(known, people, within)
            after = page["after"]
            self._store.progress(segment, after or segment.after, after is None, within)
            self._log.append(SEGMENTATION, made, within)

        self._attempt(work)

    def _empty_page(self, segment: Segment) -> None:
        members = self._store.members(segment.id, "", PAGE)
        known = self._store.load(members)
        now = self._clock.now_ms()

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            people = dict(known)
            gone = self._keyring.fenced(known, within)
            made = []
            for name, each in known.items():
                since = {other: at for other, at in each.since.items() if other != segment.id}
                due = {other: at for other, at in each.due.items() if other != segment.id}
                people[name] = msgspec.structs.replace(each, since=since, due=due)
                cause = Cause("definition", now, {}, "", f"{segment.id} deleted")
                made.append(_event(LEFT, segment, name, cause, now))
            self._store.save(people, within)
            self._store.progress(segment, segment.after, len(members) < PAGE, within)
            self._log.append(SEGMENTATION, [each for each in made if each.subject not in gone], within)

        self._attempt(work)

    def _attempt(self, work: Callable[[Transaction], None]) -> None:
        """Where another was faster, the next round looks again."""
        try:
            self._transactor.run(work)
        except CheckpointMoved:
            return

    # Erasures

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops erased people's memberships; again at the end, for what was under way."""
        profiles = [
            each
            for event in events
            if event.type in (SUBJECTS_ERASED, ERASURE_COMPLETED)
            for each in event.texts("profiles")
        ]

        def finish(within: Transaction) -> list[Output]:
            self._store.erase(profiles, within)
            return []

        return finish if profiles else None


def _evaluations(
    segments: Mapping[str, Segment], definitions: Definitions, facts: Facts
) -> dict[str, Callable[[int], Answer]]:
    return {name: partial(_evaluate, each, facts, definitions) for name, each in segments.items()}


def _evaluate(segment: Segment, facts: Facts, definitions: Definitions, now: int) -> Answer:
    EVALUATIONS.inc()
    return evaluate(segment.definition, facts, now, definitions)


def _pass(
    people: dict[str, Membership],
    profile: str,
    segments: Mapping[str, Segment],
    index: Index,
    facts: Facts,
    cause: Cause,
    until: int,
) -> list[NewEvent]:
    """Lets time pass for one profile; its membership in `people` is replaced. Gives the events."""
    turn = people[profile].turn
    evaluations = _evaluations(segments, index.definitions, facts)
    begins = {name: index.since(each) for name, each in segments.items()}
    people[profile], changes = passed(people[profile], evaluations, begins, until)
    return _told(changes, segments, profile, cause._replace(reason="time", seed=f"{profile} {turn}"))


def _judge(
    people: dict[str, Membership],
    profile: str,
    segments: Mapping[str, Segment],
    index: Index,
    facts: Facts,
    cause: Cause,
    now: int,
) -> list[NewEvent]:
    """Evaluates one profile, after what time alone has brought; its membership in `people` is replaced. Gives the
    events."""
    made = []
    if any(people[profile].due.get(name, now) < now for name in segments):
        made += _pass(people, profile, segments, index, facts, cause, now)
    answers = {name: evaluation(now) for name, evaluation in _evaluations(segments, index.definitions, facts).items()}
    people[profile], changes = evolve(people[profile], answers, now)
    return made + _told(changes, segments, profile, cause)


def _told(changes: Iterable[Change], segments: Mapping[str, Segment], profile: str, cause: Cause) -> list[NewEvent]:
    return [
        _event(ENTERED if each.entered else LEFT, segments[each.segment], profile, _seeded(cause, each), each.at)
        for each in changes
    ]


def _seeded(cause: Cause, change: Change) -> Cause:
    """Time may bring several of one kind at once."""
    return cause._replace(seed=f"{cause.seed} {change.at}") if cause.reason == "time" else cause


def _ready(membership: Membership, index: Index, until: int) -> dict[str, Segment]:
    """The segments for which it is due."""
    evaluated = index.evaluated()
    return {name: evaluated[name] for name, at in membership.due.items() if at <= until and name in evaluated}


def _at(event: NewEvent) -> Any:
    return event.data["at"]


def _leave(people: dict[str, Membership], profile: str, segments: Collection[Segment], cause: Cause) -> list[NewEvent]:
    """Out of everything."""
    by_id = {each.id: each for each in segments}
    inside = [name for name in people[profile].since if name in by_id]
    people[profile], _ = evolve(people[profile], dict.fromkeys(people[profile].since, Answer(False, None)), cause.now)
    return [_event(LEFT, by_id[name], profile, cause, cause.now) for name in inside]


def _merge(
    people: dict[str, Membership], event: Event, old: str, into: str, segments: Collection[Segment], now: int
) -> list[NewEvent]:
    by_id = {each.id: each for each in segments}
    people[old], people[into], left, entered = moved(people[old], people[into])
    cause = _cause([event], now)._replace(reason="merged")
    return [
        *(_event(LEFT, by_id[name], old, cause, now) for name in left if name in by_id),
        *(_event(ENTERED, by_id[name], into, cause, now) for name in entered if name in by_id),
    ]


def _without_due(membership: Membership, until: int, evaluated: Collection[str]) -> Membership:
    due = {name: at for name, at in membership.due.items() if at > until or name in evaluated}
    return msgspec.structs.replace(membership, due=due)


def _cause(events: Sequence[Event], now: int) -> Cause:
    last = events[-1]
    places = ({each.place: each.position} for each in events)
    return Cause("event", now, latest_causes(*(each.causes for each in events), *places), last.correlation, last.id)


def _event(kind: str, segment: Segment, profile: str, cause: Cause, at: int) -> NewEvent:
    return NewEvent(
        id=derive_id(kind, segment.id, profile, cause.seed),
        type=kind,
        source=SERVICE,
        subject=profile,
        time=cause.now,
        data={
            "segment": segment.id,
            "profile": profile,
            "at": at,
            "reason": cause.reason,
            "segment_version": segment.version,
        },
        causes=cause.causes,
        correlation=cause.correlation,
    )
