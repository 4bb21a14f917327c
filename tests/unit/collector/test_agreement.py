"""Agreements and licences: what second- and third-party sources may send."""

import json
from copy import deepcopy

import pytest

from services.collector.domain.agreement import checked, class_of, within
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import Refusal, take_in
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source
from shared.errors import SamlaError
from shared.eventlog import NewEvent
from shared.eventlog.sealed import held_class
from shared.policy import POLICY

DAY = 86_400_000


def agreement(*fields, since=0, until=10 * DAY, party="second"):
    return checked("hotel", party, "The Hotel", ["marketing"], fields or ["traits.email"], since, until)


def source(rules, party="second"):
    return Source("s", "partner", party, True, 0, rules=rules)


def test_fields_outside_are_refused_by_name_and_what_a_message_is_known_by_is_not():
    message = {
        "type": "identify", "userId": "u",
        "traits": {"email": "a@example.org", "income": 5, "address": {"city": "x", "street": "y"}},
        "context": {"ip": "1.2.3.4", "consent": {"categoryPreferences": {"marketing": True}}, "library": {"name": "l"}},
    }  # fmt: skip
    before = deepcopy(message)
    found = within(message, agreement("traits.email", "traits.address.city"))
    assert found.message == {
        "type": "identify", "userId": "u", "traits": {"email": "a@example.org", "address": {"city": "x"}},
        "context": {"consent": {"categoryPreferences": {"marketing": True}}, "library": {"name": "l"}},
    }  # fmt: skip
    assert found.refused == ["traits.income", "traits.address.street", "context.ip"]
    assert message == before


def test_what_is_refused_is_kept_nowhere():
    """Not in the body, not in what is kept as received, not in what the batch says for all."""
    rules = Rules(agreement=agreement("traits.email"))
    batch = Batch(
        [{"type": "identify", "userId": "u", "traits": {"email": "a@example.org", "income": "SECRET"}}],
        {"context": {"traits": {"income": "SECRET"}, "page": {"url": "SECRET"}}},
    )
    intake = take_in(batch, source(rules).arrival(DAY, False, Sender()), POLICY, lambda: "m")
    assert intake.refused == [Refusal(0, "traits.income")]
    [one] = intake.accepted
    assert "SECRET" not in str((one, intake.shared)) and json.loads(one.ordinary)["agreement"] == "hotel"


def test_each_agreement_has_a_class_of_data_and_so_a_key_of_its_own():
    """A reader finds an event's part under whichever class it is sealed."""
    ordinary, special = class_of("hotel", False), class_of("hotel", True)
    event = NewEvent(id="0" * 32, type="tracking.identify.v1", source="s", subject="x", time=0,
                     sealed={ordinary: b"", special: b""})  # fmt: skip
    assert held_class(event, "ordinary") == ordinary and held_class(event, "sensitive") == special


@pytest.mark.parametrize(
    ("party", "at", "may"),
    [("first", 0, True), ("second", 0, False), ("second", DAY, True), ("second", 9 * DAY, True),
     ("second", 10 * DAY, False)],
)  # fmt: skip
def test_a_source_of_another_party_needs_one_that_holds(party, at, may):
    """From its first instant, and no longer at its last."""
    assert source(Rules(agreement=agreement(since=DAY)), party).may_send(at) is may
    assert source(Rules(), party).may_send(at) is (party == "first")


def test_one_that_was_ended_holds_no_longer():
    ended = agreement()._replace(ended=3 * DAY)
    assert ended.holds(2 * DAY) and not ended.holds(3 * DAY)


@pytest.mark.parametrize(
    "given",
    [
        {"party": "first"}, {"partner": " "}, {"purposes": []}, {"purposes": [""]}, {"fields": []},
        {"fields": ["email"]}, {"fields": ["userId"]}, {"fields": ["traits."]}, {"since": 5, "until": 5},
        {"until": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_agreement_is_refused(given):
    right = {
        "party": "third",
        "partner": "Supplier",
        "purposes": ["ads"],
        "fields": ["traits.age"],
        "since": 0,
        "until": 1,
    }
    with pytest.raises(SamlaError):
        checked("id", **{**right, **given})
