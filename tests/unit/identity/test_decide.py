"""Who is one person: the rules, on cases that have hurt others, and as laws."""

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.identity import CREATED, MERGED, SET_ASIDE
from services.identity.domain.decide import LIMIT_OF_OTHERS, LIMITS, Found, decide
from services.identity.domain.graph import Graph


def play(*events):
    """The graph after events, each a dict or list of (kind, value); the facts on the way."""
    graph, facts = Graph(), []
    for number, event in enumerate(events):
        found = [Found(kind, f"{kind}:{value}") for kind, value in event]
        facts += [(fact, number) for fact in decide(graph, f"event-{number}", number, found)]
    return graph, facts


def same(graph, *identifiers):
    return len({graph.links[each] for each in identifiers}) == 1


U1, U2, A1, A2, E1 = ("user", "1"), ("user", "2"), ("anonymous", "1"), ("anonymous", "2"), ("email", "1")


def test_a_visitor_who_logs_in_is_the_same_person():
    graph, _ = play([A1], [U1, A1, E1])
    assert same(graph, "user:1", "anonymous:1", "email:1")


def test_two_devices_and_a_login_are_merged_into_the_older_profile():
    graph, facts = play([A1], [A2], [U1, A1], [U1, A2])
    assert same(graph, "user:1", "anonymous:1", "anonymous:2")
    [(merge, _)] = [each for each in facts if each[0].type == MERGED]
    assert merge.data["into"] == facts[0][0].subject
    assert graph.people[merge.data["profile"]].into == merge.data["into"]


def test_a_shared_tablet_does_not_glue_a_family_together():
    """The second who logs in on it is somebody else, and the tablet stays with the first."""
    graph, facts = play([U1, A1], [U2, A1], [U2, A1])
    assert not same(graph, "user:1", "user:2")
    assert same(graph, "user:1", "anonymous:1")
    assert [fact.data["reason"] for fact, _ in facts if fact.type == SET_ASIDE] == ["limit_of_user"]


def test_an_email_of_two_users_stays_with_the_first():
    graph, _ = play([U1, E1], [U2, E1])
    assert not same(graph, "user:1", "user:2") and same(graph, "user:1", "email:1")


def test_a_sixth_email_is_set_aside():
    graph, _ = play(*[[U1, ("email", str(number))] for number in range(6)])
    assert graph.people[graph.links["user:1"]].count("email") == LIMITS["email"]
    assert "email:5" not in graph.links


def test_a_second_event_of_the_same_person_decides_nothing():
    _, facts = play([U1, A1], [U1, A1], [A1], [U1])
    assert {number for _, number in facts} == {0}


kinds = st.sampled_from(["user", "anonymous", "email", "phone", "loyalty"])
events = st.lists(
    st.lists(st.tuples(kinds, st.sampled_from("1234567")), min_size=1, max_size=4, unique=True), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(events)
def test_the_graph_is_a_fold_of_its_facts(played):
    """Rebuild equals live."""
    live, facts = play(*played)
    folded = Graph()
    for fact, time in facts:
        folded.evolve(fact.type, fact.data, time)
    assert (folded.people, folded.links) == (live.people, live.links)


@settings(max_examples=300, deadline=None)
@given(events)
def test_nobody_has_more_of_a_kind_than_a_person_has(played):
    """And every link leads to a person who knows of it."""
    graph, facts = play(*played)
    for person in graph.people.values():
        for kind in set(person.members.values()):
            assert person.count(kind) <= LIMITS.get(kind, LIMIT_OF_OTHERS)
    for subject, profile in graph.links.items():
        assert subject in graph.people[profile].members and graph.people[profile].into is None
    created = [fact.subject for fact, _ in facts if fact.type == CREATED]
    assert len(set(created)) == len(created)
