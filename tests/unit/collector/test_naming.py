"""Whose a quarantined message is: by kind, wherever it stands; never by a value that happens to be the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.cleaning import cleaning_of
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.identifiers import identifiers_of
from services.collector.domain.intake import take_in
from services.collector.domain.naming import is_of, names
from services.collector.domain.quarantine import Kept
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source
from shared import values as shared_values
from shared.policy import POLICY

SOURCE = Source("s", "web", "first", True, 0, region="SE")
EMAIL, USER, PHONE = ("email", "ada@example.org"), ("user", "ada-lovelace"), ("phone", "+46701234567")


def kept(message, **more):
    return Kept(raw=message if isinstance(message, str) else json.dumps(message), **more)


def cut(message):
    """As it is where it was too long: without its end."""
    return kept(json.dumps({**message, "end": "x" * 99})[:-50])


OWN = [
    ({"userId": "ada-lovelace"}, USER),
    ({"user_id": " ada-lovelace "}, USER),
    ({"UserID": ["ada-lovelace"]}, USER),
    ({"userId": 7}, ("user", "7")),
    ({"anonymousId": "a1"}, ("anonymous", "a1")),
    ({"type": "nonsense", "previousId": "a1"}, ("anonymous", "a1")),
    ({"traits": {"email": " ADA@Example.org"}}, EMAIL),
    ({"context": {"traits": {"email": "ada@example.org"}}}, EMAIL),
    ({"traits": {"phone": "070-123 45 67"}}, PHONE),
    ({"traits": {"phone": "+46 (0)70 123 45 67"}}, PHONE),
    ({"properties": {"email": "ada@example.org"}}, EMAIL),
    ({"data[email]": "ada@example.org", "type": "subscribe"}, EMAIL),
    ({"data": {"merges": {"EMAIL": "ada@example.org"}}}, EMAIL),
    ({"customer": {"email": "ada@example.org", "id": 5}}, EMAIL),
    ({"traits.email": "ada@example.org"}, EMAIL),
    ({"context": {"externalIds": [{"type": "crm", "id": "77"}]}}, ("crm", "77")),
    ({"context": {"externalIds": {"type": "crm", "id": 77, "collection": "users"}}}, ("crm", "77")),
    ([{"userId": "ada-lovelace"}], USER),
]


@pytest.mark.parametrize(("message", "identifier"), OWN, ids=str)
def test_what_a_message_is_known_by_is_found_whatever_its_shape(message, identifier):
    """For an export as for an erasure; also where it is in the place of what was sent, or beside its batch."""
    for entry in (kept(message), kept({}, mended=message)):
        assert is_of(entry, SOURCE, {identifier}) and names(entry, SOURCE, {identifier})
        other = (identifier[0], identifier[1] + "0")
        assert not is_of(entry, SOURCE, {other}) and not names(entry, SOURCE, {other})


def test_what_its_batch_says_of_everybody_counts():
    shared = {"context": {"traits": {"email": "ada@example.org"}}}
    assert is_of(kept({"type": "nonsense"}, shared=shared), SOURCE, {EMAIL})


def test_what_the_sources_rules_would_have_made_of_it_counts():
    """Renamed and cleaned, it would have had this identifier."""
    rules = Rules(cleaning=cleaning_of(1, {"rename": {"kund": "userId"}, "clean": {"userId": ["trim", "lower"]}}))
    entry = kept({"kund": " ADA-Lovelace"})
    assert is_of(entry, SOURCE._replace(rules=rules), {USER}) and not is_of(entry, SOURCE, {USER})


OTHERS = [
    ({"userId": "bob", "properties": {"quantity": 1, "page": "1"}}, ("user", "1")),
    ({"userId": "bob", "event": "event of eve", "properties": {"eve": "eve"}}, ("user", "eve")),
    ({"userId": "bob", "properties": {"plan": "gold"}}, ("user", "gold")),
    ({"anonymousId": "7"}, ("user", "7")),
    ({"userId": "null"}, ("user", "null")),
    ({"userId": "bob", "properties": {"userId": "ada-lovelace"}}, USER),
    ({"userId": "bob", "properties": {"friends": [{"userId": "ada-lovelace"}]}}, USER),
    ({"context": {"externalIds": [{"type": "shop", "id": "77"}]}}, ("crm", "77")),
]


@pytest.mark.parametrize(("message", "identifier"), OTHERS, ids=str)
def test_a_value_that_is_the_same_is_nobodys_identifier(message, identifier):
    """Nobody's export shows it, and nobody's erasure takes it."""
    assert not is_of(kept(message), SOURCE, {identifier}) and not names(kept(message), SOURCE, {identifier})


def test_an_export_shows_no_message_that_is_somebody_elses():
    """Though it speaks of somebody, in a place that is not what messages are known by."""
    for message in (
        {"userId": "bob", "properties": {"email": "ada@example.org"}},
        {"userId": "bob", "properties": {"note": "write to ada@example.org"}},
        [{"userId": "bob"}, {"userId": "ada-lovelace"}],
    ):
        assert not is_of(kept(message), SOURCE, {EMAIL, USER})


NAMED = [
    {"userId": "bob", "properties": {"note": "write to <ADA@example.org>, soon."}},
    {"userId": "bob", "properties": {"ada@example.org": True}},
    {"userId": "bob", "context": {"page": {"url": "https://x.org/?email=ada%40example.org&a=1"}}},
    {"userId": "bob", "properties": {"note": "mailto:ada@example.org"}},
    {"userId": "bob", "properties": {"note": "ring\n070-123 45 67!"}},
    {"userId": "bob", "properties": {"note": "0046 70 123 45 67"}},
    "ada@example.org has ordered",
    ["x", "ada@example.org"],
]


@pytest.mark.parametrize("message", NAMED, ids=str)
def test_an_erasure_finds_an_address_or_number_anywhere(message):
    """Inside a longer text, as a name, in an address of a page; also where the message was cut off."""
    assert names(kept(json.dumps(message)), SOURCE, {EMAIL, PHONE})
    if isinstance(message, dict):
        assert names(cut(message), SOURCE, {EMAIL, PHONE}) and not is_of(cut(message), SOURCE, {EMAIL, PHONE})


@pytest.mark.parametrize(
    "text",
    ["nada@example.org", "ada@example.org.uk", "x.ada@example.org", "ada@example.organic", "1070-123 45 678",
     "ada-lovelace-2", "x-ada-lovelace", "4670123456"],
)  # fmt: skip
def test_a_longer_word_is_another_one(text):
    for entry in (kept({"userId": "bob", "a": text}), cut({"userId": "bob", "a": text})):
        assert not names(entry, SOURCE, {EMAIL, PHONE, USER})


def test_of_what_was_cut_off_only_long_ids_are_found_and_only_by_an_erasure():
    """A short one could be any word: such an entry ends with its retention."""
    entry = cut({"type": "track", "userId": "eve", "anonymousId": "0f8fad5b-d9cb", "event": "event"})
    assert names(entry, SOURCE, {("anonymous", "0f8fad5b-d9cb")})
    for identifier in (("user", "eve"), ("user", "track"), ("anonymous", "0f8fad5b"), ("user", "d9cb")):
        assert not names(entry, SOURCE, {identifier})
    assert not is_of(entry, SOURCE, {("anonymous", "0f8fad5b-d9cb")})
    assert names(kept('{"a":"\\nada-lovelace\\t'), SOURCE, {USER})


def test_a_source_that_is_gone_has_no_region_and_no_rules():
    assert is_of(kept({"traits": {"phone": "+46701234567"}}), None, {PHONE})
    assert not is_of(kept({"traits": {"phone": "070-123 45 67"}}), None, {PHONE})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda each: (
        st.dictionaries(
            st.sampled_from(["userId", "traits", "context", "email", "phone", "externalIds", "data[email]", "", "."]),
            each,
        )
        | st.lists(each, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_whose_a_message_is_can_be_asked_of_any_message(message):
    """Nothing is too odd; and what the door would have taken for its identifiers is always found."""
    entry = kept(message)
    assert not names(entry, SOURCE, {("user", "nobody-at-all")}) and not is_of(entry, SOURCE, set())
    if isinstance(message, dict):
        parts = [message.get(name) if isinstance(message.get(name), dict) else {} for name in ("traits", "context")]
        found, _ = identifiers_of(message, *parts, region="SE")
        for kind, value in found:
            assert is_of(entry, SOURCE, {(kind, value)})


def test_what_the_door_takes_in_is_known_by_the_same():
    """The two agree on how a value is written."""
    message = {"type": "identify", "userId": " u1 ", "traits": {"email": "Ada@Example.org", "phone": "070-123 45 67"}}
    arrival = SOURCE.arrival(1_767_225_600_000, False, Sender())
    [taken] = take_in(Batch([message], {}), arrival, POLICY, lambda: "fresh").accepted
    assert all(is_of(kept(message), SOURCE, {each}) for each in taken.identifiers) and len(taken.identifiers) == 3


def test_rules_that_fail_on_a_message_keep_nobody_from_being_erased(monkeypatch):
    """Such a message is in quarantine for that very reason. What it says as it was sent counts all the same."""

    def broken(value):
        raise KeyError("unforeseen")

    monkeypatch.setitem(shared_values._MAKERS, "trim", ((), lambda options: broken))
    source = SOURCE._replace(rules=Rules(cleaning=cleaning_of(1, {"clean": {"traits.x": "trim"}})))
    entry = kept({"type": "identify", "userId": "eve", "traits": {"x": "boom", "email": "ada@example.org"}})
    for ask in (is_of, names):
        assert ask(entry, source, {("user", "eve")}) and ask(entry, source, {EMAIL})
        assert not ask(entry, source, {USER})
