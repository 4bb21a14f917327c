"""The collector's HTTP door: a small ASGI app on uvicorn. `python -m services.collector.edge`

Every request is decoded and sorted here, and answered when the writer thread has made it durable. What a
client must be told is in contracts/collector.py; which paths there are, below.
"""

from services.collector import processes

if __name__ == "__main__":
    processes.prepare()

import asyncio
import gc
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import orjson
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pymongo.errors import PyMongoError

from contracts.tracking import KINDS
from services.collector import answers, example_page, openapi
from services.collector.activity import Activity, ActivityStore
from services.collector.answers import JSON, Receive, Scope, Send
from services.collector.connections import INBOUND, ConnectionStore
from services.collector.domain import decode
from services.collector.domain.client import LONGEST, Sender
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import UNEXPECTED, Intake
from services.collector.domain.normalize import BOT
from services.collector.domain.pixel import GIF, message_of, rudder_config, segment_settings
from services.collector.domain.raw import request_id
from services.collector.domain.source import Limits, Source
from services.collector.example_page import EXAMPLE
from services.collector.inbound import Inbound
from services.collector.patience import PatientProtocol
from services.collector.relay import Appending, Relay
from services.collector.sharing import SharedLimits
from services.collector.sources import SourceTable
from services.collector.store import SourceStore
from services.collector.turns import Turns
from services.collector.visitor import METHODS, VISITOR, Serve, Visitors
from services.collector.writer import Outcome, Work, Writer, writer_of
from shared import logs
from shared.config import Settings
from shared.errors import SamlaError, SettingsError
from shared.keyring import new_id
from shared.runtime import Runtime

SINGLE: Final = {f"/v1/{kind}": kind for kind in KINDS} | {f"/v1/{kind[0]}": kind for kind in KINDS}
"""Path -> kind; /v1/t is what the browser SDK sends for track."""
BATCH: Final = frozenset({"/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch"})
PIXELS: Final = {f"/pixel/v1/{kind}": kind for kind in ("track", "page")}
SDK_METRICS: Final = "/v1/m"
PROJECTS: Final = "/v1/projects/"
SOURCE_CONFIG: Final = "/sourceConfig"
QUIET: Final = frozenset({BOT, UNEXPECTED})
"""Codes of what is set aside although its sender did nothing wrong: it is not told as an error."""
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than SDKs and proxies keep an idle connection: who closes it first must be them, or a request is sent
into a connection that is just being closed."""
OPENING_SECONDS: Final = 3.0
"""How long one of several processes may take to connect before it answers: 503."""
SWITCH_SECONDS: Final = 0.001
"""How long a thread may keep the interpreter while another waits: the writer must not starve."""
MOST_LOGGED: Final = 10
"""Messages of one request that made us fail and are logged one by one."""
NOTHING: Final = Refused(404, "not_found", "there is nothing at this path; see the README")

DONE: Final = b'{"success":true}'

logger = structlog.get_logger("samla.edge")


class Part(NamedTuple):
    """What one of several processes that serve is told."""

    limits: Limits
    appender: str
    """Where the process that appends listens."""
    serving: int
    """Processes that serve: each has its share of what may wait in memory."""


class Edge:
    """The ASGI app. It starts without MongoDB, and answers 503 until it is there."""

    def __init__(self, settings: Settings, part: Part | None = None) -> None:
        self._settings = settings
        self._limits = part.limits if part else Limits()
        self._relay = Relay(part.appender, _settle, part.serving) if part else None
        self._runtime: Runtime | None = None
        self._writer: Writer | Relay | None = None
        self._sources: SourceTable | None = None
        self._activity: Activity | None = None
        self._turns = Turns()
        self._visitors = Visitors(settings.master_key)
        self._inbound = Inbound(self._take_from, _tell, self._note)
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
        sources = SourceStore(runtime.db)
        sources.setup()
        if self._relay is None:
            writer = writer_of(runtime, self._tell)
            writer.start()
        self._writer = self._relay or writer
        self._activity = Activity(ActivityStore(runtime.db))
        self._activity.start()
        self._sources = SourceTable(lambda: sources.by_key(runtime.clock.now_ms()))
        self._inbound.open(ConnectionStore(runtime.db, runtime.keyring, sources))
        self._runtime = runtime
        # What is there by now stays: it need not be gone through again and again for garbage.
        gc.freeze()
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
            await self._route(scope, receive, answers.for_page(scope, send, self._origins))
        except Exception as error:
            logger.error("a request failed", error=type(error).__name__)
            await answers.refuse(send, Refused(500, "internal", "the request failed within; it may be sent again"))
        return None

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loop = asyncio.get_running_loop()
                self._opening.start()
                if self._relay is not None:
                    self._relay.start()
                    # Other processes answer meanwhile.
                    await asyncio.to_thread(self._opening.join, OPENING_SECONDS)
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self._close)
                return await send({"type": "lifespan.shutdown.complete"})

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.stop(seconds=20)
        if self._activity is not None:
            self._activity.stop()
        if self._runtime is not None:
            self._runtime.close()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"].rstrip("/")
        kind = SINGLE.get(path)
        if method == "POST" and (kind or path in BATCH):
            return await self._collect(scope, kind, receive, send)
        if method == "OPTIONS":
            return await self._preflight(path, scope, send)
        if serve := self._elsewhere(method, path):
            return await serve(scope, receive, send)
        if method == "POST" and path == SDK_METRICS:
            await answers.body_of(scope, receive)
            return await answers.plain(send, 200, DONE)
        if method == "GET":
            return await self._look(path, scope, send)
        wrong = Refused(405, "method_not_allowed", "use POST") if kind or path in BATCH else NOTHING
        return await answers.refuse(send, wrong)

    def _elsewhere(self, method: str, path: str) -> Serve | None:
        if path == VISITOR and method in METHODS:
            return partial(self._visitors.serve, find=self._source)
        if path.startswith(INBOUND) and method in ("GET", "POST"):
            return self._inbound.serve
        return partial(example_page.serve, find=self._source) if method == "GET" and path.startswith(EXAMPLE) else None

    async def _preflight(self, path: str, scope: Scope, send: Send) -> None:
        if path == VISITOR or (self._sources is not None and not self._sources.ready):
            # It names no source, but an origin may be allowed since the sources were last looked at.
            await self._source("")
        await answers.preflight(scope, send)

    # Collecting

    async def _collect(self, scope: Scope, kind: str | None, receive: Receive, send: Send) -> None:
        received = time.time_ns() // 1_000_000
        raw = await answers.body_of(scope, receive)
        if isinstance(raw, Refused):
            return await answers.refuse(send, raw)
        headers = dict(scope["headers"])
        found = decoded(raw, kind, headers.get(b"authorization"), scope["query_string"])
        if isinstance(found, Refused):
            return await answers.refuse(send, found)
        batch, write_key, text = found
        taken = await self._take(batch, write_key, text, received, scope, headers)
        if isinstance(taken, Refused):
            return await answers.refuse(send, taken)
        return await _tell(send, *taken, kind is not None)

    async def _pixel(self, kind: str, scope: Scope, send: Send) -> None:
        """An image that sends a message: for e-mails and for pages without scripts. It is an image always."""
        received = time.time_ns() // 1_000_000
        taken = await self._from_address(kind, received, scope)
        status = taken.status if isinstance(taken, Refused) else _STATUS[taken[0]]
        if (
            not isinstance(taken, Refused)
            and status == 200
            and any(each.code not in QUIET for each in taken[1].set_aside)
        ):
            status = 400
        await answers.plain(send, status, GIF, [(b"content-type", b"image/gif"), (b"cache-control", b"no-store")])

    async def _from_address(self, kind: str, received: int, scope: Scope) -> tuple[Outcome, Intake, str] | Refused:
        try:
            query = scope["query_string"].decode("latin-1")
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:
            return Refused(400, "too_many_fields", f"an address may have {MOST_FIELDS} parameters")
        message = message_of(kind, pairs)
        # It is as large as the message that it becomes.
        text = orjson.dumps(message)
        return await self._take(
            Batch([message], {}), dict(pairs).get("writeKey"), text, received, scope, dict(scope["headers"])
        )

    async def _take(
        self,
        batch: Batch,
        write_key: str | None,
        text: bytes,
        received: int,
        scope: Scope,
        headers: Mapping[bytes, bytes],
    ) -> tuple[Outcome, Intake, str] | Refused:
        """From a source's messages to what became of them, and the correlation id."""
        source = await self._source(write_key)
        if isinstance(source, Refused):
            return source
        return await self._take_from(source, batch, text, received, scope, headers)

    async def _take_from(
        self,
        source: Source,
        batch: Batch,
        text: bytes,
        received: int,
        scope: Scope,
        headers: Mapping[bytes, bytes],
    ) -> tuple[Outcome, Intake, str] | Refused:
        if wait := self._limits.wait(source, len(batch.messages), time.monotonic()):
            self._note(source, received, refused=1)
            why = f"this source may send {source.rate} events a second"
            return Refused(429, "rate_limited", why, wait)
        if not source.may_send(received):
            self._note(source, received, refused=1)
            return Refused(403, "no_agreement", f"{source.party}-party data needs an agreement or licence that holds")
        arrival = source.arrival(
            received,
            gpc=headers.get(b"sec-gpc") == b"1",
            sender=sender_of(scope, headers, source),
            sized=len(text) <= source.size,
            exact=not decode.has_long_number(text),
        )
        named = self._visitors.named(batch, source, scope, headers)
        intake = await self._turns.sorted(named, arrival, len(text))
        if isinstance(intake, Refused):
            self._note(source, received, refused=1)
            return intake
        correlation = request_id(received, new_id())
        for failure in intake.failures[:MOST_LOGGED]:
            logger.error("a message cannot be taken in", error=failure.error, source=source.id, correlation=correlation)
        outcome = await self._written(source, received, correlation, intake)
        if outcome is Outcome.DURABLE:
            self._note(source, received, events=len(intake.accepted), errors=len(intake.set_aside))
            if intake.violations and self._activity is not None:
                self._activity.violated(source.id, received, correlation, intake.violations)
        else:
            self._note(source, received, refused=1)
        return outcome, intake, correlation

    def _origins(self) -> Container[str]:
        return self._sources.origins if self._sources is not None else ()

    def _note(self, source: Source, now: int, **counts: int) -> None:
        if self._activity is not None:
            self._activity.note(source.id, now, **counts)

    async def _source(self, write_key: str | None) -> Source | Refused:
        if write_key is None:
            return Refused(401, "no_write_key", "send the source's write key: HTTP Basic user, or writeKey in the body")
        table = self._sources
        if table is None:
            return answers.UNAVAILABLE
        if table.stale(write_key):
            try:
                await asyncio.to_thread(table.refresh, write_key)
            except PyMongoError:
                if not table.ready:
                    return answers.UNAVAILABLE
        elif table.refresh_soon(write_key):
            self._loop.run_in_executor(None, _quietly, table.refresh, write_key)
        source = table.known(write_key)
        if source is None:
            return Refused(401, "unknown_write_key", "no source has this write key; see `samla source create`")
        if not source.enabled:
            return answers.DISABLED
        return source

    async def _written(self, source: Source, received: int, correlation: str, intake: Intake) -> Outcome:
        answer = self._loop.create_future()
        work = Work(source.id, received, correlation, intake, intake.size, answer)
        if self._writer is None or not self._writer.submit(work):
            return Outcome.UNAVAILABLE
        return await answer

    def _tell(self, group: list[tuple[Work, Outcome]]) -> None:
        """Called in a writer's thread: one wake-up of the loop for all of a group."""
        self._loop.call_soon_threadsafe(_settle, group)

    # Looking

    async def _look(self, path: str, scope: Scope, send: Send) -> None:
        if path == "/health":
            return await self._health(send)
        if path in _TEXTS:
            kind_of_text, text = _TEXTS[path]()
            return await answers.plain(send, 200, text, [(b"content-type", kind_of_text)])
        if path.startswith(PROJECTS) and path.endswith("/settings"):
            return await self._project(path.removeprefix(PROJECTS).removesuffix("/settings"), scope, send)
        if path.rstrip("/") == SOURCE_CONFIG:
            return await self._source_config(scope, send)
        if kind := PIXELS.get(path):
            return await self._pixel(kind, scope, send)
        return await answers.refuse(send, NOTHING)

    async def _health(self, send: Send) -> None:
        try:
            if self._runtime is None or (self._relay is not None and not self._relay.reachable):
                raise PyMongoError
            await asyncio.to_thread(self._runtime.ping)
        except PyMongoError:
            return await answers.as_json(send, 503, {"status": "unavailable", "service": "edge"})
        return await answers.as_json(send, 200, {"status": "ok", "service": "edge"})

    async def _project(self, write_key: str, scope: Scope, send: Send) -> None:
        """What Segment's browser and mobile SDKs fetch at their start."""
        source = await self._source(write_key)
        if isinstance(source, Refused):
            return await answers.refuse(send, source)
        headers = dict(scope["headers"])
        # The SDK sends where it has found us, through whatever stands in between.
        host = headers.get(b"host", b"").decode("latin-1") or f"127.0.0.1:{self._settings.collector_port}"
        scheme = headers.get(b"x-forwarded-proto", b"").decode("latin-1") or scope.get("scheme", "http")
        return await answers.as_json(send, 200, segment_settings(write_key, host, scheme))

    async def _source_config(self, scope: Scope, send: Send) -> None:
        """What RudderStack's SDKs fetch at their start."""
        credentials = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        write_key = decode.write_key_of(credentials, {}, dict(parse_qsl(scope["query_string"].decode("latin-1"))))
        source = await self._source(write_key)
        if isinstance(source, Refused):
            return await answers.refuse(send, source)
        return await answers.as_json(send, 200, rudder_config(source.id, source.name, str(write_key)))


def sender_of(scope: Scope, headers: Mapping[bytes, bytes], source: Source) -> Sender:
    """What the connection says of the person's device: a browser's does, a server's SDK says nothing of it."""
    if not _BROWSERS_SAY.isdisjoint(headers):
        client = scope.get("client") or ("",)
        agent = headers.get(b"user-agent", b"")[:LONGEST].decode("latin-1")
        return Sender(str(client[0]), agent, source.ip, source.bots)
    return Sender(ip_policy=source.ip, bots=source.bots)


@cache
def _document() -> bytes:
    return openapi.document(SINGLE, BATCH, PIXELS)


_TEXTS: Final = {
    "/metrics": lambda: (CONTENT_TYPE_LATEST.encode(), processes.metrics()),
    "/openapi.json": lambda: (b"application/json", _document()),
}
_BROWSERS_SAY: Final = frozenset({b"origin", b"sec-fetch-mode", b"referer"})
MOST_FIELDS: Final = 200
"""Parameters of a pixel's address."""


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


_STATUS: Final = {Outcome.DURABLE: 200, Outcome.UNAVAILABLE: 503, Outcome.FAILED: 500}


def _quietly(refresh: Callable[[str], None], write_key: str) -> None:
    """Where MongoDB is away the table is used as it was."""
    with suppress(PyMongoError):
        refresh(write_key)


def _settle(group: list[tuple[Work, Outcome]]) -> None:
    for work, outcome in group:
        if not work.waiting.done():
            work.waiting.set_result(outcome)


async def _tell(send: Send, outcome: Outcome, intake: Intake, correlation: str, single: bool) -> None:
    extra = [(b"x-correlation-id", correlation.encode())]
    if outcome is Outcome.UNAVAILABLE:
        return await answers.refuse(send, answers.UNAVAILABLE)
    if outcome is Outcome.FAILED:
        return await answers.refuse(send, Refused(500, "internal", f"not written; tell us of {correlation}"))
    if not intake.set_aside and not intake.refused:
        return await answers.plain(send, 200, DONE, [JSON, *extra])
    if single and intake.set_aside and intake.set_aside[0].code not in QUIET:
        [aside] = intake.set_aside
        return await answers.refuse(send, Refused(400, aside.code, f"{aside.why} (it is kept in quarantine)"))
    rows = [
        {"index": each.at, "code": each.code, "message": each.why, "place": each.place} for each in intake.set_aside
    ]
    told: dict[str, object] = {"success": True, "set_aside": rows}
    if intake.refused:
        told["refused_fields"] = [
            {"index": each.at, "code": "outside_agreement", "place": each.place} for each in intake.refused
        ]
    return await answers.plain(send, 200, orjson.dumps(told), [JSON, *extra])


def main() -> int:
    """Runs until SIGTERM or SIGINT; 2 for a wrong setting, 1 when it could not open."""
    try:
        settings = Settings.from_env()
        settings.master_key()
    except SettingsError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    if settings.collector_processes == 1:
        return serve(settings)
    logs.configure(settings, "edge")
    gc.freeze()
    serving = settings.collector_processes - 1
    part = Part(SharedLimits(serving), processes.appender_path(), serving)
    return processes.supervise(
        settings, partial(append, settings), lambda listening: serve(settings, part, [listening])
    )


def append(settings: Settings, listening: socket.socket) -> int:
    """The process that appends, where there are several; 1 when it could not open."""
    logs.configure(settings, "edge")
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        runtime = Runtime.open(settings, "collector", joins=False)
    except SamlaError as error:
        logger.error("the edge cannot start", why=str(error))
        return 1
    appending = Appending(listening, partial(writer_of, runtime))
    # A terminal's Ctrl-C reaches all processes: this one is the last to go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, appending.end)
    gc.freeze()
    appending.run()
    runtime.close()
    return 0


def serve(settings: Settings, part: Part | None = None, sockets: list[socket.socket] | None = None) -> int:
    """One process; 1 when it could not open."""
    logs.configure(settings, "edge")
    sys.setswitchinterval(SWITCH_SECONDS)
    _allow_connections()
    answers.share_out(part.serving if part else 1)
    edge = Edge(settings, part)
    config = uvicorn.Config(
        edge,
        host=settings.bind,
        port=settings.collector_port,
        loop="uvloop",
        http=PatientProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=20,
    )
    try:
        # uvicorn raises the signals again that it has heard, and would have the process die of them.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _end)
        uvicorn.Server(config).run(sockets)
    except SystemExit as error:
        return 1 if edge.failed or error.code else 0
    return 1 if edge.failed else 0


def _end(*_: object) -> None:
    raise SystemExit(0)


def _allow_connections() -> None:
    """As many as the system lets a process have: each is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
