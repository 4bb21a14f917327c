"""The event log in MongoDB: one collection a stream, one document an event.

`_id` is partition and position in one 64-bit integer, so that a partition lies together and in order.
`counters` holds the last position of each partition; claiming is a `$inc` in the transaction that
inserts, which makes appenders of one partition follow one another (DESIGN law 3).
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, MongoClient, UpdateOne
from pymongo.collection import Collection as Table
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from contracts.streams import STREAMS
from shared.errors import SamlaError, SubjectsFenced, Unavailable
from shared.eventlog.event import Appended, Event, NewEvent, fair_shares, partition_of, without_repeats
from shared.eventlog.log import FOUND_BY, mark_of
from shared.eventlog.upcast import UPCASTERS, Upcasters
from shared.mongo import Document
from shared.transaction import Again, Transaction, Transactor

POSITION_BITS = 40
"""A partition holds up to 2^40 events; 2^23 partitions fit beside them in 64 bits."""

FEW = 100
"""Events of several partitions that are read in one go."""

CAREFUL_SECONDS = 1.0
"""After a wrong guess at where a stream's counters stand: how long they are asked instead."""

Fences = Callable[[Collection[str], Transaction], set[str]]
"""Which of these subjects are erased, as the transaction sees it."""


def no_fences(subjects: Collection[str], within: Transaction) -> set[str]:
    """For logs without a keyring: nobody is erased."""
    return set()


class MongoEventLog:
    """See shared.eventlog.log.EventLog."""

    def __init__(
        self,
        client: "MongoClient[Document]",
        database: str,
        transactor: Transactor,
        fences: Fences = no_fences,
        streams: Mapping[str, int] = STREAMS,
        upcasters: Upcasters = UPCASTERS,
    ) -> None:
        self._db: Database[Any] = client.get_database(database, read_concern=ReadConcern("majority"))
        self._events_of: dict[str, Table[Any]] = {stream: self._db[stream] for stream in streams}
        self._counters: Table[Any] = self._db["counters"]
        self._transactor = transactor
        self._fences = fences
        self._streams = dict(streams)
        self._upcasters = upcasters
        self._last: dict[str, dict[int, int]] = {stream: {} for stream in streams}
        self._careful_until = dict.fromkeys(streams, 0.0)

    def setup(self) -> None:
        """Makes collections and indexes; refuses a log that was made with other partitions."""
        for stream, partitions in self._streams.items():
            collection = self._events_of[stream]
            collection.create_index([("partition", ASCENDING), ("id", ASCENDING)], unique=True, name="duplicates")
            collection.create_index([("subject", ASCENDING), ("_id", ASCENDING)], name="subject")
            for field, mark in FOUND_BY.get(stream, {}).items():
                having = {f"data.{mark}": {"$exists": True}}
                collection.create_index(
                    [(f"data.{field}", ASCENDING)], name=f"by_{field}", partialFilterExpression=having
                )
            self._keep_partitions(stream, partitions)

    def _keep_partitions(self, stream: str, partitions: int) -> None:
        layout = self._db["layout"]
        layout.update_one({"_id": stream}, {"$setOnInsert": {"partitions": partitions}}, upsert=True)
        found = layout.find_one({"_id": stream}) or {}
        if found.get("partitions") != partitions:
            raise SamlaError(
                f"stream {stream} was made with {found.get('partitions')} partitions, not {partitions}: "
                "use another SAMLA_PREFIX, or the version of Samla that made it"
            )
        counters = [
            UpdateOne({"_id": _counter(stream, each)}, {"$setOnInsert": {"position": Int64(0)}}, upsert=True)
            for each in range(partitions)
        ]
        self._counters.bulk_write(counters, ordered=False)

    def partitions(self, stream: str) -> int:
        """Into how many partitions the stream is cut."""
        return self._streams[stream]

    def append(self, stream: str, events: Sequence[NewEvent], within: Transaction | None = None) -> list[Appended]:
        """Appends all or none; see EventLog.append."""
        if not events:
            return []
        if within is not None:
            return self._append(stream, events, within, hopeful=within.attempt == 1)
        return self._transactor.run(lambda within: self._append(stream, events, within, hopeful=False))

    def _append(self, stream: str, events: Sequence[NewEvent], within: Transaction, hopeful: bool) -> list[Appended]:
        by_partition = _grouped(events, self._streams[stream])
        # What follows from a batch is new, since the batch's checkpoint is guarded: a consumer's output is
        # looked for in the log only once a unique index has said otherwise.
        known = {} if hopeful else self._known(stream, by_partition, within)
        fresh = {
            partition: [event for event in group.values() if (partition, event.id) not in known]
            for partition, group in by_partition.items()
        }
        added = {partition: group for partition, group in fresh.items() if group}
        if added:
            self._refuse_fenced(added.values(), within)
            known |= self._insert(stream, added, within)
        return self._places(events, known, added, self._streams[stream])

    def _known(
        self, stream: str, groups: Mapping[int, Mapping[str, NewEvent]], within: Transaction
    ) -> dict[tuple[int, str], int]:
        """(partition, id) -> position of the events that stand in the log already."""
        branches = [{"partition": each, "id": {"$in": list(group)}} for each, group in groups.items()]
        query = branches[0] if len(branches) == 1 else {"$or": branches}
        found = self._events_of[stream].find(
            query, {"id": 1, "partition": 1}, session=within.session, batch_size=10_000
        )
        return {(doc["partition"], doc["id"]): _position(doc["_id"]) for doc in found}

    def _refuse_fenced(self, groups: Iterable[list[NewEvent]], within: Transaction) -> None:
        subjects = {event.subject for group in groups for event in group}
        if fenced := self._fences(subjects, within):
            raise SubjectsFenced(fenced)

    def _insert(
        self, stream: str, added: Mapping[int, list[NewEvent]], within: Transaction
    ) -> dict[tuple[int, str], int]:
        counts = {partition: len(group) for partition, group in added.items()}
        last = self._claim_guessed(stream, counts, within) or self._claim(stream, counts, within)
        documents: list[Document] = []
        places: dict[tuple[int, str], int] = {}
        for partition in sorted(added):
            group = added[partition]
            first = last[partition] - len(group) + 1
            for position, event in enumerate(group, first):
                documents.append(_document(event, partition, position))
                places[partition, event.id] = position
            within.appended(stream, partition, last[partition])
        self._events_of[stream].insert_many(documents, session=within.session, ordered=True)
        within.on_commit(lambda: self._last[stream].update(last))
        return places

    def _claim_guessed(self, stream: str, counts: Mapping[int, int], within: Transaction) -> dict[int, int]:
        """What `_claim` does, in one step less: an appender that is alone knows where the counters stand. Empty
        where it does not; raises Again where it is wrong."""
        guessed = self._last[stream]
        careful = within.attempt > 1 or time.monotonic() < self._careful_until[stream]
        if careful or len(counts) == 1 or not counts.keys() <= guessed.keys():
            return {}
        after = {each: guessed[each] + counts[each] for each in sorted(counts)}
        steps = [
            UpdateOne({"_id": _counter(stream, each), "position": guessed[each]}, {"$set": {"position": Int64(last)}})
            for each, last in after.items()
        ]
        done = self._counters.bulk_write(steps, ordered=True, session=within.session)
        if done.matched_count != len(steps):
            self._careful_until[stream] = time.monotonic() + CAREFUL_SECONDS
            raise Again
        return after

    def _claim(self, stream: str, counts: Mapping[int, int], within: Transaction) -> dict[int, int]:
        """Moves the counters on and gives each partition's last position. Ascending, so that two
        appenders meet at the first partition they share, not in the middle of their work."""
        if len(counts) == 1:
            [(partition, count)] = counts.items()
            after = self._counters.find_one_and_update(
                {"_id": _counter(stream, partition)},
                {"$inc": {"position": count}},
                return_document=True,
                session=within.session,
            )
            return {partition: int(_made(after, stream)["position"])}
        names = {_counter(stream, partition): partition for partition in sorted(counts)}
        steps = [
            UpdateOne({"_id": name}, {"$inc": {"position": counts[partition]}}) for name, partition in names.items()
        ]
        self._counters.bulk_write(steps, ordered=True, session=within.session)
        found = list(self._counters.find({"_id": {"$in": list(names)}}, session=within.session))
        _made(len(found) == len(names) or None, stream)
        return {names[doc["_id"]]: int(doc["position"]) for doc in found}

    @staticmethod
    def _places(
        events: Sequence[NewEvent],
        known: Mapping[tuple[int, str], int],
        added: Mapping[int, list[NewEvent]],
        partitions: int,
    ) -> list[Appended]:
        new = {(partition, event.id) for partition, group in added.items() for event in group}
        places = []
        for event in events:
            place = (partition_of(event.subject, partitions), event.id)
            places.append(Appended(place[0], known[place], place not in new))
            new.discard(place)  # Its next occurrence in this batch is a duplicate.
        return places

    def read(self, stream: str, partition: int, after: int, limit: int) -> list[Event]:
        """At most `limit` events behind position `after`, in order."""
        bounds = {"$gt": _id(partition, after), "$lt": _id(partition + 1, 0)}
        return self._events(stream, {"_id": bounds}, limit)

    def read_behind(self, stream: str, after: Mapping[int, int], limit: int) -> list[Event]:
        """Events behind several positions: all at once where they are few, which is the usual case."""
        if len(after) > 1:
            ranges = [{"_id": {"$gt": _id(each, at), "$lt": _id(each + 1, 0)}} for each, at in sorted(after.items())]
            few = self._events(stream, {"$or": ranges}, min(limit, FEW))
            if len(few) < min(limit, FEW):
                return few
        return fair_shares(after, limit, partial(self.read, stream))

    def read_subject(self, stream: str, subject: str, after: int = 0, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject behind position `after`, in order."""
        partition = partition_of(subject, self._streams[stream])
        return self._events(stream, {"subject": subject, "_id": {"$gt": _id(partition, after)}}, limit)

    def read_subject_back(self, stream: str, subject: str, before: int | None = None, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject before a position, the last one first."""
        partition = partition_of(subject, self._streams[stream])
        behind = _id(partition + 1, 0) if before is None else _id(partition, before)
        return self._events(stream, {"subject": subject, "_id": {"$lt": behind}}, limit, DESCENDING)

    def find_by(self, stream: str, field: str, values: Collection[str]) -> list[Event]:
        """The events that hold one of these values in a field of `data`."""
        mark = mark_of(stream, field)
        chosen = {f"data.{field}": {"$in": list(values)}}
        return self._events(stream, {"$and": [chosen, {f"data.{mark}": {"$exists": True}}]}, 0) if values else []

    def find(self, stream: str, ids: Collection[str]) -> dict[str, Event]:
        """The events with these ids, of those that there are."""
        if not ids:
            return {}
        anywhere = {"partition": {"$in": list(range(self._streams[stream]))}, "id": {"$in": list(ids)}}
        return {event.id: event for event in self._events(stream, anywhere, 0)}

    def _events(self, stream: str, query: Mapping[str, Any], limit: int, order: int = ASCENDING) -> list[Event]:
        lift = self._upcasters.event
        try:
            found = self._events_of[stream].find(query, limit=limit, batch_size=limit or 10_000).sort("_id", order)
            return [lift(_event(stream, doc)) for doc in found]
        except PyMongoError as error:
            raise Unavailable(f"stream {stream} cannot be read: {type(error).__name__}") from error

    def heads(self, stream: str, session: Any = None) -> dict[int, int]:
        """Partition -> its last position; as of a snapshot session, if one is given."""
        names = {_counter(stream, each): each for each in range(self._streams[stream])}
        try:
            found = list(self._counters.find({"_id": {"$in": list(names)}}, session=session))
        except PyMongoError as error:
            raise Unavailable(f"heads of {stream} cannot be read: {type(error).__name__}") from error
        return {names[doc["_id"]]: int(doc["position"]) for doc in found}


def _grouped(events: Sequence[NewEvent], partitions: int) -> dict[int, dict[str, NewEvent]]:
    groups: dict[int, list[NewEvent]] = {}
    for event in events:
        groups.setdefault(partition_of(event.subject, partitions), []).append(event)
    return {partition: without_repeats(groups[partition]) for partition in sorted(groups)}


def _counter(stream: str, partition: int) -> str:
    return f"{stream}:{partition}"


def _made(found: Any, stream: str) -> Any:
    if found is None:
        raise Unavailable(f"stream {stream} has no counters: run the log's setup first")
    return found


def _id(partition: int, position: int) -> Int64:
    return Int64(partition << POSITION_BITS | position)


def _position(identity: int) -> int:
    return int(identity) & ((1 << POSITION_BITS) - 1)


def _document(event: NewEvent, partition: int, position: int) -> Document:
    """Empty fields are left out: an event costs what it says."""
    document: Document = {
        "_id": _id(partition, position),
        "partition": partition,
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": Int64(event.time),
    }
    for name in ("data", "sealed", "causes", "correlation"):
        if value := getattr(event, name):
            document[name] = value
    return document


def _event(stream: str, doc: Mapping[str, Any]) -> Event:
    get = doc.get
    identity = doc["_id"]
    return Event(
        stream=stream,
        partition=identity >> POSITION_BITS,
        position=_position(identity),
        id=doc["id"],
        type=doc["type"],
        source=doc["source"],
        subject=doc["subject"],
        time=int(doc["time"]),
        data=get("data") or {},
        sealed=get("sealed") or {},
        causes=get("causes") or {},
        correlation=get("correlation") or "",
    )
