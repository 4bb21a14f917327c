"""The app: the table's calls over HTTP. Whatever waits (RPC, files) does so in a thread.

Why not nameko's @http: docs/decisions/0011-the-admin-api-is-an-asgi-app-with-threads.md.
"""

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import structlog
from marshmallow import Schema, ValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pymongo.errors import PyMongoError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.admin import SERVICES
from contracts.streams import STREAMS
from services.console.admin.answers import Refused, as_json, refusal, refused, wrong
from services.console.admin.guard import App, Guard
from services.console.admin.imports import Importer, described
from services.console.admin.openapi import document
from services.console.admin.services import Broken, Services
from services.console.admin.table import CALLS, PATTERNS, ROOT, Call
from services.console.admin.uploads import Uploads
from services.console.asking import identifier_of
from services.console.progress import SUBSCRIPTIONS, lag
from shared.config import Settings
from shared.errors import NotFound, SamlaError, Unavailable
from shared.eventlog import MongoEventLog
from shared.mongo import MongoTransactor, connect

THREADS: Final = 16
BIGGEST_BODY: Final = 1 << 20
DEEPEST: Final = 40
LOOK_SECONDS: Final = 3.0
"""How long a service may take to say how it is."""
LONGEST_INTEGER: Final = 1 << 63

Given = dict[str, Any]
Endpoint = Callable[[Request], Awaitable[Response]]

logger = structlog.get_logger("samla.console")


class Admin:
    """See the module's text. `app` is what is served."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services = Services(settings)
        self._threads = ThreadPoolExecutor(THREADS, "asking")
        self._importer = Importer(settings)
        self._uploads = Uploads(settings, self._importer)
        self._document = orjson.dumps(document())
        routes = [Route(path, _methods(each), methods=list(each)) for path, each in self._by_path().items()]
        routes += [
            Route(f"{ROOT}/openapi.json", _safe(self._openapi)),
            Route("/health", _safe(self._health)),
            Route("/metrics", _safe(self._metrics)),
        ]
        inner = Starlette(routes=routes, lifespan=self._live, exception_handlers={HTTPException: _no_route})
        inner.router.redirect_slashes = False
        self.app: App = Guard(inner, settings.admin_token)

    @asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._importer.start)
        logger.info("open", port=self._settings.console_port)
        yield
        await asyncio.to_thread(self._importer.stop)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._services.close()

    def _by_path(self) -> dict[str, dict[str, Endpoint]]:
        found: dict[str, dict[str, Endpoint]] = {}
        for call in CALLS:
            own = getattr(self, f"_{call.own}") if call.own else self._asked
            found.setdefault(ROOT + call.path, {})[call.method] = _safe(functools.partial(own, call))
        return found

    async def _in_a_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # Calls that are one RPC

    async def _asked(self, call: Call, request: Request) -> Response:
        path, query, body = in_path(request), loaded(call.query, dict(request.query_params)), await _body(call, request)
        answer = await self._in_a_thread(self._answer, call, path, {**query, **body})
        return as_json(answer, call.status)

    def _answer(self, call: Call, path: Given, given: Given) -> Any:
        service = call.service.format(**path)
        if call.pick:
            [wanted] = path.values()
            rows = self._services.ask(service, call.rpc, {}, call.seconds)
            return _picked(rows, call.pick, wanted)
        arguments = {name: value for name, value in path.items() if f"{{{name}}}" != call.service}
        arguments |= {call.whole: given} if call.whole else given
        if "who" in arguments:
            who = str(arguments.pop("who"))
            own = identifier_of(who) if call.takes_identifier else None
            arguments["profile"] = own or self._profile_of(who)
        answer = self._services.ask(service, call.rpc, {**arguments, **call.fixed}, call.seconds)
        if call.missing and not answer:
            raise NotFound(call.missing)
        return {call.under: answer} if call.under else answer if isinstance(answer, dict) else {}

    def _profile_of(self, who: str) -> str:
        """The profile id of `kind:value`, or the id that was given."""
        identifier = identifier_of(who)
        if identifier is None:
            return who
        found = self._services.ask("identity", "resolve", {"identifiers": [identifier]})
        if found is None:
            raise NotFound("nobody is known by this identifier")
        return str(found)

    # Calls of our own

    async def _upload(self, call: Call, request: Request) -> Response:
        query = loaded(call.query, dict(request.query_params))
        try:
            status, answer = await self._uploads.take(request, query)
        except (Refused, SamlaError) as error:
            why = error if isinstance(error, Refused) else refused(error)
            # The rest of the file is not waited for.
            why.headers["Connection"] = "close"
            raise why from None
        return as_json(
            answer, status, {"Location": f"{ROOT}/imports/{answer['id']}"} if status == call.status else None
        )

    async def _imports(self, call: Call, request: Request) -> Response:
        return as_json({"items": [described(each) for each in self._importer.jobs()]})

    async def _one_import(self, call: Call, request: Request) -> Response:
        job = self._importer.job(in_path(request)["import"])
        if job is None:
            raise NotFound("there is no such import")
        return as_json(described(job))

    async def _parked(self, call: Call, request: Request) -> Response:
        pages = await asyncio.gather(*(self._in_a_thread(self._parked_of, service) for service in SERVICES))
        return as_json({"items": [row for page in pages for row in page]})

    def _parked_of(self, service: str) -> list[Given]:
        return [{"service": service, **row} for row in self._services.ask(service, "parked_list", {})]

    async def _status(self, call: Call, request: Request) -> Response:
        # The heads are read first: what is handled meanwhile must not look as if it was ahead of the log.
        heads = await self._in_a_thread(self._heads_if_any)
        states = await asyncio.gather(*(self._in_a_thread(self._state_of, service, heads) for service in SERVICES))
        well = heads is not None and all(each["status"] == "ok" for each in states)
        return as_json({"status": "ok" if well else "unavailable", "services": states})

    def _state_of(self, service: str, heads: Mapping[str, Mapping[int, int]] | None) -> Given:
        state: Given = {"service": service, "status": "ok", "stats": {}, "progress": {}, "behind": {}}
        try:
            state["progress"] = self._services.ask(service, "progress", {}, LOOK_SECONDS)
            state["stats"] = self._services.ask(service, "stats", {}, LOOK_SECONDS)
        except (SamlaError, Broken):
            return {**state, "status": "unavailable"}
        if heads is not None:
            state["behind"] = behind(service, state["progress"], heads)
        return state

    async def _heads(self, call: Call, request: Request) -> Response:
        heads = await self._in_a_thread(self._read_heads)
        rows = [
            {"stream": stream, "partition": partition, "position": position}
            for stream, partitions in heads.items()
            for partition, position in sorted(partitions.items())
        ]
        return as_json({"items": rows})

    def _read_heads(self) -> dict[str, dict[int, int]]:
        try:
            return {stream: dict(self._log.heads(stream)) for stream in STREAMS}
        except PyMongoError as error:
            raise Unavailable("MongoDB does not answer: see `make status`") from error

    def _heads_if_any(self) -> dict[str, dict[int, int]] | None:
        try:
            return self._read_heads()
        except SamlaError:
            return None

    @functools.cached_property
    def _log(self) -> MongoEventLog:
        """The log belongs to no service; its heads are read as `samla log heads` reads them."""
        client = connect(self._settings.mongodb_url, seconds=LOOK_SECONDS, pool=4)
        return MongoEventLog(client, self._settings.database("log"), MongoTransactor(client))

    async def _openapi(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    async def _health(self, request: Request) -> Response:
        """200 while the broker answers, as that is what it needs; else 503."""
        try:
            await self._in_a_thread(self._services.reach)
        except SamlaError:
            return as_json({"status": "unavailable", "service": "console"}, 503)
        return as_json({"status": "ok", "service": "console"})

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def behind(service: str, progress: Mapping[str, Mapping[str, int]], heads: Mapping[str, Mapping[int, int]]) -> Given:
    """Subscription -> events that it has not handled yet."""
    return {
        name: lag(stream, progress.get(name, {}), heads[stream])
        for name, stream in SUBSCRIPTIONS.get(service, {}).items()
    }


def in_path(request: Request) -> Given:
    """What stands in the path. Raises NotFound where nothing can be there."""
    for name, value in request.path_params.items():
        if not re.fullmatch(PATTERNS[name][0], value):
            raise NotFound(f"there is nothing there: {PATTERNS[name][1]} looks otherwise")
    return dict(request.path_params)


def loaded(schema: type[Schema] | None, value: Any) -> Given:
    """What was sent, checked. Raises Refused."""
    if schema is None:
        if value:
            raise Refused(400, "bad_request", "this takes no parameters")
        return {}
    try:
        found: Given = schema().load(value)
    except ValidationError as error:
        raise wrong(error) from None
    return found


async def _body(call: Call, request: Request) -> Given:
    if call.takes is None:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "not_json", "send JSON, with Content-Type: application/json")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BIGGEST_BODY:
            raise Refused(413, "too_large", f"a body may have {BIGGEST_BODY} bytes")
        chunks.append(chunk)
    try:
        value = orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError:
        raise Refused(400, "bad_request", "the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "bad_request", "the body is a JSON object")
    check_storable(value)
    return loaded(call.takes, value)


def check_storable(value: Any, depth: int = 0) -> None:
    """Raises Refused for JSON that MongoDB could not hold, wherever in it that is."""
    if depth > DEEPEST:
        raise Refused(400, "bad_request", f"the body is nested deeper than {DEEPEST}")
    if isinstance(value, dict):
        if any("\0" in name for name in value):
            raise Refused(400, "bad_request", "a name in the body holds a NUL")
        value = value.values()
    elif isinstance(value, int) and not -LONGEST_INTEGER <= value < LONGEST_INTEGER:
        raise Refused(400, "bad_request", "an integer in the body has more than 64 bits")
    if not isinstance(value, (str, int, float)) and value is not None:
        for each in value:
            check_storable(each, depth + 1)


def _picked(rows: list[Given], names: tuple[str, ...], wanted: str) -> Given:
    for row in rows:
        if any(row[name] == wanted for name in names):
            return row
    raise NotFound(f"there is no such {names[0]}")


def _safe(work: Endpoint) -> Endpoint:
    """Errors become answers. What nobody has thought of is logged by its type alone: its text may quote a person."""

    async def endpoint(request: Request) -> Response:
        try:
            return await work(request)
        except Refused as error:
            return refusal(error)
        except SamlaError as error:
            return refusal(refused(error))
        except ClientDisconnect:
            return refusal(Refused(400, "cut_off", "the connection was closed in the middle of the body"))
        except Exception as error:
            kind = error.kind if isinstance(error, Broken) else type(error).__name__
            logger.error("a request failed", error=kind, method=request.method)
            return refusal(Refused(500, "internal", "the request failed within; the log says more"))

    return endpoint


def _methods(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return refusal(Refused(405, "method_not_allowed", "this path takes other methods: see Allow", error.headers))
    text = f"there is nothing at this path: see {ROOT}/openapi.json"
    return refusal(Refused(error.status_code, "not_found", text, error.headers))
