"""What the log holds: events, and where they stand."""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from shared.errors import Poison


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has no position yet. Field names are CloudEvents' where CloudEvents has one."""

    id: str
    """32 hex characters, the same however often the same fact is appended: what duplicates are found by."""
    type: str
    """`name.vN`, such as `tracking.track.v1`."""
    source: str
    """The id of the source, or the name of the service that decided."""
    subject: str
    """The random id that the event belongs to; it decides the partition."""
    time: int
    """When it was received or decided: milliseconds since 1970 UTC."""
    data: dict[str, object] = {}
    """In clear: random ids, positions and kinds only, never anything personal."""
    sealed: dict[str, bytes] = {}
    """Class of data -> ciphertext (see shared.keyring)."""
    causes: dict[str, int] = {}
    """`stream:partition` -> the highest position there that led to this event."""
    correlation: str = ""
    """Follows a request from the collector to the webhook."""


class Event(NewEvent, frozen=True, kw_only=True):
    """An event with its place in the log."""

    stream: str
    partition: int
    position: int
    """1, 2, 3 ... within the partition, without holes, in the order of the commits."""
    stored_type: str = ""
    """The type it was written as, where an upcaster has lifted it to a newer one; else empty."""

    @property
    def place(self) -> str:
        """`stream:partition`, the key used in `causes`."""
        return f"{self.stream}:{self.partition}"

    def text(self, field: str) -> str:
        """A text of `data`. Raises Poison where there is none."""
        value = self.data.get(field)
        if not isinstance(value, str):
            raise Poison(f"event {self.id} is no {self.type}: {field} is missing")
        return value

    def texts(self, field: str) -> list[str]:
        """A list of texts of `data`; empty where there is none."""
        found: Any = self.data.get(field) or []
        return [str(each) for each in found]


class Appended(NamedTuple):
    """Where an event stands after an append; a duplicate gives the place of the first."""

    partition: int
    position: int
    duplicate: bool


def partition_of(subject: str, partitions: int) -> int:
    """The partition of a subject: stable over processes and versions (CRC-32)."""
    return zlib.crc32(subject.encode()) % partitions


def derive_id(*parts: object) -> str:
    """An id (32 hex) that follows from what caused the event, so that deciding twice is appending once."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def latest_causes(*causes: dict[str, int]) -> dict[str, int]:
    """Several causes as one: the highest position of each place."""
    merged: dict[str, int] = {}
    for each in causes:
        for place, position in each.items():
            if position > merged.get(place, 0):
                merged[place] = position
    return merged


def fair_shares(after: Mapping[int, int], limit: int, read: Callable[[int, int, int], list[Event]]) -> list[Event]:
    """Up to `limit` events behind several positions (partition -> position): what one partition leaves of its
    share is the others'. `read` takes a partition, a position and a limit."""
    events: list[Event] = []
    for waiting, (partition, position) in zip(range(len(after), 0, -1), sorted(after.items()), strict=True):
        events += read(partition, position, max(1, (limit - len(events)) // waiting))
    return events


def without_repeats(events: list[NewEvent]) -> dict[str, NewEvent]:
    """The events by id, the first of each: what a batch really adds."""
    unique: dict[str, NewEvent] = {}
    for event in events:
        unique.setdefault(event.id, event)
    return unique
