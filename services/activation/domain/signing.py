"""Signatures of Standard Webhooks 1.0: how a receiver knows that a message is ours and fresh."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

from shared.errors import SamlaError

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
LONGEST: Final = 64
NEW_SECRET_BYTES: Final = 32


def secret_of(key: bytes) -> str:
    """The form a secret is shown in: `whsec_` and base64 of 24 to 64 random bytes."""
    return PREFIX + base64.b64encode(_checked(key)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that sign, from a secret as it is shown (the prefix may be left out). Raises SamlaError."""
    try:
        return _checked(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except (binascii.Error, ValueError) as error:
        wanted = f"{PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes"
        raise SamlaError(f"a signing secret is {wanted}") from error


def _checked(key: bytes) -> bytes:
    if not SHORTEST <= len(key) <= LONGEST:
        raise SamlaError(f"a signing secret has {SHORTEST} to {LONGEST} bytes, not {len(key)}")
    return key


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """One signature: `v1,` and base64 of HMAC-SHA256 over `{message}.{timestamp}.{body}`."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of an attempt at `timestamp` (Unix seconds).

    Several keys give several signatures: while a secret is rotated, a receiver with either can verify.
    """
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(key, message, timestamp, body) for key in keys),
    }
