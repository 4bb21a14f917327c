"""Bodies, read piece by piece."""

import asyncio

import pytest

from services.collector import answers
from services.collector.answers import Bodies, body_of
from services.collector.domain.decode import BIGGEST_BODY, Refused


def pieces(*chunks, end=True):
    """What a server gives for a body that comes in these pieces."""
    given = [{"type": "http.request", "body": each, "more_body": True} for each in chunks]
    given += [{"type": "http.request", "body": b""}] if end else [{"type": "http.disconnect"}]
    left = iter(given)

    async def receive():
        return next(left)

    return receive


def read(receive):
    return asyncio.run(body_of({}, receive))


def test_a_body_in_pieces_is_put_together():
    assert read(pieces(b"a", b"", b"bc")) == b"abc" and read(pieces()) == b""


@pytest.mark.parametrize(
    ("receive", "code"),
    [
        (pieces(b"a", end=False), "cut_off"),
        (pieces(b"x" * BIGGEST_BODY, b"y"), "too_large"),
        (pieces(*[b"x" * 65_536] * 9), "too_large"),
    ],
)
def test_a_body_that_is_cut_off_or_too_large_is_refused(receive, code):
    found = read(receive)
    assert isinstance(found, Refused) and found.status == 400 and found.code == code


def test_a_body_that_never_ends_is_given_up(monkeypatch):
    """After a time, with an answer that SDKs send again on."""
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.05)
    first = iter([{"type": "http.request", "body": b"a", "more_body": True}])

    async def receive():
        return next(first, None) or await asyncio.Event().wait()

    found = read(receive)
    assert isinstance(found, Refused) and found.status == 408


def test_all_bodies_together_may_hold_so_much_and_give_it_back():
    """However they end."""
    bodies = Bodies(most=10)

    async def both():
        waiting = asyncio.Event()
        given = iter([{"type": "http.request", "body": b"12345678"}])

        async def slow():
            await waiting.wait()
            return next(given)

        first = {"type": "http.request", "body": b"12", "more_body": True}
        reading = asyncio.create_task(bodies.rest_of(first, slow))
        await asyncio.sleep(0)
        assert bodies.left == 8
        refused = await bodies.rest_of({"type": "http.request", "body": b"x" * 9}, slow)
        assert isinstance(refused, Refused) and refused.status == 503
        waiting.set()
        assert await reading == b"1212345678"

    asyncio.run(both())
    assert bodies.left == 10
