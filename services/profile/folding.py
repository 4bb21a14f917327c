"""From tracking events to states, from identity's decisions to whose they are, and what is told of both."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts import identity
from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED, EVERYTHING, MERGED
from contracts.streams import PROFILE, TRACKING
from contracts.tracking import CORRECTED
from services.profile.correcting import Said, as_they_stand, said_by
from services.profile.domain.state import FOLD_VERSION, add, names_of, state_of
from services.profile.store import CLASSES, ProfileStore, SealedStates, States, Subject
from shared.checkpoints import Checkpoints, Place, handled_by
from shared.consumer import Finish, Output
from shared.errors import CheckpointMoved, Poison
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import held_class, is_sensitive, open_events
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing
from shared.transaction import Transaction

SERVICE: Final = "profile"
STATES: Final = "profile.states"
"""The subscription that folds."""


class Again(NamedTuple):
    """Subjects that were folded again from the log."""

    states: dict[str, States]
    over: dict[str, SealedStates]
    """What stood of them before: what was folded is right only in its place."""


class Folding:
    """What profile's subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: ProfileStore, log: EventLog, keyring: Keyring, checkpoints: Checkpoints) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._checkpoints = checkpoints

    # Events become states

    def fold(self, events: Sequence[Event]) -> Finish | None:
        """Folds tracking events into the states of their subjects. Where that is no addition, of corrections that is,
        of a parked event that is handled again, and of states by an older fold, the subject is folded again."""
        corrections = [event for event in events if event.type == CORRECTED]
        deltas = deltas_of(self._keyring, [said_by(event) for event in events if event.type != CORRECTED])
        # One that cannot be read is parked for its own sake, not the next one of its subject for this one's.
        deltas_of(self._keyring, [said_by(event) for event in corrections])
        deltas |= {event.subject: {} for event in corrections if event.subject not in deltas}
        reached = {event.subject: event for event in events if event.subject in deltas}
        stale = set(reached) if self._is_retry(events) else self._store.outdated(reached)
        again = self._again({subject: reached[subject] for subject in {e.subject for e in corrections} | stale})

        def finish(within: Transaction) -> list[Output]:
            known = self._store.load(deltas, within)
            gone = self._keyring.fenced({*deltas, *(each.profile for each in known.values() if each.profile)}, within)
            living = {subject: delta for subject, delta in deltas.items() if subject not in gone}
            self._write(living, known, again, within)
            told: dict[str, tuple[set[str], list[Event]]] = {}
            for subject, delta in living.items():
                if subject in known and (profile := known[subject].profile):
                    names, causes = told.setdefault(profile, (set(), []))
                    names |= {EVERYTHING} if subject in again.states else _names(delta)
                    causes.append(reached[subject])
            return self._changes(
                {profile: (_telling(names), causes) for profile, (names, causes) in told.items()}, within
            )

        return finish if deltas else None

    def _write(
        self, deltas: Mapping[str, States], known: Mapping[str, Subject], again: Again, within: Transaction
    ) -> None:
        """Adds to states, or puts in their place what was folded again. Raises CheckpointMoved where that is no longer
        right: it is to be prepared again then."""
        added = {subject: delta for subject, delta in deltas.items() if subject not in again.states}
        older = any(known[subject].version != FOLD_VERSION for subject in added if subject in known)
        if older or self._store.sealed(again.states, within) != again.over:
            raise CheckpointMoved("states have changed while their subjects were folded again")
        have = {subject: known[subject].states if subject in known else {} for subject in added}
        self._store.save(
            {
                subject: add({cls: have[subject][cls] for cls in delta if cls in have[subject]}, delta)
                for subject, delta in added.items()
            },
            within,
        )
        folded = {subject: states for subject, states in again.states.items() if subject in deltas}
        self._store.save(folded, within, whole=True)

    def _is_retry(self, events: Sequence[Event]) -> bool:
        """Whether this is a parked event that is handled again: one alone, behind which its partition was handled."""
        if len(events) != 1:
            return False
        [event] = events
        return event.position <= self._checkpoints.at(Place(STATES, TRACKING, event.partition))

    def _again(self, reached: Mapping[str, Event]) -> Again:
        """Subjects by today's fold, of all of their events as they stand corrected, so far as these are handled or now
        reached; without those that are parked, but for the one that is now handled again."""
        if not reached:
            return Again({}, {})
        # In this order: what is written after the states were looked at is seen at the end.
        over = self._store.sealed(reached)
        handled = handled_by(STATES, self._checkpoints)
        parked = {each.event for each in self._checkpoints.parked() if each.subscription == STATES}
        parked -= {event.id for event in reached.values()}
        return Again(
            {
                subject: folded_again(
                    self._log, self._keyring, subject, max(event.position, handled.get(event.place, 0)), parked
                )
                for subject, event in reached.items()
            },
            over,
        )

    # Identity's decisions

    def follow(self, events: Sequence[Event]) -> Finish | None:
        """Gives subjects to people, and merges people, in identity's order."""
        events = [each for each in events if each.type in (identity.CREATED, identity.ATTACHED, identity.MERGED)]

        def finish(within: Transaction) -> list[Output]:
            gone = self._keyring.fenced(named_in(events), within)
            told: dict[str, tuple[set[str], list[Event]]] = {}
            merges: list[NewEvent] = []
            for event in regroup(self._store, events, gone, within):
                # The last fact about a person in a batch stands for those before it.
                if event.type == identity.MERGED:
                    merges.append(_merged(event))
                    told.pop(event.text("profile"), None)
                whose = event.text("into" if event.type == identity.MERGED else "profile")
                told.setdefault(whose, ({EVERYTHING}, []))[1].append(event)
            return [(PROFILE, merges), *self._changes(told, within)]

        return finish if events else None

    # Erasures

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops the states of erased people; again at the end, for what was under way."""
        erasures = [event for event in events if event.type in (SUBJECTS_ERASED, ERASURE_COMPLETED)]

        def finish(within: Transaction) -> list[Output]:
            for event in erasures:
                self._store.erase(event.texts("subjects"), event.texts("profiles"), within)
            return []

        return finish if erasures else None

    # What is told

    def _changes(self, told: Mapping[str, tuple[set[str], list[Event]]], within: Transaction) -> list[Output]:
        gone = self._keyring.fenced(told, within)
        living = {profile: each for profile, each in told.items() if profile not in gone}
        ids = {profile: derive_id(CHANGED, profile, causes[-1].id) for profile, (_, causes) in living.items()}
        sealed = self._keyring.seal(
            [
                Sealing(profile, ORDINARY, ids[profile], orjson.dumps({"names": sorted(names)}))
                for profile, (names, _) in living.items()
            ]
        )
        made = [
            _changed(profile, ids[profile], text, causes)
            for (profile, (_, causes)), text in zip(living.items(), sealed, strict=True)
        ]
        return [(PROFILE, made)]


_NAMING: Final = ("profile", "subject", "into")


def named_in(events: Sequence[Event]) -> set[str]:
    """The subjects and profiles that identity's events are about."""
    return {str(event.data[name]) for event in events for name in _NAMING if name in event.data}


def regroup(
    store: ProfileStore, events: Sequence[Event], gone: Collection[str], within: Transaction | None = None
) -> list[Event]:
    """Gives subjects to people and merges people, in identity's order; the events that were followed: not
    those about who is `gone`."""
    owners: dict[str, str] = {}
    followed = []
    for event in events:
        if not named_in([event]).isdisjoint(gone):
            continue
        if event.type in (identity.CREATED, identity.ATTACHED):
            owners[event.text("subject")] = event.text("profile")
        elif event.type == identity.MERGED:
            store.give(owners, within)
            owners = {}
            store.merge(event.text("profile"), event.text("into"), within)
        else:
            continue
        followed.append(event)
    store.give(owners, within)
    return followed


def folded_again(log: EventLog, keyring: Keyring, subject: str, upto: int, without: Collection[str]) -> States:
    """A subject's states from the log alone, up to a position; `without` the events that are parked."""
    states: States = {}
    for page in as_they_stand(log, subject, upto, without):
        for delta in readable(keyring, page).values():
            add(states, delta)
    return states


def readable(keyring: Keyring, said: Sequence[Said]) -> dict[str, States]:
    """`deltas_of` those events that can be read."""
    try:
        return deltas_of(keyring, said)
    except Poison:
        if len(said) == 1:
            return {}
    middle = len(said) // 2
    deltas = readable(keyring, said[:middle])
    for subject, delta in readable(keyring, said[middle:]).items():
        add(deltas.setdefault(subject, {}), delta)
    return deltas


def deltas_of(keyring: Keyring, said: Sequence[Said]) -> dict[str, States]:
    """Subject -> what these events add to its states. Raises Poison where a body is not what it should be."""
    deltas: dict[str, States] = {}
    for cls in CLASSES:
        holding = [(event, original, own) for event, original in said if (own := held_class(event, cls))]
        bodies = open_events(keyring, [event for event, _, _ in holding], cls)
        for (event, original, own), body in zip(holding, bodies, strict=True):
            if body is not None:
                add(deltas.setdefault(event.subject, {}), {own: _state(body, event, original)})
    return deltas


def _state(body: Mapping[str, Any], event: Event, identity: str) -> dict[str, Any]:
    try:
        if not isinstance(body["time"], int):
            raise TypeError("time")
        return state_of(body, identity)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Poison(f"the body of event {event.id} is not what {event.type} says") from error


def _telling(names: set[str]) -> set[str]:
    return {EVERYTHING} if EVERYTHING in names else names


def _names(delta: States) -> set[str]:
    plain = {name for cls, state in delta.items() if not is_sensitive(cls) for name in names_of(state)}
    return plain | {SENSITIVE} if any(map(is_sensitive, delta)) else plain


def _changed(profile: str, identity_: str, sealed: bytes, causes: Sequence[Event]) -> NewEvent:
    last = causes[-1]
    return NewEvent(
        id=identity_,
        type=CHANGED,
        source=SERVICE,
        subject=profile,
        time=last.time,
        data={"profile": profile},
        sealed={ORDINARY: sealed},
        causes=latest_causes(*(each.causes for each in causes), *({each.place: each.position} for each in causes)),
        correlation=last.correlation,
    )


def _merged(event: Event) -> NewEvent:
    return NewEvent(
        id=derive_id(MERGED, event.id),
        type=MERGED,
        source=SERVICE,
        subject=str(event.data["into"]),
        time=event.time,
        data={"from": event.data["profile"], "into": event.data["into"]},
        causes=latest_causes(event.causes, {event.place: event.position}),
        correlation=event.correlation,
    )
