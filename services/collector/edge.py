"""The collector's HTTP door: a small ASGI app on uvicorn. `python -m services.collector.edge`

Every request is decoded and sorted here, and answered when the writer thread has made it durable. What a
client must be told is in contracts/collector.py; which paths there are, below.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from pymongo.errors import PyMongoError

from contracts.tracking import KINDS
from services.collector.domain import decode
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import Intake, take_in
from services.collector.domain.normalize import Arrival
from services.collector.sources import SourceTable
from services.collector.store import QuarantineStore, Source, SourceStore
from services.collector.writer import Appender, Outcome, Work, Writer
from shared import logs
from shared.config import Settings
from shared.errors import SamlaError, SettingsError
from shared.keyring import new_id
from shared.policy import POLICY
from shared.runtime import Runtime

SINGLE: Final = {f"/v1/{kind}": kind for kind in KINDS} | {f"/v1/{kind[0]}": kind for kind in KINDS}
"""Path -> kind; /v1/t is what the browser SDK sends for track."""
BATCH: Final = frozenset({"/v1/batch", "/v1/import", "/v1/b"})
SDK_METRICS: Final = "/v1/m"
PROJECTS: Final = "/v1/projects/"
RETRY_SECONDS: Final = b"2"
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than SDKs and proxies keep an idle connection: who closes it first must be them, or a request is sent
into a connection that is just being closed."""
SWITCH_SECONDS: Final = 0.001
"""How long a thread may keep the interpreter while another waits: the writer must not starve."""

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
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),
]
JSON: Final = (b"content-type", b"application/json")
DONE: Final = b'{"success":true}'

logger = structlog.get_logger("samla.edge")


class Edge:
    """The ASGI app. It starts without MongoDB, and answers 503 until it is there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runtime: Runtime | None = None
        self._writer: Writer | None = None
        self._sources: SourceTable | None = None
        self._opening = threading.Thread(target=self._open, name="opening", daemon=True)

    def _open(self) -> None:
        """Connects, however long it takes."""
        try:
            runtime = Runtime.open(self._settings, "collector", joins=False)
        except SamlaError as error:
            logger.error("the edge cannot start", why=str(error))
            # uvicorn ends as if it had been asked to; the process's exit code says that it was not.
            self.failed = True
            return signal.raise_signal(signal.SIGTERM)
        sources, quarantine = SourceStore(runtime.db), QuarantineStore(runtime.db, runtime.keyring)
        sources.setup()
        quarantine.setup()
        self._writer = Writer(Appender(runtime.log, runtime.keyring, quarantine), self._tell)
        self._writer.start()
        self._sources = SourceTable(sources.by_key)
        self._runtime = runtime
        logger.info("open", port=self._settings.collector_port)
        return None

    failed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            return None
        try:
            await self._route(scope, receive, send)
        except Exception as error:
            logger.error("a request failed", error=type(error).__name__)
            await _refuse(send, Refused(500, "internal", "the request failed within; it may be sent again"))
        return None

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loop = asyncio.get_running_loop()
                self._opening.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self._close)
                return await send({"type": "lifespan.shutdown.complete"})

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.stop(seconds=20)
        if self._runtime is not None:
            self._runtime.close()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"].rstrip("/")
        kind = SINGLE.get(path)
        if method == "POST" and (kind or path in BATCH):
            return await self._collect(scope, kind, receive, send)
        if method == "OPTIONS":
            return await _preflight(scope, send)
        if method == "POST" and path == SDK_METRICS:
            await _body(scope, receive)
            return await _answer(send, 200, DONE)
        if method == "GET":
            return await self._look(path, send)
        if kind or path in BATCH:
            return await _refuse(send, Refused(405, "method_not_allowed", "use POST"))
        return await _refuse(send, Refused(404, "not_found", "there is nothing at this path; see the README"))

    # Collecting

    async def _collect(self, scope: Scope, kind: str | None, receive: Receive, send: Send) -> None:
        received = time.time_ns() // 1_000_000
        raw = await _body(scope, receive)
        if isinstance(raw, Refused):
            return await _refuse(send, raw)
        headers = dict(scope["headers"])
        found = decoded(raw, kind, headers.get(b"authorization"), scope["query_string"])
        if isinstance(found, Refused):
            return await _refuse(send, found)
        batch, write_key, text = found
        source = await self._source(write_key)
        if isinstance(source, Refused):
            return await _refuse(send, source)
        arrival = Arrival(
            received=received,
            party=source.party,
            source_name=source.name,
            gpc=headers.get(b"sec-gpc") == b"1",
            sized=len(text) <= decode.BIGGEST_EVENT,
            exact=not decode.has_long_number(text),
        )
        intake = take_in(batch, arrival, POLICY, new_id)
        correlation = new_id()
        outcome = await self._written(source, received, correlation, intake, len(text))
        return await _tell(send, outcome, intake, kind is not None, correlation)

    async def _source(self, write_key: str | None) -> Source | Refused:
        if write_key is None:
            return Refused(401, "no_write_key", "send the source's write key: HTTP Basic user, or writeKey in the body")
        table = self._sources
        if table is None:
            return _UNAVAILABLE
        if table.stale(write_key):
            try:
                await asyncio.to_thread(table.refresh, write_key)
            except PyMongoError:
                if not table.ready:
                    return _UNAVAILABLE
        source = table.known(write_key)
        if source is None:
            return Refused(401, "unknown_write_key", "no source has this write key; see `samla source create`")
        if not source.enabled:
            return Refused(404, "source_disabled", "this source is disabled")
        return source

    async def _written(self, source: Source, received: int, correlation: str, intake: Intake, size: int) -> Outcome:
        answer = self._loop.create_future()
        work = Work(source.id, received, correlation, intake, size, answer)
        if self._writer is None or not self._writer.submit(work):
            return Outcome.UNAVAILABLE
        return await answer

    def _tell(self, group: list[tuple[Work, Outcome]]) -> None:
        """Called in a writer's thread: one wake-up of the loop for all of a group."""
        self._loop.call_soon_threadsafe(_settle, group)

    # Looking

    async def _look(self, path: str, send: Send) -> None:
        if path == "/health":
            return await self._health(send)
        if path == "/metrics":
            return await _answer(send, 200, generate_latest(), [(b"content-type", CONTENT_TYPE_LATEST.encode())])
        if path.startswith(PROJECTS) and path.endswith("/settings"):
            return await self._project(path.removeprefix(PROJECTS).removesuffix("/settings"), send)
        return await _refuse(send, Refused(404, "not_found", "there is nothing at this path; see the README"))

    async def _health(self, send: Send) -> None:
        try:
            if self._runtime is None:
                raise PyMongoError
            await asyncio.to_thread(self._runtime.ping)
        except PyMongoError:
            return await _json(send, 503, {"status": "unavailable", "service": "edge"})
        return await _json(send, 200, {"status": "ok", "service": "edge"})

    async def _project(self, write_key: str, send: Send) -> None:
        """What browser and mobile SDKs fetch at their start; without it they send nothing."""
        source = await self._source(write_key)
        if isinstance(source, Refused):
            return await _refuse(send, source)
        host = f"127.0.0.1:{self._settings.collector_port}/v1"
        segment = {"apiKey": write_key, "apiHost": host, "protocol": "http"}
        return await _json(send, 200, {"integrations": {"Segment.io": segment}, "plan": {}})


def decoded(
    raw: bytes, kind: str | None, authorization: bytes | None, query: bytes
) -> tuple[Batch, str | None, bytes] | Refused:
    """(messages, write key, the JSON text) of a request's body."""
    text = decode.inflated(raw)
    if isinstance(text, Refused):
        return text
    value = decode.parsed(text)
    if isinstance(value, Refused):
        return value
    credentials = authorization.decode("latin-1") if authorization else None
    write_key = decode.write_key_of(credentials, value, dict(parse_qsl(query.decode("latin-1"))) if query else {})
    batch = decode.single_of(kind, value) if kind else decode.batch_of(value)
    return batch if isinstance(batch, Refused) else (batch, write_key, text)


_UNAVAILABLE: Final = Refused(503, "unavailable", "nothing was taken in; send it again soon")


def _settle(group: list[tuple[Work, Outcome]]) -> None:
    for work, outcome in group:
        if not work.waiting.done():
            work.waiting.set_result(outcome)


async def _body(scope: Scope, receive: Receive) -> bytes | Refused:
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


async def _tell(send: Send, outcome: Outcome, intake: Intake, single: bool, correlation: str) -> None:
    extra = [(b"x-correlation-id", correlation.encode())]
    if outcome is Outcome.UNAVAILABLE:
        return await _refuse(send, _UNAVAILABLE)
    if outcome is Outcome.FAILED:
        return await _refuse(send, Refused(500, "internal", f"not written; tell us of {correlation}"))
    if not intake.set_aside:
        return await _answer(send, 200, DONE, [JSON, *extra])
    if single:
        [aside] = intake.set_aside
        return await _refuse(send, Refused(400, aside.code, f"{aside.why} (it is kept in quarantine)"))
    rows = [
        {"index": each.at, "code": each.code, "message": each.why, "place": each.place} for each in intake.set_aside
    ]
    return await _answer(send, 200, orjson.dumps({"success": True, "set_aside": rows}), [JSON, *extra])


async def _refuse(send: Send, refused: Refused) -> None:
    headers: Headers = [JSON]
    if refused.status == 503:
        headers.append((b"retry-after", RETRY_SECONDS))
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="samla"'))
    body = {"success": False, "code": refused.code, "message": refused.message}
    await _answer(send, refused.status, orjson.dumps(body), headers)


async def _json(send: Send, status: int, value: object) -> None:
    await _answer(send, status, orjson.dumps(value))


async def _preflight(scope: Scope, send: Send) -> None:
    asked = dict(scope["headers"]).get(b"access-control-request-headers", b"authorization, content-type")
    await _answer(send, 204, b"", [*PREFLIGHT, (b"access-control-allow-headers", asked)])


async def _answer(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    REQUESTS.labels(str(status)).inc()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or [JSON]), length, *CORS]})
    await send({"type": "http.response.body", "body": body})


def main() -> int:
    """Runs until SIGTERM or SIGINT; 2 for a wrong setting, 1 when it could not open."""
    try:
        settings = Settings.from_env()
        settings.master_key()
    except SettingsError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    logs.configure(settings, "edge")
    sys.setswitchinterval(SWITCH_SECONDS)
    edge = Edge(settings)
    config = uvicorn.Config(
        edge,
        host=settings.bind,
        port=settings.collector_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=20,
    )
    uvicorn.Server(config).run()
    return 1 if edge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
