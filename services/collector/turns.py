"""Large requests are sorted one after another, a piece at a time: in between, small ones are served."""

import asyncio
from typing import Final

from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import PIECE, Intake, Sorting, take_in
from services.collector.domain.normalize import Arrival
from shared.keyring import new_id
from shared.policy import POLICY

MOST_WAITING_BYTES: Final = 16_000_000
"""Of requests that wait for their turn: in memory each takes several times what was sent."""
OVERLOADED: Final = Refused(503, "overloaded", "too many large requests are being sorted; send it again soon")


class Turns:
    """Who comes first is sorted first."""

    def __init__(self, most: int = MOST_WAITING_BYTES) -> None:
        self._left = most
        self._turn = asyncio.Lock()

    async def sorted(self, batch: Batch, arrival: Arrival, size: int) -> Intake | Refused:
        """The messages, sorted; `size` is what they take up, in bytes. Refused where too many wait already."""
        if len(batch.messages) <= PIECE:
            return take_in(batch, arrival, POLICY, new_id)
        if self._left < size:
            return OVERLOADED
        self._left -= size
        try:
            async with self._turn:
                sorting = Sorting(batch, arrival, POLICY, new_id)
                for _ in sorting.pieces():
                    await asyncio.sleep(0)
                return sorting.intake
        finally:
            self._left += size
