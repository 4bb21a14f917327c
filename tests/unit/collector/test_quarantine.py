"""What the id of a quarantined message follows from: what is sent again is one, what only says the same is two."""

import json

import pytest

from services.collector.domain.intake import SetAside
from services.collector.domain.quarantine import identities
from services.collector.domain.raw import Request

NAMED = json.dumps({"type": "track", "userId": "u", "messageId": "m"}).encode()
NAMELESS = json.dumps({"type": "track", "userId": "u"}).encode()
BESIDE = Request(shared={"context": {"a": 1, "b": 2}, "sentAt": "2025-01-01T00:00:00Z"})


def identity(text, request=BESIDE, agreement="", correlation="c", at=0):
    [found] = identities([SetAside(at, "code", "", "why", text)], request, agreement, correlation)
    return found


def test_what_has_a_message_id_is_one_whenever_and_by_whichever_way_it_comes():
    again = Request(shared={"sentAt": "2025-01-01T00:00:09Z", "context": {"b": 2, "a": 1}}, exact=True)
    assert identity(NAMED) == identity(NAMED, again, correlation="d", at=7)


@pytest.mark.parametrize("text", [NAMELESS, NAMED[:-1], b'{"messageId": 7}', b'{"messageId": ""}', b"[]", b"null"])
def test_what_has_none_that_can_be_read_is_one_within_its_request_only(text):
    """By which of its messages it is."""
    assert identity(text) == identity(text)
    assert len({identity(text), identity(text, correlation="d"), identity(text, at=1)}) == 3


@pytest.mark.parametrize("text", [NAMED, NAMELESS])
def test_whatever_stands_beside_it_makes_another_of_it(text):
    """But for when it was sent."""
    beside = [
        Request(), Request(shared={"context": {"a": 1}}), Request(shared={"integrations": {"All": False}}),
        Request(gpc=True), Request(address="203.0.113.0"), Request(agent="Agent"),
    ]  # fmt: skip
    found = {identity(text, each) for each in beside} | {identity(text, Request(), "agreement")}
    assert len(found) == len(beside) + 1
    assert identity(text) != identity(text + b" ")
