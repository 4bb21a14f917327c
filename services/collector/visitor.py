"""`/v1/visitor`: gives a browser an id in a cookie of the collector's own domain, tells it, and forgets it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson

from services.collector import answers
from services.collector.answers import JSON, Receive, Scope, Send
from services.collector.domain import decode
from services.collector.domain import visitor as domain
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.source import Source
from services.collector.domain.visitor import Asked, Caller
from shared.keyring import derived

VISITOR: Final = "/v1/visitor"
METHODS: Final = ("GET", "POST", "DELETE")

Headers = Mapping[bytes, bytes]
Find = Callable[[str | None], Awaitable[Source | Refused]]
"""Gives the source of a write key."""
Serve = Callable[[Scope, Receive, Send], Awaitable[None]]


class Visitors:
    """The ids of all sources that give some. `master` gives the master key."""

    def __init__(self, master: Callable[[], bytes]) -> None:
        self._master = master
        self._keys: dict[str, bytes] = {}

    async def serve(self, scope: Scope, receive: Receive, send: Send, find: Find) -> None:
        """One request."""
        raw = await answers.body_of(scope, receive)
        asked = raw if isinstance(raw, Refused) else _asked(raw, scope)
        source = asked if isinstance(asked, Refused) else await find(asked.write_key)
        if isinstance(asked, Refused):
            return await answers.refuse(send, asked)
        if isinstance(source, Refused):
            return await answers.refuse(send, source)
        headers, method = dict(scope["headers"]), scope["method"]
        caller = caller_of(scope, headers)
        gpc = source.cookie_gpc == "refuse" and headers.get(b"sec-gpc") == b"1"
        keeps = asked.consent and not gpc and method != "DELETE"
        if refused := _refused(source, caller, keeps):
            return await answers.refuse(send, refused)
        identity = self._known(source, headers) if keeps else None
        told = [JSON, (b"cache-control", b"no-store")]
        # To ask changes nothing: who only looks must not be given an id for it.
        if method != "GET":
            identity = identity or (str(uuid4()) if keeps else None)
            told += [(b"set-cookie", each.encode()) for each in self._cookies(source, identity, caller, headers)]
        await answers.plain(send, 200, orjson.dumps({"anonymousId": identity}), told)

    def _cookies(self, source: Source, identity: str | None, caller: Caller, headers: Headers) -> list[str]:
        sent = headers.get(b"cookie", b"").decode("latin-1")
        if identity is None:
            return domain.forgotten(source.id, caller, sent)
        value = domain.signed(self._key(source.id), source.id, identity)
        return domain.kept(source.id, value, source.cookie_days, caller, sent)

    def named(self, batch: Batch, source: Source, scope: Scope, headers: Headers) -> Batch:
        """The batch; what says nothing of whose it is, is that of the browser's visitor."""
        if not source.cookie_days or b"cookie" not in headers:
            return batch
        identity = self._known(source, headers) if caller_of(scope, headers).may_use(source.origins) else None
        return batch._replace(messages=domain.named(batch.messages, identity)) if identity else batch

    def _known(self, source: Source, headers: Headers) -> str | None:
        cookies = headers.get(b"cookie", b"").decode("latin-1")
        return domain.visitor_in(cookies, self._key(source.id), source.id)

    def _key(self, source: str) -> bytes:
        if source not in self._keys:
            self._keys[source] = derived(self._master(), f"visitor cookie {source}")
        return self._keys[source]


def _refused(source: Source, caller: Caller, keeps: bool) -> Refused | None:
    """Why this source's cookie is not for this caller; it can be removed also where ids are given no longer."""
    if not caller.may_use(source.origins):
        why = "this source does not name the page's origin; see `samla source set --origins`"
        return Refused(403, "origin_not_allowed", why)
    if not source.cookie_days and keeps:
        return Refused(404, "visitor_off", "this source gives no visitor ids; see `samla source set --cookie-days`")
    return None


def _asked(raw: bytes, scope: Scope) -> Asked | Refused:
    """What is asked; the body may be left out, and everything but consent stand in the address."""
    body = decode.parsed(raw) if raw.strip() else {}
    if isinstance(body, Refused):
        return body
    consent = domain.consent_of(body)
    if isinstance(consent, Refused):
        return consent
    credentials = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    return Asked(decode.write_key_of(credentials, body, query), consent)


def caller_of(scope: Scope, headers: Headers) -> Caller:
    """Where a browser says that it asks from, and how it reaches us, through whatever stands in between."""
    said = {name: headers.get(name, b"").decode("latin-1") for name in (b"origin", b"sec-fetch-site", b"host")}
    forwarded = headers.get(b"x-forwarded-proto", b"").decode("latin-1").partition(",")[0].strip().lower()
    scheme = forwarded or str(scope.get("scheme", "http"))
    return Caller(said[b"origin"], said[b"sec-fetch-site"], f"{scheme}://{said[b'host']}")
