"""From the processes that serve to the one that appends: what is sent, bounds, and lines that break."""

import asyncio
import random
import socket
import threading

import msgspec
import pytest

from services.collector import relay as module
from services.collector.domain.agreement import checked
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import take_in
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source
from services.collector.relay import Answer, Appending, Frames, Relay, Sent, framed, packed, unpacked
from services.collector.writer import Outcome, Work, Writer
from shared.errors import Unavailable
from shared.policy import POLICY

SECONDS = 10
SOURCE = Source("s", "web", "first", True, 0, ip="keep")
GOOD = {"type": "track", "userId": "u", "event": "E", "messageId": "m", "context": {"ip": "203.0.113.7"}}


def work(*messages, waiting=None, name="c"):
    arrival = SOURCE.arrival(1_700_000_000_000, gpc=True, sender=Sender("203.0.113.9", "Agent", "keep", "keep"))
    intake = take_in(Batch(list(messages or [GOOD]), {"context": {"locale": "sv"}}), arrival, POLICY, lambda: "fresh")
    return Work("s", 1_700_000_000_000, name, intake, 100, waiting)


def test_what_arrives_is_what_was_sent():
    """Accepted and set aside, and all that is kept of a request: the same on the other side."""
    sent = work(GOOD, {"type": "track"}, {**GOOD, "messageId": None, "properties": {"religion": "x"}})
    came = unpacked(packed(sent), "waiting")
    assert came._replace(intake=sent.intake) == sent._replace(waiting="waiting")
    assert came.intake[:4] == sent.intake[:4]
    assert len(came.intake.accepted) == 2 and len(came.intake.set_aside) == 1


def test_what_was_set_aside_under_an_agreement_says_so_on_the_other_side():
    """Or it could be replayed under none."""
    agreement = checked("a" * 16, "second", "Hotel", ["marketing"], ["traits.email"], 0, 2**52)
    source = SOURCE._replace(party="second", rules=Rules(agreement))
    arrival = source.arrival(1_700_000_000_000, gpc=False, sender=Sender())
    sent = Work("s", 1, "c", take_in(Batch([{"type": "track"}], {}), arrival, POLICY, lambda: "fresh"), 1, None)
    assert unpacked(packed(sent), None).intake.agreement == "a" * 16


def test_frames_are_told_apart_wherever_they_are_cut():
    """A stream has no messages."""
    answers = [[Answer(number, Outcome.DURABLE) for number in range(count)] for count in (0, 1, 7, 300)]
    stream = b"".join(map(framed, answers))
    chance, frames, found = random.Random(1), Frames(Answer), []
    while stream:
        cut = chance.randrange(1, 40)
        found += frames.of(stream[:cut])
        stream = stream[cut:]
    assert found == [each for group in answers for each in group]


class Appender:
    """Stands where the log would."""

    def __init__(self, error=None):
        self.written, self.error = [], error
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def write(self, group):
        self.entered.set()
        assert self.go.wait(SECONDS)
        if self.error:
            raise self.error
        self.written += [each.correlation for each in group]


class Side:
    """The appending side, in a thread."""

    def __init__(self, path, appender):
        path.unlink(missing_ok=True)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.listening.setblocking(False)
        self.appending = Appending(self.listening, lambda tell: Writer(appender, tell))
        self.thread = threading.Thread(target=self.appending.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.appending.end()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.listening.close()


class Told:
    """What the serving side is told."""

    def __init__(self):
        self.outcomes, self.something = {}, asyncio.Event()

    def __call__(self, group):
        self.outcomes |= {work.correlation: outcome for work, outcome in group}
        self.something.set()

    async def has(self, count):
        async with asyncio.timeout(SECONDS):
            while len(self.outcomes) < count:
                self.something.clear()
                await self.something.wait()
        return self.outcomes


async def hang_up(relay):
    relay.stop(0)
    while not relay._line.done():
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, Outcome.DURABLE), (Unavailable("away"), Outcome.UNAVAILABLE), (ValueError(), Outcome.FAILED)],
)
def test_what_became_of_it_is_told(tmp_path, error, outcome):
    async def run():
        relay = Relay(str(tmp_path / "a"), told := Told())
        relay.start()
        for number in range(100):
            assert relay.submit(work(name=f"w{number}"))
        found = await told.has(100)
        await hang_up(relay)
        return found

    with Side(tmp_path / "a", Appender(error)):
        assert set(asyncio.run(run()).values()) == {outcome}


def test_what_was_not_answered_is_sent_again_to_the_next_that_appends(tmp_path):
    """Nobody is told of an error where one process takes another's place."""
    first, second = Appender(), Appender()

    async def run():
        relay = Relay(str(tmp_path / "a"), told := Told())
        relay.start()
        with Side(tmp_path / "a", first) as side:
            relay.submit(work(name="answered"))
            await told.has(1)
            first.entered.clear()
            first.go.clear()
            relay.submit(work(name="begun"))
            assert await asyncio.to_thread(first.entered.wait, SECONDS)
            # As if it had been killed: the line breaks, and nothing of what it does is heard any more.
            (tmp_path / "a").unlink()
            for line in list(side.appending._lines):
                line.shutdown(socket.SHUT_RDWR)
            while relay.reachable:
                await asyncio.sleep(0)
            relay.submit(work(name="meanwhile"))
            first.go.set()
        with Side(tmp_path / "a", second):
            found = await told.has(3)
            await hang_up(relay)
        return found

    assert set(asyncio.run(run()).values()) == {Outcome.DURABLE}
    assert first.written == ["answered", "begun"] and second.written == ["begun", "meanwhile"]


def test_where_nobody_appends_for_long_all_are_told_to_come_again(tmp_path, monkeypatch):
    """Those who wait, and those who come."""
    monkeypatch.setattr(module, "ABSENT_SECONDS", 0.1)

    async def run():
        relay = Relay(str(tmp_path / "a"), told := Told())
        relay.start()
        await asyncio.sleep(0)
        assert relay.submit(work(name="waits"))
        assert await told.has(1) == {"waits": Outcome.UNAVAILABLE}
        assert not relay.submit(work(name="comes"))
        with Side(tmp_path / "a", Appender()):
            async with asyncio.timeout(SECONDS):
                while not relay.submit(work(name="later")):
                    await asyncio.sleep(0.01)
            found = await told.has(2)
            await hang_up(relay)
        return found

    assert asyncio.run(run())["later"] is Outcome.DURABLE


def test_a_request_that_cannot_be_read_fails_alone(tmp_path):
    """Its neighbours in the frame are appended."""

    async def run():
        relay = Relay(str(tmp_path / "a"), told := Told())
        relay.start()
        for name in ("good", "bad", "fine"):
            relay.submit(work(name=name))
        relay._pending[2] = relay._pending[2][0], Sent(2, msgspec.Raw(b"\x90"))
        found = await told.has(3)
        await hang_up(relay)
        return found

    with Side(tmp_path / "a", Appender()):
        assert asyncio.run(run()) == {"good": Outcome.DURABLE, "bad": Outcome.FAILED, "fine": Outcome.DURABLE}


def test_what_waits_is_bounded_and_shared_out(tmp_path, monkeypatch):
    """Each of two processes may have half of it waiting."""
    monkeypatch.setattr(module, "MOST_WAITING", 10)

    async def run():
        relay = Relay(str(tmp_path / "a"), Told(), 2)
        relay.start()
        taken = [relay.submit(work()) for _ in range(8)]
        await hang_up(relay)
        return taken

    assert asyncio.run(run()) == [True] * 5 + [False] * 3
