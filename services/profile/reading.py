"""Profiles, read: facts for machines, a card for people, as of now or of any instant, what is different between two, a
search, and everything for an export."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from contracts.profile import Facts, Known, Signal, signal_id
from services.profile.correcting import Said, as_they_stand, as_they_were, backwards
from services.profile.domain.believing import Believing
from services.profile.domain.comparing import differences
from services.profile.domain.computed import Trait, measured, signal_of, signal_value
from services.profile.domain.placing import Placing, subject_of
from services.profile.domain.searching import conditions_of, found_in
from services.profile.domain.state import State, empty, merge, merged, with_traits
from services.profile.domain.view import facts_of, view_of, with_ids
from services.profile.opening import Opened, folded, opened
from services.profile.policy import PolicyStore
from services.profile.recalling import Recalling, Then
from services.profile.store import CLASSES, ProfileStore, Subject
from services.profile.timeline import Timeline
from services.profile.traits import Defined, TraitStore
from shared.clock import Clock
from shared.errors import SamlaError
from shared.eventlog import EventLog
from shared.eventlog.sealed import is_sensitive
from shared.keyring import ORDINARY, SENSITIVE, Keyring

ReadEvents = Callable[[str], Iterator[list[Said]]]
"""Pages of a subject's events."""
Owners = Mapping[tuple[str, str], str | None]
"""(kind, value) -> whose it is."""

MOST_IN_BATCH: Final = 100
MOST_SEARCHED: Final = 5_000
"""Profiles that one call of a search looks at."""
SEARCHED: Final = 250
"""Profiles that are opened at a time."""
BY: Final = ("event", "known")


class At(NamedTuple):
    """An instant, or two of two sorts (ms)."""

    as_of: int | None = None
    """What had happened by then."""
    known_at: int | None = None
    """What was known then: received and decided."""

    @property
    def is_now(self) -> bool:
        """Whether neither is said."""
        return self.as_of is None and self.known_at is None


NOW: Final = At()


class Where(NamedTuple):
    """Where somebody's events are."""

    slots: Collection[str]
    placing: Callable[[str], Placing]
    """Of a subject's events."""


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
        self._recalling = Recalling(store, log, keyring)
        self._timeline = Timeline(store, log, keyring)

    def _all_traits(self) -> list[Trait]:
        """The computed traits of people, also those that not all states hold yet."""
        return _of_people(self._traits.current())

    def _shown_traits(self) -> list[Trait]:
        """The computed traits that all states hold."""
        return _filled(self._all_traits())

    def facts(
        self, profiles: Collection[str], signals: Collection[str] = (), said: bool = False
    ) -> dict[str, Known | None]:
        """What is known of each; ordinary data only. `signals`: ids of those to give, of which all are filled. With
        `said`, also what each origin has said of traits."""
        subjects = self._store.of_profiles(profiles)
        moved = self._store.merged_into([each for each in profiles if each not in subjects])
        defined, now = self._traits.current(), self._clock.now_ms()
        traits = _filled(_of_people(defined))
        watched = [each for each in defined.traits if each.signal and each.key in signals]
        states = {profile: merged(_plain(of, [*traits, *watched])) for profile, of in subjects.items()}
        known: dict[str, Known | None] = dict.fromkeys(profiles)
        known |= {profile: {"merged_into": into} for profile, into in moved.items()}
        theirs = self._theirs(states, {each.id: profile for profile, of in subjects.items() for each in of})
        large = _too_large(subjects)
        known |= {
            profile: {
                "profile": profile,
                "facts": facts_of(state, self._believing, traits, now, watched, profile in large)
                | ({"said": state["traits"]} if said else {}),
            }
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

    def scan(self, after: str, limit: int, signals: Sequence[Signal] = (), said: bool = False) -> dict[str, Any]:
        """A page of all profiles. `signals`: to be counted from the log, whether they are kept or not. `said`: as in
        `facts`."""
        page = self._store.page(after, limit)
        found = self.facts(page, said=said)
        wanted = [signal_of(signal_id(each), 0, each) for each in signals]
        for profile, each in found.items() if wanted else ():
            if each and "facts" in each:
                each["facts"]["signals"] = self._counted(self._store.slots_of(profile), wanted)
        return {
            "profiles": {name: each["facts"] for name in page if (each := found[name]) and "facts" in each},
            "after": page[-1] if len(page) == limit else None,
        }

    def _counted(self, slots: Collection[str], signals: Collection[Trait]) -> dict[str, Any]:
        """Signals from the log, by id."""
        state = empty()
        for _, identity, body in self._bodies(self._where(slots), ORDINARY, self._backwards(None)):
            if name := body.get("event"):
                found = measured(signals, name, body["properties"], body["time"], identity)
                merge(state, {**empty(), "computed": found})
        return {each.key: signal_value(held) if (held := state["computed"].get(each.id)) else {} for each in signals}

    def search(self, where: object, after: str, limit: int) -> dict[str, Any]:
        """{profiles: [{profile, found: {what was asked about: values}}], after} of those of whom all conditions hold
        (domain/searching.py), by id. What is known lies sealed, so each is opened: one call looks at MOST_SEARCHED, and
        gives what it found and where to go on, `after`; None at the end. Raises SamlaError."""
        conditions = conditions_of(where, {each.key for each in self._shown_traits()})
        rows: list[dict[str, Any]] = []
        for _ in range(0, MOST_SEARCHED, SEARCHED):
            page = self.scan(after, SEARCHED)
            for profile, facts in page["profiles"].items():
                if (found := found_in(facts, conditions)) is not None:
                    rows.append({"profile": profile, "found": found})
                    if len(rows) == limit:
                        return {"profiles": rows, "after": profile}
            if page["after"] is None:
                return {"profiles": rows, "after": None}
            after = page["after"]
        return {"profiles": rows, "after": after}

    # As people see it

    def show(
        self, profile: str, at: At = NOW, sensitive: bool = False, subject: str | None = None
    ) -> dict[str, Any] | None:
        """A profile's four parts, as of now or of an instant. What was known then is that of who it was then, of
        several the one that had an identifier (its subject), if one is given. Raises SamlaError, see Recalling.then."""
        if at.known_at is not None:
            return self._known(profile, at, sensitive, subject)
        return self._now([profile], sensitive)[0] if at.is_now else self._as_of(profile, at, sensitive)

    def batch(self, profiles: Sequence[str | None], sensitive: bool = False) -> list[dict[str, Any] | None]:
        """Several as of now, in their order. Raises SamlaError where they are too many."""
        check_batch(profiles)
        return self._now(profiles, sensitive)

    def _now(self, profiles: Sequence[str | None], sensitive: bool) -> list[dict[str, Any] | None]:
        asked = {each for each in profiles if each}
        subjects = self._store.of_profiles(asked)
        # Nothing is left under the id of one that was merged; mostly there is none among them.
        moved = self._store.merged_into(asked - subjects.keys())
        subjects |= self._store.of_profiles(set(moved.values()) - subjects.keys()) if moved else {}
        whole = {each: moved.get(each, each) for each in asked}
        traits, now = self._shown_traits(), self._clock.now_ms()
        states = {profile: merged(_plain(of, traits)) for profile, of in subjects.items()}
        theirs = self._theirs(states, {each.id: profile for profile, of in subjects.items() for each in of})
        special = {profile: merged(_special(of)) if sensitive else None for profile, of in subjects.items()}
        large = _too_large(subjects)
        views = {
            profile: self._view(profile, theirs[profile], special[profile], traits, now, profile in large)
            for profile in theirs
        }
        return [views.get(whole[each]) if each else None for each in profiles]

    def _as_of(self, profile: str, at: At, sensitive: bool) -> dict[str, Any] | None:
        """By today's knowledge of who is who."""
        of, slots = self._slots(profile)
        if not slots:
            return None
        plain, special = self._folded(self._where(slots), at, sensitive)
        theirs = self._theirs({of: plain}, dict.fromkeys(slots, of))[of]
        return self._view(of, theirs, special, self._all_traits(), _instant(at))

    def _known(self, profile: str, at: At, sensitive: bool, subject: str | None) -> dict[str, Any] | None:
        then = self._recalling.then(profile, at.known_at or 0, subject)
        if then is None:
            return None
        of, slots, placing = then.person.profile, then.person.slots, then.person.placing
        plain, special = self._folded(Where(slots, lambda _: placing), at, sensitive)
        theirs = _only(plain, self._owners_then(plain, then), of)
        view = self._view(of, theirs, special, self._all_traits(), _instant(at))
        return {**view, "people_then": then.others}

    def _owners_then(self, state: State, then: Then) -> Owners:
        pairs = [(kind, value) for kind, values in state["ids"].items() for value in values]
        subjects = self._keyring.subjects_of(pairs, create=False)
        return {pair: then.past.owner(subject) for pair, subject in subjects.items() if subject}

    def _folded(self, where: Where, at: At, sensitive: bool) -> tuple[State, State | None]:
        """Of what had happened and was known: what is ordinary, and what is of special categories where asked for."""
        states = [self._folded_of(where, at, cls) for cls in (ORDINARY, *([SENSITIVE] if sensitive else []))]
        return states[0], states[1] if sensitive else None

    def _folded_of(self, where: Where, at: At, cls: str) -> State:
        state, traits = empty(), self._all_traits()
        for _, identity, body in self._bodies(where, cls, self._backwards(at.known_at)):
            if at.as_of is None or body["time"] <= at.as_of:
                said = folded(body, identity, traits)
                if said is not None:
                    merge(state, said)
        return state

    def _view(
        self,
        profile: str,
        state: State,
        special: State | None,
        traits: Collection[Trait],
        now: int,
        too_large: bool = False,
    ) -> dict[str, Any]:
        view = view_of(profile, state, self._believing, traits, now, too_large=too_large)
        if special is not None:
            # Events of special categories are not measured.
            view["sensitive"] = view_of(profile, special, self._believing, (), now, sensitive=True)
        return view

    def compare(
        self, profile: str, start: int, end: int, by: str = "event", subject: str | None = None
    ) -> dict[str, Any] | None:
        """{profile, from, to, by, and what is different, by part (domain/comparing.py)} between two instants (ms): of
        what had happened by then (`event`), or of what was known then (`known`). None where nobody is known at either.
        Raises SamlaError where `by` is neither, and see Recalling.then."""
        if by not in BY:
            raise SamlaError(f"by: one of {', '.join(BY)}")
        instants = [At(as_of=each) if by == "event" else At(known_at=each) for each in (start, end)]
        before, after = (self.show(profile, each, subject=subject) for each in instants)
        if before is None and after is None:
            return None
        last = after or before or {}
        return {
            "profile": last["profile"],
            "from": start,
            "to": end,
            "by": by,
            **differences(before or {}, after or {}),
        }

    def timeline(
        self, profile: str, limit: int, before: str | None = None, events: Collection[str] | None = None
    ) -> dict[str, Any]:
        """{lines, next}: what the person did, latest first; see Timeline.page."""
        _, slots = self._slots(profile)
        return self._timeline.page(slots, limit, before, events)

    def everything(self, profile: str) -> dict[str, Any]:
        """What an export holds: the profile, every event as it stands, and what was corrected of them."""
        where = self._where(self._slots(profile)[1])
        return {
            "profile": self.show(profile, sensitive=True),
            "events": self._exported(where, lambda subject: as_they_stand(self._log, subject)),
            "corrected": self._exported(where, lambda subject: as_they_were(self._log, subject)),
        }

    def _exported(self, where: Where, reading: ReadEvents) -> list[dict[str, Any]]:
        return [
            {"id": identity, "received": event.time, "class": cls, **body}
            for cls in CLASSES
            for event, identity, body in self._bodies(where, cls, reading)
        ]

    def _slots(self, profile: str) -> tuple[str, list[str]]:
        """The profile that it is a part of by now, and that one's slots."""
        of = self._store.merged_into([profile]).get(profile, profile)
        return of, self._store.slots_of(of)

    def _where(self, slots: Collection[str]) -> Where:
        return Where(set(slots), lambda subject: self._store.placing([subject]))

    def _backwards(self, known_at: int | None) -> ReadEvents:
        return lambda subject: (page.said for page in backwards(self._log, subject, known_at))

    def _bodies(self, where: Where, cls: str, reading: ReadEvents) -> Iterator[Opened]:
        """Every event of the slots that has not been erased and can be read."""
        for subject in dict.fromkeys(map(subject_of, where.slots)):
            placing = where.placing(subject)
            for page in reading(subject):
                # Others get their turn in between: a history may be long.
                time.sleep(0)
                for event, identity, body in opened(self._keyring, page, cls):
                    if placing.slot_of(subject, identity, body["time"]) in where.slots:
                        yield event, identity, body


def check_batch(profiles: Sequence[object]) -> None:
    """Raises SamlaError where they are too many."""
    if len(profiles) > MOST_IN_BATCH:
        raise SamlaError(f"{MOST_IN_BATCH} profiles at most at once")


def _instant(at: At) -> int:
    """At which windows are read."""
    return at.as_of if at.as_of is not None else at.known_at or 0


def _of_people(defined: Defined) -> list[Trait]:
    return [each for each in defined.traits if not each.signal]


def _filled(traits: Collection[Trait]) -> list[Trait]:
    return [each for each in traits if each.filled]


def _plain(subjects: Sequence[Subject], traits: Collection[Trait]) -> list[State]:
    """The states of what is ordinary, under whatever agreement it came; with these computed traits."""
    ids = {each.id for each in traits}
    return [with_traits(state, ids) for each in subjects for cls, state in each.states.items() if not is_sensitive(cls)]


def _too_large(people: Mapping[str, Sequence[Subject]]) -> set[str]:
    """The profiles of which something goes without what is computed."""
    return {profile for profile, of in people.items() if any(each.too_large for each in of)}


def _special(subjects: Sequence[Subject]) -> list[State]:
    return [state for each in subjects for cls, state in each.states.items() if is_sensitive(cls)]


def _only(state: Facts, owner: Owners, profile: str) -> Facts:
    mine = {
        (kind, value)
        for kind, values in state["ids"].items()
        for value in values
        if owner.get((kind, value)) == profile
    }
    return with_ids(state, mine)
