"""Webhooks: one signed POST, to the very address that was checked, within a time limit.

No redirects, no proxies, no cookies; TLS with the name in the URL verified. The response's body is read only
to keep the connection; it is bounded, and nothing of it is kept.
"""

import contextlib
import io
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult

import certifi

from services.activation.domain import signing
from services.activation.domain.ssrf import ascii_host, checked_url, refused
from shared.errors import SamlaError

LIMIT_SECONDS: Final = 20.0
"""For one attempt, from the name's resolving to the last byte of the answer."""
CONNECT_SECONDS: Final = 5.0
BODY_LIMIT: Final = 65_536
NAMES_SECONDS: Final = 5.0
"""How long the addresses of a name are used before it is resolved again."""
NAMES_LIMIT: Final = 1_000
IDLE_SECONDS: Final = 20.0
IDLE_LIMIT: Final = 64
USER_AGENT: Final = "Samla-Webhooks/1"

NO_HEADERS: Final[Mapping[str, str]] = {}

SocketAddress = tuple[Any, ...]
Resolve = Callable[[str, int], Sequence[tuple[int, SocketAddress]]]
"""(host, port) -> [(address family, socket address)]."""


class Answer(NamedTuple):
    """What became of an attempt."""

    status: int | None
    """The HTTP status, None where there was none."""
    reason: str
    """`http_<status>`, or why there was no status: timeout, address_refused, tls_failed ..."""
    retry_after: str | None = None
    """The header, as it came."""


class _NoAnswerError(Exception):
    """There was no HTTP status; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, at_most: float = LIMIT_SECONDS) -> float:
        """Seconds left, never more than `at_most`. Raises TimeoutError when the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, at_most)


class _Reading(io.RawIOBase):
    """A socket's bytes, each read within what is left of the time: dripping bytes does not win any."""

    def __init__(self, line: "_Line") -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._line.sock.settimeout(self._line.deadline.left())
        return self._line.sock.recv_into(buffer)


class _Line:
    """A connected socket as http.client wants one, with the deadline of the request that has it."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self.sock = sock
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        self.sock.settimeout(self.deadline.left())
        self.sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reading(self))

    def close(self) -> None:
        """http.client means that it is done; the answer may be unread yet, so the socket stays."""

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class _Target(NamedTuple):
    """Where a request goes: what connections are told apart by."""

    scheme: str
    host: str
    address: SocketAddress
    family: int


class _Connections:
    """Connections that stay open between requests: few, and not for long."""

    def __init__(self) -> None:
        self._idle: dict[_Target, list[tuple[float, _Line]]] = {}
        self._lock = threading.Lock()

    def take(self, target: _Target) -> _Line | None:
        """The one used last, if there is one that is fresh enough."""
        with self._lock:
            held = self._idle.get(target) or []
            since, line = held.pop() if held else (0.0, None)
        if line is not None and time.monotonic() - since > IDLE_SECONDS:
            line.hang_up()
            return None
        return line

    def put(self, target: _Target, line: _Line) -> None:
        """Keeps a connection; where there are too many, all idle ones go."""
        with self._lock:
            dropped = self._all() if sum(map(len, self._idle.values())) >= IDLE_LIMIT else []
            if dropped:
                self._idle.clear()
            self._idle.setdefault(target, []).append((time.monotonic(), line))
        for each in dropped:
            each.hang_up()

    def close(self) -> None:
        """Closes what is idle."""
        with self._lock:
            dropped = self._all()
            self._idle.clear()
        for each in dropped:
            each.hang_up()

    def _all(self) -> list[_Line]:
        return [line for held in self._idle.values() for _, line in held]


def resolve(host: str, port: int) -> Sequence[tuple[int, SocketAddress]]:
    """By the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), tuple(address)) for family, _, _, _, address in found]


def trusted() -> ssl.SSLContext:
    """The system's certificate authorities, or certifi's where the system has none."""
    paths = ssl.get_default_verify_paths()
    has_own = paths.cafile is not None or (paths.capath is not None and any(os.scandir(paths.capath)))
    return ssl.create_default_context(cafile=None if has_own else certifi.where())


class Webhook:
    """Sends webhooks. Safe to use from many threads (or green threads) at once.

    `allow_local`: addresses of this machine and of private networks, and http://, are allowed.
    """

    def __init__(
        self,
        allow_local: bool,
        *,
        seconds: float = LIMIT_SECONDS,
        resolve: Resolve = resolve,
        context: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._allow_local = allow_local
        self._seconds = seconds
        self._resolve = resolve
        self._context = context or trusted()
        self._now = now
        self._names: dict[tuple[str, int], tuple[float, Sequence[tuple[int, SocketAddress]]]] = {}
        self._connections = _Connections()

    def send(
        self,
        url: str,
        keys: Sequence[bytes],
        message: str,
        body: bytes,
        extra: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Signs the body as of now and posts it; never raises for what the other side does."""
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            **extra,
            **signing.headers(keys, message, int(self._now()), body),
        }
        try:
            return self._post(checked_url(url, self._allow_local), body, headers)
        except _NoAnswerError as error:
            return Answer(None, error.reason)
        except SamlaError:
            return Answer(None, "url_refused")

    def close(self) -> None:
        """Closes idle connections."""
        self._connections.close()

    def _post(self, url: SplitResult, body: bytes, headers: Mapping[str, str]) -> Answer:
        deadline = _Deadline(self._seconds)
        targets = self._targets(url)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        for target in targets:
            if line := self._connections.take(target):
                line.deadline = deadline
                # Where the other side has closed it meanwhile, a new connection is worth a try.
                with contextlib.suppress(_NoAnswerError):
                    return self._exchange(target, line, url, path, body, headers)
        target, line = self._connected(targets, deadline)
        return self._exchange(target, line, url, path, body, headers)

    def _targets(self, url: SplitResult) -> list[_Target]:
        """The addresses of the URL's host; one that is refused refuses them all."""
        host = ascii_host(url)
        port = url.port or (443 if url.scheme == "https" else 80)
        found = self._addresses(host, port)
        if not found:
            raise _NoAnswerError("name_unknown")
        if any(refused(str(address[0]), self._allow_local) for _, address in found):
            raise _NoAnswerError("address_refused")
        return [_Target(url.scheme, host, address, family) for family, address in found]

    def _addresses(self, host: str, port: int) -> Sequence[tuple[int, SocketAddress]]:
        until, known = self._names.get((host, port), (0.0, ()))
        if time.monotonic() < until:
            return known
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise _NoAnswerError("name_unknown") from error
        if len(self._names) >= NAMES_LIMIT:
            self._names.clear()
        self._names[host, port] = (time.monotonic() + NAMES_SECONDS, found)
        return found

    def _connected(self, targets: Sequence[_Target], deadline: _Deadline) -> tuple[_Target, _Line]:
        """A new connection to the first of the addresses that takes one."""
        for last, target in enumerate(targets, 1 - len(targets)):
            try:
                return target, _Line(self._connect(target, deadline), deadline)
            except ssl.SSLCertVerificationError as error:
                raise _NoAnswerError("tls_failed") from error
            except OSError as error:
                if last == 0:
                    raise _NoAnswerError(_reason(error, "connect_failed")) from error
        raise _NoAnswerError("name_unknown")

    def _connect(self, target: _Target, deadline: _Deadline) -> socket.socket:
        sock = socket.socket(target.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline.left(CONNECT_SECONDS))
            sock.connect(target.address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.scheme == "https":
                return self._context.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise
        return sock

    def _exchange(
        self,
        target: _Target,
        line: _Line,
        url: SplitResult,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> Answer:
        try:
            connection = HTTPConnection(target.host, url.port)
            connection.sock = line
            connection.request("POST", path, body=body, headers={"host": _host(url), **headers})
            response = connection.getresponse()
            self._finish(target, line, response)
        except (OSError, HTTPException, ValueError) as error:
            line.hang_up()
            raise _NoAnswerError(_reason(error, "connection_lost")) from error
        return Answer(response.status, f"http_{response.status}", response.headers.get("retry-after"))

    def _finish(self, target: _Target, line: _Line, response: HTTPResponse) -> None:
        """Reads the answer to its end, if that is near, and keeps the connection."""
        whole = False
        # The status has come; a body that does not is no reason to send again.
        with contextlib.suppress(OSError, HTTPException, ValueError):
            whole = len(response.read(BODY_LIMIT + 1)) <= BODY_LIMIT and response.isclosed()
        if whole and not response.will_close:
            self._connections.put(target, line)
        else:
            line.hang_up()


def _host(url: SplitResult) -> str:
    """The Host header: as in the URL, without what a default port adds."""
    name = ascii_host(url)
    name = f"[{name}]" if ":" in name else name
    return name if url.port is None else f"{name}:{url.port}"


def _reason(error: Exception, otherwise: str) -> str:
    """A word for an error. Its text stays out of logs: it may quote what the other side sent."""
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls_failed"
    if isinstance(error, OSError):
        return otherwise
    return "bad_answer"
