"""Two who look alike and are accepted as one: under identity's rules, taken back and decided again like any other."""

import pytest

from services.identity.domain.graph import Graph
from services.identity.domain.rules import SHIPPED, rules_of
from services.identity.domain.uniting import Alike, hindrance, known_by, refusal
from tests.unit.identity.playing import Play

NORTH, SOUTH = {"crm_north": "n-1", "email": "ada@x.se"}, {"crm_south": "s-7", "phone": "+46701234567"}


@pytest.fixture
def play():
    """Two who have no identifier in common."""
    return Play().take(NORTH, SOUTH)


def merges(play):
    return [each for each in play.valid if each["type"] == "identity.merged.v1"]


def test_two_who_are_accepted_are_one(play):
    """The older stays; the fact says who was accepted, why, how probable it was, and one identifier of each."""
    [fact] = play.unites("email:ada@x.se", "phone:+46701234567")
    older, younger = play.graph.people[fact.data["into"]], play.graph.people[fact.data["profile"]]
    assert play.together("crm_north:n-1", "crm_south:s-7") and older.since == 1 and younger.into == older.id
    assert {name: fact.data[name] for name in ("candidate", "reason", "probability", "rules")} == {
        "candidate": "candidate-0003", "reason": "accepted", "probability": 0.99, "rules": 0,
    }  # fmt: skip
    assert fact.data["subjects"] == ["email:ada@x.se", "phone:+46701234567"] and "event" not in fact.data


@pytest.mark.parametrize("kind", ["user", "crm"])
def test_two_of_what_is_one_a_person_are_never_united(kind):
    """Whoever says so."""
    play = Play().take({kind: "1", "email": "ada@x.se"}, {kind: "2", "phone": "+46701234567"})
    assert play.unites("email:ada@x.se", "phone:+46701234567") == []
    people = [play.person(each) for each in ("email:ada@x.se", "phone:+46701234567")]
    assert hindrance(*people, SHIPPED, 9) == f"limit_of_{kind}" and not play.together(f"{kind}:1", f"{kind}:2")


def test_limits_of_number_and_of_time_hold():
    """More e-mails than a person may have; more devices than in so many days."""
    rules = rules_of(1, {"kinds": {"email": {"limit": 1}, "anonymous": {"window": {"limit": 1, "days": 30}}}})
    play = Play(rules).take({"email": "a@x.se"}, {"email": "b@x.se"}, {"anon": "1"}, {"anon": "2"})
    assert play.unites("email:a@x.se", "email:b@x.se") == []
    assert play.unites("anon:1", "anon:2") == []
    assert hindrance(play.person("anonymous:1"), play.person("anonymous:2"), rules, 9) == (
        "limit_of_anonymous_in_30_days"
    )


def test_what_was_split_is_not_united(play):
    """Not by likeness either."""
    play.take({"email": "ada@x.se", "phone": "+46701234567"})
    play.split_merge(0)
    assert play.unites("email:ada@x.se", "phone:+46701234567") == []
    people = [play.person(each) for each in ("email:ada@x.se", "phone:+46701234567")]
    assert hindrance(*people, SHIPPED, 9) == "apart"


def test_one_with_oneself_and_with_nobody(play):
    """Nothing follows."""
    assert play.unites("email:ada@x.se", "crm_north:n-1") == []
    assert play.unites("email:ada@x.se", "email:nobody@x.se") == []


def test_taken_back_it_is_as_if_it_had_never_been(play):
    """With their first ids, for good: deciding again does not bring it back."""
    before = dict(play.graph.links)
    play.unites("email:ada@x.se", "phone:+46701234567")
    play.split_merge(0)
    assert play.graph.links == before and not merges(play)
    play.take({"email": "ada@x.se", "loyalty": "1"})
    play.split_identifier("loyalty:1")
    assert not play.together("email:ada@x.se", "phone:+46701234567")


def test_a_split_of_something_else_keeps_what_was_accepted(play):
    """It is decided again in its place."""
    play.unites("email:ada@x.se", "phone:+46701234567")
    play.take({"phone": "+46701234567", "loyalty": "wrong"})
    play.split_identifier("loyalty:wrong")
    assert play.together("email:ada@x.se", "phone:+46701234567") and not play.together(
        "email:ada@x.se", "loyalty:wrong"
    )
    [merge] = merges(play)
    assert merge["candidate"] == "candidate-0003" and merge["time"] == 3


def test_what_rests_on_an_accepted_merge_goes_with_it(play):
    """An event that named somebody by either part goes to the part that it named."""
    play.unites("email:ada@x.se", "phone:+46701234567")
    play.take({"phone": "+46701234567", "anon": "1"}, {"email": "ada@x.se", "anon": "2"})
    play.split_merge(0)
    assert play.together("phone:+46701234567", "anon:1") and play.together("email:ada@x.se", "anon:2")
    assert not play.together("anon:1", "anon:2")


def test_it_follows_the_identifier_that_says_most(play):
    """An e-mail rather than a device, and of equals the one known first; a device where there is nothing else."""
    play.take({"anon": "1", "crm_north": "n-1"}, {"anon": "2"})
    assert known_by(play.person("anonymous:1"), SHIPPED) == "email:ada@x.se"
    assert known_by(play.person("anonymous:2"), SHIPPED) == "anonymous:2"
    both = Play().take({"email": "b@x.se"}, {"email": "b@x.se", "loyalty": "1"}, {"loyalty": "1", "email": "a@x.se"})
    assert known_by(both.person("loyalty:1"), SHIPPED) == "email:b@x.se"


def test_a_device_that_was_shared_by_the_two_is_theirs_again():
    """Who else is known on it is the same person."""
    play = Play().take({"email": "a@x.se", "anon": "1"}, {"email": "b@x.se", "phone": "+46701234567"})
    play.take({"email": "b@x.se", "anon": "1"})
    assert play.person("anonymous:1").shared
    facts = play.unites("email:a@x.se", "email:b@x.se")
    assert [each.type for each in facts] == ["identity.merged.v1", "identity.unshared.v1"]
    assert all(each.data["candidate"] == facts[0].data["candidate"] for each in facts)
    assert not play.person("anonymous:1").shared


def test_a_verdict_is_of_the_two_whatever_they_become(play):
    """Of whoever has the identifiers that it was said by; the first that was said stands; erased, it is forgotten."""
    alike = Alike("c" * 32, 9, ("email:ada@x.se", "phone:+46701234567"), 0.95, "")
    ids = sorted(each.id for each in play.graph.people.values())
    fact = refusal(alike, ids)
    assert fact.subject == "c" * 32 and fact.data["profiles"] == ids
    play.graph.evolve(fact.type, fact.data, 9)
    play.take({"email": "ada@x.se", "loyalty": "1"})
    verdict = play.graph.verdicts["c" * 32]
    one, other = play.person("loyalty:1"), play.person("crm_south:s-7")
    assert verdict.is_of(one, other) and verdict.is_of(other, one) and not verdict.is_of(one, one)
    assert not verdict.accepted and verdict.time == 9
    play.graph.evolve(fact.type, fact.data, 10)
    assert play.graph.verdicts["c" * 32].time == 9
    erased = {"request": "r", "profiles": [one.id], "subjects": list(one.members)}
    play.graph.evolve("identity.erased.v1", erased, 11)
    assert play.graph.verdicts == {} and "email:ada@x.se" in play.graph.unsaid


def test_a_graph_is_rebuilt_with_what_was_said(play):
    """From its facts alone, those within a split among them."""
    play.unites("email:ada@x.se", "phone:+46701234567")
    play.take({"phone": "+46701234567", "loyalty": "wrong"})
    play.split_identifier("loyalty:wrong")
    rebuilt = Graph()
    for kind, data, time in play.facts:
        rebuilt.evolve(kind, data, time)
    assert rebuilt.verdicts == play.graph.verdicts and rebuilt.people == play.graph.people
    assert rebuilt.verdicts["candidate-0003"].reason == "accepted"
