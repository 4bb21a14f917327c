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

from services.collector.domain.plan import UNTOLD, Violation
from services.collector.domain.raw import request_id
from shared.eventlog.event import derive_id

WRITE_SECONDS: Final = 2.0
EXAMPLES: Final = 5
MOST_KINDS: Final = 1_000
"""Kinds of violations that are counted apart between two writes."""
MOST_KEPT: Final = 1_000
"""Kinds of violations of one source that are counted apart; the others are counted together."""
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

    def and_(self, now: int, correlation: str | None) -> "Seen":
        """Once more; None: in a request that may be no example."""
        examples = self.examples if correlation is None else (*self.examples[1 - EXAMPLES :], correlation)
        return Seen(self.times + 1, now, examples)

    def with_(self, other: "Seen") -> "Seen":
        """Both."""
        examples = (*self.examples, *other.examples)[-EXAMPLES:]
        return Seen(self.times + other.times, max(self.last, other.last), examples)


OTHERS: Final = Violation(UNTOLD, UNTOLD, UNTOLD)
"""Kinds that are too many to be counted apart."""


def _id(kind: Broken) -> str:
    return derive_id(kind.source, *kind.violation.row().values())


class ActivityStore:
    """Source -> its counts and the last time it was heard of; and what was not as its plan says."""

    def __init__(self, db: "Database[Any]") -> None:
        self._activity = db.get_collection("activity", write_concern=WriteConcern(w=1))
        self._violations = db.get_collection("violations", write_concern=WriteConcern(w=1))

    def setup(self) -> None:
        """Makes the index."""
        self._violations.create_index("source", name="source")

    def add_violations(self, broken: Mapping[Broken, Seen]) -> None:
        """Adds up."""
        steps: list[Any] = [
            UpdateOne(
                {"_id": _id(each)},
                {
                    "$setOnInsert": {"source": each.source, **each.violation.row(), "first": seen.last},
                    "$inc": {"count": seen.times},
                    "$max": {"last": seen.last},
                    "$push": {"examples": {"$each": list(seen.examples), "$slice": -EXAMPLES}},
                },
                upsert=True,
            )
            for each, seen in self._bounded(broken).items()
        ]
        if steps:
            self._violations.bulk_write(steps, ordered=False)

    def _bounded(self, broken: Mapping[Broken, Seen]) -> dict[Broken, Seen]:
        """Of each source as many kinds as may be kept, with those that there are already."""
        known: dict[str, set[str]] = {}
        found: dict[Broken, Seen] = {}
        for each, seen in broken.items():
            if each.source not in known:
                held = self._violations.find({"source": each.source}, {"_id": 1}).limit(MOST_KEPT + 1)
                known[each.source] = {doc["_id"] for doc in held}
            ids = known[each.source]
            kind = each if _id(each) in ids or len(ids) < MOST_KEPT else Broken(each.source, OTHERS)
            ids.add(_id(kind))
            found[kind] = found[kind].with_(seen) if kind in found else seen
        return found

    def violations(self, source: str) -> list[dict[str, Any]]:
        """A source's, most frequent first: {event, path, rule, count, first, last, examples}."""
        found = (
            self._violations.find({"source": source}, {"_id": 0, "source": 0}).sort("count", -1).limit(2 * MOST_KEPT)
        )
        return [{**doc, **{name: int(doc[name]) for name in ("count", "first", "last")}} for doc in found]

    def expire_violations(self, source: str, before: int) -> int:
        """Removes what a source has not broken since an instant (ms), and examples from before; how many kinds."""
        # A request's id begins with the instant at which it came.
        early = {"$pull": {"examples": {"$lt": request_id(before, "")}}}
        self._violations.update_many({"source": source}, early)
        return self._violations.delete_many({"source": source, "last": {"$lt": before}}).deleted_count

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
                kind = Broken(source, each._replace(special=False))
                if kind not in self._broken and len(self._broken) >= MOST_KINDS:
                    kind = Broken(source, OTHERS)
                # The log says in clear whose a request was: of what is special none is an example.
                example = None if each.special else correlation
                self._broken[kind] = self._broken.get(kind, Seen(0, now, ())).and_(now, example)

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
