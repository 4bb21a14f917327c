"""Connections on which nothing comes, or that never come to an end: they are closed.

uvicorn closes connections that are idle between requests; one that never sends any, or a byte now and then,
would be held for ever. So would one whose body goes on after its answer. And uvicorn keeps a head in memory however
large it grows, as it does with what may stand between and behind the chunks of a body.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_SECONDS: Final = 15.0
MOST_HEAD_BYTES: Final = 65_536
FRAMED: Final = 9
"""Bytes that come for one of a body, at most: the smallest chunks are of one byte."""
TOO_LARGE: Final = f"A request's head may hold {MOST_HEAD_BYTES} bytes."


class HeadTooLarge(Exception):
    """httptools stops where this is raised."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with an end to its patience."""

    _waiting: asyncio.TimerHandle | None = None
    _within_head = False
    _within_request = False
    _too_large = False
    _beside_body = 0
    """Bytes of the request so far that are not its body's; not counted is what came together with its beginning."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Most heads come whole, and nothing has to be waited for."""
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > MOST_HEAD_BYTES and self._within_request and not self.transport.is_closing():
            self._refuse_head()
        elif self._within_head and self._waiting is None:
            self._wait()

    def on_message_begin(self) -> None:
        """A head has begun."""
        self._within_head = self._within_request = True
        self._beside_body = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is there."""
        self._within_head = False
        if self._waiting is not None:
            self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD_BYTES:
            self._too_large = True
            raise HeadTooLarge
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More of it."""
        self._beside_body -= FRAMED * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._within_request = False
        self._stop_waiting()
        super().on_message_complete()
        if self.cycle.response_complete:
            # Answered before: uvicorn waits no longer for the next one, and not for ever.
            self._wait()

    def on_response_complete(self) -> None:
        """What was answered before it had come to its end is to do so soon."""
        super().on_response_complete()
        if self._within_request and self._waiting is None and self.cycle.response_complete:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """What cannot be read; a head that is too large is told apart."""
        if self._too_large:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        text = TOO_LARGE.encode()
        head = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[431] + head + text)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
