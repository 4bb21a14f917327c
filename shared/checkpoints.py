"""Checkpoints: how far a subscription has come in a partition; and the events that it has parked."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
from bson.int64 import Int64
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import PyMongoError

from shared.errors import CheckpointMoved, Conflict, Unavailable
from shared.memory import MemoryTransactor
from shared.transaction import Transaction


class Place(NamedTuple):
    """One partition as one subscription sees it."""

    subscription: str
    stream: str
    partition: int


class Mark(NamedTuple):
    """Where a checkpoint was when it was read."""

    position: int
    """The last position handled; 0 at the start."""
    turn: int = 0
    """See `Checkpoints.turn`."""


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be handled. It holds no text of the error's: that might quote the event."""

    id: str
    subscription: str
    stream: str
    partition: int
    position: int
    event: str
    type: str
    error: str
    where: str
    time: int


class Checkpoints(Protocol):
    """The two tables of a consumer, in the database of its projection."""

    def setup(self) -> None:
        """Makes the collections."""

    def at(self, place: Place) -> Mark:
        """How far it has come. Raises Unavailable."""

    def all(self, session: Any = None) -> dict[Place, int]:
        """Every checkpoint there is."""

    def move(self, within: Transaction | None, moves: Mapping[Place, tuple[Mark, int]]) -> None:
        """Moves checkpoints (place -> from where, to where). Raises CheckpointMoved where one is not there any more.

        Without a transaction some may have moved when it raises: for batches from which nothing follows.
        """

    def turn(self, within: Transaction, positions: Mapping[Place, int]) -> None:
        """Voids every batch that is under way at these checkpoints, which stay where they are: its move will raise
        CheckpointMoved. For what changes the ground that batches are decided on. Raises it itself where one of them is
        not at its position."""

    def guard(self, within: Transaction) -> None:
        """For transactions that move no checkpoint: raises Unavailable while a rebuild holds the service up, and
        conflicts with the beginning of that."""

    def park(self, within: Transaction, parked: Parked) -> None:
        """Sets an event aside."""

    def parked(self) -> list[Parked]:
        """What is parked, oldest first."""

    def unpark(self, within: Transaction, identity: str) -> bool:
        """Takes an event off the list; whether it was there."""


def handled_by(subscription: str, checkpoints: Checkpoints, session: Any = None) -> dict[str, int]:
    """`stream:partition` -> how far the subscription has come; as of a session, if one is given."""
    return {
        f"{place.stream}:{place.partition}": position
        for place, position in checkpoints.all(session).items()
        if place.subscription == subscription
    }


def is_behind(handled: Mapping[str, int], causes: Mapping[str, int], stream: str) -> bool:
    """Whether one of the causes that lie in this stream has not been handled yet."""
    return any(handled.get(place, 0) < at for place, at in causes.items() if place.startswith(f"{stream}:"))


def parked_id(place: Place, position: int) -> str:
    """The parked entry's id, which says where it is from."""
    return f"{place.subscription}/{place.stream}:{place.partition}:{position}"


class MongoCheckpoints:
    """In MongoDB. With an `end` to the collections' names, others beside the live ones: a rebuild's."""

    def __init__(self, db: "Database[Any]", end: str = "") -> None:
        self._checkpoints = db[f"checkpoints{end}"]
        self._parked = db[f"parked{end}"]
        self._guard = db[f"guard_of_rebuild{end}"]

    def setup(self) -> None:
        """Makes the collections: a transaction must not have to."""
        self._parked.create_index([("time", 1)], name="time")
        self._checkpoints.create_index([("subscription", 1)], name="subscription")
        self._guard.update_one({"_id": "guard"}, {"$setOnInsert": {"held": False}}, upsert=True)

    def at(self, place: Place) -> Mark:
        """How far it has come."""
        try:
            found = self._checkpoints.find_one({"_id": _name(place)})
            if found is None:
                self._start(place)
        except PyMongoError as error:
            raise Unavailable(f"checkpoint {_name(place)} cannot be read: {type(error).__name__}") from error
        position = int(found["position"]) if found else 0
        if position < 0:
            raise Unavailable(f"{_name(place)} is held up by a rebuild; should that have ended, run it again")
        return Mark(position, int(found.get("turn", 0)) if found else 0)

    def hold(self, by: str = "") -> None:
        """Marks every checkpoint, so that no batch can commit, not even one that is under way: each becomes
        negative, which is no position that anybody has read. Held ones stay held. Raises Conflict where somebody
        else holds them, if it is said `by` whom they are to be held."""
        free = {"_id": "guard", "$or": [{"held": False}, {"by": by}]} if by else {"_id": "guard"}
        if self._guard.update_one(free, {"$set": {"held": True, "by": by}}, upsert=not by).matched_count != 1 and by:
            raise Conflict("another rebuild holds the service up")
        held = [{"$set": {"position": {"$subtract": [-1, "$position"]}}}]
        self._checkpoints.update_many({"position": {"$gte": 0}}, held)

    def release(self, within: Transaction | None = None) -> None:
        """Ends `hold`: the positions are what they were, and whatever was under way when it began is void."""
        session = within.session if within else None
        turn = {"$add": [{"$ifNull": ["$turn", 0]}, 1]}
        back = [{"$set": {"position": {"$subtract": [-1, "$position"]}, "turn": turn}}]
        self._checkpoints.update_many({"position": {"$lt": 0}}, back, session=session)
        self._guard.update_one({"_id": "guard"}, {"$set": {"held": False, "by": ""}}, session=session)

    def held_by(self) -> str | None:
        """By whom they are held; None: they are not."""
        found = self._guard.find_one({"_id": "guard", "held": True})
        return None if found is None else str(found.get("by", ""))

    def confirm(self, within: Transaction, by: str) -> None:
        """Raises Conflict where they are not held by this one; conflicts with whoever ends that meanwhile."""
        mine = {"_id": "guard", "held": True, "by": by}
        if self._guard.update_one(mine, {"$inc": {"turns": 1}}, session=within.session).matched_count != 1:
            raise Conflict("this rebuild does not hold the service up any more: somebody has ended that")

    def guard(self, within: Transaction) -> None:
        """For transactions that move no checkpoint: raises Unavailable during a rebuild, and conflicts with
        the beginning of one."""
        seen = self._guard.update_one({"_id": "guard", "held": False}, {"$inc": {"turns": 1}}, session=within.session)
        if seen.matched_count != 1:
            raise Unavailable("held up by a rebuild; should that have ended, run it again")

    def _start(self, place: Place) -> None:
        """Made once, so that moving it is always an update that two instances conflict on."""
        fresh = {**place._asdict(), "position": Int64(0)}
        self._checkpoints.bulk_write([UpdateOne({"_id": _name(place)}, {"$setOnInsert": fresh}, upsert=True)])

    def all(self, session: Any = None) -> dict[Place, int]:
        """Every checkpoint there is; as of a snapshot session, if one is given."""
        return {_place(doc): _read(doc) for doc in self._checkpoints.find({}, session=session)}

    def move(self, within: Transaction | None, moves: Mapping[Place, tuple[Mark, int]]) -> None:
        """Moves checkpoints. In their order, as appenders do: two instances meet at the first they share."""
        steps = [
            UpdateOne(
                # Those that were never turned need not say so.
                {"_id": _name(place), "position": old.position, "turn": old.turn or {"$in": [0, None]}},
                {"$set": {"position": Int64(new)}},
            )
            for place, (old, new) in moves.items()
        ]
        moved = self._checkpoints.bulk_write(steps, ordered=True, session=within.session if within else None)
        if moved.matched_count != len(steps):
            raise CheckpointMoved(f"{', '.join(map(_name, moves))}: not all are where they were read")

    def turn(self, within: Transaction, positions: Mapping[Place, int]) -> None:
        """Voids what is under way."""
        steps = [
            UpdateOne({"_id": _name(place), "position": position}, {"$inc": {"turn": 1}})
            for place, position in sorted(positions.items())
        ]
        if steps and self._checkpoints.bulk_write(steps, session=within.session).matched_count != len(steps):
            raise CheckpointMoved("events have been handled meanwhile")

    def park(self, within: Transaction, parked: Parked) -> None:
        """Sets an event aside."""
        document = msgspec.to_builtins(parked)
        self._parked.replace_one({"_id": parked.id}, document, upsert=True, session=within.session)

    def parked(self) -> list[Parked]:
        """What is parked, oldest first."""
        found = self._parked.find({}, {"_id": 0}).sort("time", 1)
        return [msgspec.convert(doc, Parked) for doc in found]

    def unpark(self, within: Transaction, identity: str) -> bool:
        """Takes an event off the list."""
        return self._parked.delete_one({"_id": identity}, session=within.session).deleted_count == 1


class MemoryCheckpoints:
    """In memory: the twin."""

    def __init__(self, transactor: MemoryTransactor) -> None:
        self._transactor = transactor
        self._marks: dict[Place, Mark] = {}
        self._parked: dict[str, Parked] = {}

    def setup(self) -> None:
        """Nothing to make."""

    def at(self, place: Place) -> Mark:
        """How far it has come."""
        return self._marks.get(place, Mark(0))

    def all(self, session: Any = None) -> dict[Place, int]:
        """Every checkpoint there is."""
        return {place: mark.position for place, mark in self._marks.items()}

    def move(self, within: Transaction | None, moves: Mapping[Place, tuple[Mark, int]]) -> None:
        """Moves checkpoints."""
        for place, (old, new) in moves.items():
            if self.at(place) != old:
                raise CheckpointMoved(f"{_name(place)} is no longer at {old.position}")
            self._put(within, place, Mark(new, old.turn))

    def turn(self, within: Transaction, positions: Mapping[Place, int]) -> None:
        """Voids what is under way."""
        for place, position in positions.items():
            mark = self.at(place)
            if mark.position != position:
                raise CheckpointMoved(f"{_name(place)} is no longer at {position}")
            self._put(within, place, Mark(position, mark.turn + 1))

    def _put(self, within: Transaction | None, place: Place, mark: Mark) -> None:
        before = self.at(place)
        self._marks[place] = mark
        if within is not None:
            self._transactor.undo(within, partial(self._marks.__setitem__, place, before))

    def guard(self, within: Transaction) -> None:
        """There are no rebuilds in memory."""

    def park(self, within: Transaction, parked: Parked) -> None:
        """Sets an event aside."""
        self._parked[parked.id] = parked
        self._transactor.undo(within, lambda: self._parked.__delitem__(parked.id))

    def parked(self) -> list[Parked]:
        """What is parked, oldest first."""
        return sorted(self._parked.values(), key=lambda each: each.time)

    def unpark(self, within: Transaction, identity: str) -> bool:
        """Takes an event off the list."""
        found = self._parked.pop(identity, None)
        if found is not None:
            self._transactor.undo(within, lambda: self._parked.__setitem__(identity, found))
        return found is not None


def _name(place: Place) -> str:
    return f"{place.subscription}/{place.stream}:{place.partition}"


def _place(document: Mapping[str, Any]) -> Place:
    return Place(document["subscription"], document["stream"], document["partition"])


def _read(document: Mapping[str, Any]) -> int:
    """The position, also of a checkpoint that is held."""
    position = int(document["position"])
    return position if position >= 0 else -1 - position
