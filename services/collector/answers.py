"""Requests in, answers out: the few lines of ASGI that the door needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import cache
from math import ceil
from typing import Any, Final

import orjson
from prometheus_client import Counter

from services.collector.domain import decode
from services.collector.domain.decode import Refused

RETRY_SECONDS: Final = 2.0
BODY_SECONDS: Final = 20.0
"""A phone on a bad line sends 512 kB in that time."""
MOST_READING_BYTES: Final = 256_000_000
REQUESTS: Final = Counter("samla_collector_requests_total", "Requests by answer", ["status"])

UNAVAILABLE: Final = Refused(503, "unavailable", "nothing was taken in; send it again soon")
DISABLED: Final = Refused(404, "source_disabled", "this source is disabled")

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
    """The whole body: never more of it than may be, and not for longer than a slow line takes."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= decode.BIGGEST_BODY else _TOO_LARGE
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _BODIES.rest_of(message, receive)
    except TimeoutError:
        return Refused(408, "too_slow", f"a request's body must come within {BODY_SECONDS:g} s")


_TOO_LARGE: Final = Refused(400, "too_large", f"a request may hold {decode.BIGGEST_BODY} bytes")
_OVERLOADED: Final = Refused(503, "overloaded", "too much is being read; send it again soon")


class Bodies:
    """Bodies that come piece by piece, and what they may hold in memory all together."""

    def __init__(self, most: int = MOST_READING_BYTES) -> None:
        self.left = most

    async def rest_of(self, message: Mapping[str, Any], receive: Receive) -> bytes | Refused:
        """The body of which this is the first piece."""
        body = bytearray()
        try:
            while message["type"] == "http.request":
                chunk = message.get("body", b"")
                body += chunk
                self.left -= len(chunk)
                if len(body) > decode.BIGGEST_BODY:
                    return _TOO_LARGE
                if self.left < 0:
                    return _OVERLOADED
                if not message.get("more_body"):
                    return bytes(body)
                message = await receive()
            return Refused(400, "cut_off", "the connection was closed in the middle of the body")
        finally:
            self.left += len(body)


_BODIES: Final = Bodies()


def share_out(processes: int) -> None:
    """So many processes read bodies: each has its share of what they may hold in memory."""
    _BODIES.left = MOST_READING_BYTES // processes


async def refuse(send: Send, refused: Refused) -> None:
    """An error, as SDKs read it; with 429 and 503 when to come again."""
    headers: Headers = [JSON]
    if refused.status in (429, 503):
        wait = ceil(refused.wait or RETRY_SECONDS)
        headers += [(b"retry-after", b"%d" % wait), (b"x-ratelimit-reset", b"%d" % (time.time() + wait))]
    if refused.status == 408:
        # The rest of its body may go on coming, a byte now and then.
        headers.append((b"connection", b"close"))
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


@cache
def _counter(status: int) -> Any:
    return REQUESTS.labels(str(status))


async def plain(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """One answer, counted."""
    _counter(status).inc()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or [JSON]), length, *CORS]})
    await send({"type": "http.response.body", "body": body})
