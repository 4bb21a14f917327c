"""The sources as the edge knows them: the whole small table, looked at again every few seconds."""

import threading
import time
from collections.abc import Callable
from typing import Final

from services.collector.store import Source, hashed

FRESH_SECONDS: Final = 5.0
UNKNOWN_SECONDS: Final = 0.5
"""How soon the table is looked at again for a key that it does not hold."""


class SourceTable:
    """`known` answers from memory; `refresh` reads the table (it waits for MongoDB)."""

    def __init__(self, load: Callable[[], dict[str, Source]], now: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = now
        self._by_key: dict[str, Source] = {}
        self._loaded = float("-inf")
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether it has been read at all."""
        return self._loaded > float("-inf")

    def stale(self, write_key: str) -> bool:
        """Whether it is worth reading the table again before answering about this key."""
        age = self._now() - self._loaded
        return age > FRESH_SECONDS or (age > UNKNOWN_SECONDS and self.known(write_key) is None)

    def known(self, write_key: str) -> Source | None:
        """The source of a write key."""
        return self._by_key.get(hashed(write_key))

    def refresh(self) -> None:
        """Reads the table; one at a time."""
        with self._lock:
            self._by_key = self._load()
            self._loaded = self._now()
