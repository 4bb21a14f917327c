"""From bytes to what is kept: the pure way through the door."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.tracking import Body, SensitiveBody
from services.collector.domain import decode
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import take_in
from services.collector.domain.normalize import Arrival, Rejected, normalized
from shared.policy import POLICY

RECEIVED = 1_750_000_000_000
ARRIVAL = Arrival(received=RECEIVED, party="first", source_name="web", gpc=False, sized=True, exact=True)


def message(**more):
    return {"type": "track", "userId": "ada", "event": "E", **more}


def body(one, shared=None, arrival=ARRIVAL):
    found = normalized(one, shared or {}, arrival, "fresh")
    assert not isinstance(found, Rejected), found
    return found


def iso(ms):
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
fields = st.sampled_from(
    ["type", "userId", "anonymousId", "event", "properties", "traits", "context", "timestamp", "sentAt", "messageId",
     "previousId", "groupId", "integrations", "originalTimestamp", "name"]
)  # fmt: skip
messages = values | st.dictionaries(
    fields, values | st.sampled_from(["track", "identify", "page", "alias"]), max_size=8
).map(lambda one: {"type": "track", "userId": "ada", "event": "E", **one})


@settings(max_examples=400, deadline=None)
@given(st.lists(messages, max_size=5), st.dictionaries(fields, values, max_size=3))
def test_whatever_is_sent_is_either_kept_as_the_contract_says_or_set_aside(sent, shared):
    """No JSON makes the door raise; what is accepted loads in the contract's schemas."""
    intake = take_in(Batch(list(sent), shared), ARRIVAL, POLICY, lambda: "fresh")
    assert len(intake.accepted) + len(intake.set_aside) == len(sent)
    for each in intake.accepted:
        assert Body().validate(json.loads(each.ordinary)) == {}
        if each.sensitive is not None:
            assert SensitiveBody().validate(json.loads(each.sensitive)) == {}
    for each in intake.set_aside:
        assert each.code and each.why and each.raw


def test_clock_skew_is_taken_out():
    """The client's clock is an hour ahead; what counts is how long before sending it happened."""
    hour = 3_600_000
    one = message(timestamp=iso(RECEIVED + hour - 60_000), sentAt=iso(RECEIVED + hour))
    assert body(one)["time"] == RECEIVED - 60_000


def test_the_future_is_clamped_and_without_any_time_the_receipt_counts():
    assert body(message(timestamp=iso(RECEIVED + 10**9)))["time"] == RECEIVED
    assert body(message())["time"] == RECEIVED


@pytest.mark.parametrize(
    ("context", "consent"),
    [
        ({}, None),
        ({"consent": {}}, None),
        ({"consent": {"categoryPreferences": {}}}, {}),
        ({"consent": {"categoryPreferences": {"ads": False}}}, {"ads": False}),
    ],
)
def test_absent_consent_is_nothing_said_and_an_empty_object_is_all_refused(context, consent):
    assert body(message(context=context)).get("consent") == consent


def test_consent_that_cannot_be_understood_is_not_guessed_at():
    found = normalized(message(context={"consent": {"categoryPreferences": {"ads": "yes"}}}), {}, ARRIVAL, "fresh")
    assert isinstance(found, Rejected) and found.code == "bad_consent"


@pytest.mark.parametrize(
    "junk", ["null", "undefined", "0", "-1", "anonymous", "  ", "00000000-0000-0000-0000-000000000000"]
)
def test_junk_is_nobody(junk):
    """It is set aside, and does not glue thousands of people together."""
    found = body({"type": "track", "userId": junk, "anonymousId": "a1", "event": "E"})
    assert found["identifiers"] == [["anonymous", "a1"]]
    assert found["set_aside"]


def test_identifiers_are_normalized_and_come_by_priority():
    one = {
        "type": "identify", "userId": 42, "anonymousId": "a1",
        "traits": {"email": " Ada@Example.ORG ", "phone": "+46 70-123 45 67"},
        "context": {"externalIds": [{"id": "x9", "type": "loyalty", "collection": "users", "encoding": "none"}]},
    }  # fmt: skip
    assert body(one)["identifiers"] == [
        ["user", "42"], ["anonymous", "a1"], ["email", "ada@example.org"], ["phone", "+46701234567"], ["loyalty", "x9"],
    ]  # fmt: skip


@pytest.mark.parametrize("externals", [5, True, "crm", {"id": "x"}, [5], [None], {"a": 1}, 1.5])
def test_external_ids_that_are_none_are_set_aside(externals):
    """Whatever stands where a list should."""
    found = body(message(context={"externalIds": externals}))
    assert found["identifiers"] == [["user", "ada"]]
    assert {kind for kind, _ in found["set_aside"]} == {"external"}


def test_alias_is_the_new_users_and_links_the_previous_id():
    one = {"type": "alias", "userId": "ada", "previousId": "a1"}
    assert body(one)["identifiers"] == [["user", "ada"], ["anonymous", "a1"]]


def test_traits_that_an_sdk_puts_in_the_context_count():
    """RudderStack's clients do that."""
    one = {"type": "identify", "userId": "ada", "context": {"traits": {"plan": "pro"}}}
    assert body(one)["traits"] == {"plan": "pro"}


def test_what_is_special_is_only_in_the_sensitive_body():
    """Looking at a medicine is health data; of an order only the special lines are."""
    looked = message(event="Product Viewed", properties={"category": "COLD AND FLU"}, context={"page": {"url": "/flu"}})
    lines = [{"category": "COLD AND FLU", "price": 1}, {"category": "BREAD", "price": 2}]
    told = {"type": "identify", "userId": "ada", "traits": {"religion": "r", "plan": "pro"}}
    intake = take_in(Batch([looked, message(properties={"products": lines}), told], {}), ARRIVAL, POLICY, lambda: "f")
    first, second, third = ((json.loads(each.ordinary), json.loads(each.sensitive)) for each in intake.accepted)
    assert first[0]["event"] is None and first[0]["properties"] == {} and "page" not in first[0]["context"]
    assert first[1]["event"] == "Product Viewed" and first[1]["categories"] == ["health"]
    assert second[0]["properties"] == {"products": lines[1:]} and second[1]["properties"] == {"products": lines[:1]}
    assert third[0]["traits"] == {"plan": "pro"} and third[1]["traits"] == {"religion": "r"}


@pytest.mark.parametrize("depth", [99, 100, 101, 5_000])
@pytest.mark.parametrize("open_", ["[", '{"a":'])
def test_a_hundred_levels_are_taken_and_no_more(depth, open_):
    close = "]" if open_ == "[" else "}"
    text = ('{"a":' + open_ * (depth - 1) + "1" + close * (depth - 1) + "}").encode()
    assert isinstance(decode.parsed(text), Refused) == (depth > decode.DEEPEST)


def test_brackets_within_strings_are_no_depth():
    """A text full of brackets, quotes and backslashes is a text."""
    value = {"a": ['[{"\\' * 500, '"]}'], "b": {"c": "{" * 300}}
    assert decode.parsed(json.dumps(value).encode()) == value


@settings(max_examples=300, deadline=None)
@given(values)
def test_what_is_json_is_parsed_to_what_it_is(value):
    """Whatever the shape; depth and long numbers are told without changing anything."""
    text = json.dumps({"v": value}).encode()
    if not isinstance(found := decode.parsed(text), Refused):
        assert found == json.loads(text)


@pytest.mark.parametrize(("number", "long"), [(2**63 - 1, True), (123, False), (10**18 - 1, False), (10**30, True)])
def test_long_numbers_are_found(number, long):
    """Only then are the values walked through."""
    assert decode.has_long_number(json.dumps({"n": number}).encode()) is long


def test_gzip_is_bounded_before_it_is_inflated():
    assert decode.inflated(gzip.compress(b"x")) == b"x"
    assert isinstance(decode.inflated(gzip.compress(b" " * 10_000_000)), Refused)
    assert isinstance(decode.inflated(gzip.compress(b"x" * 1000)[:-5]), Refused)


@pytest.mark.parametrize(
    ("authorization", "sent", "query", "key"),
    [
        ("Basic a2V5Og==", {}, {}, "key"),
        ("Basic a2V5", {}, {}, "key"),
        ("Bearer zzz", {"writeKey": "key"}, {}, "key"),
        (None, {"writeKey": "key"}, {}, "key"),
        (None, {}, {"writeKey": "key"}, "key"),
        ("Basic %%%", {}, {}, None),
        (None, {"writeKey": 7}, {}, None),
    ],
)
def test_the_write_key_is_found_where_clients_put_it(authorization, sent, query, key):
    assert decode.write_key_of(authorization, sent, query) == key
