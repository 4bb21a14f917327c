"""The computed traits that users have defined: kept, and known to the fold as a set with a version.

A trait comes with the next version of the set. A state says up to which version it holds them; until it has been
folded again it is added to by those only (see filling.py).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import orjson
from pymongo import ASCENDING
from pymongo.database import Database

from services.profile.domain.computed import Trait, Traits, check_ordinary, signal_of, trait_of
from services.profile.domain.state import with_traits
from services.profile.store import States
from shared.checkpoints import MongoCheckpoints
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from shared.keyring import new_id
from shared.mongo import MongoTransactor
from shared.transaction import Transaction, Transactor

T = TypeVar("T")

Uses = Callable[[str], Sequence[str]]
"""segmentation.uses: a name such as `computed.spent` -> the keys of the segments that depend on it. Raises Unavailable
where there is no answer."""

KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
USERS: Final = ""
"""The owner of what people have defined; others own signals."""
MOST_TRAITS: Final = 100
MOST_SIGNALS: Final = 2_000
MOST_TEXT: Final = 60_000
"""Characters of a definition."""
TURN: Final = "turn"


class Defined(NamedTuple):
    """The set at a version."""

    version: int
    traits: Traits

    def of(self, states: States, version: int) -> States:
        """States that hold these traits, with those only that were there at an earlier version."""
        if version >= self.version:
            return states
        ids = {each.id for each in self.traits if each.since <= version}
        return {cls: with_traits(state, ids) for cls, state in states.items()}


NO_TRAITS: Final = Defined(0, Traits())


def _trait(row: Mapping[str, Any]) -> Trait:
    if row["owner"] == USERS:
        return trait_of(row["_id"], row["key"], row["since"], row["definition"], row["filled"])
    return signal_of(row["_id"], row["since"], row["definition"], row["filled"])


class TraitStore:
    """Their definitions.

    A new one voids what is under way by the definitions before it: from its commit on nothing is folded without it,
    whoever folds. So what is filled stays filled.
    """

    def __init__(self, db: "Database[Any]", transactor: Transactor | None = None) -> None:
        self._traits = db["traits"]
        self._turns = db["traits_turn"]
        self._transactor = transactor or MongoTransactor(db.client)
        self._checkpoints = MongoCheckpoints(db)
        self._known = NO_TRAITS
        self._turn = -1

    def setup(self) -> None:
        """Makes collections and indexes."""
        self._traits.create_index([("since", ASCENDING)], name="since", unique=True)
        key = [("owner", ASCENDING), ("key", ASCENDING)]
        living = {"removed": False}
        self._traits.create_index(key, name="owner_key", unique=True, partialFilterExpression=living)
        self._turns.update_one({"_id": TURN}, {"$setOnInsert": {"turn": 0, "version": 0}}, upsert=True)

    # Changing

    def add(self, key: str, definition: Mapping[str, Any], now: int) -> dict[str, Any]:
        """A new one, to be filled. Raises Conflict where its key is taken, SamlaError where it is none, or of a special
        category of data, or there are too many."""
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise SamlaError("a trait's key is made of a-z, 0-9, - and _, 64 at most")
        check_ordinary(trait_of("", key, 0, definition))
        _written(definition)

        def work(within: Transaction) -> dict[str, Any]:
            rows = self.rows(session=within.session)
            if any(row["key"] == key for row in rows):
                raise Conflict(f"there is a computed trait {key} already")
            if len(rows) >= MOST_TRAITS:
                raise SamlaError(f"there are {MOST_TRAITS} computed traits already, which is the most")
            [made] = self._insert(USERS, {key: definition}, now, within)
            return made

        return self._change(work)

    def watch(self, owner: str, signals: Mapping[str, Mapping[str, Any]], now: int) -> dict[str, bool]:
        """The signals (by id) that an owner needs from now on, and no others; which of them are filled. Raises
        SamlaError where one is none, or there are too many."""
        if len(signals) > MOST_SIGNALS:
            raise SamlaError(f"{owner} may watch {MOST_SIGNALS} signals at most, not {len(signals)}")
        for each in signals.values():
            signal_of("", 0, each)
            _written(each)
        if signals.keys() == self.watched(owner).keys():
            return self.watched(owner)

        def work(within: Transaction) -> None:
            there = {row["key"] for row in self.rows(owner, within.session)}
            self._remove(owner, there - signals.keys(), within)
            self._insert(owner, {name: signals[name] for name in sorted(signals.keys() - there)}, now, within)

        self._change(work)
        return self.watched(owner)

    def remove(self, key: str, uses: Uses) -> None:
        """It is computed no longer. Raises NotFound where there is none, Conflict while segments use it, which
        would stay as they are for ever."""
        if not any(row["key"] == key for row in self.rows()):
            raise NotFound(f"there is no computed trait {key}")
        if using := uses(f"computed.{key}"):
            raise Conflict(
                f"the segments {', '.join(using)} use the computed trait {key}: change or delete those first"
            )

        def work(within: Transaction) -> None:
            if not self._remove(USERS, [key], within):
                raise NotFound(f"there is no computed trait {key}")

        self._change(work)

    def fill(self, version: int) -> None:
        """Those of up to this version are in all states."""
        lacking = {"since": {"$lte": version}, "filled": False}
        if self._traits.find_one(lacking, {"_id": 1}) is None:
            return

        def work(within: Transaction) -> None:
            self._traits.update_many(lacking, {"$set": {"filled": True}}, session=within.session)

        self._change(work)

    def lack(self, version: int, within: Transaction) -> None:
        """Those later than this version are not in all states any more: they were rebuilt meanwhile."""
        later = {"since": {"$gt": version}}
        self._traits.update_many(later, {"$set": {"filled": False}}, session=within.session)
        self._turns.update_one({"_id": TURN}, {"$inc": {"turn": 1}}, session=within.session)

    def _change(self, work: Callable[[Transaction], T]) -> T:
        def whole(within: Transaction) -> T:
            self._checkpoints.guard(within)
            self._turns.update_one({"_id": TURN}, {"$inc": {"turn": 1}}, session=within.session)
            return work(within)

        done = self._transactor.run(whole)
        self.refresh()
        return done

    def _insert(
        self, owner: str, definitions: Mapping[str, Mapping[str, Any]], now: int, within: Transaction
    ) -> list[dict[str, Any]]:
        if not definitions:
            return []
        version = self.version(within.session)
        rows = [
            {
                "_id": new_id(),
                "owner": owner,
                "key": key,
                "definition": _written(definition),
                "since": since,
                "created": now,
                "filled": False,
                "removed": False,
            }
            for since, (key, definition) in enumerate(definitions.items(), version + 1)
        ]
        self._traits.insert_many(rows, session=within.session)
        last = {"$set": {"version": version + len(rows)}}
        self._turns.update_one({"_id": TURN}, last, session=within.session)
        # Whoever folds by the definitions before these cannot commit any more.
        self._checkpoints.turn(within, self._checkpoints.all(within.session))
        return rows

    def _remove(self, owner: str, keys: Iterable[str], within: Transaction) -> int:
        chosen = {"owner": owner, "key": {"$in": list(keys)}, "removed": False}
        return self._traits.update_many(chosen, {"$set": {"removed": True}}, session=within.session).matched_count

    # Looking

    def watched(self, owner: str) -> dict[str, bool]:
        """An owner's signals, and which of them are filled."""
        return {row["key"]: row["filled"] for row in self.rows(owner)}

    def rows(self, owner: str | None = USERS, session: Any = None) -> list[dict[str, Any]]:
        """An owner's that there are (None: all), oldest first."""
        chosen = {"removed": False} | ({} if owner is None else {"owner": owner})
        found = self._traits.find(chosen, session=session).sort("since", ASCENDING)
        return [{**row, "definition": orjson.loads(row["definition"])} for row in found]

    def known(self) -> Defined:
        """The set as it was when last looked at."""
        return self._known

    def current(self) -> Defined:
        """The set as it is; cheap where it has not changed."""
        return self._known if self._looked_at() == self._turn else self.refresh()

    def refresh(self) -> Defined:
        """The set as it is."""
        # In this order: what changes between the looks makes that it is looked at again.
        turn = self._looked_at()
        self._known = self.at()
        self._turn = turn
        return self._known

    def at(self, session: Any = None) -> Defined:
        """The set as a session sees it; as it is, without one."""
        version = self.version(session)
        made = [_trait(row) for row in self.rows(None, session)]
        # One that came between the looks waits for the next.
        return Defined(version, Traits(each for each in made if each.since <= version))

    def check(self, version: int, within: Transaction) -> None:
        """Raises CheckpointMoved where the set is not at this version: what was folded lacks something."""
        if self.version(within.session) != version:
            self.refresh()
            raise CheckpointMoved("a computed trait was defined while events were handled")

    def version(self, session: Any = None) -> int:
        """Of the set; those that were removed count."""
        found = self._turns.find_one({"_id": TURN}, {"version": 1}, session=session)
        return int(found["version"]) if found else 0

    def _looked_at(self) -> int:
        found = self._turns.find_one({"_id": TURN}, {"turn": 1})
        return int(found["turn"]) if found else 0


def _written(definition: Mapping[str, Any]) -> str:
    """As it is kept: a text, since no document takes all that JSON may hold. Raises SamlaError."""
    try:
        text = orjson.dumps(definition).decode()
    except TypeError as error:
        raise SamlaError("trait: holds what is no JSON: integers have 64 bits at most") from error
    if len(text) > MOST_TEXT:
        raise SamlaError(f"trait: a definition has {MOST_TEXT:,} characters at most")
    return text
