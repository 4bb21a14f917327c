"""How a tool signs its webhooks: data, and whether a webhook is signed so. Compared in constant time.

    {"header": "X-Shopify-Hmac-Sha256", "encoding": "base64"}
    {"header": "Typeform-Signature", "encoding": "base64", "prefix": "sha256="}
    {"header": "Stripe-Signature", "encoding": "hex", "pairs": {"time": "t", "signature": "v1"},
     "signed": "{time}.{body}", "tolerance": 300}
    {"header": "X-Slack-Signature", "encoding": "hex", "prefix": "v0=", "time": "X-Slack-Request-Timestamp",
     "signed": "v0:{time}:{body}", "tolerance": 300}
    {"query": "secret"}

A signature is an HMAC (`hash`: sha256 where nothing is said, or sha512) under the secret over `signed`, where `{body}`
are the bytes as they were sent, `{time}` the time (Unix seconds) and `{Any-Header}` a header. `pairs`: the header is a
list of `name=value`, in which there may be several signatures: one that is right is enough. `tolerance`: how many
seconds the time may be off. `query`: there is no signature, the secret itself is a parameter of the address.
"""

import base64
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from shared.errors import SamlaError

ENCODINGS: Final = ("hex", "base64")
HASHES: Final = ("sha256", "sha512")
NAMES: Final = ("header", "encoding", "hash", "prefix", "pairs", "time", "signed", "tolerance")
MOST_SIGNATURES: Final = 16
"""In one header; more are not looked at."""
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z0-9-]+)\}")


class Webhook(NamedTuple):
    """A request as a tool sends it."""

    headers: Mapping[str, str]
    """By name in lower case."""
    query: Mapping[str, str]
    body: bytes


class Scheme(NamedTuple):
    """How a tool signs."""

    query: str = ""
    header: str = ""
    encoding: str = "hex"
    hash: str = "sha256"
    prefix: str = ""
    pairs: tuple[str, str] | None = None
    """Names of (time, signature) within the header."""
    time: str = ""
    """The header that holds the time."""
    signed: str = "{body}"
    tolerance: int = 0
    """Seconds; 0: however old."""


def scheme_of(given: object) -> Scheme:
    """The scheme. Raises SamlaError that says what is wrong."""
    if not isinstance(given, dict):
        raise SamlaError("signature: must be an object with header or query")
    if "query" in given:
        if set(given) != {"query"} or not _is_name(given["query"]):
            raise SamlaError("signature: query is the name of the parameter that holds the secret, and stands alone")
        return Scheme(query=given["query"])
    if unknown := set(given) - set(NAMES):
        raise SamlaError(f"signature: knows {', '.join(NAMES)}; not {min(unknown)}")
    if not _is_name(given.get("header")):
        raise SamlaError("signature: header is the name of the header that holds the signature")
    made = Scheme(**{**given, "header": given["header"].lower(), "pairs": _pairs(given.get("pairs"))})
    return _checked(made._replace(time=str(made.time).lower()))


def _checked(scheme: Scheme) -> Scheme:
    for name, allowed in (("encoding", ENCODINGS), ("hash", HASHES)):
        if getattr(scheme, name) not in allowed:
            raise SamlaError(f"signature: {name} is one of {', '.join(allowed)}")
    if not isinstance(scheme.prefix, str) or not isinstance(scheme.signed, str) or "{body}" not in scheme.signed:
        raise SamlaError("signature: prefix and signed are texts, and {body} is signed")
    if not isinstance(scheme.tolerance, int) or isinstance(scheme.tolerance, bool) or scheme.tolerance < 0:
        raise SamlaError("signature: tolerance is a number of seconds")
    has_time = bool(scheme.time) or scheme.pairs is not None
    if (scheme.tolerance or "{time}" in scheme.signed) and not has_time:
        raise SamlaError("signature: say where the time stands, in `time` (a header) or in `pairs`")
    if scheme.tolerance and "{time}" not in scheme.signed:
        raise SamlaError("signature: a time that is not signed proves nothing; put {time} into `signed`")
    return scheme


def _pairs(given: object) -> tuple[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or set(given) != {"time", "signature"} or not all(map(_is_name, given.values())):
        raise SamlaError('signature: pairs are like {"time": "t", "signature": "v1"}')
    return given["time"], given["signature"]


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= 100
        and not value.strip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    )


def is_signed(webhook: Webhook, scheme: Scheme, secret: str, now: int) -> bool:
    """Whether who sent it knows the secret. `now`: Unix seconds."""
    key = secret.encode()
    if scheme.query:
        return hmac.compare_digest(webhook.query.get(scheme.query, "").encode(errors="replace"), key)
    header = webhook.headers.get(scheme.header, "")
    written, signatures = _parts(header, scheme, webhook.headers)
    if scheme.tolerance and not _is_fresh(written, now, scheme.tolerance):
        return False
    signed = _signed(webhook, scheme.signed, written)
    if signed is None:
        return False
    wanted = (scheme.prefix + _encoded(hmac.digest(key, signed, scheme.hash), scheme.encoding)).encode()
    # What was sent is compared as it was written: other writings of the same bytes are not accepted.
    return any(hmac.compare_digest(each.encode("latin-1", "replace"), wanted) for each in signatures)


def _parts(header: str, scheme: Scheme, headers: Mapping[str, str]) -> tuple[str, list[str]]:
    """(the time as it is written, the signatures)."""
    if scheme.pairs is None:
        return headers.get(scheme.time, ""), [header]
    pairs = list(_split(header))
    time, signature = scheme.pairs
    written = next((value for name, value in pairs if name == time), "")
    return written, [value for name, value in pairs if name == signature][:MOST_SIGNATURES]


def _split(header: str) -> Iterator[tuple[str, str]]:
    for each in header.split(","):
        name, _, value = each.strip().partition("=")
        yield name, value


def _is_fresh(written: str, now: int, tolerance: int) -> bool:
    return written.isascii() and written.isdigit() and len(written) < 15 and abs(now - int(written)) <= tolerance


def _signed(webhook: Webhook, form: str, written: str) -> bytes | None:
    """What must have been signed; None where a part of it is missing."""
    pieces = _PLACEHOLDER.split(form)
    whole = [pieces[0].encode()]
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        value = _part(webhook, name, written)
        if not value and name != "body":
            return None
        whole += [value, text.encode()]
    return b"".join(whole)


def _part(webhook: Webhook, name: str, written: str) -> bytes:
    if name == "body":
        return webhook.body
    text = written if name == "time" else webhook.headers.get(name.lower(), "")
    return text.encode("latin-1", "replace")


def _encoded(digest: bytes, encoding: str) -> str:
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
