"""Standard Webhooks 1.0: what we sign, others can verify, and nothing else."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.activation.domain import signing
from shared.errors import SamlaError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def test_the_published_vector():
    """Secret, id, timestamp and body of the specification's example give its signature."""
    signed = signing.signature(signing.key_of(SECRET), MESSAGE, 1614265330, BODY)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_reference_package_verifies_our_headers():
    headers = signing.headers([signing.key_of(SECRET)], MESSAGE, now(), BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"test": 2432232314}


@pytest.mark.parametrize("change", ["body", "id", "timestamp", "secret"])
def test_the_reference_package_refuses_what_was_not_signed(change):
    """A changed body, id or time, or another secret: none verifies."""
    headers = signing.headers([signing.key_of(SECRET)], MESSAGE, now(), BODY)
    body, secret = BODY, SECRET
    if change == "body":
        body += b" "
    elif change == "id":
        headers["webhook-id"] = "msg_2"
    elif change == "timestamp":
        headers["webhook-timestamp"] = str(now() - 1)
    else:
        secret = signing.secret_of(b"x" * 24)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_while_a_secret_is_rotated_a_receiver_with_either_verifies():
    old, new = signing.secret_of(b"o" * 32), signing.secret_of(b"n" * 32)
    headers = signing.headers([signing.key_of(new), signing.key_of(old)], MESSAGE, now(), BODY)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)


def test_a_secret_is_shown_and_read_back():
    key = bytes(range(32))
    shown = signing.secret_of(key)
    assert shown.startswith("whsec_")
    assert signing.key_of(shown) == signing.key_of(shown.removeprefix("whsec_")) == key


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_!!!", "whsec_ü", "whsec_" + base64.b64encode(b"x" * 23).decode(),
     "whsec_" + base64.b64encode(b"x" * 65).decode()],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_without_being_repeated(secret):
    """Too short, too long, not base64: the error says what is wanted and does not show the secret."""
    with pytest.raises(SamlaError) as error:
        signing.key_of(secret)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(error.value)
