"""Definitions: what is wrong is said with its place, and answers say when they will change."""

import pytest

from contracts.profile import signal_id
from services.segmentation.domain.answer import Answer
from services.segmentation.domain.definition import check, depends_on, signals
from services.segmentation.domain.evaluate import evaluate, explain
from services.segmentation.domain.membership import Change, Membership, evolve, moved, passed
from services.segmentation.domain.special import refusal, special
from shared.errors import SamlaError
from shared.policy import POLICY

MINUTE = 60_000


def facts(traits=None, events=None, ids=None):
    return {
        "ids": ids or {},
        "traits": {name: [1, "e", value, "s", "first"] for name, value in (traits or {}).items()},
        "events": events or {},
        "opinions": {},
        "signals": {},
    }


def times(name, minutes, minor=None):
    """An event at these minutes."""
    counts = {str(minute): count for minute, count in minutes.items()}
    sums = {"EUR": {str(minute): value for minute, value in (minor or {}).items()}}
    return {name: [sum(minutes.values()), 0, 0, counts, sums]}


@pytest.mark.parametrize(
    ("definition", "place"),
    [
        ([], "definition: must be an object"),
        ({}, "definition: needs just one of"),
        ({"all": []}, r"definition: all is a list"),
        ({"all": [{"trait": "a", "is": 1}, {"trait": "b"}]}, r"definition.all\[1\]: a trait has just one of"),
        ({"trait": "a", "gt": "x"}, r"definition.gt: must be a number"),
        ({"not": {"event": "E"}}, r"definition.not: an event has either count or sum"),
        ({"event": "E", "count": {"about": 3}}, r"definition.count: compares with"),
        ({"event": "E", "count": {"gte": 1}, "within": "a while"}, r"definition.within: a number and one of"),
        ({"event": "E", "sum": {"gte": 1}}, r"a sum names its currency"),
        ({"identifier": "email"}, r"an identifier has `exists`"),
        ({"event": "E", "count": {"gte": 1}, "since": "x"}, r"since does not belong here"),
        ({"event": "E", "count": {"gte": 1}, "where": [{"property": "p"}]}, r"where\[0\]: a property has just one of"),
        ({"event": "E", "sum": {"gte": 1}, "currency": "EUR", "where": []}, r"a sum says `of` what"),
        ({"event": "E", "last": {"within": "7d", "not_within": "8d"}}, r"has either within or not_within"),
        ({"trait": "due", "before": "2026-02-30"}, r"definition.before: a date such as"),
        ({"trait": "plan", "matches": ""}, r"definition.matches: must be a text"),
        ({"segment": "Not A Key"}, r"definition: a segment's key"),
        ({"consent": "ads"}, r"a consent has `is`"),
        ({"sequence": []}, r"definition.sequence: a list of"),
        ({"sequence": [{"not": {"event": "E"}}]}, r"sequence\[0\]: a sequence begins with what happened"),
        ({"sequence": [{"event": "E"}, {"event": "F", "within": "3"}]}, r"sequence\[1\].within: a number and one of"),
        ({"all": [{"trait": "a", "is": 1}] * 101}, r"holds 100 conditions at most, not 101"),
    ],
)
def test_what_is_no_definition_is_refused_with_its_place(definition, place):
    with pytest.raises(SamlaError, match=place):
        check(definition)


@pytest.mark.parametrize(
    ("definition", "inside"),
    [
        ({"trait": "plan", "is": "pro"}, True),
        ({"trait": "plan", "is_not": "pro"}, False),
        ({"trait": "plan", "in": ["free", "pro"]}, True),
        ({"trait": "none", "is_not": "x"}, True),
        ({"trait": "none", "is": "x"}, False),
        ({"trait": "age", "gte": 42}, True),
        ({"trait": "age", "lt": 42}, False),
        ({"trait": "plan", "gt": 3}, False),
        ({"trait": "tags", "contains": "a"}, True),
        ({"trait": "agreed", "is": 1}, False),
        ({"trait": "none", "exists": False}, True),
        ({"identifier": "email", "exists": True}, True),
        ({"identifier": "phone", "exists": True}, False),
        ({"event": "E", "count": {"gte": 2, "lte": 3}}, True),
        ({"event": "E", "sum": {"gte": 12.34}, "currency": "EUR"}, True),
        ({"event": "E", "sum": {"gt": 12.34}, "currency": "EUR"}, False),
        ({"event": "Other", "count": {"eq": 0}}, True),
        ({"all": [{"trait": "plan", "is": "pro"}, {"not": {"trait": "age", "gt": 50}}]}, True),
        ({"any": [{"trait": "plan", "is": "x"}, {"trait": "age", "gt": 50}]}, False),
    ],
)
def test_conditions_mean_what_they_say(definition, inside):
    check(definition)
    known = facts(
        {"plan": "pro", "age": 42, "tags": ["a"], "agreed": True},
        times("E", {5: 2}, {5: 1234}),
        {"email": {"a@b.se": []}},
    )
    assert evaluate(definition, known, 10 * MINUTE) == Answer(inside, None)


def test_a_definition_knows_what_it_depends_on():
    definition = {
        "all": [
            {"trait": "plan", "is": 1},
            {"any": [{"event": "E", "count": {"gte": 1}}]},
            {"not": {"identifier": "email", "exists": True}},
        ]
    }
    assert depends_on(definition) == {"traits.plan", "events.E", "ids.email"}


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"any": [{"trait": "Political-Opinion", "exists": True}]}, "definition.any[0]: Political-Opinion tells of"),
        ({"any": [{"trait": "addr.religion", "is": "x"}]}, "definition.any[0]: addr.religion tells of religion"),
        ({"trait": "profile.Health.x", "exists": True}, "definition: profile.Health.x tells of health"),
        (
            {"event": "E", "sum": {"gte": 1}, "of": "deep.medication.price"},
            "definition: deep.medication.price tells of health",
        ),
        (
            {"sequence": [{"event": "E", "where": [{"property": "deep.diagnosis.code", "exists": True}]}]},
            "definition: deep.diagnosis.code tells of health",
        ),
        ({"event": "Prescription Filled", "count": {"gte": 1}}, "Prescription Filled tells of health"),
        ({"event": "E", "count": {"gte": 1}, "where": [{"property": "diagnosis", "exists": True}]}, "tells of health"),
        (
            {"event": "E", "count": {"gte": 1}, "where": [{"property": "category", "in": ["x", "Vitamins"]}]},
            "Vitamins tells of health",
        ),
        (
            {"event": "E", "count": {"gte": 1}, "where": [{"property": "products.category", "contains": "vitam"}]},
            "vitam (vitamins) tells of health",
        ),
        ({"sequence": [{"event": "E"}, {"not": {"event": "Party joined"}}]}, "Party joined tells of political opinion"),
        ({"trait": "interests", "contains": "religion"}, "religion tells of religion"),
        ({"computed": "last_thing", "exists": True}, "definition: diagnosis tells of health"),
    ],
)
def test_what_uses_or_infers_a_special_category_is_refused_with_its_part_and_the_law(definition, said):
    """By trait, event, property and value, also behind a computed trait."""
    check(definition)
    computed = {"last_thing": {"event": "E", "measure": "last", "value": "diagnosis"}}
    told = refusal(special(definition, POLICY, computed), POLICY)
    assert said in told and "GDPR Art. 9(1)" in told


def test_what_is_ordinary_is_no_special_category():
    definition = {"all": [{"trait": "plan", "is": "pro"}, {"event": "E", "count": {"gte": 1}}]}
    where = [{"property": "department", "is": "GROCERY"}, {"property": "name", "contains": "tea"}]
    assert special({"any": [definition, {"event": "E", "count": {"gte": 1}, "where": where}]}, POLICY) == []


def test_amounts_are_compared_exactly():
    """1.1 is eleven tenths, not the nearest float's share of cents."""
    known = facts(events=times("E", {5: 1}, {5: 110}))
    assert evaluate({"event": "E", "sum": {"gte": 1.1, "lte": 1.1}, "currency": "EUR"}, known, 10 * MINUTE).inside


def test_an_explanation_says_of_each_condition_what_was_found():
    definition = {"all": [{"trait": "plan", "is": "pro"}, {"not": {"segment": "often"}}, {"segment": "gone"}]}
    often = {"event": "E", "count": {"gte": 3}}
    told = explain(definition, facts({"plan": "free"}, times("E", {5: 2})), 10 * MINUTE, {"often": often})
    plan, rarely, gone = told["all"]
    assert not told["holds"] and (plan["holds"], plan["found"]) == (False, "free")
    assert rarely["holds"] and (rarely["not"]["is"]["condition"], rarely["not"]["is"]["found"]) == (often, 2)
    assert not gone["holds"] and "is" not in gone


def test_what_is_to_be_watched_is_said_by_the_definition():
    """Once, whichever conditions need it; what is kept of all events is not watched."""
    bought = {"event": "Bought", "where": [{"property": "department", "is": "DELI"}]}
    definition = {
        "all": [
            {**bought, "count": {"gte": 1}},
            {"not": {**bought, "count": {"gte": 5}}},
            {"event": "Bought", "count": {"gte": 1}, "within": "30d"},
            {"event": "Bought", "count": {"gte": 1}, "within": "1h"},
            {"sequence": [bought, {"not": {"event": "Left"}, "within": "7d"}], "within": "30d"},
        ]
    }
    wanted = [
        {**bought, "measure": "count"},
        {"event": "Bought", "measure": "count", "within": "1h"},
        {**bought, "measure": "times", "within": "30d"},
        {"event": "Left", "measure": "times", "within": "30d"},
    ]
    assert signals(definition) == {signal_id(each): each for each in wanted}


def test_entering_and_leaving_are_said_once():
    inside, outside = Answer(True, 50), Answer(False, None)
    first, changes = evolve(Membership(profile="p"), {"s": inside}, 10)
    assert changes == [Change("s", True, 10)] and first.next == 50
    again, changes = evolve(first, {"s": inside}, 20)
    assert changes == [] and again.since == {"s": 10}
    last, changes = evolve(again, {"s": outside}, 30)
    assert changes == [Change("s", False, 30)] and last.since == {} and last.next is None


def test_time_that_has_passed_is_gone_through_instant_by_instant():
    """In and out at each hour, from when it was due; both segments' changes in the order of time."""

    def hourly(at):
        return Answer(at // 100 % 2 == 1, (at // 100 + 1) * 100)

    membership = Membership(profile="p", due={"a": 100, "b": 250})
    evaluations = {"b": lambda at: Answer(True, None), "a": hourly}
    after, changes = passed(membership, evaluations, {}, 350)
    assert changes == [
        Change("a", True, 100), Change("a", False, 200), Change("b", True, 250), Change("a", True, 300)
    ]  # fmt: skip
    assert after.due == {"a": 400} and after.since == {"a": 300, "b": 250}


def test_what_was_rebuilt_is_looked_at_as_of_now_and_nothing_by_a_version_before_it_was_in_force():
    after, changes = passed(Membership(profile="p", due={"a": 0}), {"a": lambda at: Answer(True, None)}, {"a": 5}, 90)
    assert changes == [Change("a", True, 90)] and after.due == {}
    _, changes = passed(Membership(profile="p", due={"a": 3}), {"a": lambda at: Answer(True, None)}, {"a": 5}, 90)
    assert changes == [Change("a", True, 5)]


def test_after_a_merge_who_was_in_is_in_since_then():
    old, into = Membership(profile="old", since={"a": 1, "b": 2}), Membership(profile="into", since={"b": 5})
    rest, whole, left, entered = moved(old, into)
    assert (rest.since, whole.since, left, entered) == ({}, {"b": 5, "a": 1}, ["a", "b"], ["a"])
