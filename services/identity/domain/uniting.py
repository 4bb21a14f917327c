"""Two who look alike and are said to be one person: by somebody, or by how probable it is. It obeys the rules like any
event that names both: what may not be one person's is not, whoever says so."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from contracts.identity import REFUSED
from services.identity.domain.decide import Steps, obstacle, of
from services.identity.domain.graph import Fact, Graph, Person, Verdict
from services.identity.domain.rules import Rules

BY_PERSON: Final = "accepted"
BY_THRESHOLD: Final = "threshold"


class Alike(NamedTuple):
    """What was said of two."""

    candidate: str
    """The pair's id."""
    received: int
    """When it was said (ms)."""
    subjects: tuple[str, str]
    """An identifier of each, see `known_by`."""
    probability: float
    """That they are one person."""
    reason: str = BY_PERSON


def alike_of(candidate: str, said: Verdict) -> Alike:
    """What was said, to be decided again."""
    return Alike(candidate, said.time, said.subjects, said.probability, said.reason)


def known_by(person: Person, rules: Rules) -> str:
    """The identifier (subject) that says most about who somebody is: what is said of the person follows it, should the
    others turn out to be somebody else's."""

    def rank(subject: str) -> tuple[bool, int, int, str]:
        member = person.members[subject]
        rule = rules.of(member.kind)
        return rule.device, rule.priority, member.since, subject

    return min(person.members, key=rank)


def hindrance(one: Person, other: Person, rules: Rules, now: int) -> str:
    """Why two cannot be one person by the rules, as `limit_of_user`; empty where they can."""
    return obstacle(of(one), of(other), rules, now)


def unite(graph: Graph, alike: Alike, rules: Rules) -> list[Fact]:
    """What follows where two are said to be one; nothing where something is in the way, or one is nobody's, or they are
    one already. The graph is as if it had happened already."""
    one, other = (graph.person_of(each) for each in alike.subjects)
    if one is None or other is None or one.id == other.id or hindrance(one, other, rules, alike.received):
        return []
    return _Uniting(graph, alike.received, rules, {"candidate": alike.candidate}).facts(one, other, alike)


class _Uniting(Steps):
    def facts(self, one: Person, other: Person, alike: Alike) -> list[Fact]:
        said = {"reason": alike.reason, "probability": alike.probability, "subjects": list(alike.subjects)}
        self._merge(one, other, **said)
        return self._facts


def refusal(alike: Alike, profiles: Sequence[str]) -> Fact:
    """They are two: said, and not to be asked again."""
    data: dict[str, Any] = {
        "candidate": alike.candidate,
        "profiles": list(profiles),
        "subjects": list(alike.subjects),
        "probability": alike.probability,
    }
    return Fact(REFUSED, alike.candidate, data)
