"""Evaluating: when a profile changes, when time has passed, when a segment is made or deleted.

All of these end in the same place: facts asked of the profile service, answers by the pure core, and one
transaction that writes memberships which nobody has changed meanwhile, and appends who entered and left.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED as PROFILE_CHANGED
from contracts.profile import merges_of
from contracts.segmentation import ENTERED, LEFT
from contracts.streams import SEGMENTATION
from services.segmentation.domain.answer import Answer
from services.segmentation.domain.definition import depends_on
from services.segmentation.domain.evaluate import Facts, evaluate
from services.segmentation.domain.membership import Membership, Segment, concerned, evolve, moved
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

AskFacts = Callable[[list[str]], Mapping[str, Any]]
Scan = Callable[[str, int], Mapping[str, Any]]


class Cause(NamedTuple):
    """What an evaluation is about, for the events that follow from it."""

    reason: str
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

    # What happens to profiles

    def follow(self, events: Sequence[Event], ask: AskFacts) -> Finish | None:
        """Evaluates the profiles that have changed, for the segments that depend on what has."""
        changed = self._changed(events)
        merges = [(event, old, into) for event in events for old, into in merges_of(event.type, event.data)]
        segments = self._store.all()
        depends = {each.id: depends_on(each.definition) for each in segments}
        asked = {profile: concerned(segments, depends, names) for profile, (names, _) in changed.items()}
        profiles = {profile for profile, each in asked.items() if each}
        known = self._store.load(profiles | {name for _, old, into in merges for name in (old, into)})
        answers = ask(sorted(profiles)) if profiles else {}
        facts = _facts(answers)
        # Of somebody who was split nothing may be left.
        nobody = {profile for profile in profiles if answers.get(profile) is None}
        now = self._clock.now_ms()

        def judged(gone: Collection[str]) -> tuple[dict[str, Membership], list[NewEvent]]:
            people = {name: each for name, each in known.items() if name not in gone}
            made: list[NewEvent] = []
            for event, old, into in merges:
                if old in people and into in people:
                    made += _merge(people, event, old, into, segments, now)
            for profile in sorted(profiles & people.keys() & facts.keys()):
                cause = _cause(changed[profile][1])
                made += _judge(people, profile, asked[profile], facts[profile], cause, now)
            for profile in sorted(nobody & people.keys()):
                made += _leave(people, profile, segments, _cause(changed[profile][1]), now)
            return people, made

        hoped = judged(())

        def finish(within: Transaction) -> list[Output]:
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

    def time_passes(self, ask: AskFacts) -> bool:
        """Evaluates who is due; whether there may be more at once."""
        now = self._clock.now_ms()
        due = self._store.due(now, PAGE)
        if not due:
            return False
        segments = {each.id: each for each in self._store.all()}
        facts = _facts(ask(sorted(each.profile for each in due)))

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            people = {each.profile: each for each in due}
            gone = self._keyring.fenced(people, within)
            made: list[NewEvent] = []
            for each in due:
                ready = [segments[name] for name, at in each.due.items() if at <= now and name in segments]
                cause = Cause("time", {}, "", f"{each.profile} {each.turn}")
                if each.profile in facts and each.profile not in gone:
                    made += _judge(people, each.profile, ready, facts[each.profile], cause, now)
                # Of deleted segments, and of profiles that are no more, nothing is due again.
                people[each.profile] = _without_due(people[each.profile], now)
            self._store.save({name: each for name, each in people.items() if name not in gone}, within)
            self._store.erase(gone, within)
            self._log.append(SEGMENTATION, made, within)

        self._attempt(work)
        return len(due) == PAGE

    # Segments that are made and deleted

    def fill(self, scan: Scan, ask: AskFacts) -> bool:
        """Goes on looking through history for new segments, and emptying deleted ones; whether there is more."""
        segments = self._store.being_changed()
        for segment in segments:
            if segment.deleted:
                self._empty_page(segment)
            else:
                self._fill_page(segment, scan, ask)
        return bool(segments)

    def _fill_page(self, segment: Segment, scan: Scan, ask: AskFacts) -> None:
        page = scan(segment.after, PAGE)
        # Memberships before facts: whoever changes one of them later has seen newer facts than these.
        known = self._store.load(page["profiles"])
        facts = _facts(ask(sorted(known)))
        now = self._clock.now_ms()

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            gone = self._keyring.fenced(known, within)
            people = {name: each for name, each in known.items() if name not in gone}
            made: list[NewEvent] = []
            for profile in sorted(people.keys() & facts.keys()):
                cause = Cause("definition", {}, "", f"{segment.id} {segment.version}")
                made += _judge(people, profile, [segment], facts[profile], cause, now)
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
                cause = Cause("definition", {}, "", f"{segment.id} deleted")
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


def _facts(known: Mapping[str, Any]) -> dict[str, Facts]:
    """Profile -> facts, of those that are still profiles of their own."""
    return {profile: each["facts"] for profile, each in known.items() if each and "facts" in each}


def _judge(
    people: dict[str, Membership], profile: str, segments: Collection[Segment], facts: Facts, cause: Cause, now: int
) -> list[NewEvent]:
    """Evaluates one profile; its membership in `people` is replaced. Gives the events."""
    by_id = {each.id: each for each in segments}
    answers = {name: evaluate(each.definition, facts, now) for name, each in by_id.items()}
    people[profile], changes = evolve(people[profile], answers, now)
    return [
        _event(ENTERED if change.entered else LEFT, by_id[change.segment], profile, cause, now) for change in changes
    ]


def _leave(
    people: dict[str, Membership], profile: str, segments: Collection[Segment], cause: Cause, now: int
) -> list[NewEvent]:
    """Out of everything."""
    by_id = {each.id: each for each in segments}
    inside = [name for name in people[profile].since if name in by_id]
    people[profile], _ = evolve(people[profile], dict.fromkeys(people[profile].since, Answer(False, None)), now)
    return [_event(LEFT, by_id[name], profile, cause, now) for name in inside]


def _merge(
    people: dict[str, Membership], event: Event, old: str, into: str, segments: Collection[Segment], now: int
) -> list[NewEvent]:
    by_id = {each.id: each for each in segments}
    people[old], people[into], left, entered = moved(people[old], people[into])
    cause = _cause([event])._replace(reason="merged")
    return [
        *(_event(LEFT, by_id[name], old, cause, now) for name in left if name in by_id),
        *(_event(ENTERED, by_id[name], into, cause, now) for name in entered if name in by_id),
    ]


def _without_due(membership: Membership, now: int) -> Membership:
    return msgspec.structs.replace(membership, due={name: at for name, at in membership.due.items() if at > now})


def _cause(events: Sequence[Event]) -> Cause:
    last = events[-1]
    places = ({each.place: each.position} for each in events)
    return Cause("event", latest_causes(*(each.causes for each in events), *places), last.correlation, last.id)


def _event(kind: str, segment: Segment, profile: str, cause: Cause, now: int) -> NewEvent:
    return NewEvent(
        id=derive_id(kind, segment.id, profile, cause.seed),
        type=kind,
        source=SERVICE,
        subject=profile,
        time=now,
        data={
            "segment": segment.id,
            "profile": profile,
            "at": now,
            "reason": cause.reason,
            "segment_version": segment.version,
        },
        causes=cause.causes,
        correlation=cause.correlation,
    )
