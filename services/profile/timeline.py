"""What somebody did, latest first, a page at a time, through any length of history.

A subject's events are read backwards by position, and no further than a page needs: nobody's event happens later than
it was received, nor is received later than it was appended; so behind what was appended long before the page's oldest
line there is nothing for the page. An event is appended when it is received, but for those that were replayed from the
quarantine, which say when that was. Edges do not agree on the time to the millisecond, nor do events stand in quite
the order in which they were received: hence the margin. What is kept meanwhile is the page, and the ids of events of
which a correction was seen and not yet themselves.

A page begins behind the last line of the one before; what came between them is read over again, as an event that was
received late may stand anywhere.
"""

import re
from collections.abc import Collection
from typing import Any, Final

from services.profile.correcting import backwards
from services.profile.domain.placing import subject_of
from services.profile.domain.view import line_of
from services.profile.opening import MALFORMED, opened
from services.profile.store import ProfileStore
from shared.errors import SamlaError
from shared.eventlog import EventLog
from shared.keyring import Keyring

MARGIN_MS: Final = 3_600_000
"""By how much an event that was not replayed may have been received before one that stands before it."""
PAGE: Final = 250
"""Events that are read at a time."""
CURSOR: Final = re.compile(r"(-?[0-9]{1,18})\.([0-9a-f]{32})")

Line = dict[str, Any]
Key = tuple[int, str]


def _key(line: Line) -> Key:
    """What lines are in order of: latest first."""
    return -line["time"], line["event"]


class Timeline:
    """See the module's text."""

    def __init__(self, store: ProfileStore, log: EventLog, keyring: Keyring) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring

    def page(
        self, slots: Collection[str], limit: int, before: str | None = None, events: Collection[str] | None = None
    ) -> dict[str, Any]:
        """{lines, next} of the events in these slots (domain.placing): `before` is the `next` of the page before, and
        there is none at the end; `events` are the names that are wanted. Raises SamlaError where `before` is none."""
        latest = _Latest(limit + 1, _after(before), frozenset(events) if events else None)
        for subject in dict.fromkeys(map(subject_of, slots)):
            self._read(subject, slots, latest)
        lines = latest.lines()
        last = lines[limit - 1] if len(lines) > limit else None
        return {"lines": lines[:limit], "next": last and f"{last['time']}.{last['event']}"}

    def _read(self, subject: str, slots: Collection[str], latest: "_Latest") -> None:
        for said, appended in backwards(self._log, subject, size=PAGE):
            placing = self._store.placing([subject], [identity for _, identity in said])
            for _, identity, body in opened(self._keyring, said):
                if placing.slot_of(subject, identity, body["time"]) in slots and (line := _line(body, identity)):
                    latest.add(line)
            if latest.has_no_room_for(appended + MARGIN_MS):
                return


def _line(body: dict[str, Any], identity: str) -> Line | None:
    """None where a body is not what it should be."""
    try:
        return line_of(body, identity)
    except MALFORMED:
        return None


class _Latest:
    """The latest lines behind a cursor."""

    def __init__(self, size: int, after: Key | None, events: Collection[str] | None) -> None:
        self._size = size
        self._after = after
        self._events = events
        self._lines: list[Line] = []

    def add(self, line: Line) -> None:
        """Keeps it, if it is one of them."""
        if self._events is not None and line["what"] not in self._events:
            return
        if self._after is None or _key(line) > self._after:
            self._lines.append(line)
            if len(self._lines) >= 2 * self._size:
                self.lines()

    def lines(self) -> list[Line]:
        """Latest first."""
        self._lines = sorted(self._lines, key=_key)[: self._size]
        return self._lines

    def has_no_room_for(self, time: int) -> bool:
        """Whether nothing that happened at that time (ms), or before, is one of them."""
        lines = self.lines()
        return len(lines) == self._size and lines[-1]["time"] > time


def _after(before: str | None) -> Key | None:
    if before is None:
        return None
    found = CURSOR.fullmatch(before)
    if found is None:
        raise SamlaError("before: the `next` of the page before, as it was given")
    return -int(found[1]), found[2]
