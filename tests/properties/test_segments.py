"""Segments: what the evaluator says is what a plain look at every event gives, at any instant, and until it says."""

import copy
from pathlib import Path

import jsonschema_rs
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.segmentation.domain.definition import check, depends_on, leaves
from services.segmentation.domain.evaluate import evaluate, explain
from shared.errors import SamlaError
from tests.properties.segments import (
    DAY,
    START,
    bounds_of,
    close_dates,
    close_people,
    close_sequences,
    facts_about,
    nested,
    offsets,
    people,
    plainly,
    sequences,
    very_close_people,
)
from tests.properties.segments import leaves as leaves_

SCHEMA = jsonschema_rs.validator_for(
    orjson.loads((Path(__file__).parents[2] / "contracts" / "segment.schema.json").read_bytes())
)


@st.composite
def segments(draw):
    """A definition, and those that it may refer to."""
    one = draw(nested())
    two = draw(nested(["one"]))
    return draw(nested(["one", "two"])), {"one": one, "two": two}


@settings(max_examples=800)
@given(segments(), people, offsets)
def test_the_answer_is_what_a_plain_evaluation_over_all_events_gives(made, person, later):
    """Windows, sums, recency, sequences, nesting, relative dates, texts; at any instant after what is known."""
    definition, others = made
    check(definition)
    now = START + max((each["after"] for each in person["events"]), default=0) + later
    facts = facts_about(person, [definition, *others.values()], now)
    answer = evaluate(definition, facts, now, others)
    assert answer.inside == plainly(definition, person, now, others)
    assert explain(definition, facts, now, others)["holds"] == answer.inside


@settings(max_examples=1_500)
@given(
    st.one_of(
        st.tuples(st.one_of(leaves_, sequences), close_people()),
        st.tuples(st.one_of(close_sequences, close_sequences, close_dates), very_close_people()),
    )
)
def test_bounds_are_where_they_are_said_to_be(made):
    """At every instant at which a span ends, and the milliseconds before and after."""
    definition, person = made
    facts = facts_about(person, [definition], START)
    for now in bounds_of(definition, person):
        assert evaluate(definition, facts, now).inside == plainly(definition, person, now, {}), now - START


@settings(max_examples=600)
@given(segments(), people, offsets, st.floats(0, 1))
def test_the_answer_stays_until_it_says(made, person, later, share):
    """Nothing happens meanwhile: not a millisecond before; where it says never, never."""
    definition, others = made
    now = START + max((each["after"] for each in person["events"]), default=0) + later
    facts = facts_about(person, [definition, *others.values()], now)
    inside, changes_at = evaluate(definition, facts, now, others)
    assert changes_at is None or changes_at > now
    end = now + 400 * DAY if changes_at is None else changes_at - 1
    for at in (end, now + round((end - now) * share)):
        assert plainly(definition, person, at, others) == inside


@settings(max_examples=600)
@given(nested(), people, offsets)
def test_a_condition_changes_just_when_it_says(definition, person, later):
    """For one that is not joined with others."""
    definition = next(leaves(definition))
    now = START + max((each["after"] for each in person["events"]), default=0) + later
    inside, changes_at = evaluate(definition, facts_about(person, [definition], now), now)
    if changes_at is not None:
        assert plainly(definition, person, changes_at, {}) != inside


@settings(max_examples=600)
@given(nested(), people, offsets)
def test_what_had_happened_by_an_instant_that_has_passed_can_be_evaluated(definition, person, before):
    """What came later does not count at it, where it is watched exactly."""
    exact = [leaf for leaf in leaves(definition) if "sequence" in leaf]
    last = START + max((each["after"] for each in person["events"]), default=0)
    facts = facts_about(person, exact, last)
    for leaf in exact:
        at = max(START, last - before)
        assert evaluate(leaf, facts, at).inside == plainly(leaf, person, at, {})


# The schema


@st.composite
def broken(draw):
    """A definition with something in it changed."""
    made = copy.deepcopy(draw(nested(["one"])))
    holders = list(_holders(made))
    holder = draw(st.sampled_from(holders))
    key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    what = draw(st.sampled_from(["drop", "change", "add"]))
    if what == "drop":
        del holder[key]
    elif what == "change":
        value = st.sampled_from([None, 1, 0.5, "x", "", "3d", [], {}, True, ["a"], {"within": "1d"}, {"gte": 1}])
        holder[key] = draw(value)
    elif isinstance(holder, dict):
        words = ["is", "gte", "within", "where", "not", "event", "count", "of", "currency", "before", "trait", "else"]
        holder[draw(st.sampled_from(words))] = draw(st.sampled_from([1, "1d", [], {"gte": 1}, "x", "EUR"]))
    return made


def _holders(value):
    if isinstance(value, (dict, list)) and value:
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _holders(each)


def _is_taken(definition):
    try:
        check(definition)
    except SamlaError:
        return False
    return True


@settings(max_examples=1_200)
@given(st.one_of(nested(["one"]), broken(), broken()))
def test_the_published_schema_takes_what_is_taken_and_nothing_else(definition):
    """Of definitions that are whole, and of those that something is wrong with."""
    assert SCHEMA.is_valid(definition) == _is_taken(definition)


@given(nested(["one"]))
def test_a_definition_says_what_it_depends_on(definition):
    """Each of its conditions but those on other segments is there by a name."""
    assert bool(depends_on(definition)) == any("segment" not in leaf for leaf in leaves(definition))
