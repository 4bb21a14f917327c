"""The event log in memory: the twin that tests and models run on."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from contracts.streams import STREAMS
from shared.conditions import values_at
from shared.errors import SubjectsFenced
from shared.eventlog.event import Appended, Event, NewEvent, fair_shares, partition_of
from shared.eventlog.log import mark_of
from shared.eventlog.mongo import Fences, no_fences
from shared.eventlog.upcast import UPCASTERS, Upcasters
from shared.memory import MemoryTransactor
from shared.transaction import Transaction


class MemoryEventLog:
    """See shared.eventlog.log.EventLog. Its transactions are those of shared.memory."""

    def __init__(
        self,
        transactor: MemoryTransactor | None = None,
        fences: Fences = no_fences,
        streams: Mapping[str, int] = STREAMS,
        upcasters: Upcasters = UPCASTERS,
    ) -> None:
        self._transactor = transactor or MemoryTransactor()
        self._fences = fences
        self._streams = dict(streams)
        self._upcasters = upcasters
        self._events: dict[tuple[str, int], list[Event]] = {
            (stream, partition): [] for stream, count in streams.items() for partition in range(count)
        }
        self._positions: dict[tuple[str, int, str], int] = {}

    def setup(self) -> None:
        """Nothing to make."""

    def partitions(self, stream: str) -> int:
        """Into how many partitions the stream is cut."""
        return self._streams[stream]

    def append(self, stream: str, events: Sequence[NewEvent], within: Transaction | None = None) -> list[Appended]:
        """Appends all or none; see EventLog.append."""
        if not events:
            return []
        if within is None:
            return self._transactor.run(lambda transaction: self._append(stream, events, transaction))
        return self._append(stream, events, within)

    def _append(self, stream: str, events: Sequence[NewEvent], within: Transaction) -> list[Appended]:
        fresh = [event for event in events if self._key(stream, event) not in self._positions]
        self._refuse_fenced({event.subject for event in fresh}, within)
        return [self._append_one(stream, event, within) for event in events]

    def _refuse_fenced(self, subjects: Collection[str], within: Transaction) -> None:
        if subjects and (fenced := self._fences(subjects, within)):
            raise SubjectsFenced(fenced)

    def _append_one(self, stream: str, event: NewEvent, within: Transaction) -> Appended:
        key = self._key(stream, event)
        partition = key[1]
        if position := self._positions.get(key):
            return Appended(partition, position, duplicate=True)
        held = self._events[stream, partition]
        position = len(held) + 1
        held.append(_placed(event, stream, partition, position))
        self._positions[key] = position
        self._transactor.undo(within, self._taking_back(key))
        within.appended(stream, partition, position)
        return Appended(partition, position, duplicate=False)

    def _taking_back(self, key: tuple[str, int, str]) -> Callable[[], None]:
        def take_back() -> None:
            self._events[key[0], key[1]].pop()
            del self._positions[key]

        return take_back

    def _key(self, stream: str, event: NewEvent) -> tuple[str, int, str]:
        return stream, partition_of(event.subject, self._streams[stream]), event.id

    def read(self, stream: str, partition: int, after: int, limit: int) -> list[Event]:
        """At most `limit` events behind position `after`, in order."""
        with self._transactor.lock:
            held = self._events[stream, partition][after : after + limit]
        return [self._upcasters.event(event) for event in held]

    def read_behind(self, stream: str, after: Mapping[int, int], limit: int) -> list[Event]:
        """Events behind several positions."""
        return fair_shares(after, limit, partial(self.read, stream))

    def read_subject(self, stream: str, subject: str, after: int = 0, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject behind position `after`, in order."""
        partition = partition_of(subject, self._streams[stream])
        with self._transactor.lock:
            held = [event for event in self._events[stream, partition][after:] if event.subject == subject]
        return [self._upcasters.event(event) for event in held[:limit]]

    def read_subject_back(self, stream: str, subject: str, before: int | None = None, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject before a position, the last one first."""
        partition = partition_of(subject, self._streams[stream])
        end = None if before is None else max(0, before - 1)
        with self._transactor.lock:
            held = [event for event in self._events[stream, partition][:end] if event.subject == subject]
        return [self._upcasters.event(event) for event in held[::-1][:limit]]

    def find_by(self, stream: str, field: str, values: Collection[str]) -> list[Event]:
        """The events that hold one of these values in a field of `data`."""
        mark = mark_of(stream, field)
        wanted = set(values)
        with self._transactor.lock:
            found = [
                event
                for (of, _), held in sorted(self._events.items())
                for event in held
                if of == stream
                and mark in event.data
                and any(value in wanted for value in values_at(event.data, field))
            ]
        return [self._upcasters.event(event) for event in found]

    def find(self, stream: str, ids: Collection[str]) -> dict[str, Event]:
        """The events with these ids, of those that there are."""
        with self._transactor.lock:
            found = [
                held[position - 1]
                for (of, partition), held in self._events.items()
                for identity in ids
                if of == stream and (position := self._positions.get((stream, partition, identity)))
            ]
        return {event.id: self._upcasters.event(event) for event in found}

    def heads(self, stream: str) -> dict[int, int]:
        """Partition -> its last position."""
        with self._transactor.lock:
            return {each: len(self._events[stream, each]) for each in range(self._streams[stream])}


def _placed(event: NewEvent, stream: str, partition: int, position: int) -> Event:
    fields = {name: getattr(event, name) for name in NewEvent.__struct_fields__}
    return Event(stream=stream, partition=partition, position=position, **fields)
