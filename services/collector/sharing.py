"""What the processes of one edge hold in common: what each source that has a rate may still send.

It lies in an unnamed file that all of them map. The kernel lets go of the lock of a process that is killed.
"""

import fcntl
import hashlib
import mmap
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from services.collector.domain.source import Bucket, Limits, Source

PLACES: Final = 1 << 14
"""Sources with a rate that are counted in common."""
PROBES: Final = 32
ROW: Final = struct.Struct("16sddd")
"""Which source, its rate, what is left, as of when (s)."""
LOCKED_BYTE: Final = PLACES * ROW.size
"""Behind the table: a byte that is locked need not exist."""
TRIES: Final = 200


class SharedLimits(Limits):
    """The buckets of all sources that have a rate, over all processes. `now` is a clock that they share (monotonic).

    Exact, but where a process is stopped in the very moment in which it counts: it is not waited for.
    """

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._file = tempfile.TemporaryFile(prefix="samla-edge-")  # noqa: SIM115
        self._file.truncate(PLACES * ROW.size)
        self._table = mmap.mmap(self._file.fileno(), PLACES * ROW.size)
        self._places: dict[str, int | None] = {}
        self._processes = processes

    def wait(self, source: Source, events: int, now: float) -> float:
        """Seconds that the source must wait before it may send so many; 0 where it may now."""
        if not source.rate:
            return 0.0
        with _locked(self._file):
            place = self._place(source.id)
            if place is not None:
                return self._take(place, source.rate, events, now)
        # The table is full: each process gives its share.
        return super().wait(source._replace(rate=max(1, source.rate // self._processes)), events, now)

    def _take(self, place: int, rate: int, events: int, now: float) -> float:
        name, kept, left, at = ROW.unpack_from(self._table, place)
        bucket = Bucket(rate, now) if kept != rate else Bucket(rate, at, left)
        wait = bucket.take(events, now)
        ROW.pack_into(self._table, place, name, rate, bucket.left, bucket.at)
        return wait

    def _place(self, source: str) -> int | None:
        """Where the source's row is; a new one's is made."""
        if source not in self._places:
            self._places[source] = self._sought(hashlib.blake2b(source.encode(), digest_size=16).digest())
        return self._places[source]

    def _sought(self, name: bytes) -> int | None:
        first = int.from_bytes(name[:4], "big")
        for probe in range(PROBES):
            place = (first + probe) % PLACES * ROW.size
            found = self._table[place : place + len(name)]
            if found == name:
                return place
            if not any(found):
                ROW.pack_into(self._table, place, name, 0.0, 0.0, 0.0)
                return place
        return None


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    for _ in range(TRIES):
        if _lock(file):
            break
        time.sleep(0)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, LOCKED_BYTE)


def _lock(file: IO[bytes]) -> bool:
    """Whether this process has it now."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, LOCKED_BYTE)
    except OSError:
        return False
    return True
