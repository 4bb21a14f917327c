"""Which changes make deliveries, for whom, and under which id."""

from itertools import permutations

import pytest

from services.activation.domain.plan import (
    Change,
    Subscription,
    change_of,
    delivery_id,
    gate_request,
    planned,
    scheduled,
)
from services.activation.domain.replay import People
from shared.errors import Poison
from tests.unit.activation.support import pending

ENTERED = {"segment": "s1", "profile": "p1", "at": 5, "reason": "event", "segment_version": 3}


def change(kind="entered", reason="event", identity="e1", segment="s1"):
    return Change(id=identity, change=kind, profile="p1", segment=segment, segment_version=3, at=5, reason=reason)


def subscription(identity="u1", segment="s1", on=("entered", "left"), purpose="marketing"):
    return Subscription(id=identity, destination="d1", segment=segment, on=on, purpose=purpose)


@pytest.mark.parametrize("kind", ["entered", "left"])
def test_an_event_of_segmentation_is_read_as_a_change(kind):
    assert change_of("e1", f"segmentation.{kind}.v1", ENTERED) == change(kind)


def test_other_events_make_nothing():
    assert change_of("e1", "segmentation.defined.v1", {}) is None


@pytest.mark.parametrize("broken", [{}, {**ENTERED, "profile": 7}, {**ENTERED, "at": "soon"}, {**ENTERED, "at": None}])
def test_an_event_that_breaks_the_contract_is_poison(broken):
    """It is parked, and its text does not quote it."""
    with pytest.raises(Poison) as error:
        change_of("e1", "segmentation.entered.v1", broken)
    assert "soon" not in str(error.value)


def test_each_subscription_to_the_segment_and_change_makes_one():
    subscriptions = [
        subscription("u3", on=("left",)),
        subscription("u2", on=("entered",)),
        subscription("u1"),
        subscription("u4", segment="s2"),
    ]
    assert [each.id for each in planned(change(), subscriptions)] == ["u1", "u2"]
    assert [each.id for each in planned(change("left"), subscriptions)] == ["u1", "u3"]


@pytest.mark.parametrize("reason", ["merged", "erased"])
def test_leaving_because_of_a_merge_or_an_erasure_is_no_news(reason):
    assert planned(change("left", reason), [subscription()]) == []


@pytest.mark.parametrize("reason", ["event", "time", "definition"])
def test_leaving_for_any_other_reason_is(reason):
    assert planned(change("left", reason), [subscription()]) == [subscription()]


def test_entering_because_of_a_merge_is_no_news():
    """The person was in before, under the other profile."""
    assert planned(change("entered", "merged"), [subscription()]) == []


def test_the_id_follows_from_the_cause_and_the_subscription():
    first = delivery_id(change(), subscription())
    assert first == delivery_id(change(), subscription())
    assert (
        len({first, delivery_id(change(identity="e2"), subscription()), delivery_id(change(), subscription("u2"))}) == 3
    )
    assert "." not in first


def test_what_is_scheduled_says_all_that_a_rebuild_needs():
    data = scheduled(change(), subscription())
    assert data == {
        "delivery": delivery_id(change(), subscription()),
        "destination": "d1",
        "profile": "p1",
        "segment": "s1",
        "segment_version": 3,
        "subscription": "u1",
        "change": "entered",
        "at": 5,
        "reason": "event",
        "purpose": "marketing",
    }


def test_the_gate_is_asked_with_the_causes():
    request = gate_request(pending(), segment_sensitive=True)
    assert request == {
        "profile": "a" * 32,
        "purpose": "marketing",
        "causes": {"segmentation:1": 7, "tracking:3": 120},
        "segment_sensitive": True,
    }


def test_who_is_a_part_of_whom_follows_identitys_order_whatever_is_read_first():
    """Somebody who was split off is not erased with whom they were a part of."""
    steps = [
        lambda people: people.merged("bo", "ann", 5),
        lambda people: people.parted(["ann", "bo"], 7),
        lambda people: people.merged("cia", "bo", 6),
    ]
    for order in permutations(steps):
        people = People()
        for step in order:
            step(people)
        people.erased("ann")
        assert [people.is_erased(each) for each in ("ann", "bo", "cia")] == [True, False, False]
        people.erased("bo")
        assert people.is_erased("cia")
