"""Computed traits: whatever the order, the batches and the grouping, what a plain count over all events gives."""

import random
from collections import Counter
from copy import deepcopy
from fractions import Fraction

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.profile.domain import computed
from services.profile.domain.computed import MEASURES, measured, signal_of, signal_value, trait_of, value_of, width_of
from services.profile.domain.state import as_kept, merged, state_of
from shared.errors import SamlaError

SPANS = {"30m": 1_800_000, "1d": 86_400_000, "90001s": 90_001_000, "61d": 61 * 86_400_000}
DAY = 86_400_000
numbers = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.sampled_from(["12.50", "x", True, None, "-3"]),
)
times = st.one_of(st.integers(0, 200 * DAY), st.integers(100 * DAY, 100 * DAY + 7_200_000))
events = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("AB"), "time": times, "v": numbers, "kind": st.sampled_from(["x", "y", None, 1, True])}
    ),
    max_size=30,
)


def plainly(definition, happened, now):
    """What the trait is by looking at every event; the buckets' width is all that is shared with the code."""
    window = SPANS.get(definition.get("within", ""), 0)
    width = width_of(window)
    only_x = "where" in definition
    chosen = sorted(
        (
            (event["time"], number, event)
            for number, event in happened
            if event["name"] == "A"
            and (not only_x or event["kind"] == "x")
            and (not window or event["time"] // width * width + window > now)
        ),
        key=lambda each: (each[0], f"e{each[1]:03}"),
    )
    measure = definition["measure"]
    if measure == "count":
        return len(chosen)
    found = [event[definition["value"]] for _, _, event in chosen if event[definition["value"]] is not None]
    if measure in ("first", "last"):
        return (found[0 if measure == "first" else -1]) if found else None
    if measure in ("distinct", "most_frequent"):
        counts = Counter(orjson.dumps(int(v) if isinstance(v, float) and v.is_integer() else v) for v in found)
        if measure == "distinct":
            return len(counts)
        return orjson.loads(min(counts, key=lambda key: (-counts[key], key))) if counts else None
    exact = [Fraction(str(v)) for v in found if not isinstance(v, bool) and v not in ("x", "y")]
    exact = [Fraction(round(each * 10**9), 10**9) for each in exact]
    if not exact:
        return 0 if measure == "sum" else None
    whole = {"sum": sum(exact), "average": sum(exact) / len(exact), "min": min(exact), "max": max(exact)}[measure]
    return int(whole) if whole.denominator == 1 else float(whole)


@st.composite
def definitions(draw):
    measure = draw(st.sampled_from(MEASURES))
    made = {"event": "A", "measure": measure}
    made |= {} if measure == "count" else {"value": draw(st.sampled_from(["v", "kind"]))}
    made |= draw(st.sampled_from([{}, {"where": [{"property": "kind", "is": "x"}]}]))
    made |= draw(st.sampled_from([{}, *({"within": span} for span in SPANS)]))
    return made


def folded(trait, happened, seed):
    """The trait's state, event by event, in an order and a grouping of its own."""
    chance = random.Random(seed)
    parts = []
    for number, event in happened:
        body = {
            "type": "track", "time": event["time"], "party": "first", "source_name": "s", "identifiers": [],
            "event": event["name"], "properties": {"v": event["v"], "kind": event["kind"]}, "traits": {},
        }  # fmt: skip
        parts.append(state_of(body, f"e{number:03}", [trait]))
    chance.shuffle(parts)
    while len(parts) > 1:
        one, other = (parts.pop(chance.randrange(len(parts))) for _ in range(2))
        both = merged([one, other])
        # It is kept at any time, or only at the end.
        parts.append(orjson.loads(orjson.dumps(as_kept(both) if chance.random() < 0.5 else both)))
    return as_kept(parts[0])["computed"].get(trait.id) if parts else None


@settings(max_examples=600, deadline=None)
@given(definitions(), events, st.integers(0, 40 * DAY), st.integers())
def test_a_trait_is_what_a_plain_count_over_all_events_gives(definition, happened, later, seed):
    """Every measure, with windows and without, whatever the order in which events come and are put together."""
    happened = list(enumerate(happened))
    trait = trait_of("t", "t", 1, definition)
    now = max((event["time"] for _, event in happened), default=0) + later
    held = folded(trait, happened, seed)
    assert held == folded(trait, happened, seed + 1)
    value = value_of(held, now).value if held else computed.nothing(trait.measure)
    assert (
        value == pytest.approx(plainly(definition, happened, now), rel=1e-12)
        if isinstance(value, float)
        else (value == plainly(definition, happened, now))
    )


@settings(max_examples=300, deadline=None)
@given(definitions(), events, st.integers())
def test_a_trait_says_when_it_may_change_by_itself(definition, happened, seed):
    """Until then it is the same at every instant."""
    happened = list(enumerate(happened))
    trait = trait_of("t", "t", 1, definition)
    now = max((event["time"] for _, event in happened), default=0)
    if (held := folded(trait, happened, seed)) is not None:
        value, changes_at = value_of(held, now)
        assert changes_at is None or changes_at > now
        later = now + 300 * DAY if changes_at is None else changes_at - 1
        assert value_of(held, later).value == value


def test_too_many_different_values_are_no_list_and_stay_so(monkeypatch):
    """In any order; what was there before is not half a list either."""
    monkeypatch.setattr(computed, "MOST_VALUES", 3)
    trait = trait_of("t", "t", 1, {"event": "A", "measure": "distinct", "value": "v"})
    each = [measured([trait], "A", {"v": value}, 0, "e")["t"] for value in "abcda"]
    one, other = deepcopy(each[0]), deepcopy(each[-1])
    for more in deepcopy(each[1:]):
        one = computed.joined(one, more)
    for more in deepcopy(each[-2::-1]):
        other = computed.joined(other, more)
    assert one == other and value_of(one, 0) == (None, None)


@settings(max_examples=200, deadline=None)
@given(
    events,
    st.sampled_from([{"measure": "times"}, {"measure": "sum", "value": "v"}, {"measure": "count"}]),
    st.sampled_from([{}, {"within": "1d"}, {"within": "61d"}]),
    st.integers(),
)
def test_a_signal_has_everything_that_a_window_can_reach(happened, measure, within, seed):
    """Where its bucket begins -> how many, or how much in units of 10^-9; the times of events are exact."""
    happened = list(enumerate(happened))
    definition = {"event": "A", "where": [{"property": "kind", "is": "x"}], **measure, **within}
    signal = signal_of("t", 1, definition)
    held = folded(signal, happened, seed)
    width = 1 if measure["measure"] == "times" else width_of(SPANS.get(within.get("within", ""), 0))
    bucketed = measure["measure"] == "times" or within
    wanted = Counter()
    for _, event in happened:
        if event["name"] == "A" and event["kind"] == "x":
            number = event["v"]
            if measure["measure"] != "sum":
                number = 1
            elif isinstance(number, bool) or number in (None, "x"):
                continue
            else:
                number = round(Fraction(str(number)) * 10**9)
            wanted[event["time"] // width * width if bucketed else 0] += number
    newest = max(wanted, default=0)
    reach = newest - SPANS[within["within"]] if within and measure["measure"] != "times" else -1
    assert (signal_value(held) if held else {}) == {
        str(at): str(each) if measure["measure"] == "sum" else each for at, each in wanted.items() if at > reach
    }


def test_what_is_beyond_all_bounds_is_no_number():
    """It is left out, whatever its exponent: the event and its other values count."""
    trait = trait_of("t", "t", 1, {"event": "A", "measure": "sum", "value": "v"})
    for beyond in ("1e9999999", "-1e9999999", "1e15", "NaN", "Infinity"):
        assert value_of(measured([trait], "A", {"v": [beyond, "2.5", "1e-9999999"]}, 0, "e")["t"], 0).value == 2.5


def test_a_sum_of_more_than_64_bits_is_still_told():
    """As the nearest float: JSON as services and clients read it ends there."""
    trait = trait_of("t", "t", 1, {"event": "A", "measure": "sum", "value": "v"})
    held = measured([trait], "A", {"v": [10**15 - 1] * 20_000}, 0, "e")["t"]
    assert orjson.loads(orjson.dumps(value_of(held, 0).value)) == pytest.approx(2e19)


def test_what_is_put_together_is_left_as_it_was():
    """A transaction that is tried again adds the same once more."""
    trait = trait_of("t", "t", 1, {"event": "A", "measure": "count"})
    body = {
        "type": "track", "time": 60_000, "party": "first", "source_name": "s", "identifiers": [], "event": "A",
        "properties": {}, "traits": {},
    }  # fmt: skip
    one, other = (state_of(body, identity, [trait]) for identity in ("e1", "e2"))
    first = orjson.dumps(merged([one, other]))
    assert first == orjson.dumps(merged([one, other]))


@pytest.mark.parametrize(
    ("definition", "where"),
    [
        ([], "trait"),
        ({"event": "A"}, "trait.measure"),
        ({"event": "A", "measure": "sum"}, "trait.value"),
        ({"event": "A", "measure": "count", "value": "v"}, "trait.value"),
        ({"event": [], "measure": "count"}, "trait.event"),
        ({"event": "A", "measure": "count", "within": "30"}, "trait.within"),
        ({"event": "A", "measure": "count", "within": "99999w"}, "trait.within"),
        ({"event": "A", "measure": "count", "where": [{"is": 1}]}, r"trait.where\[0\]"),
        ({"event": "A", "measure": "count", "where": [{"property": "x", "gt": "y"}]}, r"trait.where\[0\].gt"),
        ({"event": "A", "measure": "count", "else": 1}, "else"),
    ],
)
def test_what_is_no_definition_is_refused_with_its_place(definition, where):
    with pytest.raises(SamlaError, match=where):
        trait_of("t", "t", 1, definition)
