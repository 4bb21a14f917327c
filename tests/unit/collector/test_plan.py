"""Tracking plans: learned from messages, held against them."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.plan import MOST_CHECKED, MOST_VIOLATIONS, Violation, held_against, learned, plan_of
from shared.errors import SamlaError
from shared.policy import Policy

ORDER = {
    "type": "object", "required": ["revenue"], "additionalProperties": False,
    "properties": {"revenue": {"type": "number", "minimum": 0}, "products": {"type": "array", "items": {
        "type": "object", "properties": {"sku": {"type": "string"}}}}},
}  # fmt: skip
names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda each: st.dictionaries(names, each, max_size=3) | st.lists(each, max_size=3),
    max_leaves=6,
)
tracks = st.fixed_dictionaries(
    {"type": st.just("track"), "event": st.sampled_from(["E", "F"]), "properties": st.dictionaries(names, values)}
)
identifies = st.fixed_dictionaries({"type": st.just("identify"), "traits": st.dictionaries(names, values)})


def plan(mode="warn", **more):
    return plan_of(1, {"mode": mode, "events": {"Order": {"properties": ORDER}}, **more})


def order(**properties):
    return {"type": "track", "event": "Order", "properties": properties}


BROKEN = [
    ({"revenue": "12"}, ("properties.revenue", "type"), {}),
    ({"revenue": -1}, ("properties.revenue", "minimum"), {}),
    ({}, ("properties.revenue", "required"), {}),
    ({"revenue": 1, "colour": "red"}, ("properties.*", "additionalProperties"), {"revenue": 1}),
    ({"revenue": 1, "products": [{"sku": 1}, {"sku": "a"}, {"sku": 2}]}, ("properties.products.*.sku", "type"),
     {"revenue": 1, "products": [{}, {"sku": "a"}, {}]}),
]  # fmt: skip


@pytest.mark.parametrize(("properties", "expected", "left"), BROKEN, ids=str)
def test_what_is_not_as_the_plan_says_is_told_by_path_and_rule(properties, expected, left):
    """warn counts, drop leaves out the property, quarantine sets aside; the message itself is never changed."""
    message = order(**properties)
    before = deepcopy(message)
    warned, dropped, put_aside = (held_against(message, plan(mode)) for mode in ("warn", "drop", "quarantine"))
    assert {(each.path, each.rule) for each in warned.violations} == {expected}
    assert {each.event for each in warned.violations} == {"Order"}
    assert warned.message == message and warned.rejected is None
    assert dropped.message["properties"] == left and dropped.rejected is None
    assert put_aside.rejected == Violation("Order", *expected)
    assert message == before


def test_an_event_may_have_a_mode_of_its_own():
    document = {"mode": "warn", "events": {"Order": {"mode": "quarantine", "properties": ORDER}}}
    assert held_against(order(), plan_of(1, document)).rejected


@pytest.mark.parametrize(("unknown", "told", "rejected"), [("allow", 0, 0), ("warn", 1, 0), ("quarantine", 1, 1)])
def test_events_that_the_plan_does_not_name(unknown, told, rejected):
    found = held_against({"type": "track", "event": "New"}, plan(unknown_events=unknown))
    assert (len(found.violations), found.rejected is not None) == (told, bool(rejected))


SAID = ["ada@example.org", "19121212-1212", "Ada Lovelace", "colour", "0701234567", "$weird.name", ""]


@pytest.mark.parametrize("word", SAID)
def test_a_violation_tells_no_name_that_the_plan_does_not(word):
    """Somebody's address, number or name may stand where a name should: as a property, deep in one, as an event."""
    deep = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"type": "integer"}}}
    made = plan_of(
        1,
        {"unknown_events": "warn", "events": {"Order": {"properties": ORDER}, "Deep": {"properties": deep}},
         "traits": {"additionalProperties": False}},
    )  # fmt: skip
    for message in (
        order(revenue=1, **{word: 1}),
        {"type": "track", "event": "Deep", "properties": {word: {word: "x"}}},
        {"type": "identify", "traits": {word: 1}},
        *([{"type": "track", "event": word}] if word else []),
    ):
        found = held_against(message, made).violations
        assert found and all(not word or word not in f"{each.event} {each.path}" for each in found)
    [unknown] = held_against({"type": "track", "event": "New"}, made).violations
    assert unknown == Violation("*", "event", "unknown_event")


def test_names_that_the_plan_says_anywhere_are_told():
    """Under `properties` of any depth, in `required`, in what depends."""
    schema = {
        "required": ["paid"], "dependentRequired": {"card": ["bank"]},
        "anyOf": [{"properties": {"buyer": {"properties": {"age": {"type": "integer"}}}}}],
    }  # fmt: skip
    made = plan_of(1, {"events": {"Order": {"properties": schema}}})
    found = held_against(order(card=1, buyer={"age": "x"}), made).violations
    assert {each.path for each in found} >= {"properties.paid"}
    one = plan_of(1, {"events": {"Order": {"properties": schema["anyOf"][0]}}})
    assert held_against(order(buyer={"age": "x"}), one).violations[0].path == "properties.buyer.age"


SPECIAL = [
    {"type": "track", "event": "Pregnancy Test Viewed", "properties": {"n": "x"}},
    {"type": "track", "event": "Viewed", "properties": {"n": "x", "category": "Medicine"}},
    {"type": "track", "event": "Viewed", "properties": {"n": "x", "products": [{"category": "medicine"}]}},
    {"type": "identify", "traits": {"n": "x", "religion": "r"}},
    {"type": "track", "event": "HIV Test Booked"},
]


@pytest.mark.parametrize("message", SPECIAL, ids=str)
def test_a_violation_of_what_is_special_says_so(message):
    """So that nobody keeps which request it came with: the log says in clear whose that was."""
    policy = Policy(
        {"version": 1, "law": "", "categories": {"health": {
            "traits": ["religion"], "events": ["pregnancy test viewed", "hiv test booked"], "products": ["medicine"]}}}
    )  # fmt: skip
    schema = {"properties": {"n": {"type": "integer"}}}
    events = {"Pregnancy Test Viewed": {"properties": schema}, "Viewed": {"properties": schema}}
    made = plan_of(1, {"unknown_events": "warn", "events": events, "traits": schema})
    found = held_against(message, made, policy).violations
    assert found and all(each.special for each in found)
    plain = {"type": "track", "event": "Viewed", "properties": {"n": "x"}}
    assert not any(each.special for each in held_against(plain, made, policy).violations)


@given(st.lists(tracks | identifies, max_size=12))
def test_messages_fit_the_plan_that_is_learned_from_them(messages):
    """However odd they are, and as strict as it may be."""
    for mode in ("warn", "quarantine"):
        made = plan_of(1, learned(messages, mode))
        assert not any(held_against(each, made).violations for each in messages)


@given(tracks | identifies, st.sampled_from(["warn", "drop", "quarantine"]))
def test_dropping_leaves_a_message_that_fits_but_for_what_misses(message, mode):
    """What is left breaks no rule but `required`."""
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in ("a", "b", "c")}}
    made = plan_of(1, {"mode": "drop", "events": {"E": {"properties": schema}}, "traits": schema})
    dropped = held_against(message, made).message
    assert not held_against(dropped, made).violations


@pytest.mark.parametrize(
    "document",
    [5, {"rules": {}}, {"mode": "shout"}, {"unknown_events": "drop"}, {"events": []}, {"events": {"E": 5}},
     {"events": {"E": {"schema": {}}}}, {"events": {"E": {"properties": {"type": "nonsense"}}}},
     {"events": {"E": {"properties": {"$ref": "http://example.org/schema"}}}}, {"traits": 5}],
    ids=str,
)  # fmt: skip
def test_a_plan_that_is_none_is_refused_when_it_is_written(document):
    """One that would have to fetch something, too."""
    with pytest.raises(SamlaError):
        plan_of(1, document)


def test_a_schema_that_allows_nothing_names_what_it_can():
    """Without `properties`, too."""
    made = plan_of(1, {"mode": "drop", "events": {"Order": {"properties": {"additionalProperties": False}}}})
    assert held_against(order(revenue=1), made).violations


def test_all_that_is_not_as_expected_is_dropped_and_some_of_it_told():
    """However much it is."""
    names = [f"p{n}" for n in range(MOST_VIOLATIONS * 3)]
    integers = {name: {"type": "integer"} for name in names}
    schema = {"type": "object", "properties": integers, "additionalProperties": False}
    strict = plan_of(1, {"mode": "drop", "events": {"E": {"properties": schema}}})
    sent = {"type": "track", "event": "E", "properties": dict.fromkeys([*names, *(f"x{n}" for n in range(99))], "text")}
    found = held_against({**sent, "properties": {**sent["properties"], "p1": 1}}, strict)
    assert found.message["properties"] == {"p1": 1} and len(found.violations) == MOST_VIOLATIONS
    warned = held_against(sent, strict._replace(events={"E": strict.events["E"]._replace(mode="warn")}))
    assert warned.message == sent and len(warned.violations) == MOST_VIOLATIONS


class Eager:
    """A validator that may say the first thing that is wrong and not all."""

    def __init__(self, validator):
        self.is_valid, self.validate = validator.is_valid, validator.validate


@pytest.mark.parametrize(("mode", "rejected"), [("warn", False), ("drop", True), ("quarantine", True)])
def test_of_a_part_with_very_many_values_one_violation_is_told(mode, rejected):
    """To tell all of them may take a third of a second; so what would be left out cannot be, and it is set aside."""
    schema = {"properties": {"a": {"items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}}}
    made = plan_of(1, {"mode": mode, "events": {"Order": {"properties": schema}}})
    expected = made.events["Order"]
    eager = made._replace(events={"Order": expected._replace(validator=Eager(expected.validator))})
    many = order(a=[1] * MOST_CHECKED)
    found = held_against(many, eager)
    assert found.violations == [Violation("Order", "properties.a.*", "anyOf")] and found.message == many
    assert (found.rejected is not None) is rejected
    assert not held_against(order(a=["x"] * MOST_CHECKED), eager).violations
    few = held_against(order(a=[1] * (MOST_CHECKED - 1)), made)
    assert len(few.violations) == MOST_VIOLATIONS and (few.message["properties"] == {"a": []}) is (mode == "drop")
