"""Segmentation's collections: segments, their versions, and a document a profile with the segments that it is in.

Whatever changes what is evaluated, or by which definition, moves the revision in the same transaction: what was
prepared by an older one is void.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson
from pymongo import ASCENDING, DESCENDING, DeleteOne, ReplaceOne
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from services.segmentation.domain.membership import Membership, Segment
from shared.errors import CheckpointMoved, Conflict, NotFound
from shared.transaction import Transaction

PAGE: Final = 2_000
SET: Final = "segments"


class SegmentationStore:
    """The collections. With `beside`, memberships beside the live ones: a rebuild's."""

    def __init__(self, db: "Database[Any]", beside: bool = False) -> None:
        self.segments = db["segments"]
        self.versions = db["versions"]
        self.sets = db["sets"]
        self.people = db["people_rebuilt" if beside else "people"]

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.segments.create_index("key", unique=True, name="key")
        self.versions.create_index([("segment", ASCENDING), ("version", ASCENDING)], unique=True, name="version")
        self.sets.update_one({"_id": SET}, {"$setOnInsert": {"revision": 1}}, upsert=True)
        self.people.create_index([("in", ASCENDING), ("_id", ASCENDING)], name="in")
        self.people.create_index([("next", ASCENDING)], name="next", sparse=True)

    # Segments

    def revision(self, within: Transaction | None = None) -> int:
        """Of the set of segments: it moves with whatever is evaluated otherwise."""
        found = self.sets.find_one({"_id": SET}, session=_session(within))
        return int(found["revision"]) if found else 0

    def _moves(self, within: Transaction | None) -> None:
        self.sets.update_one({"_id": SET}, {"$inc": {"revision": 1}}, upsert=True, session=_session(within))

    def add(self, segment: Segment, within: Transaction | None = None) -> None:
        """A new one; its key is nobody else's."""
        try:
            self.segments.insert_one(_document(segment), session=_session(within))
        except DuplicateKeyError as error:
            raise Conflict(f"there is a segment {segment.key} already") from error
        self._keep(segment, within)
        self._moves(within)

    def put(self, segment: Segment, was: Segment, within: Transaction) -> None:
        """In the place of what it was. Raises Conflict where another has changed it."""
        document = _document(segment)
        for name in ("_id", "after", "filled", "round"):
            del document[name]
        beginning = {"after": "", "filled": False} if segment.version != was.version else {}
        chosen = {"_id": was.id, "version": was.version, "deleted": False, "coming": _document(was)["coming"]}
        done = self.segments.update_one(chosen, {"$set": document | beginning}, session=within.session)
        if done.matched_count != 1:
            raise Conflict(f"the segment {was.key} has been changed by somebody else: look at it again")
        if segment.version != was.version:
            self._keep(segment, within)
        self._moves(within)

    def _keep(self, segment: Segment, within: Transaction | None) -> None:
        document = {
            "segment": segment.id,
            "version": segment.version,
            "definition": orjson.dumps(segment.definition).decode(),
            "since": segment.since or segment.created,
        }
        self.versions.insert_one(document, session=_session(within))

    def versions_of(self, segment: Segment) -> list[dict[str, Any]]:
        """{version, definition, since}, the latest first."""
        found = self.versions.find({"segment": segment.id}).sort("version", DESCENDING)
        return [
            {"version": doc["version"], "definition": orjson.loads(doc["definition"]), "since": doc["since"]}
            for doc in found
        ]

    def refill(self, segments: Collection[str], within: Transaction) -> None:
        """Everybody is looked at again for these."""
        chosen = {"_id": {"$in": list(segments)}, "deleted": False}
        fields = {"$set": {"after": "", "filled": False}, "$inc": {"round": 1}}
        self.segments.update_many(chosen, fields, session=within.session)

    def all(self) -> list[Segment]:
        """All that are not deleted, oldest first."""
        return [_segment(doc) for doc in self.segments.find({"deleted": False}).sort("created", ASCENDING)]

    def find(self, key_or_id: str) -> Segment:
        """One, by id or key. Raises SamlaError."""
        doc = self.segments.find_one({"$or": [{"_id": key_or_id}, {"key": key_or_id}], "deleted": False})
        if doc is None:
            raise NotFound(f"there is no segment {key_or_id}: see `samla segment list`")
        return _segment(doc)

    def being_changed(self) -> list[Segment]:
        """Those that history is still to be looked through for, and those that are to be emptied."""
        return [_segment(doc) for doc in self.segments.find({"filled": False})]

    def progress(self, segment: Segment, after: str, filled: bool, within: Transaction) -> None:
        """How far looking through history has come. Raises CheckpointMoved where another was faster, or it has been
        changed."""
        chosen = {
            "_id": segment.id,
            "after": segment.after,
            "deleted": segment.deleted,
            "filled": False,
            "version": segment.version,
            "round": {"$in": [segment.round, None]} if not segment.round else segment.round,
        }
        moved = self.segments.update_one(chosen, {"$set": {"after": after, "filled": filled}}, session=within.session)
        if moved.matched_count != 1:
            raise CheckpointMoved("another instance has gone on with it")

    def delete(self, segment: Segment, within: Transaction) -> None:
        """From now on nobody enters; its members leave in the background. Its key is free again."""
        fields = {"deleted": True, "filled": False, "after": "", "key": f"{segment.key} (deleted {segment.id})"}
        self.segments.update_one({"_id": segment.id}, {"$set": fields}, session=within.session)
        self._moves(within)

    def sizes(self) -> dict[str, int]:
        """Segment -> members."""
        found = self.people.aggregate([{"$unwind": "$in"}, {"$group": {"_id": "$in", "n": {"$sum": 1}}}])
        return {doc["_id"]: doc["n"] for doc in found}

    # Memberships

    def load(self, profiles: Collection[str], within: Transaction | None = None) -> dict[str, Membership]:
        """One for each profile, an empty one where there is none."""
        chosen = {"_id": {"$in": list(profiles)}}
        found = self.people.find(chosen, session=_session(within), batch_size=10_000)
        known = {doc["_id"]: _membership(doc) for doc in found}
        return {each: known.get(each) or Membership(profile=each) for each in profiles}

    def save(self, changed: Mapping[str, Membership], within: Transaction) -> None:
        """Replaces memberships that still are what they were. Raises CheckpointMoved where one is not."""
        now = self.load(changed, within)
        if any(now[name].turn != each.turn for name, each in changed.items()):
            raise CheckpointMoved("a membership has changed meanwhile")
        steps: list[Any] = [_step(each) for each in changed.values()]
        if steps:
            self.people.bulk_write(steps, ordered=False, session=within.session)

    def due(self, now: int, limit: int) -> list[Membership]:
        """Memberships whose time has come, the longest waiting first."""
        found = self.people.find({"next": {"$lte": now}}).sort("next", ASCENDING).limit(limit)
        return [_membership(doc) for doc in found]

    def members(self, segment: str, after: str, limit: int) -> list[str]:
        """A page of a segment's members, by id."""
        found = self.people.find({"in": segment, "_id": {"$gt": after}}, {"_id": 1}).sort("_id", ASCENDING)
        return [doc["_id"] for doc in found.limit(limit)]

    def erase(self, profiles: Collection[str], within: Transaction) -> None:
        """Drops memberships."""
        self.people.delete_many({"_id": {"$in": list(profiles)}}, session=within.session)

    def rows(self, session: Any = None) -> Iterator[tuple[str, bytes]]:
        """(id, content) of every membership: what a digest is made of. When to look again does not follow
        from the log, but from the profile as it is."""
        for doc in self.people.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            if doc["since"]:
                yield doc["_id"], orjson.dumps(doc["since"], option=orjson.OPT_SORT_KEYS)


def _session(within: Transaction | None) -> Any:
    return within.session if within else None


def _step(each: Membership) -> Any:
    document = {"turn": each.turn + 1, "in": list(each.since), "since": each.since, "due": each.due}
    if each.next is not None:
        document["next"] = each.next
    if not each.since and not each.due and not each.turn:
        return DeleteOne({"_id": each.profile})
    return ReplaceOne({"_id": each.profile}, document, upsert=True)


def _membership(doc: Mapping[str, Any]) -> Membership:
    return Membership(profile=doc["_id"], turn=int(doc["turn"]), since=doc["since"], due=doc["due"])


def _document(segment: Segment) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(segment)
    document["_id"] = document.pop("id")
    # Definitions may hold names with dots and dollars.
    document["definition"] = orjson.dumps(segment.definition).decode()
    document["coming"] = None if segment.coming is None else orjson.dumps(segment.coming).decode()
    return document


def _segment(doc: dict[str, Any]) -> Segment:
    coming = doc.get("coming")
    read = {"definition": orjson.loads(doc["definition"]), "coming": orjson.loads(coming) if coming else None}
    return msgspec.convert({**doc, "id": doc["_id"], **read}, Segment)
