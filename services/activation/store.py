"""Activation's collections: destinations, subscriptions, deliveries, and who was merged or erased.

A delivery's document is its state (domain/delivery.py) and two fields of the moment, which no event tells
of: `due`, the instant before which nobody looks at it, and `owner`, who is at it. Taking a delivery is moving
its `due` to the end of a short lease, if it still is what was read; so two instances share the work, and
what a killed one was at falls due again by itself.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, ReplaceOne, UpdateOne
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from contracts.activation import PENDING
from services.activation.domain.delivery import Delivery
from services.activation.domain.plan import Subscription
from services.activation.domain.segment import Segment
from shared.transaction import Transaction

Document = dict[str, Any]

LIVE_FIELDS: Final = ("due", "owner")
"""Of the moment; everything else in a delivery's document follows from the log."""


class ActivationStore:
    """The collections, in the service's own database."""

    def __init__(self, db: "Database[Any]") -> None:
        self._db = db
        self.deliveries = db["deliveries"]
        self.destinations = db["destinations"]
        self.subscriptions = db["subscriptions"]
        self.people = db["people"]
        # A lease that is lost costs an attempt more, no delivery: not worth waiting for a majority.
        self._leases = self.deliveries.with_options(write_concern=WriteConcern(w=1), read_concern=ReadConcern("local"))

    def setup(self) -> None:
        """Makes collections and indexes."""
        for keys in (
            [("status", ASCENDING), ("destination", ASCENDING), ("due", ASCENDING)],
            [("status", ASCENDING), ("reason", ASCENDING)],
            [("status", ASCENDING), ("created", DESCENDING)],
            [("created", DESCENDING)],
            [("profile", ASCENDING)],
        ):
            self.deliveries.create_index(keys)
        self.subscriptions.create_index([("segment", ASCENDING)])
        self.destinations.create_index([("created", ASCENDING)])
        self.people.create_index([("into", ASCENDING)], sparse=True)
        self.people.create_index([("erased", ASCENDING)], sparse=True)

    # Destinations and subscriptions

    def add_destination(self, document: Document) -> None:
        """Adds one; `_id` is its id."""
        self.destinations.insert_one(document)

    def all_destinations(self) -> list[Document]:
        """All, oldest first."""
        return list(self.destinations.find().sort("created", ASCENDING))

    def destination(self, identity: str) -> Document | None:
        """One, or None."""
        found: Document | None = self.destinations.find_one({"_id": identity})
        return found

    def change_destination(self, identity: str, fields: Document, within: Transaction | None = None) -> Document | None:
        """The destination with these fields set; None where there is none."""
        session = within.session if within else None
        found: Document | None = self.destinations.find_one_and_update(
            {"_id": identity}, {"$set": fields}, return_document=True, session=session
        )
        return found

    def slow_down(self, identity: str, until: int, now: int) -> None:
        """Gives a destination a pause. Several attempts that were under way at once count as one."""
        self.destinations.update_one(
            {"_id": identity, "slow_until": {"$lte": now}},
            {"$set": {"slow_until": until}, "$inc": {"slow_times": 1}},
        )

    def recovered(self, identity: str) -> None:
        """It has answered well: the next pause is a short one again."""
        self.destinations.update_one({"_id": identity, "slow_times": {"$gt": 0}}, {"$set": {"slow_times": 0}})

    def add_subscription(self, subscription: Subscription, segment: Segment, now: int) -> None:
        """Adds one, with what the segment was called then: should it be gone when the message is written."""
        document = _document(subscription) | {"about": msgspec.to_builtins(segment), "created": now}
        self.subscriptions.insert_one(document)

    def all_subscriptions(self, segments: Collection[str] | None = None) -> list[Subscription]:
        """All, or those of some segments."""
        chosen = {} if segments is None else {"segment": {"$in": list(segments)}}
        return [_read(doc, Subscription) for doc in self.subscriptions.find(chosen)]

    def remove_subscription(self, identity: str) -> bool:
        """Whether there was one. What it has scheduled is still delivered."""
        return self.subscriptions.delete_one({"_id": identity}).deleted_count == 1

    def remembered_segment(self, segment: str) -> Segment | None:
        """A segment as it was when it was last subscribed to."""
        found = self.subscriptions.find_one({"segment": segment}, sort=[("created", DESCENDING)])
        return msgspec.convert(found["about"], Segment) if found else None

    # Deliveries: their states

    def add(
        self,
        deliveries: Iterable[Delivery],
        taken: Collection[str],
        owner: str,
        lease: int,
        within: Transaction,
    ) -> None:
        """Adds scheduled deliveries. Those in `taken` are `owner`'s until `lease` (ms)."""
        documents = [
            _document(each) | ({"due": lease, "owner": owner} if each.id in taken else {"due": each.next})
            for each in deliveries
        ]
        if documents:
            self.deliveries.insert_many(documents, ordered=False, session=within.session)

    def current(self, identities: Collection[str], within: Transaction | None = None) -> dict[str, Delivery]:
        """Id -> state, of those that there are."""
        session = within.session if within else None
        found = self.deliveries.find({"_id": {"$in": list(identities)}}, session=session)
        return {doc["_id"]: _read(doc, Delivery) for doc in found}

    def save(self, deliveries: Iterable[Delivery], within: Transaction) -> None:
        """Replaces states; nobody is at them any more, and they are due as their state says."""
        steps = [ReplaceOne({"_id": each.id}, _document(each) | {"due": each.next}) for each in deliveries]
        if steps:
            self.deliveries.bulk_write(steps, ordered=False, session=within.session)

    def put(self, deliveries: Iterable[Delivery], within: Transaction) -> None:
        """Writes states, whether or not they are there: for a rebuild."""
        steps = [ReplaceOne({"_id": each.id}, _document(each) | {"due": each.next}, upsert=True) for each in deliveries]
        if steps:
            self.deliveries.bulk_write(steps, ordered=False, session=within.session)

    def remove(self, identities: Collection[str], within: Transaction) -> None:
        """Removes deliveries: for a rebuild."""
        self.deliveries.delete_many({"_id": {"$in": list(identities)}}, session=within.session)

    # People: who was merged into whom, who is erased

    def merge(self, merges: Sequence[tuple[str, str]], at: int, within: Transaction) -> None:
        """Remembers (old, into), by a decision of identity's: a later one holds, in whatever order they come. What
        belongs to somebody erased goes.

        The one merged into is written to as well, so that this and an erasure of that one conflict.
        """
        steps: list[Any] = []
        for old, into in merges:
            steps.append(UpdateOne({"_id": old}, [_as_of(at, into)], upsert=True))
            steps.append(UpdateOne({"_id": into}, {"$inc": {"merges": 1}}, upsert=True))
        if not steps:
            return
        self.people.bulk_write(steps, ordered=True, session=within.session)
        chosen = {"_id": {"$in": [into for _, into in merges]}, "erased": {"$exists": True}}
        for doc in list(self.people.find(chosen, session=within.session)):
            self.erase([doc["_id"]], doc["erased"], within)

    def part(self, profiles: Collection[str], at: int, within: Transaction) -> None:
        """These are people of their own, by a decision of identity's."""
        steps: list[Any] = [UpdateOne({"_id": each}, [_as_of(at, None)], upsert=True) for each in profiles]
        if steps:
            self.people.bulk_write(steps, ordered=True, session=within.session)

    def erase(self, profiles: Collection[str], request: str, within: Transaction) -> int:
        """Drops all deliveries of these profiles and of those merged into them, and remembers that they are
        erased; how many deliveries there were."""
        whole = self._with_parts(profiles, within)
        marks: list[Any] = [UpdateOne({"_id": each}, {"$set": {"erased": request}}, upsert=True) for each in whole]
        self.people.bulk_write(marks, ordered=True, session=within.session)
        return self.drop(whole, within)

    def _with_parts(self, profiles: Collection[str], within: Transaction) -> set[str]:
        whole, fresh = set(profiles), set(profiles)
        while fresh:
            found = self.people.find({"into": {"$in": list(fresh)}}, {"_id": 1}, session=within.session)
            fresh = {doc["_id"] for doc in found} - whole
            whole |= fresh
        return whole

    def drop(self, profiles: Collection[str], within: Transaction) -> int:
        """Drops all deliveries of just these profiles; how many there were."""
        chosen = {"profile": {"$in": list(profiles)}}
        return self.deliveries.delete_many(chosen, session=within.session).deleted_count

    def erased(self, profiles: Collection[str], within: Transaction) -> set[str]:
        """Those of the profiles that are erased."""
        chosen = {"_id": {"$in": list(profiles)}, "erased": {"$exists": True}}
        return {doc["_id"] for doc in self.people.find(chosen, {"_id": 1}, session=within.session)}

    def erased_by(self, requests: Collection[str], within: Transaction) -> list[str]:
        """The profiles that these erasure requests were about."""
        chosen = {"erased": {"$in": list(requests)}}
        return [doc["_id"] for doc in self.people.find(chosen, {"_id": 1}, session=within.session)]

    # Deliveries: whose turn it is

    def due(self, now: int, rooms: dict[str, int], limit: int) -> list[Delivery]:
        """Pending deliveries that are due, oldest first; of each destination at most its room."""
        if not rooms or limit <= 0:
            return []
        chosen = {"status": PENDING, "destination": {"$in": list(rooms)}, "due": {"$lte": now}}
        left = dict(rooms)
        found = []
        for doc in self._leases.find(chosen).sort("due", ASCENDING).limit(limit):
            if left[doc["destination"]] > 0:
                left[doc["destination"]] -= 1
                found.append(_read(doc, Delivery))
        return found

    def take(self, deliveries: Sequence[Delivery], owner: str, lease: int, now: int) -> list[Delivery]:
        """Those of the deliveries that are the owner's now, until `lease`: which nobody took meanwhile."""
        ids = [each.id for each in deliveries]
        still_due = {"_id": {"$in": ids}, "status": PENDING, "due": {"$lte": now}}
        taken = self._leases.update_many(still_due, {"$set": {"due": lease, "owner": owner}})
        if taken.modified_count == len(ids):
            return list(deliveries)
        mine = {"_id": {"$in": ids}, "status": PENDING, "due": lease, "owner": owner}
        return [_read(doc, Delivery) for doc in self._leases.find(mine)]

    def keep(self, identities: Collection[str], owner: str, lease: int) -> None:
        """Lengthens the lease of what the owner is at."""
        mine = {"_id": {"$in": list(identities)}, "status": PENDING, "owner": owner}
        self._leases.update_many(mine, {"$set": {"due": lease}})

    def put_back(self, due: dict[str, int], owner: str) -> None:
        """Gives deliveries up: they are anybody's again, at the instant given for each."""
        steps = [
            UpdateOne(
                {"_id": identity, "status": PENDING, "owner": owner},
                {"$set": {"due": instant}, "$unset": {"owner": ""}},
            )
            for identity, instant in due.items()
        ]
        if steps:
            self._leases.bulk_write(steps, ordered=False)

    # Deliveries: for people

    def latest(self, status: str | None, destination: str | None, limit: int) -> list[Delivery]:
        """The deliveries scheduled last."""
        chosen = {name: value for name, value in (("status", status), ("destination", destination)) if value}
        found = self.deliveries.find(chosen).sort("created", DESCENDING).limit(limit)
        return [_read(doc, Delivery) for doc in found]

    def ids_of(self, destination: str, status: str) -> list[str]:
        """Ids of a destination's deliveries in one status."""
        chosen = {"destination": destination, "status": status}
        return [doc["_id"] for doc in self.deliveries.find(chosen, {"_id": 1})]

    def counts(self) -> dict[tuple[str, str], int]:
        """(status, reason) -> how many."""
        group = {"_id": {"status": "$status", "reason": "$reason"}, "n": {"$sum": 1}}
        found = self.deliveries.aggregate([{"$group": group}])
        return {(doc["_id"]["status"], doc["_id"].get("reason", "")): doc["n"] for doc in found}

    def states(self, within: Transaction | None = None) -> Iterable[Delivery]:
        """Every delivery's state, by id."""
        session = within.session if within else None
        for doc in self.deliveries.find({}, session=session, batch_size=2_000).sort("_id", ASCENDING):
            yield _read(doc, Delivery)


def _as_of(at: int, into: str | None) -> Document:
    """What a person is a part of (None: of nobody), unless a later decision has said something else."""
    newer = {"$lt": [{"$ifNull": ["$at", -1]}, at]}
    said: Any = "$$REMOVE" if into is None else into
    return {"$set": {"into": {"$cond": [newer, said, "$into"]}, "at": {"$max": ["$at", Int64(at)]}}}


def _document(value: msgspec.Struct) -> Document:
    document: Document = msgspec.to_builtins(value)
    document["_id"] = document.pop("id")
    return document


def _read(document: Document, kind: Any) -> Any:
    document["id"] = document.pop("_id")
    return msgspec.convert(document, kind)
