"""Who was one person at an instant, by what identity had decided by then: its decisions, replayed.

It is what profile would have followed then (folding.regroup), without its collections: the same facts, in the order of
identity's stream, of which those of a later `time` are left out. As decisions carry the time at which what they rest on
was received, one may stand before another that is earlier; so a fact is taken as it says, whatever is known of before.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from contracts import identity
from services.profile.domain.placing import Marks, Placing, slot


class Person(NamedTuple):
    """A person as of then."""

    profile: str
    subjects: frozenset[str]
    """Identifiers that were theirs."""
    slots: frozenset[str]
    """See domain.placing: their subjects, and what of others' was given to them."""
    placing: Placing
    """Where the events of the slots' subjects belonged."""


class Past:
    """Whose identifiers and events were. `gone`: what has been erased since, of which nothing is taken."""

    def __init__(self, gone: Collection[str] = ()) -> None:
        self._gone = frozenset(gone)
        self._owners: dict[str, str] = {}
        self._into: dict[str, str] = {}
        self._since: dict[str, int] = {}
        """Device -> from when on (ms) what happens there is nobody's."""
        self._given: dict[str, tuple[str, str]] = {}
        """Event -> (its subject, to whom)."""

    def replay(self, decisions: Iterable[tuple[str, Mapping[str, Any], int]], until: int) -> "Past":
        """(type, data, time in ms) of identity's events, in their order; those of a time after `until` are left out."""
        for kind, data, time in decisions:
            if time <= until:
                self._take(kind, data)
        return self

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind in identity.REGROUPINGS:
            self._dissolve(data.get("dissolved") or ())
            for fact in data.get("facts") or ():
                self._take(fact["type"], fact)
        elif kind == identity.MERGED:
            self._merge(data["profile"], data["into"])
        elif kind in _STEPS and self._gone.isdisjoint((data["subject"], data.get("to", ""))):
            _STEPS[kind](self, data)

    def _merge(self, old: str, into: str) -> None:
        self._into.pop(old, None)
        # What is left out between may make that each is said to be a part of the other: the first holds.
        if self._whole(into) != old:
            self._into[old] = into

    def _join(self, data: Mapping[str, Any]) -> None:
        self._owners[data["subject"]] = data["profile"]

    def _found(self, data: Mapping[str, Any]) -> None:
        # Who was a part of somebody, and is founded anew, is somebody again.
        self._into.pop(data["profile"], None)
        self._join(data)

    def _share(self, data: Mapping[str, Any]) -> None:
        self._since[data["subject"]] = min(self._since.get(data["subject"], data["since"]), data["since"])

    def _unshare(self, data: Mapping[str, Any]) -> None:
        self._since.pop(data["subject"], None)

    def _give(self, data: Mapping[str, Any]) -> None:
        self._given[data["event"]] = (data["subject"], data["to"])

    def _dissolve(self, profiles: Collection[str]) -> None:
        """These, and who was a part of them, are nobody; nothing of theirs is shared any more, or given."""
        dissolved = set(profiles)
        members = {subject for subject, profile in self._owners.items() if self._whole(profile) in dissolved}
        parts = {each for each in self._into if self._whole(each) in dissolved}
        for each in parts | dissolved:
            self._into.pop(each, None)
        for subject in members:
            del self._owners[subject]
            self._since.pop(subject, None)
        self._given = {event: pair for event, pair in self._given.items() if members.isdisjoint(pair)}

    def _whole(self, profile: str) -> str:
        while profile in self._into:
            profile = self._into[profile]
        return profile

    # Asking

    def owner(self, subject: str) -> str | None:
        """Whose an identifier was; None where nobody's."""
        profile = self._owners.get(subject)
        return None if profile is None else self._whole(profile)

    def is_shared(self, subject: str) -> bool:
        """Whether somebody else was known on it, too."""
        return subject in self._since

    def profile(self, profile: str) -> str | None:
        """The person that a profile was (a part of); None where there was no such one."""
        whole = self._whole(profile)
        return whole if any(self._whole(each) == whole for each in self._owners.values()) else None

    def person(self, profile: str) -> Person:
        """Everything of a person's."""
        subjects = frozenset(each for each in self._owners if self.owner(each) == profile)
        theirs = {pair for pair in self._given.values() if pair[1] in subjects}
        slots = subjects | {slot(subject, to) for subject, to in theirs}
        places = subjects | {subject for subject, _ in theirs}
        given = {event: to for event, (subject, to) in self._given.items() if subject in places}
        marked = {subject for subject, _ in self._given.values()} | self._since.keys()
        marks = {each: Marks(self._since.get(each), 0) for each in places & marked}
        return Person(profile, subjects, slots, Placing(marks, given))


_STEPS = {
    identity.CREATED: Past._found,
    identity.ATTACHED: Past._join,
    identity.SHARED: Past._share,
    identity.UNSHARED: Past._unshare,
    identity.GIVEN: Past._give,
}
