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

from services.profile.domain.computed import Trait, trait_of
from services.profile.domain.state import with_traits
from services.profile.store import States
from shared.errors import SamlaError
from shared.keyring import new_id
from shared.transaction import Transaction

KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MOST_TRAITS: Final = 100


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


class TraitStore:
    """Their definitions."""

    def __init__(self, db: "Database[Any]") -> None:
        self._traits = db["traits"]
        self._known = NO_TRAITS

    def setup(self) -> None:
        """Makes collection and indexes."""
        self._traits.create_index([("since", ASCENDING)], name="since", unique=True)
        living = {"removed": False}
        self._traits.create_index([("key", ASCENDING)], name="key", unique=True, partialFilterExpression=living)

    def add(self, key: str, definition: Mapping[str, Any], now: int) -> dict[str, Any]:
        """A new one, to be filled. Raises SamlaError where it is none, its key is taken, or there are too many."""
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise SamlaError("a trait's key is made of a-z, 0-9, - and _, 64 at most")
        trait_of("", key, 0, definition)
        rows = self.rows()
        if len(rows) >= MOST_TRAITS:
            raise SamlaError(f"there are {MOST_TRAITS} computed traits already, which is the most")
        row = {
            "_id": new_id(),
            "key": key,
            "definition": definition,
            "since": self._version() + 1,
            "created": now,
            "filled": False,
            "removed": False,
        }
        try:
            self._traits.insert_one(row)
        except DuplicateKeyError as error:
            taken = any(each["key"] == key for each in rows)
            said = f"there is a computed trait {key} already" if taken else "another was defined just now: try again"
            raise SamlaError(said) from error
        self.refresh()
        return row

    def remove(self, key: str) -> None:
        """It is computed no longer. Raises SamlaError where there is none."""
        gone = self._traits.update_one({"key": key, "removed": False}, {"$set": {"removed": True}})
        if not gone.matched_count:
            raise SamlaError(f"there is no computed trait {key}")
        self.refresh()

    def rows(self) -> list[dict[str, Any]]:
        """Those that there are, oldest first."""
        return list(self._traits.find({"removed": False}).sort("since", ASCENDING))

    def fill(self, version: int) -> None:
        """Those of up to this version are in all states."""
        if self._traits.update_many(
            {"since": {"$lte": version}, "filled": False}, {"$set": {"filled": True}}
        ).modified_count:
            self.refresh()

    def lack(self, version: int, within: Transaction) -> None:
        """Those later than this version are not in all states any more: they were rebuilt meanwhile."""
        later = {"since": {"$gt": version}}
        self._traits.update_many(later, {"$set": {"filled": False}}, session=within.session)

    def known(self) -> Defined:
        """The set as it was when last looked at."""
        return self._known

    def refresh(self) -> Defined:
        """The set as it is."""
        version, rows = self._version(), self.rows()
        made = [trait_of(row["_id"], row["key"], row["since"], row["definition"], row["filled"]) for row in rows]
        # One that came between the two looks waits for the next.
        self._known = Defined(version, tuple(each for each in made if each.since <= version))
        return self._known

    def _version(self) -> int:
        """Of the set; those that were removed count."""
        last = self._traits.find_one({}, {"since": 1}, sort=[("since", DESCENDING)])
        return int(last["since"]) if last else 0
