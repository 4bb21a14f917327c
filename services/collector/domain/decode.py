"""From bytes to messages: decompression and JSON, bounded in every direction.

Facts: SDKs send JSON under any content type, and gzip with or without saying so.
"""

import zlib
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

BIGGEST_BODY: Final = 512_000
"""Bytes of a request, after decompression."""
MOST_EVENTS: Final = 2_500
MOST_EXPANDED: Final = 16 * BIGGEST_BODY
"""Bytes of what a batch says for all its messages, counted once for each: it becomes part of every event."""
SHARED: Final = ("context", "integrations")
"""What that is, besides when it was sent."""
DEEPEST: Final = 100
MOST_BRACKETS: Final = 100_000
"""Opening ones, those within texts too: half a kilobyte, once inflated, could make a quarter of a million lists."""
GZIP: Final = b"\x1f\x8b"

_FIRST_ROUNDED: Final = 2.0**63

Message = dict[str, Any]


class Refused(NamedTuple):
    """A request that cannot be taken, and why. Senders give up on 400 and retry most else."""

    status: int
    code: str
    message: str
    wait: float = 0.0
    """Seconds after which it may be sent again, where that is known."""


class Batch(NamedTuple):
    """The messages of a request, and what stands beside them."""

    messages: list[object]
    shared: Message
    """Batch-level fields: context, integrations, sentAt, writeKey."""


def inflated(body: bytes) -> bytes | Refused:
    """The body, decompressed if it is gzip (told by its magic bytes); never more than BIGGEST_BODY."""
    if len(body) > BIGGEST_BODY:
        return _too_large()
    if not body.startswith(GZIP):
        return body
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(body, BIGGEST_BODY + 1)
    except zlib.error:
        return Refused(400, "bad_gzip", "the body begins like gzip but cannot be decompressed")
    if len(text) > BIGGEST_BODY:
        return _too_large()
    if not stream.eof:
        return Refused(400, "bad_gzip", "the gzip body ends in the middle")
    return text


def _too_large() -> Refused:
    # 400 and not 413: the Node SDK gives up on 400 only.
    return Refused(400, "too_large", f"a request may hold {BIGGEST_BODY} bytes, decompressed")


def parsed(body: bytes) -> Message | Refused:
    """The body as a JSON object."""
    if not body.strip():
        return Refused(400, "empty_body", "the body is empty; send a JSON object")
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MOST_BRACKETS:
        return Refused(400, "too_many_parts", f"JSON may hold {MOST_BRACKETS} objects and lists; send fewer in each")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _unread(error)
    if brackets > DEEPEST and is_deeper(value, DEEPEST):
        return _TOO_DEEP
    if not isinstance(value, dict):
        return Refused(400, "not_an_object", "the body must be a JSON object")
    return value


def _unread(error: orjson.JSONDecodeError) -> Refused:
    if error.msg.startswith(_DEPTH):
        return _TOO_DEEP
    return Refused(400, "bad_json", f"the body is not JSON (line {error.lineno}, column {error.colno})")


_TOO_DEEP: Final = Refused(400, "too_deep", f"JSON may be nested {DEEPEST} deep")
_DEPTH: Final = "depth limit"
"""What the parser says of more than a thousand levels."""


def is_deeper(value: object, most: int) -> bool:
    """Whether objects and lists nest deeper than that. A level at a time, without recursion, and no level below the
    first that is too deep: brackets alone do not tell, since texts may hold them, too."""
    level = [value] if isinstance(value, _HOLDERS) else []
    for _ in range(most):
        level = [
            each
            for holder in level
            for each in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(each, _HOLDERS)
        ]
        if not level:
            return False
    return True


def holds_more(value: Any, most: int) -> bool:
    """Whether more values than that are in an object or list, at any depth. Ends where that is known."""
    level = [value]
    while level:
        most -= sum(map(len, level))
        if most < 0:
            return True
        level = [
            each
            for holder in level
            for each in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(each, _HOLDERS)
        ]
    return False


_HOLDERS: Final = (dict, list)


def batch_of(value: Message) -> Batch | Refused:
    """A /v1/batch body's messages."""
    messages = value.pop("batch", None)
    if not isinstance(messages, list):
        return Refused(400, "no_batch", "a batch needs `batch`, an array of messages")
    if not messages:
        return Refused(400, "empty_batch", "the batch is empty")
    if len(messages) > MOST_EVENTS:
        return Refused(400, "too_many", f"a batch may hold {MOST_EVENTS} messages")
    if len(messages) * shared_size(value) > MOST_EXPANDED:
        why = f"context and integrations of a batch count once for each message, {MOST_EXPANDED} bytes at most"
        return Refused(400, "too_large", f"{why}; send fewer messages in each")
    return Batch(messages, value)


def shared_size(shared: Mapping[str, Any]) -> int:
    """Bytes of what stands beside the messages of a batch and becomes part of each."""
    found = {name: shared[name] for name in SHARED if shared.get(name)}
    return len(orjson.dumps(found)) if found else 0


def single_of(kind: str, value: Message) -> Batch:
    """A single message, whose type its path says."""
    shared: Message = {name: value.pop(name) for name in ("sentAt", "writeKey") if name in value}
    value["type"] = kind
    return Batch([value], shared)


def write_key_of(authorization: str | None, body: Mapping[str, Any], query: Mapping[str, str]) -> str | None:
    """The write key: Basic (as the user), else from the body or the query."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "basic" and credentials:
        try:
            user = b64decode(credentials, validate=True).decode().partition(":")[0]
        except ValueError:
            user = ""
        if user:
            return user
    key = body.get("writeKey") or query.get("writeKey")
    return key if isinstance(key, str) else None


def has_long_number(body: bytes) -> bool:
    """Whether an integer may be in it that 64 bits cannot hold, and that was rounded when it was read; only then
    are the values worth a walk. (Infinities are refused by the parser.) Digits become 0, then it is one search."""
    return b"0" * LONGEST_NUMBER in body.translate(_DIGITS)


LONGEST_NUMBER: Final = 19
"""Digits; fewer always fit."""
_DIGITS: Final = bytes(ord("0") if each in b"0123456789" else 32 for each in range(256))


def rounded(value: object) -> bool:
    """Whether a number in it is so large that it was rounded when it was read."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
        elif isinstance(each, float) and abs(each) >= _FIRST_ROUNDED:
            return True
    return False
