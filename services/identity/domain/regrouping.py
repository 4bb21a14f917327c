"""Deciding again: people are taken apart and put together anew, from the events themselves, in their order."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from contracts.identity import ATTACHED, CREATED, GIVEN, MERGED, SHARED
from services.identity.domain.decide import Claim, decide
from services.identity.domain.graph import Fact, Graph, Person
from services.identity.domain.rules import Rules
from services.identity.domain.uniting import Alike, unite
from shared.errors import SamlaError


class Heard(NamedTuple):
    """A claim as it was heard, with the rules of then; or what was said of two who look alike."""

    claim: Claim | Alike
    rules: Rules
    fact: int | None = None
    """Where in the stream of decisions the first stands that followed from it; None where none did."""
    place: tuple[int, int] = (0, 0)
    """(partition, position) of the event."""

    @property
    def id(self) -> str:
        """The event's, or the candidate's."""
        return self.claim.event if isinstance(self.claim, Claim) else self.claim.candidate

    def decided(self, graph: Graph) -> list[Fact]:
        """What follows. The graph is as if it had happened already."""
        if isinstance(self.claim, Claim):
            return decide(graph, self.claim, self.rules)
        return unite(graph, self.claim, self.rules)

    def without(self, gone: Collection[str]) -> "Heard | None":
        """Without what it says of subjects that are `gone`; None where it says nothing then."""
        if isinstance(self.claim, Alike):
            return self if set(self.claim.subjects).isdisjoint(gone) else None
        found = [each for each in self.claim.found if each.subject not in gone]
        if self.claim.subject in gone or not found:
            return None
        return self if len(found) == len(self.claim.found) else self._replace(claim=self.claim._replace(found=found))

    @property
    def subjects(self) -> set[str]:
        """All that it names."""
        if isinstance(self.claim, Claim):
            return {each.subject for each in self.claim.found}
        return set(self.claim.subjects)


def in_order(heard: Iterable[Heard]) -> list[Heard]:
    """As they were decided: those from which something followed by the order of what did, the others behind all of
    those that had been received by then."""
    ordered = sorted(heard, key=lambda each: (each.claim.received, each.place))
    decided = sorted((each for each in ordered if each.fact is not None), key=lambda each: each.fact or 0)
    before: dict[str, int] = {}
    latest = 0
    for each in ordered:
        latest = max(latest, each.fact or 0)
        before[each.id] = each.fact or latest
    places = {each.id: number for number, each in enumerate(decided)}
    return sorted(
        ordered,
        key=lambda each: (
            before[each.id],
            places.get(each.id, len(places)),
            each.claim.received,
            each.place,
        ),
    )


class Again(NamedTuple):
    """What came of deciding again."""

    dissolved: list[str]
    """Profiles that are not as they were."""
    facts: list[dict[str, Any]]
    """What stands in place of all that was decided about them: type, time, and a fact's data."""


def decided_again(graph: Graph, people: Collection[str], heard: Iterable[Heard], erased: Collection[str] = ()) -> Again:
    """Dissolves these people and decides by the claims again. The graph is as if it had happened already; what comes
    out as it was is left out. `erased`: subjects of people who were known on devices of these, and of whom nothing can
    be heard any more: what happened there since is not theirs for that."""
    had = {each: graph.people[each] for each in people if each in graph.people}
    parts = {part: each for each, person in had.items() for part in (each, *person.merged)}
    graph.dissolve(people)
    facts: list[dict[str, Any]] = []
    for each in in_order(heard):
        for fact in each.decided(graph):
            facts.append({"type": fact.type, "time": each.claim.received, **fact.data})
    facts += _shared_with_erased(graph, had.values(), erased)
    same = {each for each, person in had.items() if _are_same(graph.people.get(each), person)}
    untouched = {part for part, each in parts.items() if each in same}
    # What was done on a device of theirs and is somebody else's goes with them when they are dissolved.
    theirs = {subject for each, person in had.items() if each not in same for subject in person.members}
    return Again(
        sorted(had.keys() - same),
        [
            each
            for each in facts
            if each["profile"] not in untouched or (each["type"] == GIVEN and each["subject"] in theirs)
        ],
    )


def _shared_with_erased(graph: Graph, had: Iterable[Person], erased: Collection[str]) -> list[dict[str, Any]]:
    facts = []
    for subject, shared in ((subject, each) for person in had for subject, each in person.shared.items()):
        owner = graph.person_of(subject)
        if shared.other in erased and owner is not None and not owner.shares(subject, shared.since):
            data = {"profile": owner.id, "subject": subject, "kind": owner.members[subject].kind, **shared._asdict()}
            graph.evolve(SHARED, data, shared.since)
            facts.append({"type": SHARED, "time": shared.since, **data})
    return facts


def _are_same(one: Person | None, other: Person) -> bool:
    return one is not None and replace(one, regrouped=None) == replace(other, regrouped=None)


# What a split is about


class Cut(NamedTuple):
    """Identifiers (subjects) that are not one person's."""

    left: list[str]
    right: list[str]


def cut_of_identifier(person: Person, subject: str) -> Cut:
    """One identifier is none of a person's. Raises SamlaError where there is nothing to be split."""
    if subject not in person.members:
        raise SamlaError("this identifier is not one of that person's")
    rest = sorted(each for each in person.members if each != subject)
    if not rest:
        raise SamlaError("this is the only identifier that the person has: there is nothing to be split")
    return Cut([subject], rest)


_JOINING: Final = (CREATED, ATTACHED)


def cut_of_merge(facts: Sequence[Mapping[str, Any]], merge: Mapping[str, Any]) -> Cut:
    """Two who were merged are not one person. `facts`: those about both, in order, up to the merge."""
    members: dict[str, set[str]] = {}
    for fact in facts:
        profile = fact["profile"]
        if fact["type"] == MERGED:
            members.setdefault(fact["into"], set()).update(members.pop(profile, ()))
        elif fact["type"] in _JOINING:
            members.setdefault(profile, set()).add(fact["subject"])
    return Cut(*(sorted(members.get(merge[name], ())) for name in ("into", "profile")))
