"""Identity's laws, under any sequence of events, accepted look-alikes, splits, rules and rebuilds."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.identity.domain.graph import Graph
from services.identity.domain.rules import SHIPPED, rules_of
from services.identity.domain.uniting import Alike, hindrance
from tests.unit.identity.playing import Play

KINDS = ["user", "anonymous", "email", "phone", "loyalty", "device"]
identifiers = st.tuples(st.sampled_from(KINDS), st.sampled_from(["a1", "b2", "c3", "d4"]))
events = st.lists(identifiers, min_size=1, max_size=4, unique=True)
histories = st.lists(events, max_size=20)
LIMITS = rules_of(1, {"others": {"limit": 2}, "kinds": {"email": {"limit": 1}, "anonymous": {"limit": 2}}})
RULES = [SHIPPED, LIMITS]


class UnionFind:
    """The plain thing, over the facts that hold."""

    def __init__(self, facts):
        self.parent = {}
        founders = {}
        for fact in facts:
            if fact["type"] == "identity.created.v1":
                founders[fact["profile"]] = fact["subject"]
                self.find(fact["subject"])
            elif fact["type"] == "identity.attached.v1":
                self.union(founders[fact["profile"]], fact["subject"])
            elif fact["type"] == "identity.merged.v1":
                self.union(founders[fact["profile"]], founders[fact["into"]])

    def find(self, one):
        self.parent.setdefault(one, one)
        while self.parent[one] != one:
            one = self.parent[one]
        return one

    def union(self, one, other):
        self.parent[self.find(one)] = self.find(other)

    def groups(self):
        found = {}
        for each in self.parent:
            found.setdefault(self.find(each), set()).add(each)
        return {frozenset(each) for each in found.values()}


def kept(play, alike, rules):
    """Whether two who were accepted are one, or something is in the way, or one was nobody yet when it was said."""
    one, other = (play.graph.person_of(each) for each in alike.subjects)
    if one is None or other is None or one.id == other.id:
        return True
    since = (who.members[subject].since for who, subject in zip((one, other), alike.subjects, strict=True))
    return max(since) > alike.received or bool(hindrance(one, other, rules, alike.received))


class Identity(RuleBasedStateMachine):
    """Events come, look-alikes are accepted, identifiers and merges are split, rules change; the graph is rebuilt from
    its facts at any time."""

    def __init__(self):
        super().__init__()
        self.play = Play()
        self.cuts = []

    @rule(event=events, party=st.sampled_from(["first", "first", "first", "second", "third"]))
    def an_event_comes(self, event, party):
        before = self.play.groups()
        self.play.happens(event, party=party)
        if party == "third":
            assert all(any(old <= new for new in self.play.groups()) for old in before)
            assert len(self.play.groups()) >= len(before)

    @rule(one=st.integers(0, 9), other=st.integers(0, 9))
    @precondition(lambda self: len(self.play.groups()) > 1)
    def two_are_accepted_as_one(self, one, other):
        people = sorted(min(each) for each in self.play.groups())
        mine, theirs = people[one % len(people)], people[other % len(people)]
        why = hindrance(self.play.person(mine), self.play.person(theirs), self.play.rules, self.play.count + 1)
        facts = self.play.unites(mine, theirs)
        assert bool(facts) == (mine != theirs and not why)
        assert self.play.together(mine, theirs) == (mine == theirs or not why)

    @rule(number=st.integers(0, 9))
    @precondition(lambda self: any(each["type"] == "identity.merged.v1" for each in self.play.valid))
    def a_merge_is_taken_back(self, number):
        self.play.split_merge(number)
        _, data, _ = self.play.facts[-1]
        self.cuts.append((data["left"], data["right"]))

    @rule(number=st.integers(0, 30))
    @precondition(lambda self: any(len(each) > 1 for each in self.play.groups()))
    def an_identifier_is_taken_out(self, number):
        able = sorted(subject for group in self.play.groups() if len(group) > 1 for subject in group)
        self.play.split_identifier(able[number % len(able)])
        _, data, _ = self.play.facts[-1]
        self.cuts.append((data["left"], data["right"]))

    @rule(rules=st.sampled_from(RULES))
    def rules_change(self, rules):
        self.play.rules = rules

    @invariant()
    def clusters_are_a_union_find_over_what_holds(self):
        assert self.play.groups() == UnionFind(self.play.valid).groups()

    @invariant()
    def what_was_split_stays_split(self):
        for left, right in self.cuts:
            for group in self.play.groups():
                assert group.isdisjoint(left) or group.isdisjoint(right)

    @invariant()
    def a_rebuild_equals_live(self):
        rebuilt = Graph()
        for kind, data, time in self.play.facts:
            rebuilt.evolve(kind, data, time)
        live = self.play.graph
        assert (rebuilt.people, rebuilt.links, rebuilt.apart, rebuilt.given, rebuilt.verdicts) == (
            live.people, live.links, live.apart, live.given, live.verdicts,
        )  # fmt: skip

    @invariant()
    def what_was_accepted_is_one_unless_something_is_in_the_way(self):
        """Of two who are somebody's from before it was said."""
        for claim, rules, *_ in self.play.heard:
            assert not isinstance(claim, Alike) or kept(self.play, claim, rules)

    @invariant()
    def every_link_is_known_at_both_ends(self):
        graph = self.play.graph
        for subject, profile in graph.links.items():
            assert subject in graph.people[profile].members and graph.people[profile].into is None
        for person in graph.people.values():
            assert all(graph.links[subject] == person.id for subject in person.members)
            assert person.into is None or graph.people[person.into].into is None

    @invariant()
    def two_users_are_never_one(self):
        for person in self.play.graph.people.values():
            assert person.count("user") <= 1


TestIdentity = Identity.TestCase
TestIdentity.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def state_of(play, without=""):
    """Who is who, and whose each event is, but for an event's own."""
    graph = play.graph
    people = {
        name: (each.since, each.members, each.merged, each.shared, each.into) for name, each in graph.people.items()
    }
    return people, graph.links, {event: pair for event, pair in graph.given.items() if event != without}


def glued(play, kind):
    """An event that makes two people one, by identifiers that name people; None where there are no two."""
    people = sorted((each for each in play.graph.people.values() if each.into is None), key=lambda each: each.id)
    for one in people:
        for other in people:
            names = [
                min(each.members, key=lambda subject: (not subject.startswith(kind), subject)) for each in (one, other)
            ]
            named = [tuple(name.split(":", 1)) for name in names]
            plain = not any(play.rules.of(kind).device for kind, _ in named)
            if one.id < other.id and one.count("user") + other.count("user") < 2 and plain:
                return named
    return None


@settings(max_examples=300, deadline=None)
@given(histories, st.sampled_from(["email", "phone", "loyalty"]))
def test_merge_then_split_is_as_if_it_had_never_been(history, kind):
    """An event makes two people one; taken back, who is who and whose every other event is are as without it."""
    never, merged = Play().take(*history), Play().take(*history)
    event = glued(merged, kind)
    assume(event and any(each.type == "identity.merged.v1" for each in merged.happens(event)))
    merged.split_merge(-1)
    assert state_of(merged, without=merged.heard[-1].claim.event) == state_of(never)


@settings(max_examples=300, deadline=None)
@given(histories, histories, st.sampled_from(["email", "phone", "loyalty"]))
def test_what_rested_on_a_merge_is_decided_again(history, later, kind):
    """Events that came after a merge come out as if it had been known from the start that the two are not one."""
    merged = Play().take(*history)
    event = glued(merged, kind)
    assume(event)
    facts = merged.happens(event)
    assume(any(each.type == "identity.merged.v1" for each in facts))
    number = sum(each["type"] == "identity.merged.v1" for each in merged.valid) - 1
    merged.take(*later).split_merge(number)
    _, split, _ = merged.facts[-1]
    known = Play()
    for side, name in enumerate(("left", "right")):
        for subject in split[name]:
            known.graph.apart.setdefault(subject, {})[split["decision"]] = side
    known.take(*history, event, *later)
    assert state_of(merged) == state_of(known)


def alike_in(play):
    """Two who may be accepted as one, by an identifier of each ("kind:value"); None where there are none."""
    people = sorted(min(each) for each in play.groups())
    for one in people:
        for other in people:
            if one < other and not hindrance(play.person(one), play.person(other), play.rules, play.count + 1):
                return one, other
    return None


@settings(max_examples=300, deadline=None)
@given(histories)
def test_accepted_then_split_is_as_if_it_had_never_been(history):
    """Two who look alike are accepted as one; taken back, who is who and whose every event is are as without it."""
    never, accepted = Play().take(*history), Play().take(*history)
    two = alike_in(accepted)
    assume(two)
    assert accepted.unites(*two)
    accepted.split_merge(-1)
    assert state_of(accepted) == state_of(never)


@settings(max_examples=300, deadline=None)
@given(histories, histories)
def test_what_rested_on_an_accepted_merge_is_decided_again(history, later):
    """Events that came after it come out as if it had been known from the start that the two are not one."""
    accepted = Play().take(*history)
    two = alike_in(accepted)
    assume(two)
    accepted.unites(*two)
    number = sum(each["type"] == "identity.merged.v1" for each in accepted.valid) - 1
    accepted.take(*later).split_merge(number)
    _, split, _ = accepted.facts[-1]
    known = Play()
    for side, name in enumerate(("left", "right")):
        for subject in split[name]:
            known.graph.apart.setdefault(subject, {})[split["decision"]] = side
    known.take(*history)
    assert known.unites(*two) == []
    assert state_of(accepted) == state_of(known.take(*later))


@settings(max_examples=300, deadline=None)
@given(histories, histories, st.integers(0, 30))
def test_deciding_again_keeps_what_was_accepted(history, later, number):
    """An identifier is taken out that neither stands for: the two are one still, or something is in the way."""
    play = Play().take(*history)
    two = alike_in(play)
    assume(two)
    [merge, *_] = play.unites(*two)
    said = play.heard[-1]
    play.take(*later)
    able = sorted(s for each in play.groups() if len(each) > 1 for s in each if s not in merge.data["subjects"])
    assume(able)
    play.split_identifier(able[number % len(able)])
    assert kept(play, said.claim, said.rules)


@settings(max_examples=300, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_unless_a_limit_bites(history, random):
    """The same events in any order: the same identifiers are together."""
    shuffled = list(history)
    random.shuffle(shuffled)
    plays = [Play().take(*history), Play().take(*shuffled)]
    bites = {"identity.set_aside.v1", "identity.shared.v1"}
    assume(not any(kind in bites for play in plays for kind, _, _ in play.facts))
    assert plays[0].groups() == plays[1].groups()
