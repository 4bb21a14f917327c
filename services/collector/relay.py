"""From the processes that serve to the one that appends, and back: over a Unix socket, in frames of msgpack.

A line that breaks loses nothing: what was not answered is sent again over the next one, and what has been appended
by then is known by its message ids.
"""

import asyncio
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from services.collector.domain.client import Sender
from services.collector.domain.intake import Accepted, Intake, SetAside
from services.collector.domain.normalize import Arrival
from services.collector.domain.rules import NONE
from services.collector.writer import MOST_WAITING, MOST_WAITING_BYTES, Outcome, Tell, Work, Writer
from shared.mongo import pages

LENGTH_BYTES: Final = 4
FRAME_REQUESTS: Final = 64
READ_BYTES: Final = 1 << 20
RETRY_SECONDS: Final = 0.05
ABSENT_SECONDS: Final = 10.0
"""How long requests wait for the process that appends while it is being replaced."""
SEND_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.2
LAST_SECONDS: Final = 40.0
"""How long the appending process, asked to end, waits for those that serve."""

logger = structlog.get_logger(__name__)


class Row(NamedTuple):
    """A request's messages on the line; `Work` without what only its sender needs."""

    source: str
    received: int
    correlation: str
    bytes: int
    accepted: list[Accepted]
    set_aside: list[SetAside]
    arrival: list[Any]
    """Without the source's rules, which have done their work."""
    shared: dict[str, Any]
    agreement: str


class Sent(NamedTuple):
    """A row under the number that its answer will have. It is decoded apart: one that cannot be harms no other."""

    number: int
    row: msgspec.Raw


class Answer(NamedTuple):
    """What became of it."""

    number: int
    outcome: Outcome


_encoder: Final = msgspec.msgpack.Encoder()
_rows: Final = msgspec.msgpack.Decoder(Row)


def packed(work: Work) -> msgspec.Raw:
    """To be sent."""
    intake = work.intake
    rest = list(intake.arrival._replace(rules=NONE))
    made = (intake.accepted, intake.set_aside, rest, dict(intake.shared), intake.agreement)
    row = Row(work.source, work.received, work.correlation, work.bytes, *made)
    return msgspec.Raw(_encoder.encode(row))


def unpacked(text: msgspec.Raw, waiting: object) -> Work:
    """As it was packed, with who waits on this side."""
    row = _rows.decode(text)
    arrival = Arrival._make(row.arrival)
    arrival = arrival._replace(sender=Sender._make(arrival.sender), rules=NONE)
    intake = Intake(row.accepted, row.set_aside, arrival, row.shared, agreement=row.agreement)
    return Work(row.source, row.received, row.correlation, intake, row.bytes, waiting)


def framed(items: Sequence[Sent] | Sequence[Answer]) -> bytes:
    """A frame: its length in four bytes, and the items."""
    text = _encoder.encode(items)
    return len(text).to_bytes(LENGTH_BYTES, "big") + text


class Frames:
    """Cuts what comes into frames, each a list of `kind`."""

    def __init__(self, kind: type[Sent] | type[Answer]) -> None:
        self._decoder: Any = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]
        self._rest = bytearray()

    def of(self, data: bytes) -> list[Any]:
        """What the frames hold that are whole now."""
        self._rest += data
        found: list[Any] = []
        at = 0
        while len(self._rest) - at >= LENGTH_BYTES:
            begin = at + LENGTH_BYTES
            end = begin + int.from_bytes(self._rest[at:begin], "big")
            if len(self._rest) < end:
                break
            found += self._decoder.decode(bytes(self._rest[begin:end]))
            at = end
        del self._rest[:at]
        return found


class Relay:
    """The serving side, on the event loop; stands where a Writer would. `tell` is called on the loop."""

    def __init__(self, path: str, tell: Tell, processes: int = 1) -> None:
        self._path = path
        self._tell = tell
        self._most, self._most_bytes = MOST_WAITING // processes, MOST_WAITING_BYTES // processes
        self._pending: dict[int, tuple[Work, Sent]] = {}
        self._events = self._bytes = self._last = 0
        self._unsent: list[Sent] = []
        self._transport: asyncio.WriteTransport | None = None
        self._absent: asyncio.TimerHandle | None = None
        self.reachable = False
        """Whether the appending process is there."""
        self._given_up = False

    def start(self) -> None:
        """Connects, and again whenever the line breaks."""
        self._loop = asyncio.get_running_loop()
        self._line = self._loop.create_task(self._keep())

    def submit(self, work: Work) -> bool:
        """Whether there was room for it, and hope."""
        if self._given_up or self._events + work.events > self._most or self._bytes > self._most_bytes:
            return False
        self._last += 1
        sent = Sent(self._last, packed(work))
        self._pending[sent.number] = work, sent
        self._count(work, 1)
        if not self._unsent:
            # What comes in the same turn of the loop goes together.
            self._loop.call_soon(self._flush)
        self._unsent.append(sent)
        return True

    def stop(self, seconds: float) -> None:
        """Hangs up. Called in another thread, when nobody waits any more."""
        self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        self._line.cancel()
        if self._absent is not None:
            self._absent.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _keep(self) -> None:
        while True:
            self._is_absent()
            lost = self._loop.create_future()
            with suppress(OSError):
                await self._loop.create_unix_connection(lambda lost=lost: _Line(self, lost), self._path)
                await lost
            await asyncio.sleep(RETRY_SECONDS)

    def _is_absent(self) -> None:
        self._transport, self.reachable = None, False
        if self._absent is None and not self._given_up:
            self._absent = self._loop.call_later(ABSENT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """Nobody appends: whoever waits is told to come again, as whoever comes."""
        logger.error("the process that appends does not answer", requests=len(self._pending))
        self._absent, self._given_up, self._unsent = None, True, []
        self._done([Answer(number, Outcome.UNAVAILABLE) for number in self._pending])

    def connected(self, transport: Any) -> None:
        """What was not answered is sent (again)."""
        self._transport = transport
        self._unsent = [sent for _, sent in self._pending.values()]
        self._flush()

    def answered(self, answers: list[Answer]) -> None:
        """Requests are done with. The first answer on a line is about none: the other side is there."""
        if not self.reachable:
            self.reachable, self._given_up = True, False
            if self._absent is not None:
                self._absent.cancel()
                self._absent = None
        self._done(answers)

    def _done(self, answers: list[Answer]) -> None:
        done = []
        for number, outcome in answers:
            if (found := self._pending.pop(number, None)) is not None:
                self._count(found[0], -1)
                done.append((found[0], outcome))
        self._tell(done)

    def _flush(self) -> None:
        if self._transport is not None:
            unsent, self._unsent = self._unsent, []
            for page in pages(unsent, FRAME_REQUESTS):
                self._transport.write(framed(page))

    def _count(self, work: Work, sign: int) -> None:
        self._events += sign * work.events
        self._bytes += sign * work.bytes


class _Line(asyncio.Protocol):
    """One connection of a Relay."""

    def __init__(self, relay: Relay, lost: "asyncio.Future[None]") -> None:
        self._relay, self._lost = relay, lost
        self._frames = Frames(Answer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._relay.connected(transport)

    def data_received(self, data: bytes) -> None:
        self._relay.answered(self._frames.of(data))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


class Appending:
    """The appending side: hands what comes over all lines to one Writer."""

    def __init__(self, listening: socket.socket, make_writer: Callable[[Tell], Writer]) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._lines: dict[socket.socket, Frames] = {}
        self._sending = threading.Lock()
        self._writer = make_writer(self._tell)
        self._until = float("inf")

    def run(self) -> None:
        """Until `end` and until nobody is connected any more; appends what it has taken by then."""
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        self._writer.start()
        while self._until == float("inf") or (self._lines and time.monotonic() < self._until):
            for key, _ in self._selector.select(LOOK_SECONDS):
                key.data(key.fileobj)
        self._writer.stop(seconds=20)

    def end(self, *_: object) -> None:
        """May be a signal's handler."""
        self._until = time.monotonic() + LAST_SECONDS

    def _accept(self, listening: socket.socket) -> None:
        with suppress(BlockingIOError):
            line, _ = listening.accept()
            line.settimeout(SEND_SECONDS)
            self._lines[line] = Frames(Sent)
            self._selector.register(line, selectors.EVENT_READ, self._read)
            self._send(line, [])

    def _read(self, line: socket.socket) -> None:
        try:
            data = line.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            return self._drop(line)
        answers = [self._submit(line, each) for each in self._lines[line].of(data)]
        if at_once := [each for each in answers if each is not None]:
            self._send(line, at_once)
        return None

    def _submit(self, line: socket.socket, sent: Sent) -> Answer | None:
        """What is to be told at once."""
        try:
            work = unpacked(sent.row, (line, sent.number))
        except (msgspec.MsgspecError, TypeError) as error:
            logger.error("a request cannot be read by the process that appends", error=type(error).__name__)
            return Answer(sent.number, Outcome.FAILED)
        return None if self._writer.submit(work) else Answer(sent.number, Outcome.UNAVAILABLE)

    def _drop(self, line: socket.socket) -> None:
        self._selector.unregister(line)
        del self._lines[line]
        with self._sending:
            line.close()

    def _tell(self, group: list[tuple[Work, Outcome]]) -> None:
        """Called in the writer's thread."""
        answers: dict[socket.socket, list[Answer]] = {}
        for work, outcome in group:
            line, number = work.waiting
            answers.setdefault(line, []).append(Answer(number, outcome))
        for line, of in answers.items():
            self._send(line, of)

    def _send(self, line: socket.socket, answers: list[Answer]) -> None:
        try:
            with self._sending:
                line.sendall(framed(answers))
        except OSError:
            # It is gone, or reads nothing: over its next line it sends again what it has no answer to.
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
