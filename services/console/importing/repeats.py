"""Which messages have the id of an earlier one, and so are one event with it at the door: in memory that is bounded.

Of a message its id and person are kept as 8 bytes, in a table that is never more than three quarters full. Behind the
MOST_IDS-th different one no more are remembered: what repeats one of those behind it is not told.
"""

import hashlib
from array import array
from typing import Any, Final

import msgspec

MOST_IDS: Final = 3_000_000
"""32 MB of them."""
SLOTS: Final = 1_024


class Repeats:
    """The messages of a file, one after the other."""

    def __init__(self, most: int = MOST_IDS) -> None:
        self._most = most
        self._slots = array("Q", bytes(8 * SLOTS))
        self._held = 0

    def again(self, message: dict[str, Any]) -> bool:
        """Whether an earlier one has its id and is of the same person."""
        key = _key(message)
        at = self._place_of(key)
        if self._slots[at]:
            return True
        if self._held < self._most:
            self._slots[at] = key
            self._held += 1
            if self._held * 4 > len(self._slots) * 3:
                self._grow()
        return False

    def _place_of(self, key: int) -> int:
        """Where it stands, or would."""
        slots, last = self._slots, len(self._slots) - 1
        at = key & last
        while slots[at] not in (0, key):
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        held = self._slots
        self._slots = array("Q", bytes(8 * 2 * len(held)))
        for key in held:
            if key:
                self._slots[self._place_of(key)] = key


def _key(message: dict[str, Any]) -> int:
    """Never 0, which is a free slot."""
    who = message.get("userId") or message.get("anonymousId")
    said = msgspec.json.encode([message["messageId"], None if who is None else str(who)])
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) or 1


def notes_of(repeated: int) -> list[str]:
    """For people."""
    if not repeated:
        return []
    return [
        f"repeated: {repeated:,} messages have the id of an earlier one of the same person, and count once with it: "
        "where they are rows of their own, the columns under `id` do not tell rows apart"
    ]
