"""The sources as the edge knows them: the whole small table, looked at again every few seconds."""

import threading
import time
from collections.abc import Callable
from typing import Final

from services.collector.domain.source import Source
from services.collector.store import hashed

FRESH_SECONDS: Final = 5.0
"""How soon a source that was disabled is refused; how long a key that nobody has is not looked for again."""
MOST_UNKNOWN: Final = 10_000


class SourceTable:
    """`known` answers from memory; `refresh` reads the table (it waits for MongoDB)."""

    def __init__(self, load: Callable[[], dict[str, Source]], now: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = now
        self._by_key: dict[str, Source] = {}
        self._unknown: dict[str, float] = {}
        self.origins: frozenset[str] = frozenset()
        """Of all sources: whose pages may send cookies."""
        self._loaded = float("-inf")
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether it has been read at all."""
        return self._loaded > float("-inf")

    def stale(self, write_key: str) -> bool:
        """Whether the table must be read again before answering about this key: now and then, and for a key
        that it does not hold, which may have been made a moment ago."""
        now = self._now()
        if now - self._loaded > FRESH_SECONDS:
            return True
        return self.known(write_key) is None and now - self._unknown.get(write_key, float("-inf")) > FRESH_SECONDS

    def known(self, write_key: str) -> Source | None:
        """The source of a write key."""
        return self._by_key.get(hashed(write_key))

    def refresh(self, write_key: str) -> None:
        """Reads the table. One at a time: who has waited for a reading that began later needs none of its own."""
        asked = self._now()
        with self._lock:
            if self._loaded < asked:
                began = self._now()
                self._by_key, self._loaded = self._load(), began
                self.origins = frozenset(each for source in self._by_key.values() for each in source.origins)
                if len(self._unknown) > MOST_UNKNOWN:
                    self._unknown.clear()
            if self.known(write_key) is None:
                self._unknown[write_key] = self._now()
