"""Large requests let small ones pass."""

import asyncio

from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import PIECE
from services.collector.domain.source import Source
from services.collector.turns import Turns

ARRIVAL = Source("s", "web", "first", True, 0).arrival(1_750_000_000_000, False, Sender(), True, True)
LARGE = Batch([{"type": "track", "userId": "u", "event": "E"}] * PIECE * 10, {})
SMALL = Batch(LARGE.messages[:PIECE], {})


def test_small_requests_pass_while_a_large_one_is_sorted():
    """At least one a piece; a small one is sorted at once, without waiting for anything."""

    async def both():
        turns, passed = Turns(), []
        large = asyncio.create_task(turns.sorted(LARGE, ARRIVAL, 1_000))
        while not large.done():
            await asyncio.sleep(0)
            passed.append(await turns.sorted(SMALL, ARRIVAL, 100))
        return await large, passed

    large, passed = asyncio.run(both())
    assert len(large.accepted) == len(LARGE.messages) and len(passed) >= 10
    assert all(len(each.accepted) == PIECE for each in passed)


def test_large_ones_are_sorted_in_their_order_and_what_waits_is_bounded():
    """Who is one too many is told to come again, and the room is given back."""

    async def many():
        turns, done = Turns(most=3_000), []

        async def one(name):
            found = await turns.sorted(LARGE, ARRIVAL, 1_000)
            done.append((name, isinstance(found, Refused)))

        for _ in range(2):
            await asyncio.gather(*(one(name) for name in range(5)))
        return done, turns._left

    done, left = asyncio.run(many())
    assert done == [(3, True), (4, True), (0, False), (1, False), (2, False)] * 2 and left == 3_000
