"""Law 6: order does not matter to a state, whatever the batches and the grouping; and sums are exact."""

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.privacy.domain import consents
from services.profile.domain.believing import Believing, check
from services.profile.domain.state import copied, empty, merge, merged, minor_units, state_of
from shared.errors import SamlaError

names = st.sampled_from(["Order Completed", "Product Viewed", "Survey Answered"])
amounts = st.decimals(-(10**6), 10**6, places=2).map(float)
parties = st.sampled_from(["first", "second", "third"])
values = st.sampled_from(["a", "b", 1, True, None, ["x"], {"y": 1}])


@st.composite
def bodies(draw):
    kind = draw(st.sampled_from(["track", "identify"]))
    properties = {
        "revenue": draw(amounts),
        "currency": draw(st.sampled_from(["EUR", "USD", "JPY"])),
        "question": draw(st.sampled_from("qr")),
        "answer": draw(values),
    }
    return {
        "type": kind, "time": draw(st.integers(0, 10)) * 30_000, "party": draw(parties), "source_name": "s",
        "identifiers": [["user", draw(st.sampled_from("uv"))], ["anonymous", draw(st.sampled_from("ab"))]],
        "event": draw(names) if kind == "track" else None, "properties": properties,
        "traits": {draw(st.sampled_from("xyz")): draw(values)},
        "consent": draw(st.sampled_from([None, {}, {"ads": True}, {"ads": False, "mail": True}])),
        "gpc": draw(st.booleans()),
    }  # fmt: skip


histories = st.lists(bodies(), max_size=12).map(
    lambda found: [(body, f"event-{number}") for number, body in enumerate(found)]
)


def grouped(events, fold, join, start, seed):
    """The state by another order, other batches, another grouping."""
    chance = random.Random(seed)
    parts = [join(start(), fold(body, event)) for body, event in events]
    chance.shuffle(parts)
    while len(parts) > 1:
        first = parts.pop(chance.randrange(len(parts)))
        second = parts.pop(chance.randrange(len(parts)))
        parts.append(join(first, second))
    return parts[0] if parts else start()


@settings(max_examples=300, deadline=None)
@given(histories, st.integers())
def test_any_order_any_batches_and_any_grouping_give_the_same_profile(events, seed):
    straight = merged(state_of(body, event) for body, event in events)
    assert grouped(events, state_of, merge, empty, seed) == straight


@settings(max_examples=200, deadline=None)
@given(histories, st.integers())
def test_consents_do_not_depend_on_order_and_saying_it_twice_is_saying_it_once(events, seed):
    def fold(body, event):
        return consents.state_of(body, event) or consents.empty()

    straight = consents.merged(fold(body, event) for body, event in events)
    assert grouped(events, fold, consents.merge, consents.empty, seed) == straight
    assert consents.merged([straight, straight]) == straight


@settings(max_examples=200, deadline=None)
@given(st.lists(st.decimals(0, 10**9, places=2), max_size=30))
def test_sums_are_exact_to_the_cent(revenues):
    """Integers in minor units; no float is ever added."""
    event = "Order Completed"
    body = {
        "type": "track",
        "time": 0,
        "party": "first",
        "source_name": "s",
        "identifiers": [],
        "event": event,
        "traits": {},
    }
    state = merged(
        state_of({**body, "properties": {"revenue": float(each), "currency": "EUR"}}, f"e{n}")
        for n, each in enumerate(revenues)
    )
    total = sum(state["events"].get(event, [0, 0, 0, {}, {}, {}])[4].get("EUR", {}).values())
    assert Decimal(total) == sum((each * 100 for each in revenues), Decimal(0))


@settings(max_examples=100, deadline=None)
@given(histories)
def test_merging_leaves_what_is_merged_as_it_was(events):
    """A profile is read off states that others hold."""
    states = [state_of(body, event) for body, event in events]
    before = [copied(each) for each in states]
    merged(states)
    assert states == before


def test_minor_units_follow_the_currency_and_refuse_what_is_no_amount():
    assert [minor_units(12.345, "USD"), minor_units("7", "JPY"), minor_units(1, "KWD")] == [1234, 7, 1000]
    assert [minor_units(each, "EUR") for each in ("NaN", "inf", "x", 1e300, None)] == [None] * 5


def test_what_the_customer_said_ranks_above_what_was_bought_later():
    said = {
        "third:licence:Lists": [99, "e3", "bought"],
        "first::shop": [1, "e1", "said"],
        "first::crm": [2, "e2", "known"],
        "second:deal:Hotel": [50, "e4", "shared"],
    }
    assert [value[2] for _, value in Believing().ordered("phone", said)] == ["known", "said", "shared", "bought"]
    policy = check({"rank": ["third", "first"], "traits": {"phone": ["source:shop", "second"]}})
    assert [value[2] for _, value in Believing(policy).ordered("phone", said)] == ["said", "shared", "bought", "known"]
    assert Believing(policy).best("name", said)[1][2] == "bought"


@pytest.mark.parametrize(
    "policy",
    [
        *([], {}, {"rank": []}, {"rank": ["fourth"]}, {"rank": ["source:"]}, {"rank": ["first", "first"]}),
        *({"rank": ["first"], "traits": {"a": "first"}}, {"rank": ["first"], "more": 1}),
    ],
)
def test_a_policy_that_says_nothing_is_refused(policy):
    with pytest.raises(SamlaError, match="policy"):
        check(policy)
