"""What a webhook says, and what it leaves out."""

import orjson
import pytest

from contracts.activation import AudienceBody, WebhookBody
from services.activation.domain.body import MOST_VALUES, body_of, identifiers_of, iso
from services.activation.domain.segment import Segment, looks_at_special, segment_of
from shared.policy import POLICY
from tests.unit.activation.support import pending

FACTS = {
    "ids": {
        "user": {"u-1": [1, 10, "e1", "web"]},
        "email": {"old@example.org": [1, 5, "e1", "web"], "new@example.org": [2, 9, "e2", "web"]},
        "phone": {"+46701234567": [1, 10, "e1", "web"]},
    },
    "traits": {"plan": {"first": [1, "e1", "pro", "web"]}},
}
SEGMENT = Segment(id="b" * 32, key="buyers", name="Buyers", version=1, sensitive=False)


def test_a_body_says_what_happened_to_whom_in_which_segment():
    body = orjson.loads(body_of(pending(), SEGMENT, "f" * 32, FACTS, ["user", "email"]))
    assert body == {
        "type": "segment.entered",
        "timestamp": "2023-11-14T22:13:15.000Z",
        "data": {
            "segment": {"id": "b" * 32, "key": "buyers", "name": "Buyers"},
            "profile": "f" * 32,
            "identifiers": {"user": ["u-1"], "email": ["new@example.org", "old@example.org"]},
            "reason": "event",
        },
    }
    assert WebhookBody().validate(body) == {}


def test_leaving_has_a_type_of_its_own():
    body = orjson.loads(body_of(pending(change="left"), SEGMENT, "f" * 32, {}, []))
    assert body["type"] == "segment.left"
    assert WebhookBody().validate(body) == {}


def test_as_segments_audiences_somebody_enters_by_track_or_identify_and_exits():
    """With the identifiers that the destination may have, under an id that stays the same over attempts."""
    entered, left = pending(), pending(change="left")
    track = orjson.loads(body_of(entered, SEGMENT, "f" * 32, FACTS, ["user"], "track"))
    assert track == {
        "type": "track", "event": "Audience Entered", "properties": {"audience_key": "buyers", "buyers": True},
        "userId": "u-1", "messageId": entered.id, "timestamp": "2023-11-14T22:13:15.000Z",
        "context": {"externalIds": [{"id": "u-1", "type": "user", "collection": "users", "encoding": "none"}]},
    }  # fmt: skip
    exited = orjson.loads(body_of(left, SEGMENT, "f" * 32, FACTS, ["user"], "track"))
    assert (exited["event"], exited["properties"]) == ("Audience Exited", {"audience_key": "buyers", "buyers": False})
    identify = orjson.loads(body_of(left, SEGMENT, "f" * 32, FACTS, ["email"], "identify"))
    assert (identify["type"], identify["traits"], identify["anonymousId"]) == ("identify", {"buyers": False}, "f" * 32)
    assert "userId" not in identify and "u-1" not in str(identify)
    for body in (track, exited, identify):
        assert AudienceBody().validate(body) == {}


def test_only_the_kinds_that_the_destination_may_have_go_out():
    """Neither other identifiers nor any trait."""
    text = body_of(pending(), SEGMENT, "f" * 32, FACTS, ["user"])
    assert b"example.org" not in text
    assert b"4670" not in text
    assert b"pro" not in text.replace(b"profile", b"")


def test_a_kind_that_the_person_has_none_of_is_left_out():
    assert identifiers_of(FACTS, ["crm", "user"]) == {"user": ["u-1"]}
    assert identifiers_of({}, ["user"]) == {}


def test_very_many_values_of_a_kind_are_cut_to_those_seen_last():
    ids = {"ids": {"email": {f"{n}@example.org": [n, n, "e", "web"] for n in range(100)}}}
    values = identifiers_of(ids, ["email"])["email"]
    assert len(values) == MOST_VALUES
    assert values[0] == "99@example.org"


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "1970-01-01T00:00:00.000Z"), (1_493_596_800_123, "2017-05-01T00:00:00.123Z")]
)
def test_times_are_iso_with_milliseconds(ms, text):
    assert iso(ms) == text


@pytest.mark.parametrize(
    ("definition", "special"),
    [
        ({"trait": "plan", "is": "pro"}, False),
        ({"trait": "diagnosis", "exists": True}, True),
        ({"all": [{"event": "Order Completed", "count": {"gte": 3}}, {"not": {"trait": "religion", "is": "x"}}]}, True),
        ({"any": [{"event": "Prescription Filled", "count": {"gte": 1}}]}, True),
        ({"event": "Order Completed", "count": {"gte": 3}, "within": "30d"}, False),
        (None, True),
        ({"trait": 7}, True),
    ],
)
def test_a_segment_that_looks_at_special_data_anywhere_is_sensitive(definition, special):
    """By the data policy; when it cannot be read, it counts as if it did."""
    row = {"segment": "s", "key": "k", "name": "n", "version": 1, "definition": definition}
    assert segment_of(row, POLICY.trait, POLICY.event).sensitive is special
    assert looks_at_special(definition, POLICY.trait, POLICY.event) is special


def test_what_segmentation_says_of_its_segment_counts_first():
    row = {"segment": "s", "key": "k", "name": "n", "version": 1, "definition": {"trait": "plan", "is": 1}}
    assert segment_of({**row, "sensitive": True}, POLICY.trait, POLICY.event).sensitive is True
