"""Requests as they were received, sealed under a key a source and day; and their end."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from bson.binary import Binary
from pymongo.database import Database

from services.collector.domain.raw import Received, message_of, received_of, unpacked
from services.collector.store import RAW, SealedDay, held_by
from shared.keyring import Keyring, Sealed, Sealing
from shared.mongo import pages
from shared.transaction import Transaction

PAGE: Final = 100


class Entry(NamedTuple):
    """A request, opened; `request` is None where its key is gone."""

    id: str
    """Its correlation id: events that it became have it too."""
    source: str
    received: int
    subjects: list[str]
    """Of each of its messages, in their order."""
    request: Received | None


class RawStore:
    """Written in the transaction that appends what the requests became."""

    def __init__(self, db: "Database[Any]", keyring: Keyring) -> None:
        self._raw = db["raw"]
        self._keyring = keyring

    def setup(self) -> None:
        """Makes the collection and its indexes."""
        self._raw.create_index([("source", 1), ("received", 1), ("_id", 1)], name="age")
        self._raw.create_index("subjects", name="subjects")

    def documents(self, requests: Sequence[Entry]) -> list[dict[str, Any]]:
        """As they are kept."""
        sealed = self._keyring.seal(
            [
                Sealing(held_by(each.source, each.received), RAW, each.id, each.request.packed())
                for each in requests
                if each.request is not None
            ]
        )
        return [
            {
                "_id": each.id,
                "source": each.source,
                "received": each.received,
                "subjects": each.subjects,
                "sealed": Binary(text),
            }
            for each, text in zip(requests, sealed, strict=True)
        ]

    def add(self, documents: Sequence[dict[str, Any]], within: Transaction) -> None:
        """Keeps them."""
        if documents:
            self._raw.insert_many(list(documents), session=within.session, ordered=False)

    def find(self, identity: str) -> Entry | None:
        """A request by its correlation id."""
        doc = self._raw.find_one({"_id": identity})
        return self._opened([doc])[0] if doc else None

    def page(self, source: str, after: tuple[int, str], limit: int) -> list[Entry]:
        """A source's, oldest first, those behind (received, id)."""
        behind = [{"received": after[0], "_id": {"$gt": after[1]}}, {"received": {"$gt": after[0]}}]
        found = self._raw.find({"source": source, "$or": behind}).sort([("received", 1), ("_id", 1)]).limit(limit)
        return self._opened(list(found))

    def latest(self, source: str, messages: int) -> list[tuple[Entry, int]]:
        """The last messages of a source, latest first: (its request, which of its messages)."""
        found: list[tuple[Entry, int]] = []
        documents = self._raw.find({"source": source}, batch_size=PAGE).sort([("received", -1), ("_id", -1)])
        for page in pages(documents, PAGE):
            for entry in self._opened(page):
                if entry.request is not None:
                    found += [(entry, at) for at in range(len(entry.request.messages))]
            if len(found) >= messages:
                break
        return found[:messages]

    def count(self, source: str) -> int:
        """How many requests of a source are kept."""
        return self._raw.count_documents({"source": source})

    def of_subjects(self, subjects: Collection[str]) -> list[dict[str, Any]]:
        """{request, source, received, message}: what is kept of these subjects' messages as they were received."""
        wanted = set(subjects)
        return [
            {
                "request": entry.id,
                "source": entry.source,
                "received": entry.received,
                "message": message_of(entry.request.messages[at][1]),
            }
            for page in pages(self._raw.find({"subjects": {"$in": list(wanted)}}, batch_size=PAGE), PAGE)
            for entry in self._opened(page)
            if entry.request is not None
            for at, subject in enumerate(entry.subjects)
            if subject in wanted
        ]

    def forget(self, subjects: Collection[str]) -> int:
        """Takes out every message of these subjects; how many. What else the requests held stays."""
        gone = 0
        wanted = set(subjects)
        for page in pages(self._raw.find({"subjects": {"$in": list(wanted)}}, batch_size=PAGE), PAGE):
            for entry in self._opened(page):
                gone += sum(each in wanted for each in entry.subjects)
                self._keep_only(entry, lambda subject: subject not in wanted)
        return gone

    def _keep_only(self, entry: Entry, stays: Callable[[str], bool]) -> None:
        kept = [at for at, subject in enumerate(entry.subjects) if stays(subject)]
        if not kept or entry.request is None:
            self._raw.delete_one({"_id": entry.id})
            return
        messages = [entry.request.messages[at] for at in kept]
        rest = received_of(entry.request, [(identity, bytes(text)) for identity, text in messages])
        [document] = self.documents([entry._replace(subjects=[entry.subjects[at] for at in kept], request=rest)])
        self._raw.replace_one({"_id": entry.id}, document)

    def moved(self, identity: str, event: str, subject: str, anew: str, within: Transaction) -> None:
        """A request's message that became this event stands under another subject now, as an event of another id."""
        doc = self._raw.find_one({"_id": identity}, session=within.session)
        [entry] = self._opened([doc]) if doc else [None]
        if entry is None or entry.request is None:
            return
        messages = [(anew if old == event else old, bytes(text)) for old, text in entry.request.messages]
        whose = [
            subject if old == event else held
            for (old, _), held in zip(entry.request.messages, entry.subjects, strict=True)
        ]
        [document] = self.documents([entry._replace(subjects=whose, request=received_of(entry.request, messages))])
        self._raw.replace_one({"_id": identity}, document, session=within.session)

    def expire(self, source: str, before: int) -> int:
        """Removes a source's requests from before an instant (ms); how many."""
        return self._raw.delete_many({"source": source, "received": {"$lt": before}}).deleted_count

    def holds(self, day: SealedDay) -> bool:
        """Whether anything that a source sent on a day is left."""
        between = {"$gte": day.begins, "$lt": day.ends}
        return self._raw.find_one({"source": day.source, "received": between}, {"_id": 1}) is not None

    def _opened(self, documents: Sequence[dict[str, Any]]) -> list[Entry]:
        items = [
            Sealed(held_by(doc["source"], int(doc["received"])), RAW, doc["_id"], bytes(doc["sealed"]))
            for doc in documents
        ]
        return [
            Entry(
                doc["_id"],
                doc["source"],
                int(doc["received"]),
                list(doc["subjects"]),
                None if text is None else unpacked(text),
            )
            for doc, text in zip(documents, self._keyring.open(items), strict=True)
        ]
