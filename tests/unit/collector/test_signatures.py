"""Signatures of webhooks: of each tool as its documentation computes them, and anything else is refused."""

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.collector import dialects
from services.collector.domain.signatures import Webhook, is_signed, scheme_of
from tests.unit.collector.webhooks import SECRET, signed

NOW = 1_769_864_709
BODY = b'{"id": 1}'
HEADER = {"stripe": "stripe-signature", "shopify": "x-shopify-hmac-sha256", "typeform": "typeform-signature"}


def believed(tool, headers, body=BODY, now=NOW, secret=SECRET, query=None):
    return is_signed(Webhook(headers, query or {}, body), dialects.dialect(tool).scheme, secret, now)


def test_githubs_published_example():
    """docs.github.com, «Validating webhook deliveries»: secret, payload and signature."""
    scheme = scheme_of({"header": "X-Hub-Signature-256", "encoding": "hex", "prefix": "sha256="})
    given = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    webhook = Webhook({"x-hub-signature-256": given}, {}, b"Hello, World!")
    assert is_signed(webhook, scheme, "It's a Secret to Everybody", NOW)
    assert not is_signed(webhook._replace(body=b"Hello, World?"), scheme, "It's a Secret to Everybody", NOW)


def test_slacks_published_example():
    """docs.slack.dev, «Verifying requests from Slack»: the time stands in a header of its own."""
    scheme = scheme_of({
        "header": "X-Slack-Signature", "encoding": "hex", "prefix": "v0=", "time": "X-Slack-Request-Timestamp",
        "signed": "v0:{time}:{body}", "tolerance": 300,
    })  # fmt: skip
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    webhook = Webhook(headers, {}, body)
    assert is_signed(webhook, scheme, "8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618)
    assert not is_signed(webhook, scheme, "8f742231b10e8888abcd99yyyzzz85a5", 1_531_421_000)


def test_a_published_example_of_shopifys_signature():
    """SQLPage's documentation of `hmac`."""
    body = b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}'
    headers = {"x-shopify-hmac-sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="}
    assert believed("shopify", headers, body, secret="test-webhook-secret")


@pytest.mark.parametrize("tool", HEADER)
def test_who_knows_the_secret_is_believed_and_nobody_else(tool):
    headers = signed(tool, BODY, now=NOW)
    assert believed(tool, headers)
    assert not believed(tool, headers, secret="another")
    assert not believed(tool, headers, body=BODY + b" ")
    assert not believed(tool, {})
    assert not believed(tool, {HEADER[tool]: ""})


@pytest.mark.parametrize("tool", HEADER)
@given(st.data())
def test_a_signature_with_any_flipped_byte_is_refused(tool, data):
    """Wherever in the header, and whatever it becomes; v0 is none of ours, and left out."""
    text = signed(tool, BODY, now=NOW)[HEADER[tool]].partition(",v0=")[0]
    at, flip = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(1, 255))
    changed = text[:at] + chr(ord(text[at]) ^ flip) + text[at + 1 :]
    assert believed(tool, {HEADER[tool]: text}) and not believed(tool, {HEADER[tool]: changed})


@pytest.mark.parametrize("tool", HEADER)
@given(st.binary(max_size=100), st.integers(0, 99), st.integers(1, 255))
def test_a_body_with_any_flipped_byte_is_refused(tool, body, at, flip):
    assume(at < len(body))
    changed = bytes([*body[:at], body[at] ^ flip, *body[at + 1 :]])
    assert not believed(tool, signed(tool, body, now=NOW), changed)


@given(st.text(max_size=200))
def test_no_header_breaks_the_check(text):
    for tool, name in HEADER.items():
        assert not believed(tool, {name: text})


def test_stripes_time_is_signed_and_may_be_five_minutes_off():
    for off, wanted in ((0, True), (300, True), (-300, True), (301, False), (-301, False)):
        assert believed("stripe", signed("stripe", BODY, now=NOW - off)) is wanted
    [(name, text)] = signed("stripe", BODY, now=NOW - 1000).items()
    assert not believed("stripe", {name: text.replace(str(NOW - 1000), str(NOW))})


def test_while_stripes_secret_is_rolled_one_of_several_signatures_is_enough():
    def digest(secret):
        return hmac.new(secret.encode(), f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()

    header = f"t={NOW},v1={digest('old')},v1={digest(SECRET)}"
    assert believed("stripe", {"stripe-signature": header})
    assert not believed("stripe", {"stripe-signature": header.replace("v1=", "v0=")})
    many = ",".join([f"t={NOW}", *["v1=0"] * 100, f"v1={digest(SECRET)}"])
    assert not believed("stripe", {"stripe-signature": many})


def test_where_there_is_no_signature_the_address_holds_the_secret():
    assert believed("mailchimp", {}, query={"secret": SECRET})
    for query in ({}, {"secret": ""}, {"secret": SECRET + "x"}, {"secret": "\ud800"}, {"Secret": SECRET}):
        assert not believed("mailchimp", {}, query=query)


def test_a_header_that_is_signed_too_must_be_there():
    scheme = scheme_of({"header": "webhook-signature", "encoding": "base64", "prefix": "v1,",
                        "time": "webhook-timestamp", "signed": "{webhook-id}.{time}.{body}"})  # fmt: skip
    assert not is_signed(Webhook({"webhook-timestamp": "1"}, {}, BODY), scheme, SECRET, NOW)
