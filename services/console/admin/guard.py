"""Who may ask: a token, or this machine alone; and no page of somebody else's in a browser of this machine.

Without a token only loopback is listened on, and two things are looked at: the Host header must name this machine (a
page whose name was pointed at 127.0.0.1 says its own name), and what changes anything must not come from another site.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from services.console.admin.answers import Refused, refusal
from shared.config import Settings, is_loopback
from shared.errors import SettingsError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN: Final = frozenset({"/health", "/metrics"})
"""Need no token, as with the other services: they tell nothing of anybody."""
LOOKING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SAME_SITE: Final = frozenset({"", "same-origin", "none"})
HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]
_TOKEN: Final = Refused(
    401, "unauthorized", "send the admin token: Authorization: Bearer SAMLA_ADMIN_TOKEN", {"WWW-Authenticate": "Bearer"}
)
_HOST: Final = Refused(403, "wrong_host", "without SAMLA_ADMIN_TOKEN only names of this machine are answered to")
_SITE: Final = Refused(403, "cross_site", "pages of another site may not change anything here")


def check_bind(settings: Settings) -> None:
    """Raises SettingsError where others could reach it and nothing would keep them out."""
    if not settings.admin_token and not is_loopback(settings.bind):
        raise SettingsError("SAMLA_ADMIN_TOKEN must be set where SAMLA_BIND is not a loopback address")


class Guard:
    """ASGI, around the app."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, if it may be."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refused(scope["method"], scope["path"], headers)
        app = refusal(refused) if refused else self._app
        return await app(scope, receive, _with_headers(send))

    def _refused(self, method: str, path: str, headers: dict[bytes, bytes]) -> Refused | None:
        if self._token:
            return None if path in OPEN or self._is_token(headers.get(b"authorization", b"")) else _TOKEN
        host = headers.get(b"host", b"").decode("latin-1")
        if not is_this_machine(host):
            return _HOST
        return None if method in LOOKING or _same_site(headers, host) else _SITE

    def _is_token(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        return hmac.compare_digest(given.strip(), self._token) and scheme.lower() == b"bearer"


def is_this_machine(host: str) -> bool:
    """Whether a Host header names the loopback interface, with any port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return "@" not in host
    try:
        return ip_address(name).is_loopback and "@" not in host
    except ValueError:
        return False


def _same_site(headers: dict[bytes, bytes], host: str) -> bool:
    """By what browsers say; what is no browser says nothing. Another port of this machine is another site."""
    if headers.get(b"sec-fetch-site", b"").decode("latin-1") not in SAME_SITE:
        return False
    origin = headers.get(b"origin")
    return origin is None or origin.decode("latin-1") in (f"http://{host}", f"https://{host}")


def _with_headers(send: Send) -> Send:
    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return wrapped
