"""Connections on which nothing comes: a request's head must be there soon, or they are closed.

uvicorn closes connections that are idle between requests; one that never sends any, or a byte now and then,
would be held for ever.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 15.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with an end to its patience."""

    _waiting: asyncio.TimerHandle | None = None
    _within_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Most heads come whole, and nothing has to be waited for."""
        super().data_received(data)
        if self._within_head and self._waiting is None:
            self._wait()

    def on_message_begin(self) -> None:
        """A head has begun."""
        self._within_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is there."""
        self._within_head = False
        if self._waiting is not None:
            self._stop_waiting()
        super().on_headers_complete()

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
