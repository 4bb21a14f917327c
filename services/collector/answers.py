"""Requests in, answers out: the few lines of ASGI that the door needs."""

import time
from collections.abc import Awaitable, Callable, Container, Mapping
from math import ceil
from typing import Any, Final

import orjson
from prometheus_client import Counter

from services.collector.domain import decode
from services.collector.domain.decode import Refused

RETRY_SECONDS: Final = 2.0
REQUESTS: Final = Counter("samla_collector_requests_total", "Requests by answer", ["status"])

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CORS: Final[Headers] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Retry-After, X-RateLimit-Reset, X-Correlation-Id"),
]
PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"86400"),
]
JSON: Final = (b"content-type", b"application/json")


async def body_of(scope: Scope, receive: Receive) -> bytes | Refused:
    """The whole body, never more of it than may be."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Refused(400, "cut_off", "the connection was closed in the middle of the body")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > decode.BIGGEST_BODY:
            return Refused(400, "too_large", f"a request may hold {decode.BIGGEST_BODY} bytes")
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def refuse(send: Send, refused: Refused) -> None:
    """An error, as SDKs read it; with 429 and 503 when to come again."""
    headers: Headers = [JSON]
    if refused.status in (429, 503):
        wait = ceil(refused.wait or RETRY_SECONDS)
        headers += [(b"retry-after", b"%d" % wait), (b"x-ratelimit-reset", b"%d" % (time.time() + wait))]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="samla"'))
    told = {"success": False, "code": refused.code, "message": refused.message}
    await plain(send, refused.status, orjson.dumps(told), headers)


async def as_json(send: Send, status: int, value: object) -> None:
    """A value as JSON."""
    await plain(send, status, orjson.dumps(value))


async def preflight(scope: Scope, send: Send) -> None:
    """Browsers may send whatever headers they ask for."""
    asked = dict(scope["headers"]).get(b"access-control-request-headers", b"authorization, content-type")
    await plain(send, 204, b"", [*PREFLIGHT, (b"access-control-allow-headers", asked)])


def for_page(scope: Scope, send: Send, allowed: Callable[[], Container[str]]) -> Send:
    """Pages of allowed origins may send cookies and read the answers: those are told by name, others get the `*`
    that goes without cookies. Asked when the answer is there, since the origins may have been read by then only."""
    origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
    if not origin:
        return send

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (b"vary", b"Origin")]
            if origin.decode("latin-1") in allowed():
                headers = [each for each in headers if each[0] != b"access-control-allow-origin"]
                headers += [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def plain(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """One answer, counted."""
    REQUESTS.labels(str(status)).inc()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or [JSON]), length, *CORS]})
    await send({"type": "http.response.body", "body": body})
