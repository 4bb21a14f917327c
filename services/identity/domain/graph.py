"""The identifier graph: people, the identifiers (subjects) that are theirs, and how facts change it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from contracts.identity import (
    ATTACHED,
    CREATED,
    ERASED,
    GIVEN,
    MERGED,
    REFUSED,
    REGROUPED,
    RULES_CHANGED,
    SET_ASIDE,
    SHARED,
    SPLIT,
    UNSHARED,
)
from shared.errors import Poison

MOST_REMEMBERED_ASIDE: Final = 100
"""Identifiers that a person remembers as not theirs, so as not to say it again at each event."""


class Member(NamedTuple):
    """An identifier that is a person's."""

    kind: str
    since: int
    """When it became theirs (ms)."""


class Shared(NamedTuple):
    """A device on which somebody else is known, too."""

    since: int
    """From when on (ms) it tells nothing."""
    other: str
    """An identifier (subject) of who else."""


class Verdict(NamedTuple):
    """What was said of two who look alike."""

    accepted: bool
    subjects: tuple[str, str]
    """An identifier of each, whoever they are a part of by now."""
    profiles: tuple[str, str]
    """Who they were, in order."""
    probability: float
    reason: str
    time: int
    """When it was said (ms)."""

    def is_of(self, one: "Person", other: "Person") -> bool:
        """Whether it was said of these two, under any identifier that is theirs by now."""
        mine, theirs = self.subjects
        return (mine in one.members and theirs in other.members) or (mine in other.members and theirs in one.members)


class Given(NamedTuple):
    """Whose an event is though its own identifier is not."""

    subject: str
    """Its own."""
    to: str
    """The subject of the person's."""
    at: int
    """When it happened (ms)."""


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
    shared: dict[str, Shared] = {}
    """By subject, those of the person's devices that others use, too."""
    apart: dict[str, int] = {}
    """Splits that the person's identifiers stand on one side of (0 or 1)."""
    regrouped: str | None = None
    """The event that decided again who this is, if one did: what made them one until then is in there."""
    into: str | None = None

    def count(self, kind: str) -> int:
        """How many identifiers of a kind."""
        return sum(each.kind == kind for each in self.members.values())

    def shares(self, subject: str, time: int) -> bool:
        """Whether a device told nobody's by then (ms)."""
        shared = self.shared.get(subject)
        return shared is not None and time >= shared.since

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

    def __init__(
        self,
        people: Iterable[Person] = (),
        links: Mapping[str, str] | None = None,
        apart: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self.people: dict[str, Person] = {each.id: each for each in people}
        self.links: dict[str, str] = dict(links or {})
        self.apart: dict[str, dict[str, int]] = {subject: dict(sides) for subject, sides in (apart or {}).items()}
        """Subject -> the splits that it was a part of, and on which side."""
        self.touched: set[str] = set()
        self.unlinked: set[str] = set()
        self.relinked: set[str] = set()
        self.set_apart: set[str] = set()
        self.given: dict[str, Given] = {}
        """By event, those that were given to somebody."""
        self.ungiven: set[str] = set()
        """Subjects whose events, and to whom events, are no longer given."""
        self.verdicts: dict[str, Verdict] = {}
        """Candidate -> what was said of the two for the first time."""
        self.unsaid: set[str] = set()
        """Subjects of which nothing was said any more."""

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

    def settle(self, given: bool = True) -> None:
        """What has changed so far is written, or need not be; with `given`, what events were given to whom, too."""
        for each in (self.touched, self.unlinked, self.relinked, self.set_apart, self.ungiven, self.unsaid):
            each.clear()
        if given:
            self.given.clear()
        self.verdicts.clear()

    def _put(self, person: Person) -> None:
        self.people[person.id] = person
        self.touched.add(person.id)

    def _link(self, subject: str, profile: str) -> None:
        self.links[subject] = profile
        self.relinked.add(subject)

    def _created(self, data: Mapping[str, Any], time: int) -> None:
        profile, subject = data["profile"], data["subject"]
        members = {subject: Member(data["kind"], time)}
        self._put(Person(id=profile, since=time, members=members, apart=self.sides([subject])))
        self._link(subject, profile)

    def _attached(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        members = {**person.members, data["subject"]: Member(data["kind"], time)}
        aside = tuple(each for each in person.aside if each != data["subject"])
        apart = {**person.apart, **self.sides([data["subject"]])}
        self._put(msgspec.structs.replace(person, members=members, aside=aside, apart=apart))
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
                apart={**into.apart, **old.apart},
                merged=tuple(sorted({*into.merged, *old.merged, old.id})),
            )
        )
        for each in (old.id, *old.merged):
            self._put(Person(id=each, since=0, into=into.id))
        for subject in old.members:
            self._link(subject, into.id)
        if "candidate" in data:
            self._say(data, (data["profile"], data["into"]), data["reason"], time)

    def _refused(self, data: Mapping[str, Any], time: int) -> None:
        self._say(data, data["profiles"], "", time)

    def _say(self, data: Mapping[str, Any], profiles: Iterable[str], reason: str, time: int) -> None:
        """What was said stands, also where it is decided again, and whatever those two become."""
        one, other = data["subjects"]
        first, second = sorted(profiles)
        verdict = Verdict(bool(reason), (one, other), (first, second), data["probability"], reason, time)
        self.verdicts.setdefault(data["candidate"], verdict)

    def _set_aside(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        aside = (*person.aside, data["subject"])[-MOST_REMEMBERED_ASIDE:]
        self._put(msgspec.structs.replace(person, aside=aside))

    def _shared(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        shared = Shared(int(data["since"]), data["other"])
        first = min(shared, person.shared.get(data["subject"], shared))
        self._put(msgspec.structs.replace(person, shared={**person.shared, data["subject"]: first}))

    def _unshared(self, data: Mapping[str, Any], time: int) -> None:
        person = self.people[data["profile"]]
        left = {subject: shared for subject, shared in person.shared.items() if subject != data["subject"]}
        self._put(msgspec.structs.replace(person, shared=left))

    def _ruled(self, data: Mapping[str, Any], time: int) -> None:
        """Rules change what is decided from then on, and nothing that was."""

    def _given(self, data: Mapping[str, Any], time: int) -> None:
        self.given[data["event"]] = Given(data["subject"], data["to"], data.get("at", 0))

    def _split(self, data: Mapping[str, Any], time: int) -> None:
        """Identifiers of one side are never those of somebody with one of the other, until somebody says so."""
        for side, name in enumerate(SIDES):
            for subject in data[name]:
                self.apart.setdefault(subject, {})[data["decision"]] = side
                self.set_apart.add(subject)
        self._regrouped(data, time)

    def _regrouped(self, data: Mapping[str, Any], time: int) -> None:
        """People are put together anew, by what was decided about them in place of what had been."""
        self.dissolve(data["dissolved"])
        for each in data["facts"]:
            self.evolve(each["type"], each, each["time"])
        founded = {each["profile"] for each in data["facts"] if each["type"] == CREATED}
        for profile in sorted(founded & self.people.keys()):
            event = data.get("regrouping", data["decision"])
            self._put(msgspec.structs.replace(self.people[profile], regrouped=event))

    def dissolve(self, profiles: Iterable[str]) -> None:
        """These people are nobody any more, and their identifiers are nobody's."""
        for profile in profiles:
            person = self.people.pop(profile, None)
            self.touched.add(profile)
            for subject in person.members if person else ():
                self.links.pop(subject, None)
                self._forget(subject)
            self.dissolve(person.merged if person else ())

    def _lose(self, profile: str | None, subject: str) -> None:
        """A device that others have used, too, is forgotten with one of them, and its owner is somebody still."""
        person = self.people.get(profile or "")
        if person is None:
            return
        members = {each: member for each, member in person.members.items() if each != subject}
        shared = {each: one for each, one in person.shared.items() if each != subject}
        if members:
            self._put(msgspec.structs.replace(person, members=members, shared=shared))
        else:
            self.people.pop(person.id)
            self.touched.add(person.id)

    def _forget(self, subject: str) -> None:
        self.unlinked.add(subject)
        self.ungiven.add(subject)
        self.given = {event: pair for event, pair in self.given.items() if subject not in pair[:2]}

    def sides(self, subjects: Iterable[str]) -> dict[str, int]:
        """The splits that these subjects stand on one side of."""
        return {split: side for subject in subjects for split, side in self.apart.get(subject, {}).items()}

    def _erased(self, data: Mapping[str, Any], time: int) -> None:
        for profile in data["profiles"]:
            self.people.pop(profile, None)
            self.touched.add(profile)
        for subject in data["subjects"]:
            self._lose(self.links.pop(subject, None), subject)
            self._forget(subject)
            self.unsaid.add(subject)
            if self.apart.pop(subject, None) is not None:
                self.set_apart.add(subject)
        self.verdicts = {name: each for name, each in self.verdicts.items() if self.unsaid.isdisjoint(each.subjects)}


SIDES: Final = ("left", "right")

_STEPS: Final[dict[str, Any]] = {
    CREATED: Graph._created,
    ATTACHED: Graph._attached,
    MERGED: Graph._merged,
    SET_ASIDE: Graph._set_aside,
    SHARED: Graph._shared,
    UNSHARED: Graph._unshared,
    GIVEN: Graph._given,
    REFUSED: Graph._refused,
    SPLIT: Graph._split,
    REGROUPED: Graph._regrouped,
    RULES_CHANGED: Graph._ruled,
    ERASED: Graph._erased,
}


def involved(facts: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[set[str], set[str]]:
    """(profiles, subjects) that must be in the graph for these facts to be applied."""
    profiles: set[str] = set()
    subjects: set[str] = set()
    for _, data in facts:
        profiles |= {data[name] for name in ("profile", "into") if name in data}
        profiles |= {*data.get("profiles", ()), *data.get("dissolved", ())}
        subjects |= {data["subject"]} if "subject" in data else set()
        subjects |= {*data.get("subjects", ()), *data.get("left", ()), *data.get("right", ())}
        if within := data.get("facts"):
            more = involved((each["type"], each) for each in within)
            profiles, subjects = profiles | more[0], subjects | more[1]
    return profiles, subjects
