"""From bytes to what is kept: the pure way through the door."""

import gzip
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.tracking import Body, SensitiveBody
from services.collector.domain import client, decode
from services.collector.domain.cleaning import cleaning_of
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import PIECE, UNEXPECTED, Sorting, take_in
from services.collector.domain.normalize import Arrival, Rejected, normalized
from services.collector.domain.quarantine import again as replayed
from services.collector.domain.quarantine import kept_of
from services.collector.domain.raw import again, request_of
from services.collector.domain.rules import NONE, Rules
from services.collector.domain.source import Source
from shared.policy import POLICY, Policy

SERVER = Sender()
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
    assert len(intake.accepted) + len(intake.set_aside) == len(sent) and not intake.failures
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


def test_brackets_within_strings_hide_no_depth():
    """A closing one in a text closes nothing."""
    text = b'{"a":' + b'["]",' * 150 + b"1" + b',"["]' * 150 + b"}"
    assert isinstance(json.loads(text), dict) and decode.parsed(text).code == "too_deep"


class Counted(list):
    """A list that counts those that were looked into."""

    looked = 0

    def __iter__(self):
        Counted.looked += 1
        return super().__iter__()


def test_depth_is_looked_for_down_to_the_first_level_that_is_too_deep():
    """What lies below it costs nothing, and each list above it is looked into once."""
    Counted.looked, value = 0, Counted()
    for _ in range(5_000):
        value = Counted([value])
    assert decode.is_deeper(value, decode.DEEPEST) and Counted.looked == decode.DEEPEST
    Counted.looked = 0
    assert not decode.is_deeper(Counted(Counted() for _ in range(1_000)), decode.DEEPEST) and Counted.looked == 1_001


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[" * 90_000, "too_deep"), (b"]" * 512_000, "bad_json"), (b"[}" * 90_000, "bad_json"),
     (b"[" * 512_000, "too_many_parts"), (b'{"a":[' + b"[]," * 120_000 + b"1]}", "too_many_parts"),
     ((b"[" * 90 + b"]" * 90) * 1_000, "bad_json")],
    ids=lambda value: str(value[:12]),
)  # fmt: skip
def test_of_what_is_no_json_nobody_asks_how_deep_it_is(body, code, monkeypatch):
    """Half a kilobyte that inflates to half a megabyte ends where the parser stops, or before it begins."""
    monkeypatch.setattr(decode, "is_deeper", None)
    assert decode.parsed(body).code == code


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


# One message and the others

SOURCE = Source("s", "web", "first", True, 0)


def sorted_by(messages, shared=None, rules=NONE, policy=POLICY, source=SOURCE, sender=SERVER, **more):
    arrival = source._replace(rules=rules).arrival(RECEIVED, False, sender, **more)
    return take_in(Batch(list(messages), shared or {}), arrival, policy, lambda: "fresh")


def only(intake):
    [one] = intake.accepted
    return json.loads(one.ordinary)


class Failing(Policy):
    """A policy in which there is a mistake."""

    def classify(self, event, properties, traits):
        if event == "Boom":
            raise ZeroDivisionError(f"SECRET {properties}")
        return super().classify(event, properties, traits)


def test_a_message_that_makes_us_fail_is_set_aside_alone():
    """It is kept to be replayed; the error is told by its kind and place, without a word of the message."""
    sent = [message(event="One"), message(event="Boom", properties={"a": "SECRET"}), message(event="Two")]
    intake = sorted_by(sent, policy=Failing(POLICY.document))
    assert [json.loads(each.ordinary)["event"] for each in intake.accepted] == ["One", "Two"]
    [aside] = intake.set_aside
    assert (aside.at, aside.code, aside.place) == (1, UNEXPECTED, "") and json.loads(aside.raw) == sent[1]
    [failure] = intake.failures
    assert failure.at == 1 and re.fullmatch(r"ZeroDivisionError at test_intake.py:\d+", failure.error)
    assert "SECRET" not in str((failure, aside.why))


def test_what_cannot_even_be_written_down_sinks_nothing():
    """Our own translations might make it: a number that 64 bits do not hold."""
    intake = sorted_by([message(properties={"n": 2**70}), message(event="Good")])
    assert only(intake)["event"] == "Good"
    [aside] = intake.set_aside
    assert aside.code == UNEXPECTED and json.loads(aside.raw)["properties"] == {"n": 2**70}


# User agents


def test_a_batch_of_very_many_user_agents_has_some_of_them_read(monkeypatch):
    """Each takes milliseconds; all messages are kept. What has been read lately costs nothing."""
    read = []
    monkeypatch.setattr(client, "parse", lambda text, parse=client.parse: read.append(text) or parse(text))
    agents = [f"Mozilla/5.0 (Linux; Android 9; {RECEIVED} {n}) Chrome/126.0" for n in range(300)]
    sent = [message(context={"userAgent": each + "x" * 5_000}) for each in agents]
    first = sorted_by(sent, sized=True, exact=True)
    assert len(first.accepted) == 300 and len(read) == client.MOST_READ
    assert ["client" in json.loads(each.ordinary) for each in first.accepted].count(True) == client.MOST_READ
    known = [message(context={"userAgent": read[0]})] * 100
    assert all("client" in json.loads(each.ordinary) for each in sorted_by(known).accepted)
    assert len(read) == client.MOST_READ
    sorted_by(sent, sized=True, exact=True)
    assert len(read) == 2 * client.MOST_READ


def test_agents_that_are_remembered_are_bounded(monkeypatch):
    """Those that are asked for again and again stay."""
    monkeypatch.setattr(client, "REMEMBERED", 20)
    memory, agent = client._Memory(), client.agent_of("x")
    memory.put("often", agent)
    for n in range(1_000):
        memory.put(f"once {n}", agent)
        assert memory.get("often") is agent
    assert len(memory._new) + len(memory._old) <= 20


# Pieces


def test_a_batch_is_sorted_a_message_at_a_time():
    """So that a large one can let others pass."""
    sorting = Sorting(Batch([message()] * (PIECE * 3 + 1), {}), ARRIVAL, POLICY, lambda: "fresh")
    assert [len(sorting.intake.accepted) for _ in sorting.pieces()] == list(range(1, 3 * PIECE + 2))


# What a batch says for all its messages

LOCATED = {"context": {"location": "59.3,18.0", "phone": "no number", "kund": "77", "page": {"url": "/"}}}


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"drop": ["context.location"]}, {"phone": "no number", "kund": "77", "page": {"url": "/"}}),
        ({"rename": {"context.kund": "userId", "context.location": "context.page.at"}},
         {"phone": "no number", "page": {"url": "/", "at": "59.3,18.0"}}),
        ({"clean": {"context.phone": {"steps": {"phone": {"region": "SE"}}, "else": "drop"}}},
         {"location": "59.3,18.0", "kund": "77", "page": {"url": "/"}}),
    ],
    ids=["drop", "rename", "else"],
)  # fmt: skip
def test_rules_hold_for_what_a_batch_says_too(rule, left):
    """It does not come back after them; nor when the message is taken in again, as it was received."""
    rules = Rules(cleaning=cleaning_of(1, rule))
    intake = sorted_by([{"type": "track", "anonymousId": "a", "event": "E"}], LOCATED, rules)
    assert only(intake)["context"] == left
    assert (["user", "77"] in only(intake)["identifiers"]) == ("rename" in rule)
    received = json.loads(intake.accepted[0].raw)
    anew = again(received, request_of(intake), RECEIVED, SOURCE._replace(rules=rules), POLICY, "fresh")
    assert anew == intake.accepted[0]


def test_what_a_batch_says_is_of_each_message_unless_the_message_says_otherwise():
    """Of integrations as of the context."""
    beside = {"context": {"locale": "sv", "app": "a"}, "integrations": {"All": False, "CRM": True}}
    found = only(sorted_by([message(context={"locale": "en"}, integrations={"CRM": False})], beside))
    assert found["context"] == {"locale": "en", "app": "a"}
    assert found["integrations"] == {"All": False, "CRM": False}
    assert only(sorted_by([message(context=None)], beside))["context"] == {"locale": "sv", "app": "a"}


@pytest.mark.parametrize("rules", [NONE, Rules(cleaning=cleaning_of(1, {"drop": ["traits.x"]}))])
def test_a_context_that_is_none_is_not_made_good_by_that_of_the_batch(rules):
    [aside] = sorted_by([message(context="text")], LOCATED, rules).set_aside
    assert (aside.code, aside.place) == ("not_an_object", "context")


def test_a_message_counts_with_what_its_batch_says():
    """Against the source's size; and what is too large for one message is not kept beside each of them."""
    small = SOURCE._replace(size=2_000)
    fits, not_quite = ({"context": {"blob": "x" * size}} for size in (1_500, 1_980))
    assert len(sorted_by([message()] * 5, fits, source=small).accepted) == 5
    assert [each.code for each in sorted_by([message()] * 5, not_quite, source=small).set_aside] == ["too_large"] * 5
    many = sorted_by([message(), message(type="nope")] * 100, {"context": {"blob": "x" * 400_000}, "sentAt": "2025"})
    assert len(many.set_aside) == 200 and {each.code for each in many.set_aside} == {"too_large"}
    assert all(len(each.raw) < 200 for each in many.set_aside) and many.size < 200 * 17_000
    [cut, *_] = kept_of(many.set_aside, request_of(many), "")
    assert cut.cut and cut.shared == {"sentAt": "2025"}
    # Raised, the size lets it in, with its context, which is kept beside it.
    aside = sorted_by([message()], {"context": {"blob": "x" * 3_000}}, source=small)
    [kept] = kept_of(aside.set_aside, request_of(aside), "")
    assert json.loads(replayed(kept, "e", RECEIVED, SOURCE, None, POLICY).ordinary)["context"] == {"blob": "x" * 3_000}


def test_a_batch_whose_messages_would_be_many_times_what_was_sent_is_refused():
    """What it says for all counts once for each; the refusal says so, and nothing of it is taken."""
    beside = {"context": {"blob": "x" * 30_000}}
    few, many = ({"batch": [{}] * n, **beside} for n in (100, 2_000))
    assert len(decode.batch_of(dict(few)).messages) == 100
    found = decode.batch_of(dict(many))
    assert isinstance(found, Refused) and found.code == "too_large" and "fewer messages" in found.message


# Names of what is special


def test_the_names_of_what_is_special_are_sealed_with_it():
    """Also of values that could not be read, and of those that were dropped for it."""
    steps = {"steps": "email", "else": "keep"}
    paths = ["traits.*", "context.traits.*", "properties.*", "context.page.*", "properties.products.*.sku"]
    rules = Rules(cleaning=cleaning_of(1, {"clean": dict.fromkeys(paths, steps)}))

    def uncleaned(one):
        [made] = sorted_by([one], rules=rules).accepted
        return [json.loads(text).get("uncleaned") if text else None for text in (made.ordinary, made.sensitive)]

    told = {"type": "identify", "userId": "ada", "traits": {"religion": "r", "plan": "p"}}
    assert uncleaned(told) == [["traits.plan"], ["traits.religion"]]
    told = {"type": "identify", "userId": "ada", "context": {"traits": {"religion": "r"}, "page": {"url": "u"}}}
    assert uncleaned(told) == [["context.page.url"], ["context.traits.religion"]]
    looked = message(properties={"category": "COLD AND FLU", "x": "y"}, context={"page": {"url": "/flu"}})
    assert uncleaned(looked) == [None, ["properties.category", "properties.x", "context.page.url"]]
    lines = [{"category": "COLD AND FLU", "sku": "1"}, {"category": "BREAD", "sku": "2"}]
    assert uncleaned(message(properties={"products": lines})) == [
        ["properties.products.1.sku"], ["properties.products.0.sku"],
    ]  # fmt: skip
    dropped = Rules(cleaning=cleaning_of(1, {"clean": {"traits.religion": {"steps": "email", "else": "drop"}}}))
    [made] = sorted_by([{"type": "identify", "userId": "ada", "traits": {"religion": "r"}}], rules=dropped).accepted
    assert b"religion" not in made.ordinary and made.sensitive is None
