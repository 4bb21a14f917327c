"""The sources as the edge knows them: the whole small table, looked at again every few seconds."""

import threading
import time
from collections.abc import Callable
from typing import Final

from services.collector.domain.source import Source
from services.collector.store import hashed

FRESH_SECONDS: Final = 5.0
"""How often the table is read, while anybody sends; how long a key that nobody has is not looked for again."""
STALE_SECONDS: Final = 8.0
"""How soon a source that was disabled is refused: within this time a table that is no longer fresh is used while it
is read again."""
LONGEST_KEY: Final = 100
"""Characters; ours have 32."""
MOST_UNKNOWN: Final = 10_000


class SourceTable:
    """`known` answers from memory; `refresh` reads the table (it waits for MongoDB)."""

    def __init__(self, load: Callable[[], dict[str, Source]], now: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = now
        self._by_key: dict[str, Source] = {}
        self._refreshing = False
        self._unknown: dict[str, float] = {}
        """Hash of a key that nobody has -> when it was looked for: who knows what was sent for a key."""
        self.origins: frozenset[str] = frozenset()
        """Of all sources: whose pages may send cookies."""
        self._loaded = float("-inf")
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether it has been read at all."""
        return self._loaded > float("-inf")

    def stale(self, write_key: str) -> bool:
        """Whether the table must be read again before answering about this key: where nobody has for a while, and for
        a key that it does not hold, which may have been made a moment ago."""
        now = self._now()
        if not self.ready:
            return True
        if len(write_key) > LONGEST_KEY:
            return False
        if now - self._loaded > STALE_SECONDS:
            return True
        if self.known(write_key) is not None:
            return False
        return now - self._unknown.get(hashed(write_key), float("-inf")) > FRESH_SECONDS

    def known(self, write_key: str) -> Source | None:
        """The source of a write key."""
        if len(write_key) > LONGEST_KEY:
            return None
        # Hashing takes a millionth of a second: no key is kept to save that.
        return self._by_key.get(hashed(write_key))

    def refresh_soon(self, write_key: str) -> bool:
        """Whether to read the table beside answering: it is old, and nobody reads it yet. Who is told so must."""
        if self._refreshing or self._now() - self._loaded <= FRESH_SECONDS or self.known(write_key) is None:
            return False
        self._refreshing = True
        return True

    def refresh(self, write_key: str) -> None:
        """Reads the table. One at a time: who has waited for a reading that began later needs none of its own."""
        asked = self._now()
        with self._lock:
            try:
                if self._loaded < asked:
                    self._read()
            finally:
                self._refreshing = False
            if len(write_key) <= LONGEST_KEY and self.known(write_key) is None:
                self._remember(hashed(write_key))

    def _read(self) -> None:
        began = self._now()
        self._by_key, self._loaded = self._load(), began
        self.origins = frozenset(each for source in self._by_key.values() for each in source.origins)

    def _remember(self, unknown: str) -> None:
        """The latest stand last, so the first is the oldest."""
        self._unknown.pop(unknown, None)
        if len(self._unknown) >= MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[unknown] = self._now()
