"""The rules at work: which identifiers of an event are one person's. Deterministic; no guesses by likeness.

Identifiers come by priority. Those that name people are taken first; each joins the person whose event it is,
unless that person would then have more of its kind than the rules allow, or two of what is one a person: then it is
set aside, and the rest is tried without it. Devices come after. A device joins two who are known, by nothing that
both have and that differs; else somebody else is known on it, and from that event on it tells nobody's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from contracts.identity import ATTACHED, CREATED, GIVEN, MERGED, SET_ASIDE, SHARED, UNSHARED
from services.identity.domain.graph import Fact, Graph, Member, Person
from services.identity.domain.rules import SHIPPED, Rules
from shared.eventlog.event import derive_id

DAY_MS: Final = 86_400_000
SHARED_DEVICE: Final = "shared"
APART: Final = "apart"
FIRST: Final = "first"
SECOND: Final = "second"


class Found(NamedTuple):
    """An identifier of an event."""

    kind: str
    subject: str


class Claim(NamedTuple):
    """An event, as far as it says who is who."""

    event: str
    """Its id."""
    received: int
    """ms since 1970 UTC."""
    subject: str
    """Its own: under which it lies in the log."""
    found: Sequence[Found]
    """Its identifiers that are somebody's."""
    time: int = 0
    """When it happened (ms); 0: when it was received."""
    party: str = FIRST
    merges: bool = False
    """Whether its agreement lets a partner's identifiers show that two people are one."""


class Identifiers(NamedTuple):
    """Identifiers that are one person's."""

    members: Mapping[str, Member]
    apart: Mapping[str, int]
    """Splits that they stand on one side of."""


def of(person: Person) -> Identifiers:
    """A person's."""
    return Identifiers(person.members, person.apart)


def obstacle(have: Identifiers, come: Identifiers, rules: Rules, received: int, by_device: bool = False) -> str:
    """Why these cannot be one person's; empty where they can. `received`: when that is asked (ms)."""
    if any(have.apart.get(split, side) != side for split, side in come.apart.items()):
        return APART
    some = have.members
    added = {subject: member for subject, member in come.members.items() if subject not in some}
    if added and len(some) + len(added) > rules.most:
        return "limit_of_identifiers"
    for kind in sorted({member.kind for member in added.values()}):
        rule = rules.of(kind)
        held = [member for member in (*some.values(), *added.values()) if member.kind == kind]
        theirs = any(member.kind == kind for member in some.values())
        if by_device and theirs and not rule.device:
            return f"other_{kind}"
        if len(held) > rule.most:
            return f"limit_of_{kind}"
        if rule.window and _within(held, received, rule.window.days) > rule.window.limit:
            return f"limit_of_{kind}_in_{rule.window.days}_days"
    return ""


def _within(held: Sequence[Member], received: int, days: int) -> int:
    """How many became somebody's lately."""
    return sum(each.since > received - days * DAY_MS for each in held)


class Steps:
    """What follows from one cause, step by step, with what every fact of it says."""

    def __init__(self, graph: Graph, received: int, rules: Rules, cause: Mapping[str, Any]) -> None:
        self._graph = graph
        self._received = received
        self._rules = rules
        self._cause = {**cause, "rules": rules.version}
        self._facts: list[Fact] = []

    def _merge(self, person: Person, other: Person, **data: Any) -> Person:
        """Two are one: the older stays. Gives who that is."""
        into, old = sorted((person, other), key=lambda one: one.age)
        self._happen(MERGED, into.id, into=into.id, profile=old.id, **data)
        self._unshare(self._graph.people[into.id])
        return self._graph.people[into.id]

    def _unshare(self, person: Person) -> None:
        """Who else was known on one of these devices is the same person by now."""
        for subject, shared in person.shared.items():
            if shared.other in person.members:
                kind = person.members[subject].kind
                self._happen(UNSHARED, person.id, profile=person.id, subject=subject, kind=kind)

    def _happen(self, fact: str, about: str, **data: Any) -> None:
        whole = {**data, **self._cause}
        self._facts.append(Fact(fact, about, whole))
        self._graph.evolve(fact, whole, self._received)


def decide(graph: Graph, claim: Claim, rules: Rules = SHIPPED) -> list[Fact]:
    """What follows from an event's identifiers. The graph is as if it had happened already."""
    return _Deciding(graph, claim, rules).facts() if claim.found else []


class _Deciding(Steps):
    """One decision."""

    def __init__(self, graph: Graph, claim: Claim, rules: Rules) -> None:
        super().__init__(graph, claim.received, rules, {"event": claim.event})
        self._claim = claim
        self._home: str | None = None
        self._pending: dict[str, Member] = {}
        """Of an event of somebody nobody knows yet."""
        self._ordered: list[Found] = []
        self._aside: list[tuple[Found, str]] = []

    def facts(self) -> list[Fact]:
        """All that follows."""
        self._ordered = self._by_priority()
        for each in self._ordered:
            if self._is_device(each):
                self._take_device(each)
            else:
                self._take(each)
        if self._home is None:
            self._create()
        for each, reason in self._aside:
            self._set_aside(each, reason)
        self._give()
        return self._facts

    def _by_priority(self) -> list[Found]:
        """Those that may count. A supplier's identifiers show nothing of one another, nor do a partner's, unless
        its agreement or the rules say so."""
        found = sorted(self._claim.found, key=lambda each: self._rules.of(each.kind).priority)
        people = [each for each in found if not self._is_device(each)]
        devices = [each for each in found if self._is_device(each)]
        ordered = [*people, *devices]
        merges = self._claim.merges or self._rules.second_party_merges
        if self._claim.party == FIRST or (self._claim.party == SECOND and merges):
            return ordered
        own = next((each for each in ordered if each.subject == self._claim.subject), ordered[0])
        self._aside = [(each, "party") for each in ordered if each.subject != own.subject]
        return [own]

    def _is_device(self, each: Found) -> bool:
        return self._rules.of(each.kind).device

    @property
    def _time(self) -> int:
        return self._claim.time or self._claim.received

    # Taking identifiers, one by one

    def _take(self, each: Found) -> None:
        """One that names somebody."""
        other = self._graph.person_of(each.subject)
        if other is None:
            self._join({each.subject: Member(each.kind, self._claim.received)}, each)
        elif self._home is None:
            self._settle(other, each, by_device=False)
        elif other.id != self._home:
            self._meet(other, each)

    def _take_device(self, each: Found) -> None:
        """One that somebody uses."""
        other = self._graph.person_of(each.subject)
        if other is None:
            self._join({each.subject: Member(each.kind, self._claim.received)}, each)
        elif other.shares(each.subject, self._time):
            # It tells nothing any more; of its owner's it is all the same.
            if other.id != self._home:
                self._aside.append((each, SHARED_DEVICE))
        elif self._home is None and not self._pending:
            self._home = other.id
        elif self._home is None:
            self._settle(other, each, by_device=True)
        elif other.id != self._home:
            self._meet(other, each)

    def _join(self, new: dict[str, Member], each: Found) -> None:
        """Somebody nobody knew by this."""
        person = self._graph.people[self._home] if self._home else None
        have = of(person) if person else self._unknown()
        if reason := self._obstacle(have, self._together(new), by_device=False):
            self._aside.append((each, reason))
        elif person is None:
            self._pending |= new
        else:
            self._attach(each)

    def _settle(self, other: Person, each: Found, by_device: bool) -> None:
        """The event is this person's, if what it has named so far fits."""
        if reason := self._obstacle(of(other), self._unknown(), by_device):
            self._create()
            self._apart(other, each, reason)
            return
        self._home = other.id
        for subject, member in self._pending.items():
            self._attach(Found(member.kind, subject))
        self._pending = {}

    def _meet(self, other: Person, each: Found) -> None:
        """Two who are known already are named by one event."""
        person = self._graph.people[str(self._home)]
        if reason := self._obstacle(of(person), of(other), self._is_device(each)):
            return self._apart(other, each, reason)
        self._home = self._merge(person, other, subject=each.subject, kind=each.kind).id
        return None

    def _apart(self, other: Person, each: Found, reason: str) -> None:
        """They stay two."""
        if self._is_device(each):
            mine = self._graph.people[str(self._home)].members
            who = next(one.subject for one in self._ordered if one.subject in mine)
            data = {"profile": other.id, "subject": each.subject, "kind": each.kind, "since": self._time, "other": who}
            self._happen(SHARED, other.id, **data)
        else:
            self._aside.append((each, reason))

    def _unknown(self) -> "Identifiers":
        """What the event has named so far of somebody whom nobody knows yet."""
        return self._together(self._pending)

    def _together(self, members: Mapping[str, Member]) -> "Identifiers":
        return Identifiers(members, self._graph.sides(members))

    def _obstacle(self, have: "Identifiers", come: "Identifiers", by_device: bool) -> str:
        return obstacle(have, come, self._rules, self._received, by_device)

    # What happens

    def _create(self) -> None:
        """Somebody nobody knew, by all that the event has named."""
        if not self._pending:
            # All were set aside, or are devices that tell nothing: whose event it is, is somebody of their own.
            return
        profile = derive_id("profile", self._claim.event)
        self._home = profile
        for number, (subject, member) in enumerate(self._pending.items()):
            fact = ATTACHED if number else CREATED
            self._happen(fact, profile, profile=profile, subject=subject, kind=member.kind)
        self._pending = {}

    def _attach(self, each: Found) -> None:
        self._happen(ATTACHED, str(self._home), profile=str(self._home), subject=each.subject, kind=each.kind)

    def _set_aside(self, each: Found, reason: str) -> None:
        if self._home is not None and each.subject not in self._graph.people[self._home].aside:
            data = {"profile": self._home, "subject": each.subject, "kind": each.kind, "reason": reason}
            self._happen(SET_ASIDE, self._home, **data)

    def _give(self) -> None:
        """The event is the person's that it names, whosever its own identifier is."""
        if self._home is None:
            return
        own, person = self._claim.subject, self._graph.people[self._home]
        if own in person.members and not person.shares(own, self._time):
            return
        named = (each for each in self._ordered if each.subject in person.members and each.subject != own)
        if (to := next(named, None)) is not None:
            self._happen(GIVEN, self._home, profile=self._home, subject=own, to=to.subject, at=self._time)
