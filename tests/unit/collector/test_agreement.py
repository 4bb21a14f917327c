"""Agreements and licences: what second- and third-party sources may send."""

import json
import re
from copy import deepcopy
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.tracking import Message
from services.collector.domain import agreement as agreements
from services.collector.domain.agreement import LONGEST_PATH, MOST_TOLD, checked, class_of, within
from services.collector.domain.cleaning import cleaning_of
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import Refusal, take_in
from services.collector.domain.raw import request_of
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source
from shared.errors import SamlaError
from shared.eventlog import NewEvent
from shared.eventlog.sealed import held_class
from shared.policy import POLICY

DAY = 86_400_000
SERVER = Sender()


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
    everywhere = [Refusal(None, "context.traits"), Refusal(None, "context.page"), Refusal(0, "traits.income")]
    assert intake.refused == everywhere
    [one] = intake.accepted
    assert "SECRET" not in str((one, intake.shared)) and json.loads(one.ordinary)["agreement"] == "hotel"


def test_an_agreement_may_let_a_partners_identifiers_merge_and_never_a_suppliers():
    """Each event says so, for identity."""
    for merges in (True, False):
        rules = Rules(agreement=agreement()._replace(merges=merges))
        batch = Batch([{"type": "identify", "userId": "u"}], {})
        [one] = take_in(batch, source(rules).arrival(DAY, False, Sender()), POLICY, lambda: "m").accepted
        assert json.loads(one.ordinary).get("merges", False) is merges
    with pytest.raises(SamlaError, match="supplier"):
        checked("list", "third", "List Ltd", ["marketing"], ["traits.email"], 0, DAY, merges=True)


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


# What would get around it

CONSENT = {"categoryPreferences": {"ads": False}}


def taken(message, *fields, beside=None, sender=SERVER, rules=None, **more):
    """What the door makes of one message under an agreement on these fields; nothing of "SECRET" may be anywhere."""
    given = Rules(agreement=agreement(*fields), **(rules or {}))
    arrival = source(given).arrival(DAY, False, sender)
    return take_in(Batch([message], beside or {}), arrival, POLICY, lambda: "m")


def body(intake):
    [one] = intake.accepted
    return {**json.loads(one.ordinary), "sensitive": one.sensitive and json.loads(one.sensitive)}


def places(intake):
    return [each.place for each in intake.refused]


AROUND = {
    "integrations": ({"integrations": {"CRM": {"ssn": "SECRET"}}}, ["integrations.CRM"]),
    "the name of a page": ({"type": "page", "name": "SECRET"}, ["name"]),
    "fields that no contract knows": ({"diagnosis": {"hiv": "SECRET"}, "ssn": "SECRET"}, ["diagnosis", "ssn"]),
    "more than the library": ({"context": {"library": {"name": "l", "ssn": "SECRET"}}}, ["context.library.ssn"]),
    "an object as the library": ({"context": {"library": {"name": {"s": "SECRET"}}}}, ["context.library.name"]),
    "more than consent": ({"context": {"consent": {**CONSENT, "ssn": "SECRET"}}}, ["context.consent.ssn"]),
    "more than an external id": (
        {"context": {"externalIds": [{"id": "e", "type": "crm", "collection": "users", "ssn": "SECRET"}]}},
        ["context.externalIds.*.ssn"],
    ),
    "something else as an external id": (
        {"context": {"externalIds": [["SECRET"], {"id": ["SECRET"]}]}},
        ["context.externalIds.*", "context.externalIds.*.id"],
    ),
    "a list as an id": ({"userId": ["SECRET"], "anonymousId": "a"}, ["userId"]),
    "a list as the group": ({"groupId": ["SECRET"]}, ["groupId"]),
    "traits within the context": ({"context": {"traits": {"ssn": "SECRET"}}}, ["context.traits"]),
}  # fmt: skip

MAIL, CALL = ({"id": each, "collection": "users", "encoding": "none"} for each in ("SECRET@example.org", "+46SECRET"))
AROUND |= {
    "an address as an external id": (
        {"context": {"externalIds": [{**MAIL, "type": "email"}, {**CALL, "type": "phone"}]}},
        ["context.externalIds.*"],
    ),
    "an address as the one external id": (
        {"context": {"externalIds": {**MAIL, "type": " Email "}}}, ["context.externalIds"],
    ),
    "somebody's words as the name of a tool": (
        {"integrations": {"SECRET, diabetic, +46701234567": True, "SECRET@example.org": {}}}, ["integrations.*"],
    ),
    "somebody's words as that of a purpose": (
        {"context": {"consent": {"categoryPreferences": {"SECRET: 19121212": True, "SECRET" * 11: False}}}},
        ["context.consent.categoryPreferences.*"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("more", "refused"), AROUND.values(), ids=AROUND)
def test_nothing_gets_around_an_agreement(more, refused):
    """Whatever part of a message it is put into; and the answer names the part, not the value."""
    intake = taken({"type": "identify", "userId": "u", **more}, "traits.city")
    assert "SECRET" not in str(intake) and places(intake) == refused and not intake.set_aside


leaves = st.sampled_from(["SECRET", "SECRET", None, True, 7])
keys = st.sampled_from(
    ["name", "id", "type", "version", "traits", "consent", "categoryPreferences", "library", "externalIds", "ip",
     "email", "city", "home", "CRM", "products", "price", "*", "a.b"]
)  # fmt: skip
nested = st.recursive(
    leaves, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=4), max_leaves=15
)
anything = st.dictionaries(
    st.sampled_from([*Message().fields, "writeKey", "diagnosis", "channel"]), nested, max_size=6
).flatmap(
    lambda more: st.sampled_from(["identify", "page", "track"]).map(lambda kind: {"type": kind, "userId": "u", **more})
)
FIELDS = ("traits.email", "traits.*.city", "properties.products.*.price")
MAY_SAY = re.compile(
    rf"({'|'.join(sorted({*Message().fields} - {'name', 'properties', 'traits', 'context', 'integrations'}))}"
    r"|traits\.email.*|traits\.[^/]*\.city.*|properties\.products\.[^/]*\.price.*"
    r"|context\.library\.(name|version)|context\.externalIds(\.[^/]*)?\.(id|type|collection|encoding))"
)


def said(value, path=""):
    """Where in it somebody's words stand."""
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for name, each in inner for place in said(each, f"{path}.{name}" if path else str(name))]
    return [path] if value == "SECRET" else []


@settings(max_examples=500, deadline=None)
@given(st.lists(anything | nested, max_size=3), anything)
def test_whatever_is_sent_only_what_is_agreed_on_says_anything(messages, beside):
    """In what is kept as received, in quarantine, and beside the messages; asked once more, nothing more goes."""
    arrival = source(Rules(agreement=agreement(*FIELDS))).arrival(DAY, False, SERVER)
    intake = take_in(Batch(messages, beside), arrival, POLICY, lambda: "m")
    kept = [json.loads(each.raw) for each in (*intake.accepted, *intake.set_aside)]
    assert len(kept) == len(messages) and not intake.failures
    for each in [*kept, dict(intake.shared)]:
        assert all(MAY_SAY.fullmatch(place) for place in said(each)), each
        assert within(each, agreement(*FIELDS)).message == each


SHAPELESS = [
    "SECRET", ["SECRET"], {"type": "identify", "userId": "u", "traits": [{"ssn": "SECRET"}]},
    {"type": "identify", "userId": "u", "traits": "SECRET"}, {"type": "track", "userId": "u", "event": ["SECRET"]},
    {"type": "identify", "userId": "u", "context": "SECRET"},
    {"type": "identify", "userId": "u", "integrations": ["SECRET", True]},
    {"type": "identify", "userId": "u", "timestamp": ["SECRET"]},
    {"type": "identify", "userId": "u", "context": {"consent": "SECRET"}},
    {"type": "identify", "userId": "u", "context": {"consent": {"categoryPreferences": {"ads": "SECRET"}}}},
]  # fmt: skip


@pytest.mark.parametrize("message", SHAPELESS, ids=str)
def test_what_is_no_message_is_set_aside_without_what_was_in_it(message):
    """It is wrong all the same, and of the same kind: an empty text stands for a text, an empty list for a list."""
    intake = taken(message, "traits.email")
    first = take_in(Batch([message], {}), source(Rules(), "first").arrival(DAY, False, SERVER), POLICY, lambda: "m")
    assert [each.code for each in intake.set_aside] == [each.code for each in first.set_aside] != []
    assert "SECRET" not in str(intake) and not intake.accepted


def test_what_integrations_and_consent_say_is_always_taken():
    """Where something may go, and what was agreed to."""
    message = {
        "type": "identify",
        "userId": "u",
        "integrations": {"All": False, "CRM": True},
        "context": {"consent": CONSENT},
    }
    found = body(taken(message, "traits.email"))
    assert found["integrations"] == {"All": False, "CRM": True} and found["consent"] == {"ads": False}


@pytest.mark.parametrize(
    "name", ["Braze Web (Actions)", "Customer.io", "C0002", "Marknadsföring/ads", "ads_eu", "Fo\u0308r"]
)
def test_names_of_tools_and_purposes_are_words(name):
    """Letters of any language, digits, and the signs that stand in such names."""
    consent = {"consent": {"categoryPreferences": {name: True}}}
    intake = taken({"type": "identify", "userId": "u", "integrations": {name: False}, "context": consent}, "traits.x")
    found = body(intake)
    assert found["integrations"] == {name: False} and found["consent"] == {name: True} and not intake.refused


@pytest.mark.parametrize("fields", [("traits.email", "traits.phone"), ("traits.*",)])
def test_addresses_as_external_ids_are_agreed_on_as_the_traits_that_they_are(fields):
    """Those of another kind are always taken."""
    externals = [
        {"id": value, "type": kind, "collection": "users", "encoding": "none"}
        for kind, value in (("email", "ada@example.org"), ("phone", "+46701234567"), ("crm", "7"))
    ]
    sent = {"type": "identify", "userId": "u", "context": {"externalIds": externals}}
    [found] = taken(sent, *fields).accepted
    assert found.identifiers[1:] == (("email", "ada@example.org"), ("phone", "+46701234567"), ("crm", "7"))
    [found] = taken(sent, "context.locale").accepted
    assert found.identifiers[1:] == (("crm", "7"),)
    [found] = taken({"type": "identify", "userId": "u"}, "traits.email", beside={"context": sent["context"]}).accepted
    assert found.identifiers[1:] == (("email", "ada@example.org"), ("crm", "7"))


def test_the_name_of_a_page_is_one_of_its_properties():
    found = body(taken({"type": "page", "userId": "u", "name": "Start"}, "properties.name"))
    assert found["properties"] == {"name": "Start"}


def test_a_rule_that_renames_does_not_carry_a_field_past_the_agreement():
    """It is asked for what a field is called when it comes, and for what it is called afterwards."""
    rename = {"cleaning": cleaning_of(1, {"rename": {"ssn": "traits.email", "traits.email": "traits.income"}})}
    intake = taken(
        {"type": "identify", "userId": "u", "ssn": "SECRET", "traits": {"email": "SECRET"}},
        "traits.email",
        rules=rename,
    )
    assert "SECRET" not in str(body(intake)) and places(intake) == ["ssn", "traits.income"]
    # What the message was received as is what had been agreed on.
    agreed = {"type": "identify", "userId": "u", "traits": {"mail": "a@example.org", "email": None}}
    rename = {"cleaning": cleaning_of(1, {"rename": {"traits.mail": "traits.email"}})}
    assert body(taken(agreed, "traits.mail", "traits.email", rules=rename))["traits"] == {"email": "a@example.org"}


def test_what_our_own_rules_set_is_not_the_partners_to_be_agreed_on():
    rules = {"cleaning": cleaning_of(1, {"default": {"properties.currency": "SEK"}})}
    intake = taken(
        {"type": "track", "event": "E", "userId": "u", "properties": {"revenue": 1}}, "properties.revenue", rules=rules
    )
    assert body(intake)["properties"] == {"revenue": 1, "currency": "SEK"} and not intake.refused


@pytest.mark.parametrize(
    ("fields", "ip", "client"),
    [(("traits.email",), False, False), (("context.ip",), True, False), (("context.userAgent",), False, True),
     (("context.*",), True, True)],
)  # fmt: skip
def test_the_connections_address_and_browser_are_looked_at_where_agreed(fields, ip, client):
    """And kept with what was received, or not, in the same way."""
    sender = Sender("203.0.113.9", "Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0", "keep")
    intake = taken({"type": "identify", "userId": "u"}, *fields, sender=sender)
    found, request = body(intake), request_of(intake)
    assert ("ip" in found["context"], "client" in found) == (ip, client)
    assert (request.address != "", request.agent != "") == (ip, client)


def test_what_a_batch_says_for_all_is_refused_by_name_too():
    """Once, and of no message."""
    beside = {"context": {"ip": "203.0.113.9", "locale": "sv"}, "integrations": {"CRM": ["SECRET"]}}
    intake = taken({"type": "identify", "userId": "u"}, "context.locale", beside=beside)
    assert set(intake.refused) == {Refusal(None, "context.ip"), Refusal(None, "integrations.CRM")}
    assert body(intake)["context"] == {"locale": "sv"} and "SECRET" not in str(intake)


COMPILING = 2
"""Names that are looked up once, when an agreement is compiled: whether it names a page's name."""
PATHS = [
    (("traits.*.city",), {"traits": {"home": {"city": "x", "street": "y"}, "work": {"city": "z"}, "plan": "p"}},
     {"traits": {"home": {"city": "x"}, "work": {"city": "z"}}}, ["traits.home.street", "traits.plan"]),
    (("properties.products.*.price",), {"properties": {"products": [{"price": 1, "sku": "a"}, {"price": 2}, "b"]}},
     {"properties": {"products": [{"price": 1}, {"price": 2}]}},
     ["properties.products.*.sku", "properties.products.*"]),
    (("properties.products",), {"properties": {"products": [{"price": 1}], "x": 1}},
     {"properties": {"products": [{"price": 1}]}}, ["properties.x"]),
    (("properties.*",), {"properties": {"a": {"b": [1]}, "c.d": 2}}, {"properties": {"a": {"b": [1]}, "c.d": 2}}, []),
    (("traits.crm_*", "traits.a?"), {"traits": {"crm_id": 1, "ab": 2, "abc": 3}}, {"traits": {"crm_id": 1, "ab": 2}},
     ["traits.abc"]),
    (("traits.a.b", "traits.*.c", "traits.a.d.*"), {"traits": {"a": {"b": 1, "c": 2, "d": {"e": 3}, "f": 4}}},
     {"traits": {"a": {"b": 1, "c": 2, "d": {"e": 3}}}}, ["traits.a.f"]),
    (("traits.a.b",), {"traits": {"a": "text"}}, {"traits": {}}, ["traits.a"]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message", "left", "refused"), PATHS, ids=str)
def test_a_field_is_a_path_of_names_and_a_star_is_any_name_or_each_of_a_list(fields, message, left, refused):
    """And what is agreed on is so with all that is in it."""
    found = within(message, agreement(*fields))
    assert (found.message, sorted(found.refused)) == (left, sorted(refused))


def test_an_agreement_is_compiled_once_and_a_field_is_looked_up_not_searched_for(monkeypatch):
    """A thousand fields and two thousand keys are two thousand look-ups, not two million comparisons."""
    long = agreement(*(f"traits.f{n}" for n in range(1_000)))
    compiled, compile_ = [], agreements._compiled.__wrapped__
    monkeypatch.setattr(agreements, "_compiled", cache(lambda fields: compiled.append(fields) or compile_(fields)))
    asked, below = [], agreements._below
    monkeypatch.setattr(agreements, "_below", lambda nodes, name: asked.append(len(nodes)) or below(nodes, name))
    for _ in range(3):
        found = within({"traits": {f"x{n}": 1 for n in range(2_000)} | {"f7": 1}}, long)
        assert found.message == {"traits": {"f7": 1}}
    assert len(compiled) == 1 and sum(asked) == 3 * 2_002 + COMPILING


def test_what_is_told_of_refused_fields_is_bounded():
    """However many there are, and however long their names: the answer must not be larger than what came."""
    name = "x" * 100_000
    found = within({"traits": {name: {f"k{n}": 1 for n in range(5_000)}}}, agreement("traits.*.city"))
    assert found.message == {"traits": {name: {}}}
    assert len(found.refused) == MOST_TOLD and all(len(each) <= LONGEST_PATH for each in found.refused)
