"""Profiles, read: facts for machines, a card for people, a timeline, and everything for an export."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from contracts.profile import Facts, Known, Signal, signal_id
from services.profile.correcting import Said, as_they_stand, as_they_were
from services.profile.domain.believing import Believing
from services.profile.domain.computed import Trait, measured, signal_of, signal_value
from services.profile.domain.placing import subject_of
from services.profile.domain.state import empty, merge, merged, state_of
from services.profile.domain.view import facts_of, latest, line_of, view_of, with_ids
from services.profile.policy import PolicyStore
from services.profile.store import CLASSES, ProfileStore, Subject
from services.profile.traits import TraitStore
from shared.clock import Clock
from shared.eventlog import Event, EventLog
from shared.eventlog.sealed import Body, is_sensitive, open_events
from shared.keyring import ORDINARY, SENSITIVE, Keyring

ReadEvents = Callable[[EventLog, str], Iterator[list[Said]]]


class Reading:
    """See the module's text."""

    def __init__(
        self,
        store: ProfileStore,
        log: EventLog,
        keyring: Keyring,
        traits: TraitStore,
        clock: Clock,
        believing: Believing | PolicyStore | None = None,
    ) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._traits = traits
        self._clock = clock
        self._believing = believing or Believing()

    def _shown_traits(self) -> list[Trait]:
        """The computed traits that all states hold."""
        return [each for each in self._traits.current().traits if each.filled and not each.signal]

    def facts(self, profiles: Collection[str], signals: Collection[str] = ()) -> dict[str, Known | None]:
        """What is known of each; ordinary data only. `signals`: ids of those to give, of which all are filled."""
        subjects = self._store.of_profiles(profiles)
        moved = self._store.merged_into([each for each in profiles if each not in subjects])
        states = {profile: merged(_plain(of)) for profile, of in subjects.items()}
        known: dict[str, Known | None] = dict.fromkeys(profiles)
        known |= {profile: {"merged_into": into} for profile, into in moved.items()}
        theirs = self._theirs(states, {each.id: profile for profile, of in subjects.items() for each in of})
        traits, now = self._shown_traits(), self._clock.now_ms()
        watched = [each for each in self._traits.current().traits if each.signal and each.key in signals]
        known |= {
            profile: {"profile": profile, "facts": facts_of(state, self._believing, traits, now, watched)}
            for profile, state in theirs.items()
        }
        return known

    def _theirs(self, states: dict[str, Facts], known: Mapping[str, str]) -> dict[str, Facts]:
        """The states with only those identifiers that are the person's by identity's decisions: an e-mail
        that was set aside is in the events, but it is somebody else's. `known`: whose some subjects are."""
        pairs = {(kind, value) for each in states.values() for kind, values in each["ids"].items() for value in values}
        subjects = self._keyring.subjects_of(list(pairs), create=False)
        unknown = {each for each in subjects.values() if each} - known.keys()
        owners = {**self._store.owners(unknown), **known}
        owner = {pair: owners.get(subject) for pair, subject in subjects.items() if subject}
        return {profile: _only(state, owner, profile) for profile, state in states.items()}

    def scan(self, after: str, limit: int, signals: Sequence[Signal] = ()) -> dict[str, Any]:
        """A page of all profiles. `signals`: to be counted from the log, whether they are kept or not."""
        page = self._store.page(after, limit)
        found = self.facts(page)
        wanted = [signal_of(signal_id(each), 0, each) for each in signals]
        subjects = self._store.of_profiles(page) if wanted else {}
        for profile, of in subjects.items():
            if (each := found.get(profile)) and "facts" in each:
                each["facts"]["signals"] = self._counted(of, wanted)
        return {
            "profiles": {name: each["facts"] for name in page if (each := found[name]) and "facts" in each},
            "after": page[-1] if len(page) == limit else None,
        }

    def _counted(self, subjects: Sequence[Subject], signals: Collection[Trait]) -> dict[str, Any]:
        """Signals from the log, by id."""
        state = empty()
        for _, identity, body in self._bodies(subjects):
            if name := body.get("event"):
                merge(
                    state, {**empty(), "computed": measured(signals, name, body["properties"], body["time"], identity)}
                )
        return {each.key: signal_value(held) if (held := state["computed"].get(each.id)) else {} for each in signals}

    def show(self, profile: str, as_of: int | None, sensitive: bool) -> dict[str, Any] | None:
        """A profile's four parts: as of now, or of what had happened by an instant (ms)."""
        subjects = self._subjects(profile)
        if not subjects:
            return None
        at = str(subjects[0].profile)
        if as_of is None:
            states = _plain(subjects)
            special = [state for each in subjects for cls, state in each.states.items() if is_sensitive(cls)]
        else:
            states = [self._as_of(subjects, as_of, ORDINARY)]
            special = [self._as_of(subjects, as_of, SENSITIVE)]
        theirs = self._theirs({at: merged(states)}, {each.id: at for each in subjects})[at]
        traits, now = self._shown_traits(), self._clock.now_ms() if as_of is None else as_of
        view = view_of(at, theirs, self._believing, traits, now)
        if sensitive:
            view["sensitive"] = view_of(at, merged(special), self._believing, traits, now, sensitive=True)
        return view

    def _as_of(self, subjects: Sequence[Subject], as_of: int, cls: str) -> dict[str, Any]:
        state, traits = empty(), self._traits.known().traits
        for _, identity, body in self._bodies(subjects, cls):
            if isinstance(body["time"], int) and body["time"] <= as_of:
                merge(state, state_of(body, identity, traits))
        return state

    def timeline(self, profile: str, limit: int) -> list[dict[str, Any]]:
        """What the person did, latest first."""
        return latest((line_of(body, identity) for _, identity, body in self._bodies(self._subjects(profile))), limit)

    def everything(self, profile: str) -> dict[str, Any]:
        """What an export holds: the profile, every event as it stands, and what was corrected of them."""
        subjects = self._subjects(profile)
        return {
            "profile": self.show(profile, None, sensitive=True),
            "events": [
                {"id": identity, "received": event.time, "class": cls, **body}
                for cls in CLASSES
                for event, identity, body in self._bodies(subjects, cls)
            ],
            "corrected": [
                {"id": identity, "received": event.time, "class": cls, **body}
                for cls in CLASSES
                for event, identity, body in self._bodies(subjects, cls, as_they_were)
            ],
        }

    def _subjects(self, profile: str) -> list[Subject]:
        at = self._store.merged_into([profile]).get(profile, profile)
        return self._store.of_profiles([at]).get(at, [])

    def _bodies(
        self, subjects: Sequence[Subject], cls: str = ORDINARY, reading: ReadEvents = as_they_stand
    ) -> Iterator[tuple[Event, str, Body]]:
        """Every event of the slots that has not been erased, as it stands corrected: (the event that holds the body,
        the id of the event that the body is of, the body)."""
        slots = {each.id for each in subjects}
        for subject in dict.fromkeys(subject_of(each) for each in slots):
            placing = self._store.placing([subject])
            for page in reading(self._log, subject):
                bodies = open_events(self._keyring, [event for event, _ in page], cls)
                for (event, identity), body in zip(page, bodies, strict=True):
                    if body is None:
                        continue
                    time: Any = body["time"]
                    if placing.slot_of(subject, identity, time) in slots:
                        yield event, identity, body


def _plain(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """The states of what is ordinary, under whatever agreement it came."""
    return [state for each in subjects for cls, state in each.states.items() if not is_sensitive(cls)]


def _only(state: Facts, owner: dict[tuple[str, str], str | None], profile: str) -> Facts:
    mine = {
        (kind, value)
        for kind, values in state["ids"].items()
        for value in values
        if owner.get((kind, value)) == profile
    }
    return with_ids(state, mine)
