"""From tracking events to states, from identity's decisions to whose they are, and what is told of both."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from contracts import identity
from contracts.profile import CHANGED, EVERYTHING, MERGED
from contracts.streams import PROFILE, TRACKING
from services.profile.domain.state import FOLD_VERSION, empty, merge, names_of, state_of
from services.profile.store import CLASSES, ProfileStore, States, Subject
from shared.consumer import Finish, Output
from shared.errors import Poison
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing
from shared.transaction import Transaction

SERVICE: Final = "profile"
SUBJECTS_ERASED: Final = "privacy.subjects_erased.v1"
COMPLETED: Final = "privacy.erasure_completed.v1"
REREAD: Final = 500


class Folding:
    """What profile's subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: ProfileStore, log: EventLog, keyring: Keyring) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring

    # Events become states

    def fold(self, events: Sequence[Event]) -> Finish | None:
        """Folds tracking events into the states of their subjects."""
        deltas = deltas_of(self._keyring, events)
        reached = {event.subject: event for event in events if event.subject in deltas}

        def finish(within: Transaction) -> list[Output]:
            known = self._store.load(deltas, within)
            gone = self._keyring.fenced({*deltas, *(each.profile for each in known.values() if each.profile)}, within)
            living = {subject: delta for subject, delta in deltas.items() if subject not in gone}
            self._store.save(
                {
                    subject: self._together(known.get(subject), delta, reached[subject])
                    for subject, delta in living.items()
                },
                within,
            )
            told: dict[str, list[str]] = {}
            for subject in living:
                if subject in known and (profile := known[subject].profile):
                    told.setdefault(profile, []).append(subject)
            return self._changes(
                {
                    profile: (
                        {name for each in subjects for name in _names(deltas[each])},
                        [reached[each] for each in subjects],
                    )
                    for profile, subjects in told.items()
                },
                within,
            )

        return finish if deltas else None

    def _together(self, known: Subject | None, delta: States, last: Event) -> States:
        if known is not None and known.version != FOLD_VERSION:
            return self._again(last)
        have = known.states if known else {}
        return {cls: merge(have.get(cls) or empty(), state) for cls, state in delta.items()}

    def _again(self, last: Event) -> States:
        """A subject's states by today's fold: all of its events so far, from the log."""
        states: States = {}
        at = 0
        while page := self._log.read_subject(TRACKING, last.subject, at, REREAD):
            at = page[-1].position
            chosen = [event for event in page if event.position <= last.position]
            for delta in deltas_of(self._keyring, chosen).values():
                for cls, state in delta.items():
                    states[cls] = merge(states.get(cls) or empty(), state)
            if at >= last.position:
                break
        return states

    # Identity's decisions

    def follow(self, events: Sequence[Event]) -> Finish | None:
        """Gives subjects to people, and merges people, in identity's order."""
        events = [each for each in events if each.type in (identity.CREATED, identity.ATTACHED, identity.MERGED)]

        def finish(within: Transaction) -> list[Output]:
            named = {str(event.data[name]) for event in events for name in _NAMING if name in event.data}
            gone = self._keyring.fenced(named, within)
            told: dict[str, tuple[set[str], list[Event]]] = {}
            merges: list[NewEvent] = []
            owners: dict[str, str] = {}
            for event in events:
                if gone.intersection(str(event.data[name]) for name in _NAMING if name in event.data):
                    continue
                if event.type in (identity.CREATED, identity.ATTACHED):
                    owners[str(event.data["subject"])] = str(event.data["profile"])
                else:
                    self._store.give(owners, within)
                    owners = {}
                    self._store.merge(str(event.data["profile"]), str(event.data["into"]), within)
                    merges.append(_merged(event))
                # The last fact about a person in a batch stands for those before it.
                whose = str(event.data.get("into", event.data["profile"]))
                told.setdefault(whose, ({EVERYTHING}, []))[1].append(event)
                told.pop(str(event.data["profile"]) if "into" in event.data else "", None)
            self._store.give(owners, within)
            return [(PROFILE, merges), *self._changes(told, within)]

        return finish if events else None

    # Erasures

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops the states of erased people; again at the end, for what was under way."""
        erasures = [event for event in events if event.type in (SUBJECTS_ERASED, COMPLETED)]

        def finish(within: Transaction) -> list[Output]:
            for event in erasures:
                self._store.erase(_texts(event, "subjects"), _texts(event, "profiles"), within)
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


def deltas_of(keyring: Keyring, events: Sequence[Event]) -> dict[str, States]:
    """Subject -> what these events add to its states. Raises Poison where a body is not what it should be."""
    deltas: dict[str, States] = {}
    for cls in CLASSES:
        holding = [event for event in events if cls in event.sealed]
        for event, body in zip(holding, open_events(keyring, holding, cls), strict=True):
            if body is not None:
                have = deltas.setdefault(event.subject, {})
                have[cls] = merge(have.get(cls) or empty(), _state(body, event))
    return deltas


def _state(body: Mapping[str, Any], event: Event) -> dict[str, Any]:
    try:
        return state_of(body, event.id)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Poison(f"the body of event {event.id} is not what {event.type} says") from error


def _names(delta: States) -> set[str]:
    names = names_of(delta[ORDINARY]) if ORDINARY in delta else set()
    return names | {SENSITIVE} if SENSITIVE in delta else names


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


def _texts(event: Event, field: str) -> list[str]:
    found: Any = event.data.get(field) or []
    return [str(each) for each in found]
