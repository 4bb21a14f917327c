"""Pairs that were proposed, and what became of them: ids, weights and names of fields, nothing of anybody's."""

from collections.abc import Collection
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from shared.mongo import make_collection
from shared.transaction import Transaction

PROPOSED: Final = "proposed"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
STATUSES: Final = (PROPOSED, ACCEPTED, REFUSED)

Row = dict[str, Any]


class CandidateStore:
    """Beside the graph, and no part of it: a rebuild leaves it alone."""

    def __init__(self, db: "Database[Any]") -> None:
        self._candidates = db["candidates"]
        self._sources = db["likeness_sources"]

    def setup(self) -> None:
        """Makes collections and indexes."""
        for each in (self._candidates, self._sources):
            make_collection(each)
        self._candidates.create_index([("profiles", ASCENDING)], name="profiles")
        self._candidates.create_index([("status", ASCENDING), ("probability", DESCENDING)], name="status")

    def find(self, candidate: str) -> Row | None:
        """One of them."""
        doc = self._candidates.find_one({"_id": candidate})
        return _row(doc) if doc else None

    def rows(self, status: str, limit: int) -> list[Row]:
        """The likeliest first."""
        found = self._candidates.find({"status": status} if status else {})
        return [_row(doc) for doc in found.sort([("probability", DESCENDING), ("_id", ASCENDING)]).limit(limit)]

    def about(self, profiles: Collection[str]) -> list[Row]:
        """All that name one of these."""
        return [_row(doc) for doc in self._candidates.find({"profiles": {"$in": list(profiles)}})]

    def put(self, row: Row) -> None:
        """A new one, or newer figures of one that is proposed; what was decided stays."""
        content = {name: value for name, value in row.items() if name not in ("candidate", "status", "decided")}
        self._candidates.update_one(
            {"_id": row["candidate"]},
            {"$set": content, "$setOnInsert": {"status": PROPOSED, "decided": None}},
            upsert=True,
        )

    def decide(self, candidate: str, status: str, now: int, within: Transaction | None = None) -> None:
        """What became of it."""
        session = within.session if within else None
        self._candidates.update_one({"_id": candidate}, {"$set": {"status": status, "decided": now}}, session=session)

    def drop(self, candidates: Collection[str]) -> None:
        """Those of people who are no more."""
        if candidates:
            self._candidates.delete_many({"_id": {"$in": list(candidates)}})

    def sources(self) -> list[Row]:
        """What was set for sources."""
        found = self._sources.find().sort("_id", ASCENDING)
        return [{"source": doc["_id"], "threshold": doc["threshold"], "repeats": doc["repeats"]} for doc in found]

    def put_source(self, row: Row) -> None:
        """Sets it."""
        content = {"threshold": row["threshold"], "repeats": row["repeats"]}
        self._sources.replace_one({"_id": row["source"]}, content, upsert=True)


def _row(doc: Row) -> Row:
    return {"candidate": doc["_id"], **{name: value for name, value in doc.items() if name != "_id"}}
