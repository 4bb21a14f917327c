"""The computed traits that users have defined: kept, and known to the fold as a set with a version.

A trait comes with the next version of the set. A state says up to which version it holds them; until it has been
folded again it is added to by those only (see filling.py).
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from services.profile.domain.computed import Trait, signal_of, trait_of
from services.profile.domain.state import with_traits
from services.profile.store import States
from shared.errors import SamlaError
from shared.keyring import new_id

KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
USERS: Final = ""
"""The owner of what people have defined; others own signals."""
MOST_TRAITS: Final = 100
MOST_SIGNALS: Final = 2_000


class Defined(NamedTuple):
    """The set at a version."""

    version: int
    traits: tuple[Trait, ...]

    def upto(self, version: int) -> "Defined":
        """Those of them that were there at an earlier version."""
        return Defined(version, tuple(each for each in self.traits if each.since <= version))

    def of(self, states: States, version: int) -> States:
        """States that hold these traits, with those only that were there at an earlier version."""
        if version >= self.version:
            return states
        ids = {each.id for each in self.traits if each.since <= version}
        return {cls: with_traits(state, ids) for cls, state in states.items()}


NO_TRAITS: Final = Defined(0, ())


def _trait(row: Mapping[str, Any]) -> Trait:
    if row["owner"] == USERS:
        return trait_of(row["_id"], row["key"], row["since"], row["definition"], row["filled"])
    return signal_of(row["_id"], row["since"], row["definition"], row["filled"])


class TraitStore:
    """Their definitions."""

    def __init__(self, db: "Database[Any]") -> None:
        self._traits = db["traits"]
        self._known = NO_TRAITS

    def setup(self) -> None:
        """Makes collection and indexes."""
        self._traits.create_index([("since", ASCENDING)], name="since", unique=True)
        key = [("owner", ASCENDING), ("key", ASCENDING)]
        living = {"removed": False}
        self._traits.create_index(key, name="owner_key", unique=True, partialFilterExpression=living)

    def add(self, key: str, definition: Mapping[str, Any], now: int) -> dict[str, Any]:
        """A new one, to be filled. Raises SamlaError where it is none, its key is taken, or there are too many."""
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise SamlaError("a trait's key is made of a-z, 0-9, - and _, 64 at most")
        trait_of("", key, 0, definition)
        rows = self.rows()
        if len(rows) >= MOST_TRAITS:
            raise SamlaError(f"there are {MOST_TRAITS} computed traits already, which is the most")
        row = self._row(USERS, key, definition, now)
        try:
            self._traits.insert_one(row)
        except DuplicateKeyError as error:
            taken = any(each["key"] == key for each in rows)
            said = f"there is a computed trait {key} already" if taken else "another was defined just now: try again"
            raise SamlaError(said) from error
        self.refresh()
        return row

    def _row(self, owner: str, key: str, definition: Mapping[str, Any], now: int) -> dict[str, Any]:
        return {
            "_id": new_id(),
            "owner": owner,
            "key": key,
            "definition": definition,
            "since": self._version() + 1,
            "created": now,
            "filled": False,
            "removed": False,
        }

    def watch(self, owner: str, signals: Mapping[str, Mapping[str, Any]], now: int) -> dict[str, bool]:
        """The signals (by id) that an owner needs from now on, and no others; which of them are filled. Raises
        SamlaError where one is none, or there are too many."""
        if len(signals) > MOST_SIGNALS:
            raise SamlaError(f"{owner} may watch {MOST_SIGNALS} signals at most, not {len(signals)}")
        for each in signals.values():
            signal_of("", 0, each)
        there = {row["key"] for row in self.rows(owner)}
        for identity in sorted(signals.keys() - there):
            try:
                self._traits.insert_one(self._row(owner, identity, signals[identity], now))
            except DuplicateKeyError as error:
                raise SamlaError("another was defined just now: try again") from error
        over = {"owner": owner, "key": {"$in": sorted(there - signals.keys())}, "removed": False}
        self._traits.update_many(over, {"$set": {"removed": True}})
        self.refresh()
        return self.watched(owner)

    def watched(self, owner: str) -> dict[str, bool]:
        """An owner's signals, and which of them are filled."""
        return {row["key"]: row["filled"] for row in self.rows(owner)}

    def remove(self, key: str) -> None:
        """It is computed no longer. Raises SamlaError where there is none."""
        gone = self._traits.update_one({"owner": USERS, "key": key, "removed": False}, {"$set": {"removed": True}})
        if not gone.matched_count:
            raise SamlaError(f"there is no computed trait {key}")
        self.refresh()

    def rows(self, owner: str | None = USERS) -> list[dict[str, Any]]:
        """An owner's that there are (None: all), oldest first."""
        chosen = {"removed": False} | ({} if owner is None else {"owner": owner})
        return list(self._traits.find(chosen).sort("since", ASCENDING))

    def fill(self, version: int) -> None:
        """Those of up to this version are in all states."""
        if self._traits.update_many(
            {"since": {"$lte": version}, "filled": False}, {"$set": {"filled": True}}
        ).modified_count:
            self.refresh()

    def known(self) -> Defined:
        """The set as it was when last looked at."""
        return self._known

    def refresh(self) -> Defined:
        """The set as it is."""
        version, rows = self._version(), self.rows(None)
        made = [_trait(row) for row in rows]
        # One that came between the two looks waits for the next.
        self._known = Defined(version, tuple(each for each in made if each.since <= version))
        return self._known

    def _version(self) -> int:
        """Of the set; those that were removed count."""
        last = self._traits.find_one({}, {"since": 1}, sort=[("since", DESCENDING)])
        return int(last["since"]) if last else 0
