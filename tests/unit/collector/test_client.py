"""Who sends: user agents, bots, addresses; and what clients ask for before they send."""

import pytest

from services.collector.domain.client import Agents, Sender, agent_of, seen_by
from services.collector.domain.normalize import Arrival, Rejected, normalized
from services.collector.domain.pixel import GIF, message_of

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def test_a_browser_is_read():
    assert agent_of(CHROME).row() == {"browser": "Chrome 126", "os": "Windows 10"}
    assert agent_of(PHONE).row() == {"browser": "Mobile Safari 17", "os": "iOS 17", "device": "iPhone"}


@pytest.mark.parametrize("agent", [GOOGLE, "AhrefsBot/7.0", "Mozilla/5.0 (compatible; bingbot/2.0)"])
def test_a_bot_is_told(agent):
    assert agent_of(agent).bot


@pytest.mark.parametrize("agent", ["", "x", "\x00\ud800", "(" * 5_000, "Mozilla/5.0 " * 2_000])
def test_no_user_agent_is_too_odd_to_be_read(agent):
    assert agent_of(agent).bot in ("", "bot") or agent_of(agent).bot


def body(sender, **context):
    arrival = Arrival(1_700_000_000_000, "first", "web", False, True, True, sender)
    return normalized({"type": "track", "userId": "u", "event": "E", "context": context}, {}, arrival, "fresh")


def test_bots_are_set_apart_unless_the_source_keeps_them():
    found = body(Sender(), userAgent=GOOGLE)
    assert isinstance(found, Rejected) and found.code == "bot" and found.place == "context.userAgent"
    # Its reason stands in clear: it quotes nothing of what the sender said.
    assert all(word not in body(Sender(), userAgent="ada-lovelace-bot/1").why for word in ("ada", "lovelace"))
    assert body(Sender(bots="keep"), userAgent=GOOGLE)["client"]["bot"]
    assert "client" not in body(Sender())


def test_the_message_s_own_words_about_its_sender_go_before_the_connection_s():
    """A server that sends for a person says whose address and browser it was."""
    sender = Sender("198.51.100.7", CHROME, "keep")
    assert body(sender)["context"]["ip"] == "198.51.100.7"
    said = body(sender, ip="203.0.113.9", userAgent=PHONE)
    assert said["context"]["ip"] == "203.0.113.9" and said["client"]["device"] == "iPhone"


def test_an_address_that_may_not_be_kept_is_nowhere_in_the_body():
    for policy in ("drop", "truncate"):
        assert "203.0.113.9" not in str(body(Sender("203.0.113.9", "", policy), ip="203.0.113.9"))


def test_odd_contexts_are_left_as_they_are():
    context, agent = seen_by({"ip": {"a": 1}, "userAgent": 7}, Sender(), Agents())
    assert context == {"userAgent": 7} and agent is None


def test_a_pixel_s_parameters_are_fields_of_the_message():
    """Dots make fields of fields; the kind is the path's; the write key is no field."""
    query = [("writeKey", "k"), ("anonymousId", "a"), ("event", "Opened"), ("properties.mail.id", "m1"), ("type", "x")]
    assert message_of("track", query) == {
        "type": "track", "channel": "web", "anonymousId": "a", "event": "Opened", "properties": {"mail": {"id": "m1"}},
    }  # fmt: skip
    assert message_of("page", [("anonymousId", "a")])["name"] == "Unknown Page"
    assert message_of("track", [("a", "1"), ("a.b", "2"), (".", "3"), ("x." * 500, "4")])["a"] == "1"


def test_the_pixel_is_a_picture():
    assert GIF.startswith(b"GIF89a") and GIF.endswith(b"\x3b")


def test_a_pixel_says_what_was_agreed_to():
    """True and false as they are written; anything else stays what it is, and is set aside as not understood."""
    query = [("context.consent.categoryPreferences.ads", "false"), ("context.consent.categoryPreferences.mail", "true")]
    said = message_of("track", [("event", "E"), ("userId", "u"), ("properties.agreed", "true"), *query])
    assert said["context"]["consent"]["categoryPreferences"] == {"ads": False, "mail": True}
    assert said["properties"] == {"agreed": "true"}
    arrival = Arrival(1_700_000_000_000, "first", "web", False, True, True)
    assert normalized(said, {}, arrival, "fresh")["consent"] == {"ads": False, "mail": True}
    unclear = message_of("track", [("event", "E"), ("userId", "u"), (query[0][0], "no")])
    assert normalized(unclear, {}, arrival, "fresh").code == "bad_consent"
