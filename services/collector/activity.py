"""What each source has sent lately: counted in memory, added up in a collection every few seconds.

Figures to look at, not facts: those not yet written when the process is killed are lost.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import structlog
from pymongo import UpdateOne, WriteConcern
from pymongo.database import Database
from pymongo.errors import PyMongoError

from services.collector.domain.plan import Violation
from shared.eventlog.event import derive_id

WRITE_SECONDS: Final = 2.0
EXAMPLES: Final = 5
MOST_SHOWN: Final = 1_000
MOST_KINDS: Final = 1_000
"""Kinds of violations that are counted apart between two writes; a sender may make up any number of names."""
KINDS: Final = ("events", "errors", "refused")
"""Messages taken in; those set aside; requests that were refused."""

logger = structlog.get_logger(__name__)


class Broken(NamedTuple):
    """A kind of violation of a source's tracking plan."""

    source: str
    violation: Violation


class Seen(NamedTuple):
    """How often, when last, and in which requests."""

    times: int
    last: int
    examples: tuple[str, ...]

    def and_(self, now: int, correlation: str) -> "Seen":
        """Once more."""
        return Seen(self.times + 1, now, (*self.examples[1 - EXAMPLES :], correlation))


class ActivityStore:
    """Source -> its counts and the last time it was heard of; and what was not as its plan says."""

    def __init__(self, db: "Database[Any]") -> None:
        self._activity = db.get_collection("activity", write_concern=WriteConcern(w=1))
        self._violations = db.get_collection("violations", write_concern=WriteConcern(w=1))

    def add_violations(self, broken: Mapping[Broken, Seen]) -> None:
        """Adds up."""
        steps: list[Any] = [
            UpdateOne(
                {"_id": derive_id(each.source, *each.violation)},
                {
                    "$setOnInsert": {"source": each.source, **each.violation._asdict(), "first": seen.last},
                    "$inc": {"count": seen.times},
                    "$max": {"last": seen.last},
                    "$push": {"examples": {"$each": list(seen.examples), "$slice": -EXAMPLES}},
                },
                upsert=True,
            )
            for each, seen in broken.items()
        ]
        if steps:
            self._violations.bulk_write(steps, ordered=False)

    def violations(self, source: str) -> list[dict[str, Any]]:
        """A source's, most frequent first: {event, path, rule, count, first, last, examples}."""
        found = self._violations.find({"source": source}, {"_id": 0, "source": 0}).sort("count", -1).limit(MOST_SHOWN)
        return [{**doc, **{name: int(doc[name]) for name in ("count", "first", "last")}} for doc in found]

    def forget_violations(self, source: str) -> None:
        """Counts anew: the plan is another."""
        self._violations.delete_many({"source": source})

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
        self._broken: dict[Broken, Seen] = {}
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

    def violated(self, source: str, now: int, correlation: str, violations: Iterable[Violation]) -> None:
        """A request held what its source's plan does not expect."""
        with self._lock:
            for each in violations:
                kind = Broken(source, each)
                if kind not in self._broken and len(self._broken) >= MOST_KINDS:
                    kind = Broken(source, Violation("*", "*", each.rule))
                self._broken[kind] = self._broken.get(kind, Seen(0, now, ())).and_(now, correlation)

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
            seen, self._seen = self._seen, {}
            broken, self._broken = self._broken, {}
        try:
            self._store.add_violations(broken)
            self._store.add(counts, seen)
        except PyMongoError as error:
            logger.warning("activity of sources is not counted", error=type(error).__name__)
            with self._lock:
                self._counts.update(counts)
                self._seen = {**seen, **self._seen}
