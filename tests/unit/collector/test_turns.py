"""Large requests let small ones pass."""

import asyncio

import pytest

from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.intake import PIECE
from services.collector.domain.source import Source
from services.collector.turns import SMALL_BYTES, STRETCH, Turns

ARRIVAL = Source("s", "web", "first", True, 0).arrival(1_750_000_000_000, False, Sender(), True, True)
LARGE = Batch([{"type": "track", "userId": "u", "event": "E"}] * PIECE * 10, {})
SMALL = Batch(LARGE.messages[:PIECE], {})


class Clock:
    """Time that passes by so much whenever somebody looks at it."""

    def __init__(self, step):
        self.at, self.step = 0.0, step

    def __call__(self):
        self.at += self.step
        return self.at


def test_small_requests_pass_while_a_large_one_is_sorted():
    """A small one is sorted at once, without waiting for anything."""

    async def both():
        turns, passed = Turns(now=Clock(STRETCH / PIECE / 2)), []
        large = asyncio.create_task(turns.sorted(LARGE, ARRIVAL, 1_000))
        while not large.done():
            await asyncio.sleep(0)
            passed.append(await turns.sorted(SMALL, ARRIVAL, 100))
        return await large, passed

    large, passed = asyncio.run(both())
    assert len(large.accepted) == len(LARGE.messages) and len(passed) >= 5
    assert all(len(each.accepted) == PIECE for each in passed)


def passes(batch, size, step):
    """How often others had their turn while a request was sorted whose messages take `step` seconds each."""

    async def count():
        turns, passed = Turns(now=Clock(step)), 0
        task = asyncio.create_task(turns.sorted(batch, ARRIVAL, size))
        while not task.done():
            await asyncio.sleep(0)
            passed += 1
        assert len(task.result().accepted) == len(batch.messages)
        return passed

    return asyncio.run(count())


@pytest.mark.parametrize("size", [100, SMALL_BYTES + 1])
def test_others_have_their_turn_by_the_time_that_messages_take(size):
    """After each that takes long, be they few or many, small or large."""
    few = Batch(LARGE.messages[:15], {})
    assert passes(few, size, STRETCH * 2) >= 15
    assert passes(few, size, STRETCH / 2.5) in range(5, 9)
    assert passes(few, size, 0.0) <= 3


def test_a_request_of_few_large_messages_waits_for_its_turn():
    """What it takes up counts, not only how many messages it has."""

    async def both():
        turns = Turns(most=SMALL_BYTES * 3, now=Clock(STRETCH / 5))
        few = [turns.sorted(SMALL, ARRIVAL, SMALL_BYTES * 2) for _ in range(2)]
        return await asyncio.gather(*few, turns.sorted(SMALL, ARRIVAL, SMALL_BYTES))

    first, second, small = asyncio.run(both())
    assert len(first.accepted) == PIECE == len(small.accepted) and isinstance(second, Refused)


def test_large_ones_are_sorted_in_their_order_and_what_waits_is_bounded():
    """Who is one too many is told to come again, and the room is given back."""

    async def many():
        turns, done = Turns(most=3_000, now=Clock(STRETCH / 5)), []

        async def one(name):
            found = await turns.sorted(LARGE, ARRIVAL, 1_000)
            done.append((name, isinstance(found, Refused)))

        for _ in range(2):
            await asyncio.gather(*(one(name) for name in range(5)))
        return done, turns._left

    done, left = asyncio.run(many())
    assert done == [(3, True), (4, True), (0, False), (1, False), (2, False)] * 2 and left == 3_000
