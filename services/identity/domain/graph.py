"""The identifier graph: people, the identifiers (subjects) that are theirs, and how facts change it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from contracts.identity import ATTACHED, CREATED, ERASED, MERGED, RULES_CHANGED, SET_ASIDE, SHARED
from shared.errors import Poison

MOST_REMEMBERED_ASIDE: Final = 100
"""Identifiers that a person remembers as not theirs, so as not to say it again at each event."""


class Member(NamedTuple):
    """An identifier that is a person's."""

    kind: str
    since: int
    """When it became theirs (ms)."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A profile, or what is left of one that was merged into another (`into`)."""

    id: str
    since: int
    """When the person was first seen (ms); 0 where merged."""
    members: dict[str, Member] = {}
    """By subject."""
    aside: tuple[str, ...] = ()
    """Subjects that came with the person's and are not taken for theirs."""
    merged: tuple[str, ...] = ()
    """Profiles that are a part of this one."""
    shared: dict[str, int] = {}
    """Devices (subjects) on which somebody else is known too, and since when (ms): from then on they tell nothing."""
    into: str | None = None

    def count(self, kind: str) -> int:
        """How many identifiers of a kind."""
        return sum(each.kind == kind for each in self.members.values())

    @property
    def age(self) -> tuple[int, str]:
        """The oldest has the smallest; no two have the same."""
        return self.since, self.id


class Fact(msgspec.Struct, frozen=True):
    """A decision: an event of the stream `identity`, without its envelope."""

    type: str
    subject: str
    data: dict[str, Any]


class Graph:
    """The part of the graph that a batch of events is about; `touched` are the people that changed."""

    def __init__(self, people: Iterable[Person] = (), links: Mapping[str, str] | None = None) -> None:
        self.people: dict[str, Person] = {each.id: each for each in people}
        self.links: dict[str, str] = dict(links or {})
        self.touched: set[str] = set()
        self.unlinked: set[str] = set()
        self.relinked: set[str] = set()

    def person_of(self, subject: str) -> Person | None:
        """Whose identifier it is."""
        profile = self.links.get(subject)
        return self.people.get(profile) if profile else None

    def evolve(self, fact_type: str, data: Mapping[str, Any], time: int) -> None:
        """What a fact does to the graph."""
        step = _STEPS.get(fact_type)
        if step is None:
            raise Poison(f"{fact_type} is not an event of identity's")
        step(self, data, time)

    def _put(self, person: Person) -> None:
        self.people[person.id] = person
        self.touched.add(person.id)

    def _link(self, subject: str, profile: str) -> None:
        self.links[subject] = profile
        self.relinked.add(subject)

    def _created(self, data: Mapping[str, Any], time: int) -> None:
        profile, subject = data["profile"], data["subject"]
        self._put(Person(id=profile, since=time, members={subject: Member(data["kind"], time)}))
        self._link(subject, profile)

    def _attached(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        members = {**person.members, data["subject"]: Member(data["kind"], time)}
        aside = tuple(each for each in person.aside if each != data["subject"])
        self._put(msgspec.structs.replace(person, members=members, aside=aside))
        self._link(data["subject"], person.id)

    def _merged(self, data: Mapping[str, Any], time: int) -> None:
        old, into = self.people[data["profile"]], self.people[data["into"]]
        members = {**into.members, **old.members}
        aside = tuple(each for each in dict.fromkeys((*into.aside, *old.aside)) if each not in members)
        self._put(
            msgspec.structs.replace(
                into,
                members=members,
                aside=aside[:MOST_REMEMBERED_ASIDE],
                shared={**into.shared, **old.shared},
                merged=tuple(sorted({*into.merged, *old.merged, old.id})),
            )
        )
        for each in (old.id, *old.merged):
            self._put(Person(id=each, since=0, into=into.id))
        for subject in old.members:
            self._link(subject, into.id)

    def _set_aside(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        aside = (*person.aside, data["subject"])[-MOST_REMEMBERED_ASIDE:]
        self._put(msgspec.structs.replace(person, aside=aside))

    def _shared(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        since = min(int(data["since"]), person.shared.get(data["subject"], int(data["since"])))
        self._put(msgspec.structs.replace(person, shared={**person.shared, data["subject"]: since}))

    def _ruled(self, data: Mapping[str, Any], time: int) -> None:
        """Rules change what is decided from then on, and nothing that was."""

    def _erased(self, data: Mapping[str, Any], time: int) -> None:
        for profile in data["profiles"]:
            self.people.pop(profile, None)
            self.touched.add(profile)
        for subject in data["subjects"]:
            self.links.pop(subject, None)
            self.unlinked.add(subject)


_STEPS: Final[dict[str, Any]] = {
    CREATED: Graph._created,
    ATTACHED: Graph._attached,
    MERGED: Graph._merged,
    SET_ASIDE: Graph._set_aside,
    SHARED: Graph._shared,
    RULES_CHANGED: Graph._ruled,
    ERASED: Graph._erased,
}


def involved(facts: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[set[str], set[str]]:
    """(profiles, subjects) that must be in the graph for these facts to be applied."""
    profiles: set[str] = set()
    subjects: set[str] = set()
    for _, data in facts:
        profiles |= {data[name] for name in ("profile", "into") if name in data} | set(data.get("profiles", ()))
        subjects |= ({data["subject"]} if "subject" in data else set()) | set(data.get("subjects", ()))
    return profiles, subjects
