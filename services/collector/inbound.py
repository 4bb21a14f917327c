"""`/v1/inbound/DIALECT/SOURCE`: webhooks of tools that speak dialects of their own (docs/inbound.md).

A webhook goes the way of every other request, once its signature is right and it has become messages.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import orjson
import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from services.collector import answers
from services.collector.answers import Receive, Scope, Send
from services.collector.connections import INBOUND, Connection, ConnectionStore
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.dialect import Dialect, translated
from services.collector.domain.intake import Intake
from services.collector.domain.signatures import Webhook, is_signed
from services.collector.domain.source import Source
from services.collector.writer import Outcome
from shared.errors import SamlaError

FRESH_SECONDS: Final = 5.0
"""How soon a connection that was ended is refused; a source that was disabled, too, and so before its write key is."""
MOST_KNOWN: Final = 10_000
LONGEST_NAME: Final = 100
"""Characters of a source's or a dialect's name in an address."""
MOST_FIELDS: Final = 100
"""Parameters of a webhook's address."""
IGNORED: Final = Counter("samla_inbound_ignored_total", "Webhooks that say nothing to us", ["dialect", "reason"])
REFUSED: Final = Counter("samla_inbound_refused_total", "Webhooks that were not taken", ["dialect", "reason"])

Taken = tuple[Outcome, Intake, str]
Take = Callable[[Source, Batch, bytes, int, Scope, Mapping[bytes, bytes]], Awaitable[Taken | Refused]]
"""Takes a source's messages in: (source, messages, what they take up, received, scope, headers)."""
Tell = Callable[[Send, Outcome, Intake, str, bool], Awaitable[None]]
Note = Callable[..., None]

logger = structlog.get_logger(__name__)


class Heard(NamedTuple):
    """A webhook that is answered, and of which nothing is taken in."""

    answer: dict[str, object]


class Inbound:
    """The door for webhooks. Until `open` it answers 503."""

    def __init__(self, take: Take, tell: Tell, note: Note) -> None:
        self._take = take
        self._tell = tell
        self._note = note
        self._store: ConnectionStore | None = None
        self._known: dict[str, tuple[float, Connection | None]] = {}

    def open(self, store: ConnectionStore) -> None:
        """MongoDB is there."""
        self._store = store

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        received = time.time_ns() // 1_000_000
        raw = await answers.body_of(scope, receive)
        answer = raw if isinstance(raw, Refused) else await self._answer(scope, raw, received)
        if isinstance(answer, Refused):
            return await answers.refuse(send, answer)
        if isinstance(answer, Heard):
            return await answers.as_json(send, 200, answer.answer)
        # What is set aside is kept in quarantine: a tool that was told of an error would send it for ever.
        return await self._tell(send, *answer, False)

    async def _answer(self, scope: Scope, raw: bytes, received: int) -> Taken | Heard | Refused:
        connection = await self._connection(scope["path"])
        if isinstance(connection, Refused):
            return connection
        source, dialect = connection.source, connection.dialect
        webhook = webhook_of(scope, raw)
        if not any(is_signed(webhook, dialect.scheme, each, received // 1000) for each in connection.good(received)):
            return self._refused(source, dialect, received, _UNSIGNED)
        if scope["method"] == "GET":
            return Heard({"success": True}) if dialect.probe else Refused(405, "method_not_allowed", "use POST")
        found = translated(dialect, webhook)
        if isinstance(found, Refused):
            return self._refused(source, dialect, received, found)
        if found.ignored:
            IGNORED.labels(dialect.name, found.ignored).inc()
            self._note(source, received)
            return Heard({"success": True, "ignored": found.ignored, "topic": found.topic})
        # Both the numbers that were sent and the size of what they became are to be looked at.
        text = raw + b"\n" + orjson.dumps(found.messages)
        return await self._take(source, Batch(list(found.messages), {}), text, received, scope, dict(scope["headers"]))

    def _refused(self, source: Source, dialect: Dialect, received: int, refused: Refused) -> Refused:
        REFUSED.labels(dialect.name, refused.code).inc()
        self._note(source, received, refused=1)
        return refused

    async def _connection(self, path: str) -> Connection | Refused:
        name, _, source = path.rstrip("/").removeprefix(INBOUND).partition("/")
        if self._store is None:
            return answers.UNAVAILABLE
        if len(name) > LONGEST_NAME or len(source) > LONGEST_NAME:
            return _NOT_CONNECTED
        at, connection = self._known.get(f"{source}/{name}", (float("-inf"), None))
        if time.monotonic() - at > FRESH_SECONDS:
            try:
                connection = await asyncio.to_thread(self._store.find, source, name)
            except (PyMongoError, SamlaError) as error:
                # What stands in the address may be anything; only an id that was found before is one.
                known = connection.source.id if connection else "unknown"
                logger.warning("a connection cannot be read", source=known, error=type(error).__name__)
                return answers.UNAVAILABLE
            self._remember(f"{source}/{name}", connection)
        if connection is None:
            return _NOT_CONNECTED
        if not connection.source.enabled:
            return answers.DISABLED
        return connection

    def _remember(self, key: str, connection: Connection | None) -> None:
        # The latest stand last: who makes names up does not make those be forgotten that are asked for.
        self._known.pop(key, None)
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = (time.monotonic(), connection)


def webhook_of(scope: Scope, raw: bytes) -> Webhook:
    """The request, as signatures and dialects look at it."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=MOST_FIELDS)
    except ValueError:
        pairs = []
    return Webhook(headers, dict(pairs), raw)


_UNSIGNED: Final = Refused(401, "bad_signature", "not signed with this connection's secret, or too long ago")
_NOT_CONNECTED: Final = Refused(404, "not_connected", "no source is connected here; see `samla source connect`")
