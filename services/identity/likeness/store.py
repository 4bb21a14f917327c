"""Pairs that were proposed: ids, weights and names of fields, nothing of anybody's."""

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

SET: Final = ("threshold", "repeats", "compare")
"""For a source."""

Row = dict[str, Any]


class CandidateStore:
    """What the job found, and what was set for sources; beside the graph, and no part of it. What was said of a pair is
    in the graph (`verdicts`): proposals may be lost, and are found again by the next run."""

    def __init__(self, db: "Database[Any]") -> None:
        self._candidates = db["candidates"]
        self._sources = db["likeness_sources"]

    def setup(self) -> None:
        """Makes collections and indexes."""
        make_collection(self._sources)
        self._candidates.create_index([("profiles", ASCENDING)], name="profiles")
        self._candidates.create_index([("open", ASCENDING), ("probability", DESCENDING)], name="likeliest")

    def find(self, candidate: str) -> Row | None:
        """One of them."""
        return self.found([candidate]).get(candidate)

    def found(self, candidates: Collection[str]) -> dict[str, Row]:
        """Those of these that there are."""
        found = self._candidates.find({"_id": {"$in": list(candidates)}})
        return {doc["_id"]: _row(doc) for doc in found}

    def open(self, limit: int) -> list[Row]:
        """Those of which nothing was said, the likeliest first."""
        found = self._candidates.find({"open": True}).sort([("probability", DESCENDING), ("_id", ASCENDING)])
        return [_row(doc) for doc in found.limit(limit)]

    def put(self, row: Row) -> None:
        """A new one, or newer figures of one."""
        content = {name: value for name, value in row.items() if name != "candidate"}
        self._candidates.replace_one({"_id": row["candidate"]}, {**content, "open": True}, upsert=True)

    def close(self, candidate: str, within: Transaction) -> None:
        """Something was said of it."""
        self._candidates.update_one({"_id": candidate}, {"$set": {"open": False}}, session=within.session)

    def drop(self, candidates: Collection[str]) -> None:
        """Those of people who are no more."""
        if candidates:
            self._candidates.delete_many({"_id": {"$in": list(candidates)}})

    def forget(self, profiles: Collection[str]) -> None:
        """Those of people who are erased."""
        self._candidates.delete_many({"profiles": {"$in": list(profiles)}})

    def sources(self) -> list[Row]:
        """What was set for sources."""
        found = self._sources.find().sort("_id", ASCENDING)
        return [{"source": doc["_id"], **{name: doc[name] for name in SET}} for doc in found]

    def put_source(self, row: Row) -> None:
        """Sets it."""
        content = {name: row[name] for name in SET}
        self._sources.replace_one({"_id": row["source"]}, content, upsert=True)


def _row(doc: Row) -> Row:
    return {"candidate": doc["_id"], **{name: value for name, value in doc.items() if name not in ("_id", "open")}}
