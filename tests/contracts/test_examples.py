"""Golden messages: every event type has one, and each loads in its schema."""

import json
from pathlib import Path

import pytest
from marshmallow import RAISE

from contracts import activation, identity, privacy, profile, segmentation, tracking
from contracts.envelope import Envelope

EXAMPLES = Path(__file__).resolve().parents[2] / "contracts" / "examples"
EVENTS = {
    kind: schema
    for module in (activation, identity, privacy, profile, segmentation, tracking)
    for kind, schema in module.EVENTS.items()
}
SEALED = {f"tracking.{kind}": tracking.Body for kind in tracking.KINDS} | {
    "tracking.sensitive": tracking.SensitiveBody,
    "profile.names": profile.Names,
}
SDK = tracking.MESSAGES
WEBHOOKS = dict.fromkeys(activation.WEBHOOK_TYPES.values(), activation.WebhookBody)
OTHER_FORMS = {identity.MERGED: identity.Merged}
"""Of events that come in two: here a merge of two who look alike."""
ALL = [(".", EVENTS), ("also", OTHER_FORMS), ("sealed", SEALED), ("sdk", SDK), ("webhook", WEBHOOKS)]


CASES = [(EXAMPLES / folder / f"{name}.json", schema) for folder, known in ALL for name, schema in known.items()]


@pytest.mark.parametrize(("path", "schema"), CASES, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_a_golden_message_loads_in_its_schema(path, schema):
    """Events in their envelope; with nothing that the schema does not know, but for SDKs' own fields."""
    message = json.loads(path.read_text())
    if path.stem in EVENTS:
        Envelope(unknown=RAISE).load(message)
        assert message["type"] == path.stem
        message = message["data"]
    made = schema() if issubclass(schema, tracking.Message) else schema(unknown=RAISE)
    made.load(message)


@pytest.mark.parametrize(("folder", "known"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_there_is_no_example_of_what_does_not_exist(folder, known):
    assert {path.stem for path in (EXAMPLES / folder).glob("*.json")} == set(known)
