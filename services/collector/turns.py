"""Requests are sorted for a moment at a stretch, large ones one after another: in between, others are served."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import PIECE, Intake, Sorting
from services.collector.domain.normalize import Arrival
from shared.keyring import new_id
from shared.policy import POLICY

MOST_WAITING_BYTES: Final = 16_000_000
"""Of requests that wait for their turn: in memory each takes several times what was sent."""
STRETCH: Final = 0.01
"""Seconds after which others have their turn, between two messages: what one costs depends on its source's rules."""
SMALL_BYTES: Final = 65_536
"""What a request may take up that waits for no other."""
OVERLOADED: Final = Refused(503, "overloaded", "too many large requests are being sorted; send it again soon")


class Turns:
    """Who comes first is sorted first."""

    def __init__(self, most: int = MOST_WAITING_BYTES, now: Callable[[], float] = time.monotonic) -> None:
        self._left = most
        self._now = now
        self._turn = asyncio.Lock()

    async def sorted(self, batch: Batch, arrival: Arrival, size: int) -> Intake | Refused:
        """The messages, sorted; `size` is what they take up, in bytes. Refused where too many wait already."""
        if len(batch.messages) <= PIECE and size <= SMALL_BYTES:
            return await self._sorted(batch, arrival)
        if self._left < size:
            return OVERLOADED
        self._left -= size
        try:
            async with self._turn:
                return await self._sorted(batch, arrival)
        finally:
            self._left += size

    async def _sorted(self, batch: Batch, arrival: Arrival) -> Intake:
        sorting, began = Sorting(batch, arrival, POLICY, new_id), self._now()
        for _ in sorting.pieces():
            if self._now() - began >= STRETCH:
                await asyncio.sleep(0)
                began = self._now()
        return sorting.intake
