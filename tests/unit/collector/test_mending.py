"""Rules that mend messages, and messages that are taken in again."""

import json
from copy import deepcopy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import Accepted, SetAside, take_in
from services.collector.domain.mending import checked, mended
from services.collector.domain.normalize import Arrival
from services.collector.domain.quarantine import Kept, again, unpacked
from services.collector.domain.source import Source
from shared.errors import SamlaError
from shared.policy import POLICY

SOURCE = Source("s", "web", "first", True, 0)
RECEIVED = 1_767_225_600_000
names = st.sampled_from(["a", "b", "c"])
values = st.recursive(st.integers() | st.text(max_size=3) | st.none(), lambda each: st.dictionaries(names, each))
messages = st.dictionaries(names, values)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
rules = st.fixed_dictionaries(
    {},
    optional={
        "rename": st.dictionaries(paths, paths, max_size=2),
        "drop": st.lists(paths, max_size=2),
        "set": st.dictionaries(paths, values, max_size=2),
        "default": st.dictionaries(paths, values, max_size=2),
    },
)


@pytest.mark.parametrize(
    ("rule", "after"),
    [
        ({"rename": {"user_id": "userId"}}, {"userId": "u", "traits": {"email": "e"}}),
        ({"rename": {"traits.email": "userId"}}, {"user_id": "u", "userId": "e", "traits": {}}),
        ({"drop": ["traits.email", "nothing.there"]}, {"user_id": "u", "traits": {}}),
        ({"set": {"traits.email": "x", "a.b": 1}}, {"user_id": "u", "traits": {"email": "x"}, "a": {"b": 1}}),
        ({"default": {"traits.email": "x", "type": "t"}}, {"user_id": "u", "traits": {"email": "e"}, "type": "t"}),
        ({"rename": {"user_id": "traits"}}, {"user_id": "u", "traits": {"email": "e"}}),
        ({"set": {"a": None}, "default": {"a": 1}}, {"user_id": "u", "traits": {"email": "e"}, "a": 1}),
    ],
)
def test_a_rule_does_what_it_says_and_nothing_else(rule, after):
    """A name that is taken is not overwritten by a rename; null takes none."""
    assert mended({"user_id": "u", "traits": {"email": "e"}}, checked(rule)) == after


@given(messages, rules)
def test_a_message_is_never_changed_in_place_and_no_rule_breaks(message, rule):
    before = deepcopy(message)
    result = mended(message, rule)
    assert message == before and isinstance(result, dict)


@given(messages, paths, paths)
def test_a_rename_loses_no_value(message, old, new):
    """Whatever stood somewhere stands somewhere afterwards."""

    def leaves(value):
        found = (x for y in value.values() for x in (leaves(y) if isinstance(y, dict) else [y]))
        return [each for each in found if each is not None]

    kept = mended(message, {"rename": {old: new}})
    assert sorted(map(repr, leaves(kept))) == sorted(map(repr, leaves(message)))


@given(messages, paths, values)
def test_a_default_overwrites_nothing(message, path, value):
    """It fills what is absent or null, and nothing that stands in its way is lost."""

    def paths_of(inner, at=()):
        for name, each in inner.items():
            if isinstance(each, dict) and each:
                yield from paths_of(each, (*at, name))
            elif each is not None and each != {}:
                yield (*at, name), each

    assert dict(paths_of(message)).items() <= dict(paths_of(mended(message, {"default": {path: value}}))).items()


@pytest.mark.parametrize(
    "rule",
    [None, [], {}, {"delete": ["a"]}, {"drop": {"a": 1}}, {"set": ["a"]}, {"drop": [""]}, {"drop": ["a..b"]},
     {"rename": {"a": 1}}, {"drop": [7]}, {"drop": ["a" * 501]}, {"drop": ["a"] * 201}, {"drop": [".".join("a" * 30)]}],
)  # fmt: skip
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(SamlaError):
        checked(rule)


def arrival(**more):
    return Arrival(RECEIVED, "first", "web", False, False, False, **more)


def set_aside(message, shared=None, **more):
    [found] = (intake := take_in(Batch([message], shared or {}), arrival(**more), POLICY, lambda: "fresh")).set_aside
    kept = Kept(raw=found.raw.decode(), shared=dict(intake.shared))
    return unpacked(kept.packed(), 2)


def test_a_mended_message_is_what_a_correct_sender_would_have_given():
    """With the context and the sending time of its batch, and the instant at which it came."""
    right = {
        "type": "track", "userId": "u", "event": "E", "messageId": "m1", "timestamp": "2025-12-31T23:00:00Z",
        "context": {"locale": "sv"},
    }  # fmt: skip
    wrong = {("name" if name == "event" else name): value for name, value in right.items()}
    shared = {"context": {"library": {"name": "x"}}, "sentAt": "2025-12-31T23:30:00Z", "writeKey": "secret"}
    kept = set_aside(wrong, shared)
    assert "writeKey" not in kept.shared
    found = again(kept, "entry", RECEIVED, SOURCE, {"rename": {"name": "event"}}, POLICY)
    [wanted] = take_in(Batch([right], shared), arrival(), POLICY, lambda: "fresh").accepted
    assert orjson.loads(found.raw) == right
    assert found._replace(raw=b"") == wanted


def test_without_a_message_id_taking_in_twice_gives_the_same_one():
    kept = set_aside({"userId": "u", "event": "E"})
    rule = {"set": {"type": "track"}}
    first, second = (again(kept, "entry", RECEIVED, SOURCE, rule, POLICY) for _ in range(2))
    assert isinstance(first, Accepted) and first == second
    assert again(kept, "another", RECEIVED, SOURCE, rule, POLICY).message_id != first.message_id


def test_what_is_still_wrong_says_why_and_what_was_cut_off_can_be_mended_by_hand_only():
    kept = set_aside({"type": "track", "userId": "u"})
    assert again(kept, "entry", RECEIVED, SOURCE, None, POLICY).code == "missing_field"
    cut = Kept(raw='{"type":"tra')
    assert again(cut, "entry", RECEIVED, SOURCE, {"set": {"type": "track"}}, POLICY).code == "unreadable"
    by_hand = Kept(raw='{"type":"tra', mended={"type": "track", "userId": "u", "event": "E"})
    assert isinstance(again(by_hand, "entry", RECEIVED, SOURCE, None, POLICY), Accepted)


def test_what_was_kept_in_the_first_form_is_read():
    """Before there was anything but the message."""
    assert unpacked(b'{"type":"track"}', 1).message == {"type": "track"}


def test_an_address_that_may_not_be_kept_is_not_in_quarantine_either():
    message = {"type": "track", "userId": "u", "context": {"ip": "203.0.113.77"}}
    shared = {"context": {"ip": "203.0.113.78"}}
    kept = set_aside(message, shared, sender=Sender(ip_policy="truncate"))
    assert json.loads(kept.raw)["context"]["ip"] == "203.0.113.0" and kept.shared["context"]["ip"] == "203.0.113.0"
    kept = set_aside(message, shared, sender=Sender(ip_policy="drop"))
    assert "203.0.113" not in kept.raw + str(kept.shared)


def test_a_message_that_fails_is_set_aside_again():
    assert isinstance(again(Kept(raw="7"), "e", RECEIVED, SOURCE, None, POLICY), SetAside)
