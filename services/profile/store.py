"""Profile's collections: a state a subject, sealed; and which profiles were merged into which.

A state's document is written by the fold and by what follows from identity alike, so that the two conflict:
whoever is second sees what the first has written (docs/decisions/0002-sealed-projections.md).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from bson.binary import Binary
from pymongo import ASCENDING, UpdateMany, UpdateOne
from pymongo.database import Database

from services.profile.domain.state import FOLD_VERSION, State
from shared.errors import Poison
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealed, Sealing
from shared.mongo import BESIDE, pages
from shared.transaction import Transaction

PLACE: Final = "state"
"""What a state is bound to besides its subject, where an event has its id."""
CLASSES: Final = (ORDINARY, SENSITIVE)
BIGGEST_STATE: Final = 8_000_000
"""Bytes; MongoDB takes 16 MB."""
PAGE: Final = 2_000

States = dict[str, State]
"""Class of data -> state."""
SealedStates = dict[str, bytes]
"""As they are kept; sealing the same state twice does not give the same."""


class Subject(NamedTuple):
    """A subject's document, opened."""

    id: str
    profile: str | None
    version: int
    states: States


class ProfileStore:
    """The states. With `beside`, others beside the live ones: a rebuild's."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, beside: bool = False) -> None:
        end = "_rebuilt" if beside else ""
        options = BESIDE if beside else {}
        self.states = db.get_collection(f"states{end}", **options)
        self.merges = db.get_collection(f"merges{end}", **options)
        self._keyring = keyring

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.states.create_index([("profile", ASCENDING)], name="profile")
        self.merges.create_index([("into", ASCENDING)], name="into")

    def drop(self) -> None:
        """Removes all of it."""
        self.states.drop()
        self.merges.drop()

    # States

    def load(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, Subject]:
        """The subjects' documents, of those that there are."""
        session = within.session if within else None
        found = self.states.find({"_id": {"$in": list(subjects)}}, session=session, batch_size=10_000)
        return self.opened(list(found))

    def opened(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, Subject]:
        """Documents with their states opened; what was erased is left out."""
        slots = [(doc["_id"], cls) for doc in documents for cls in doc.get("s", {})]
        sealed = [bytes(doc["s"][cls]) for doc in documents for cls in doc.get("s", {})]
        items = [Sealed(subject, cls, PLACE, text) for (subject, cls), text in zip(slots, sealed, strict=True)]
        subjects = {
            doc["_id"]: Subject(doc["_id"], doc.get("profile"), int(doc.get("v", FOLD_VERSION)), {})
            for doc in documents
        }
        for (subject, cls), text in zip(slots, self._keyring.open(items), strict=True):
            if text is not None:
                subjects[subject].states[cls] = orjson.loads(text)
        return subjects

    def sealed(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, SealedStates]:
        """The subjects' states as they are kept, of those that there are: what tells whether one was written since."""
        if not subjects:
            return {}
        session = within.session if within else None
        found = self.states.find({"_id": {"$in": list(subjects)}, "s": {"$exists": True}}, {"s": 1}, session=session)
        return {doc["_id"]: {cls: bytes(text) for cls, text in doc["s"].items()} for doc in found}

    def outdated(self, subjects: Collection[str]) -> set[str]:
        """Those of the subjects whose states an older fold has made."""
        older = {"_id": {"$in": list(subjects)}, "v": {"$exists": True, "$ne": FOLD_VERSION}}
        return {doc["_id"] for doc in self.states.find(older, {"_id": 1}, batch_size=10_000)} if subjects else set()

    def save(self, states: Mapping[str, States], within: Transaction | None = None, whole: bool = False) -> None:
        """Writes states; whose they are stays as it is. With `whole`, classes of data that are not among them go."""
        slots = [(subject, cls) for subject, each in states.items() for cls in each]
        texts = [orjson.dumps(states[subject][cls]) for subject, cls in slots]
        if any(len(text) > BIGGEST_STATE for text in texts):
            raise Poison(f"a subject's state would be larger than {BIGGEST_STATE} bytes")
        sealed = self._keyring.seal(
            [Sealing(subject, cls, PLACE, text) for (subject, cls), text in zip(slots, texts, strict=True)]
        )
        kept: dict[str, SealedStates] = {subject: {} for subject in states}
        for (subject, cls), text in zip(slots, sealed, strict=True):
            kept[subject][cls] = Binary(text)
        fields: dict[str, dict[str, Any]] = {
            subject: {"v": FOLD_VERSION} | ({"s": each} if whole else {f"s.{cls}": text for cls, text in each.items()})
            for subject, each in kept.items()
        }
        self._write(
            [UpdateOne({"_id": subject}, {"$set": each}, upsert=True) for subject, each in fields.items()], within
        )

    def _write(self, steps: list[Any], within: Transaction | None) -> None:
        if steps:
            self.states.bulk_write(steps, ordered=False, session=within.session if within else None)

    # Whose they are

    def give(self, owners: Mapping[str, str], within: Transaction | None = None) -> None:
        """Subject -> profile, from now on."""
        self._write([UpdateOne({"_id": s}, {"$set": {"profile": p}}, upsert=True) for s, p in owners.items()], within)

    def merge(self, old: str, into: str, within: Transaction | None = None) -> None:
        """All that was `old`'s is `into`'s."""
        session = within.session if within else None
        self.states.update_many({"profile": old}, {"$set": {"profile": into}}, session=session)
        steps = [
            UpdateMany({"into": old}, {"$set": {"into": into}}),
            UpdateOne({"_id": old}, {"$set": {"into": into}}, upsert=True),
        ]
        self.merges.bulk_write(steps, ordered=True, session=session)

    def erase(self, subjects: Collection[str], profiles: Collection[str], within: Transaction) -> None:
        """Drops states and what was merged into these profiles."""
        self.states.delete_many({"_id": {"$in": list(subjects)}}, session=within.session)
        self.states.delete_many({"profile": {"$in": list(profiles)}}, session=within.session)
        gone = {"$or": [{"_id": {"$in": list(profiles)}}, {"into": {"$in": list(profiles)}}]}
        self.merges.delete_many(gone, session=within.session)

    # Reading

    def of_profiles(self, profiles: Collection[str]) -> dict[str, list[Subject]]:
        """Profile -> its subjects."""
        documents = list(self.states.find({"profile": {"$in": list(profiles)}}, batch_size=10_000))
        found: dict[str, list[Subject]] = {}
        for each in self.opened(documents).values():
            found.setdefault(str(each.profile), []).append(each)
        return found

    def owners(self, subjects: Collection[str]) -> dict[str, str]:
        """Subject -> profile, of those that have one."""
        if not subjects:
            return {}
        chosen = {"_id": {"$in": list(subjects)}, "profile": {"$ne": None}}
        return {doc["_id"]: doc["profile"] for doc in self.states.find(chosen, {"profile": 1})}

    def merged_into(self, profiles: Collection[str]) -> dict[str, str]:
        """Profile -> the one that it is a part of by now."""
        if not profiles:
            return {}
        return {doc["_id"]: doc["into"] for doc in self.merges.find({"_id": {"$in": list(profiles)}})}

    def page(self, after: str, limit: int) -> list[str]:
        """The next profiles' ids."""
        steps: list[Mapping[str, Any]] = [
            {"$match": {"profile": {"$gt": after}}},
            {"$sort": {"profile": 1}},
            {"$group": {"_id": "$profile"}},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
        ]
        return [doc["_id"] for doc in self.states.aggregate(steps, allowDiskUse=True)]

    def counts(self) -> dict[str, int]:
        """Profiles, subjects, merges."""
        profiles = list(
            self.states.aggregate(
                [{"$match": {"profile": {"$ne": None}}}, {"$group": {"_id": "$profile"}}, {"$count": "n"}]
            )
        )
        return {
            "profiles": profiles[0]["n"] if profiles else 0,
            "subjects": self.states.estimated_document_count(),
            "merges": self.merges.estimated_document_count(),
        }

    def rows(self, session: Any = None) -> Iterator[tuple[str, bytes]]:
        """(id, content) of every document, opened, in a fixed order: what a digest is made of."""
        for page in pages(self.states.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING), PAGE):
            for subject in self.opened(page).values():
                content = {"profile": subject.profile, "version": subject.version, "states": subject.states}
                yield f"state {subject.id}", orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        for doc in self.merges.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"merge {doc['_id']}", str(doc["into"]).encode()

    def replace_with(self, other: "ProfileStore") -> None:
        """Puts other states in these ones' place."""
        for mine, theirs in ((self.states, other.states), (self.merges, other.merges)):
            theirs.rename(mine.name, dropTarget=True)
