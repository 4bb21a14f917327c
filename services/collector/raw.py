"""Requests as they were received, sealed under a key a source and day; and their end.

What came in one append is one document, unless it came at different times (a replay brings what did) or is too large
for one. It is found by time: a request's id begins with the instant at which it came, and an event says of its own
when that was. So nothing but time has to be indexed, and keeping what is received costs an append next to nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from bson.binary import Binary
from msgspec.structs import replace
from pymongo.database import Database

from contracts.streams import TRACKING
from services.collector.domain.raw import Received, encoded, message_of, packed, received_at, unpacked
from services.collector.store import RAW, SealedDay, held_by
from shared.eventlog import EventLog
from shared.keyring import Keyring, Sealed, Sealing, new_id
from shared.mongo import pages
from shared.transaction import Transaction

PAGE: Final = 20
EVENTS: Final = 500
SPREAD_MS: Final = 120_000
"""Between the first and the last request of a document."""
BIGGEST_DOCUMENT: Final = 8_000_000
"""Bytes of its requests before they are compressed, unless one alone has more; MongoDB holds 16 MB."""


class Entry(NamedTuple):
    """A request, opened."""

    source: str
    subjects: list[str]
    """Of each of its messages, in their order."""
    request: Received

    @property
    def id(self) -> str:
        """The request's."""
        return self.request.id

    @property
    def received(self) -> int:
        """ms since 1970 UTC."""
        return self.request.received


class Place(NamedTuple):
    """Where a source's requests are to be gone on with: behind this one."""

    received: int
    document: str


class RawStore:
    """Written in the transaction that appends what the requests became."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, log: EventLog) -> None:
        self._raw = db["raw"]
        self._keyring = keyring
        self._log = log

    def setup(self) -> None:
        """Makes the collection and its index."""
        self._raw.create_index([("source", 1), ("received", 1), ("_id", 1)], name="age")

    def documents(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """As they are kept: a document a source, or several."""
        by_source: dict[str, list[Entry]] = {}
        for each in sorted(entries, key=lambda each: each.received):
            by_source.setdefault(each.source, []).append(each)
        return [self._document(new_id(), *part) for of in by_source.values() for part in _parts(of)]

    def _document(self, identity: str, entries: Sequence[Entry], texts: Sequence[bytes]) -> dict[str, Any]:
        """Of requests and the same as JSON."""
        source, received = entries[0].source, min(each.received for each in entries)
        text = packed(texts)
        [sealed] = self._keyring.seal([Sealing(held_by(source, received), RAW, identity, text)])
        return {
            "_id": identity,
            "source": source,
            "received": received,
            "until": max(each.received for each in entries),
            "requests": len(entries),
            "subjects": [subject for each in entries for subject in each.subjects],
            "sealed": Binary(sealed),
        }

    def add(self, documents: Sequence[dict[str, Any]], within: Transaction) -> None:
        """Keeps them."""
        if documents:
            self._raw.insert_many(list(documents), session=within.session, ordered=False)

    # Looking

    def find(self, request: str) -> Entry | None:
        """A request by its id."""
        at = received_at(request)
        if at is None:
            return None
        for source in self._raw.distinct("source"):
            for each in self._opened(self._around(source, [at])):
                if each.id == request:
                    return each
        return None

    def _around(self, source: str, instants: Iterable[int], subjects: Collection[str] = ()) -> Iterator[dict[str, Any]]:
        """A source's documents that hold something of one of these instants (and of one of the subjects)."""
        times = [{"received": {"$lte": at, "$gte": at - SPREAD_MS}, "until": {"$gte": at}} for at in instants]
        whose = {"subjects": {"$in": list(subjects)}} if subjects else {}
        for chosen in pages(times, PAGE):
            yield from self._raw.find({"source": source, "$or": chosen, **whose})

    def page(self, source: str, after: Place, messages: int) -> tuple[list[Entry], Place | None]:
        """A source's requests behind a place, oldest first, of about so many messages; and where to go on."""
        behind = [{"received": after.received, "_id": {"$gt": after.document}}, {"received": {"$gt": after.received}}]
        found: list[Entry] = []
        count = 0
        cursor = self._raw.find({"source": source, "$or": behind}, batch_size=PAGE)
        for doc in cursor.sort([("received", 1), ("_id", 1)]):
            found += self._opened([doc])
            count += len(doc["subjects"])
            if count >= messages:
                return found, Place(int(doc["received"]), doc["_id"])
        return found, None

    def latest(self, source: str, messages: int) -> list[tuple[Entry, int]]:
        """The last messages of a source, latest first: (its request, which of its messages)."""
        found: list[tuple[Entry, int]] = []
        for doc in self._raw.find({"source": source}, batch_size=PAGE).sort([("received", -1), ("_id", -1)]):
            entries = sorted(self._opened([doc]), key=lambda each: each.received, reverse=True)
            found += [(entry, at) for entry in entries for at in reversed(range(len(entry.request.messages)))]
            if len(found) >= messages:
                break
        return found[:messages]

    def count(self, source: str) -> int:
        """How many requests of a source are kept."""
        found = self._raw.aggregate(
            [{"$match": {"source": source}}, {"$group": {"_id": 0, "n": {"$sum": "$requests"}}}]
        )
        return sum(int(doc["n"]) for doc in found)

    def of_subjects(self, subjects: Collection[str]) -> list[dict[str, Any]]:
        """{request, source, received, event, message}: what is kept of these subjects' messages as received."""
        wanted = set(subjects)
        return [
            {
                "request": entry.id,
                "source": entry.source,
                "received": entry.received,
                "event": entry.request.messages[at][0],
                "message": message_of(entry.request.messages[at][1]),
            }
            for entry in self._opened(self._naming(wanted))
            for at, subject in enumerate(entry.subjects)
            if subject in wanted
        ]

    def _naming(self, subjects: set[str]) -> Iterator[dict[str, Any]]:
        """The documents that hold messages of these subjects, each once. The log says when those came."""
        when: dict[str, set[int]] = {}
        for subject in subjects:
            at = 0
            while events := self._log.read_subject(TRACKING, subject, at, EVENTS):
                at = events[-1].position
                for event in events:
                    when.setdefault(event.source, set()).add(event.time)
        for source, instants in when.items():
            seen: set[str] = set()
            for doc in self._around(source, sorted(instants), subjects):
                if doc["_id"] not in seen:
                    seen.add(doc["_id"])
                    yield doc

    # Forgetting

    def forget(self, subjects: Collection[str]) -> int:
        """Takes out every message of these subjects; how many. What stood beside the messages of a request stays while
        a message of somebody else's in it does: it was said of that one too, and stands in their event."""
        wanted = set(subjects)
        return sum(self._forget_in(doc, wanted) for doc in list(self._naming(wanted)))

    def _forget_in(self, doc: dict[str, Any] | None, gone: set[str]) -> int:
        """Again, where somebody else has rewritten the document meanwhile: neither loses what the other has done."""
        while doc is not None:
            count = sum(each in gone for each in doc["subjects"])
            if not count or self._keep_only(doc, gone):
                return count
            doc = self._raw.find_one({"_id": doc["_id"]})
        return 0

    def _keep_only(self, doc: dict[str, Any], gone: set[str]) -> bool:
        """Whether the document still was what it was read as."""
        left = [_without(each, gone) for each in self._opened([doc])]
        entries = [each for each in left if each.subjects]
        as_read = {"_id": doc["_id"], "sealed": doc["sealed"]}
        if not entries:
            return self._raw.delete_one(as_read).deleted_count == 1
        rest = self._document(doc["_id"], entries, [encoded(each.request) for each in entries])
        return self._raw.replace_one(as_read, rest).matched_count == 1

    def expire(self, source: str, before: int) -> int:
        """Removes a source's requests from before an instant (ms); how many documents."""
        return self._raw.delete_many({"source": source, "until": {"$lt": before}}).deleted_count

    def holds(self, day: SealedDay) -> bool:
        """Whether anything that a source sent on a day is left."""
        return day.is_in(self._raw)

    def _opened(self, documents: Iterable[dict[str, Any]]) -> list[Entry]:
        """The requests of documents; those whose key is gone are left out."""
        entries: list[Entry] = []
        for page in pages(documents, PAGE):
            items = [
                Sealed(held_by(doc["source"], int(doc["received"])), RAW, doc["_id"], bytes(doc["sealed"]))
                for doc in page
            ]
            for doc, text in zip(page, self._keyring.open(items), strict=True):
                if text is not None:
                    subjects = iter(doc["subjects"])
                    for request in unpacked(text):
                        entries.append(Entry(doc["source"], [next(subjects) for _ in request.messages], request))
        return entries


def _parts(entries: Sequence[Entry]) -> Iterator[tuple[list[Entry], list[bytes]]]:
    """A source's requests, oldest first, and the same as JSON, in parts that fit into a document each."""
    part: list[Entry] = []
    texts: list[bytes] = []
    size = 0
    for each in entries:
        text = encoded(each.request)
        if part and (each.received - part[0].received > SPREAD_MS or size + len(text) > BIGGEST_DOCUMENT):
            yield part, texts
            part, texts, size = [], [], 0
        part.append(each)
        texts.append(text)
        size += len(text)
    if part:
        yield part, texts


def _without(entry: Entry, gone: Collection[str]) -> Entry:
    kept = [at for at, subject in enumerate(entry.subjects) if subject not in gone]
    messages = [entry.request.messages[at] for at in kept]
    return Entry(entry.source, [entry.subjects[at] for at in kept], replace(entry.request, messages=messages))
