"""What each source has sent lately: counted in memory, added up in a collection every few seconds.

Figures to look at, not facts: those not yet written when the process is killed are lost.
"""

import threading
from collections import Counter
from typing import Any, Final

import structlog
from pymongo import UpdateOne, WriteConcern
from pymongo.database import Database
from pymongo.errors import PyMongoError

WRITE_SECONDS: Final = 2.0
KINDS: Final = ("events", "errors", "refused")
"""Messages taken in; those set aside; requests that were refused."""

logger = structlog.get_logger(__name__)


class ActivityStore:
    """Source -> its counts and the last time it was heard of."""

    def __init__(self, db: "Database[Any]") -> None:
        self._activity = db.get_collection("activity", write_concern=WriteConcern(w=1))

    def add(self, counts: Counter[tuple[str, str]], seen: dict[str, int]) -> None:
        """Adds up."""
        steps: list[Any] = [
            UpdateOne(
                {"_id": source},
                {"$max": {"last_seen": at}, "$inc": {kind: counts[source, kind] for kind in KINDS}},
                upsert=True,
            )
            for source, at in seen.items()
        ]
        if steps:
            self._activity.bulk_write(steps, ordered=False)

    def all(self) -> dict[str, dict[str, int]]:
        """Source -> {last_seen, events, errors, refused}."""
        found = self._activity.find()
        return {doc["_id"]: {name: int(doc.get(name, 0)) for name in ("last_seen", *KINDS)} for doc in found}


class Activity:
    """The counts of this process. `note` never waits."""

    def __init__(self, store: ActivityStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seen: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="activity", daemon=True)

    def start(self) -> None:
        """Starts writing."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def note(self, source: str, now: int, events: int = 0, errors: int = 0, refused: int = 0) -> None:
        """A request has been dealt with. `now`: ms."""
        with self._lock:
            self._seen[source] = now
            for kind, number in zip(KINDS, (events, errors, refused), strict=True):
                self._counts[source, kind] += number

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
            seen, self._seen = self._seen, {}
        try:
            self._store.add(counts, seen)
        except PyMongoError as error:
            logger.warning("activity of sources is not counted", error=type(error).__name__)
            with self._lock:
                self._counts.update(counts)
                self._seen = {**seen, **self._seen}
