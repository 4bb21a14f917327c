"""From tracking events to states, from identity's decisions to whose they are, and what is told of both."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from contracts import identity
from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED, EVERYTHING, MERGED
from contracts.streams import PROFILE
from contracts.tracking import CORRECTED
from services.profile.correcting import Said, as_they_stand
from services.profile.domain.state import FOLD_VERSION, add, empty, names_of, state_of
from services.profile.store import CLASSES, ProfileStore, States, Subject
from shared.consumer import Finish, Output
from shared.errors import Poison
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes
from shared.eventlog.sealed import held_class, is_sensitive, open_events
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing
from shared.transaction import Transaction

SERVICE: Final = "profile"


class Folding:
    """What profile's subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: ProfileStore, log: EventLog, keyring: Keyring) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring

    # Events become states

    def fold(self, events: Sequence[Event]) -> Finish | None:
        """Folds tracking events into the states of their subjects."""
        deltas = deltas_of(self._keyring, [(event, event.id) for event in events if event.type != CORRECTED])
        corrected = {event.subject for event in events if event.type == CORRECTED}
        for subject in corrected:
            deltas.setdefault(subject, {})
        reached = {event.subject: event for event in events if event.subject in deltas}

        def finish(within: Transaction) -> list[Output]:
            known = self._store.load(deltas, within)
            gone = self._keyring.fenced({*deltas, *(each.profile for each in known.values() if each.profile)}, within)
            living = {subject: delta for subject, delta in deltas.items() if subject not in gone}
            self._store.save(
                {
                    subject: self._again(known.get(subject), delta, reached[subject])
                    if subject in corrected
                    else self._together(known.get(subject), delta, reached[subject])
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
                        {EVERYTHING}
                        if not corrected.isdisjoint(subjects)
                        else {name for each in subjects for name in _names(deltas[each])},
                        [reached[each] for each in subjects],
                    )
                    for profile, subjects in told.items()
                },
                within,
            )

        return finish if deltas else None

    def _together(self, known: Subject | None, delta: States, last: Event) -> States:
        if known is not None and known.version != FOLD_VERSION:
            return self._again(known, delta, last)
        have = known.states if known else {}
        return add({cls: have[cls] for cls in delta if cls in have}, delta)

    def _again(self, known: Subject | None, delta: States, last: Event) -> States:
        """A subject's states by today's fold, of all of its events so far as they stand corrected."""
        classes = {*delta, *(known.states if known else ())}
        return folded_again(self._log, self._keyring, last.subject, last.position, classes)

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


def folded_again(log: EventLog, keyring: Keyring, subject: str, upto: int, classes: Collection[str]) -> States:
    """A subject's states from the log alone, up to a position; `classes` are those that it had before, which are
    empty where nothing is left of them."""
    states: States = {cls: empty() for cls in classes}
    for page in as_they_stand(log, subject, upto):
        for delta in deltas_of(keyring, page).values():
            add(states, delta)
    return states


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
        return state_of(body, identity)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Poison(f"the body of event {event.id} is not what {event.type} says") from error


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
