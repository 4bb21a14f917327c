"""The rules: which identifiers of an event are one person's. Deterministic; no guesses by likeness.

The identifiers of an event come by priority. They are one person's, unless that person would then have
more of a kind than a person has: two user ids are two people, on a shared tablet too. What does not fit is
set aside: the identifier of lower priority stays where it was.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from contracts.identity import ATTACHED, CREATED, MERGED, SET_ASIDE
from services.identity.domain.graph import Fact, Graph, Person
from shared.eventlog.event import derive_id

LIMITS: Final = {"user": 1, "email": 5, "phone": 5, "anonymous": 100}
"""Kind -> how many of it one person may have."""
LIMIT_OF_OTHERS: Final = 5


class Found(NamedTuple):
    """An identifier of an event."""

    kind: str
    subject: str


def decide(graph: Graph, event: str, time: int, found: Sequence[Found]) -> list[Fact]:
    """What follows from an event's identifiers (by priority). The graph is as if it had happened already.

    `event` is its id, from which a new profile's id follows; `time` is when it was received.
    """
    facts: list[Fact] = []

    def happen(fact: str, subject: str, /, **data: str) -> None:
        facts.append(Fact(fact, subject, dict(data)))
        graph.evolve(fact, data, time)

    if not found:
        return facts
    home = _home(graph, found)
    if home is None:
        profile, first = derive_id("profile", event), found[0]
        happen(CREATED, profile, profile=profile, subject=first.subject, kind=first.kind)
        home = profile
    for each in found:
        person, other = graph.people[home], graph.person_of(each.subject)
        if other is None and (lacks := too_many(person, {each.subject: each.kind})) is None:
            happen(ATTACHED, home, profile=home, subject=each.subject, kind=each.kind)
        elif other is not None and other.id == home:
            continue
        elif other is not None and (lacks := too_many(person, other.members)) is None:
            into, old = sorted((person, other), key=lambda one: one.age)
            happen(MERGED, into.id, into=into.id, profile=old.id)
            home = into.id
        elif each.subject not in person.aside:
            happen(SET_ASIDE, home, profile=home, subject=each.subject, kind=each.kind, reason=f"limit_of_{lacks}")
    return facts


def _home(graph: Graph, found: Sequence[Found]) -> str | None:
    """The person whose event it is: that of the first identifier, else the first known one that it fits."""
    first = found[0]
    if person := graph.person_of(first.subject):
        return person.id
    for each in found[1:]:
        person = graph.person_of(each.subject)
        if person is not None and too_many(person, {first.subject: first.kind}) is None:
            return person.id
    return None


def too_many(person: Person, more: dict[str, str]) -> str | None:
    """The kind of which the person would have more than a person has; None where all fit."""
    added = {subject: kind for subject, kind in more.items() if subject not in person.members}
    for kind in sorted(set(added.values())):
        if person.count(kind) + sum(each == kind for each in added.values()) > LIMITS.get(kind, LIMIT_OF_OTHERS):
            return kind
    return None
