"""Golden messages: what is in contracts/examples fits its schema, and is what the code makes."""

from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from contracts import activation as contract
from contracts.envelope import Envelope
from services.activation.domain.body import body_of
from services.activation.domain.delivery import Fact, begin, evolve
from services.activation.domain.segment import Segment

EXAMPLES = Path(contract.__file__).parent / "examples"


def example(name: str) -> dict:
    return orjson.loads((EXAMPLES / f"{name}.json").read_bytes())


def scheduled():
    event = example(contract.SCHEDULED)
    return begin(event["data"], SimpleNamespace(**event))


@pytest.mark.parametrize("type", contract.EVENTS)
def test_the_golden_event_fits_envelope_and_schema(type):
    event = example(type)
    assert event["type"] == type
    assert Envelope().validate(event) == {}
    assert contract.EVENTS[type]().validate(event["data"]) == {}


@pytest.mark.parametrize("type", [each for each in contract.EVENTS if each != contract.SCHEDULED])
def test_the_golden_event_is_understood(type):
    """Folding it changes the delivery: no type is forgotten in evolve."""
    event = example(type)
    before = scheduled()
    if type == contract.REDRIVEN:
        before = evolve(before, Fact(contract.DEAD, {"reason": "timeout"}), event["time"])
    after = evolve(before, Fact(type, event["data"]), event["time"])
    assert (after.status, after.attempts, after.next) != (before.status, before.attempts, before.next)


@pytest.mark.parametrize("type", contract.EVENTS)
def test_events_carry_nothing_that_the_contract_does_not_name(type):
    """An unknown field is refused, so nothing personal slips in beside the ids."""
    data = {**example(type)["data"], "email": "anna@example.org"}
    assert "email" in contract.EVENTS[type]().validate(data)


@pytest.mark.parametrize("change", contract.CHANGES)
def test_the_golden_webhook_is_what_is_sent(change):
    body = example(f"webhook/{contract.WEBHOOK_TYPES[change]}")
    assert contract.WebhookBody().validate(body) == {}
    event = example(contract.SCHEDULED)
    data = {**event["data"], "change": change, "reason": body["data"]["reason"]}
    ids = body["data"]["identifiers"]
    facts = {"ids": {kind: {value: [1, 2, "e", "web"] for value in values} for kind, values in ids.items()}}
    named = body["data"]["segment"]
    segment = Segment(id=named["id"], key=named["key"], name=named["name"], version=1, sensitive=False)
    made = body_of(begin(data, SimpleNamespace(**event)), segment, body["data"]["profile"], facts, ["user", "email"])
    assert orjson.loads(made) == body


def test_names_are_pinned():
    """They stand in logs and in other people's programs: a rename is a new version."""
    assert sorted(contract.EVENTS) == [
        "activation.dead.v1",
        "activation.delivered.v1",
        "activation.failed.v1",
        "activation.held.v1",
        "activation.redriven.v1",
        "activation.scheduled.v1",
    ]
    assert contract.WEBHOOK_TYPES == {"entered": "segment.entered", "left": "segment.left"}
