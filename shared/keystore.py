"""Where the keyring keeps what it must not forget, and what it must be able to forget.

Four tables: tokens (keyed hash of an identifier -> subject), keys (wrapped, one a subject and class),
fences (erased subjects), suppressions (keyed hashes of identifiers never to be taken in again).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from bson.binary import Binary
from pymongo import ASCENDING, MongoClient
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern

from shared.errors import Unavailable
from shared.memory import MemoryTransactor
from shared.mongo import Document, is_duplicate, make_collection
from shared.transaction import Transaction

Slot = tuple[str, str]
"""(subject, class of data): what one key is for."""


class KeyStore(Protocol):
    """The keyring's tables. Every write is durable (majority, journal) on return."""

    def setup(self, check: bytes) -> bytes:
        """Makes indexes; keeps `check` if there is none yet and gives the one that is kept."""

    def tokens(self, tokens: Collection[bytes]) -> dict[bytes, str]:
        """Token -> subject, of those that are known."""

    def add_tokens(self, subjects: Mapping[bytes, str]) -> bool:
        """Adds tokens; one that is there already keeps its subject. Whether all were new."""

    def keys(self, slots: Collection[Slot]) -> dict[Slot, bytes]:
        """Slot -> wrapped key, of those that are there."""

    def add_keys(self, keys: Mapping[Slot, bytes]) -> bool:
        """Adds wrapped keys; one that is there already stays. Whether all were new."""

    def fenced(self, subjects: Collection[str], within: Transaction | None = None) -> set[str]:
        """Those of the subjects that are fenced."""

    def add_fences(self, subjects: Collection[str]) -> None:
        """Fences subjects, for ever."""

    def delete(self, subjects: Collection[str], classes: Collection[str] | None) -> None:
        """Deletes keys (of the classes only, if given) and, with all classes, the tokens."""

    def holders(self, prefix: str) -> list[str]:
        """The subjects with a key whose names begin so."""

    def suppressed(self, tokens: Collection[bytes]) -> set[bytes]:
        """Those of the tokens that are suppressed."""

    def any_suppressed(self) -> bool:
        """Whether anything is suppressed at all."""

    def add_suppressions(self, tokens: Collection[bytes]) -> None:
        """Suppresses tokens, for ever."""


class MongoKeyStore:
    """The tables in a MongoDB database of their own."""

    def __init__(self, client: "MongoClient[Document]", database: str) -> None:
        self._db = client.get_database(database, read_concern=ReadConcern("majority"))
        self._tables = {name: self._db[name] for name in ("tokens", "keys", "fences", "suppressions")}

    def setup(self, check: bytes) -> bytes:
        """Makes indexes; keeps `check` if there is none yet and gives the one that is kept."""
        for name in ("tokens", "keys"):
            self._db[name].create_index([("subject", ASCENDING)], name="subject")
        for name in ("fences", "suppressions", "meta"):
            make_collection(self._db[name])
        meta = self._db["meta"]
        meta.update_one({"_id": "master"}, {"$setOnInsert": {"check": Binary(check)}}, upsert=True)
        found: Any = meta.find_one({"_id": "master"}) or {}
        return bytes(found["check"])

    def tokens(self, tokens: Collection[bytes]) -> dict[bytes, str]:
        """Token -> subject, of those that are known."""
        found = self._find("tokens", [Binary(token) for token in tokens])
        return {bytes(doc["_id"]): doc["subject"] for doc in found}

    def add_tokens(self, subjects: Mapping[bytes, str]) -> bool:
        """Adds tokens; one that is there already keeps its subject. Whether all were new."""
        return self._add("tokens", [{"_id": Binary(each), "subject": subject} for each, subject in subjects.items()])

    def keys(self, slots: Collection[Slot]) -> dict[Slot, bytes]:
        """Slot -> wrapped key, of those that are there."""
        names = {_slot_name(slot): slot for slot in slots}
        return {names[doc["_id"]]: bytes(doc["key"]) for doc in self._find("keys", list(names))}

    def add_keys(self, keys: Mapping[Slot, bytes]) -> bool:
        """Adds wrapped keys; one that is there already stays. Whether all were new."""
        return self._add(
            "keys",
            [
                {"_id": _slot_name(slot), "subject": slot[0], "class": slot[1], "key": Binary(key)}
                for slot, key in keys.items()
            ],
        )

    def fenced(self, subjects: Collection[str], within: Transaction | None = None) -> set[str]:
        """Those of the subjects that are fenced."""
        return {doc["_id"] for doc in self._find("fences", list(subjects), within)}

    def add_fences(self, subjects: Collection[str]) -> None:
        """Fences subjects, for ever."""
        self._add("fences", [{"_id": subject} for subject in subjects])

    def delete(self, subjects: Collection[str], classes: Collection[str] | None) -> None:
        """Deletes keys (of the classes only, if given) and, with all classes, the tokens."""
        chosen: dict[str, Any] = {"subject": {"$in": list(subjects)}}
        try:
            if classes is None:
                self._db["tokens"].delete_many(chosen)
                self._db["keys"].delete_many(chosen)
            else:
                self._db["keys"].delete_many({**chosen, "class": {"$in": list(classes)}})
        except PyMongoError as error:
            raise _unavailable(error) from error

    def holders(self, prefix: str) -> list[str]:
        """The subjects with a key whose names begin so."""
        try:
            return list(self._db["keys"].distinct("subject", {"subject": {"$regex": f"^{re.escape(prefix)}"}}))
        except PyMongoError as error:
            raise _unavailable(error) from error

    def suppressed(self, tokens: Collection[bytes]) -> set[bytes]:
        """Those of the tokens that are suppressed."""
        return {bytes(doc["_id"]) for doc in self._find("suppressions", [Binary(each) for each in tokens])}

    def any_suppressed(self) -> bool:
        """Whether anything is suppressed at all."""
        try:
            return self._db["suppressions"].find_one({}, {"_id": 1}) is not None
        except PyMongoError as error:
            raise _unavailable(error) from error

    def add_suppressions(self, tokens: Collection[bytes]) -> None:
        """Suppresses tokens, for ever."""
        self._add("suppressions", [{"_id": Binary(token)} for token in tokens])

    def _find(self, table: str, ids: list[Any], within: Transaction | None = None) -> list[Any]:
        if not ids:
            return []
        session = within.session if within else None
        try:
            return list(self._tables[table].find({"_id": {"$in": ids}}, session=session, batch_size=10_000))
        except PyMongoError as error:
            if within is not None:
                raise  # The transactor knows which errors are worth another attempt.
            raise _unavailable(error) from error

    def _add(self, table: str, documents: list[Document]) -> bool:
        """Whether all of them were new."""
        try:
            if documents:
                self._tables[table].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if not is_duplicate(error):
                raise _unavailable(error) from error
            return False
        except PyMongoError as error:
            raise _unavailable(error) from error
        return True


class MemoryKeyStore:
    """The tables in memory: the twin."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, str] = {}
        self._keys: dict[Slot, bytes] = {}
        self._fences: set[str] = set()
        self._suppressions: set[bytes] = set()
        self._check: bytes | None = None
        self._lock = MemoryTransactor().lock

    def setup(self, check: bytes) -> bytes:
        """Keeps `check` if there is none yet and gives the one that is kept."""
        self._check = self._check or check
        return self._check

    def tokens(self, tokens: Collection[bytes]) -> dict[bytes, str]:
        """Token -> subject, of those that are known."""
        return {each: self._tokens[each] for each in tokens if each in self._tokens}

    def add_tokens(self, subjects: Mapping[bytes, str]) -> bool:
        """Adds tokens; one that is there already keeps its subject. Whether all were new."""
        return _add_new(self._tokens, subjects.items())

    def keys(self, slots: Collection[Slot]) -> dict[Slot, bytes]:
        """Slot -> wrapped key, of those that are there."""
        return {each: self._keys[each] for each in slots if each in self._keys}

    def add_keys(self, keys: Mapping[Slot, bytes]) -> bool:
        """Adds wrapped keys; one that is there already stays. Whether all were new."""
        return _add_new(self._keys, keys.items())

    def fenced(self, subjects: Collection[str], within: Transaction | None = None) -> set[str]:
        """Those of the subjects that are fenced."""
        return self._fences.intersection(subjects)

    def add_fences(self, subjects: Collection[str]) -> None:
        """Fences subjects, for ever."""
        self._fences.update(subjects)

    def delete(self, subjects: Collection[str], classes: Collection[str] | None) -> None:
        """Deletes keys (of the classes only, if given) and, with all classes, the tokens."""
        gone = set(subjects)
        with self._lock:
            self._keys = {
                slot: key
                for slot, key in self._keys.items()
                if slot[0] not in gone or (classes is not None and slot[1] not in classes)
            }
            if classes is None:
                self._tokens = {token: each for token, each in self._tokens.items() if each not in gone}

    def holders(self, prefix: str) -> list[str]:
        """The subjects with a key whose names begin so."""
        return sorted({subject for subject, _ in self._keys if subject.startswith(prefix)})

    def suppressed(self, tokens: Collection[bytes]) -> set[bytes]:
        """Those of the tokens that are suppressed."""
        return self._suppressions.intersection(tokens)

    def any_suppressed(self) -> bool:
        """Whether anything is suppressed at all."""
        return bool(self._suppressions)

    def add_suppressions(self, tokens: Collection[bytes]) -> None:
        """Suppresses tokens, for ever."""
        self._suppressions.update(tokens)


def _add_new(table: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> bool:
    """Whether all of them were new."""
    added = [table.setdefault(key, value) is value for key, value in items]
    return all(added)


def _slot_name(slot: Slot) -> str:
    return f"{slot[0]}:{slot[1]}"


def _unavailable(error: PyMongoError) -> Unavailable:
    return Unavailable(f"the keyring's database did not answer: {type(error).__name__}")
