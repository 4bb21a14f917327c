"""The one consumer loop: live work, catching up and rebuilding all go through it.

    read behind the checkpoints -> prepare (open, ask, decide) -> one transaction: move the checkpoints if
    they are still where they were, write the projection, append what follows from it

Nothing here knows nameko or RabbitMQ; shared.subscription drives it.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Final, NamedTuple

import msgspec
import structlog
from pymongo.errors import PyMongoError

from shared.checkpoints import Checkpoints, Mark, Parked, Place, parked_id
from shared.errors import CheckpointMoved, Poison, SamlaError, Unavailable
from shared.eventlog import Event, EventLog, NewEvent
from shared.metrics import BATCH_SECONDS, EVENTS_CONSUMED, EVENTS_PARKED
from shared.transaction import Transaction, Transactor

Output = tuple[str, Sequence[NewEvent]]
"""(stream, the events to append to it)."""
Finish = Callable[[Transaction], Sequence[Output]]
"""Runs within the transaction, again after a conflict: writes the projection, gives what to append."""
Prepare = Callable[[list[Event]], Finish | None]
"""Runs before it: opens, asks others and decides; it writes nothing. None: nothing follows from these events."""

BIGGEST_BATCH: Final = 2_000
FIRST_BATCH: Final = 250
LONG_BATCH: Final = 1.0
"""Seconds; a batch that took longer is followed by a smaller one, so that heartbeats get their turn: unless that is
no quicker, since what takes long is not the events (a long history that is read again, say)."""
QUICKER: Final = 0.75
"""Of what the larger batch took; half of it would be what half of the events take."""
RETRIES: Final = 5
"""At a parked event whose projection others write meanwhile."""

PARKS: Final = (
    Poison,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    msgspec.MsgspecError,
)
"""What decoding and the pure core raise about an event. Anything else (a server, a broker, a key that is not
there, an error that nobody has thought of) says nothing about the event: stop and try again (DESIGN law 7)."""

logger = structlog.get_logger(__name__)


class Step(NamedTuple):
    """What one step did."""

    handled: int
    more: bool
    """Whether there is probably more to do at once."""


class Consumer:
    """One subscription to one stream; `step` handles the next batch.

    Each event counts exactly once in what is written within the transaction (DESIGN law 5), however
    many instances work on a partition and whenever they are killed.
    """

    def __init__(
        self,
        subscription: str,
        stream: str,
        log: EventLog,
        transactor: Transactor,
        checkpoints: Checkpoints,
        prepare: Prepare,
        now_ms: Callable[[], int],
        biggest: int = BIGGEST_BATCH,
    ) -> None:
        self.subscription = subscription
        self.stream = stream
        self._log = log
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._prepare = prepare
        self._now_ms = now_ms
        self._biggest = biggest
        self._limit = min(FIRST_BATCH, biggest)
        self._longest = math.inf
        self._known: dict[int, Mark] = {}

    def position(self, partition: int) -> int:
        """How far the partition has been handled, as far as this instance knows."""
        return self._mark(partition).position

    def _mark(self, partition: int) -> Mark:
        if partition not in self._known:
            self._known[partition] = self._checkpoints.at(self._place(partition))
        return self._known[partition]

    def step(self, partitions: Sequence[int]) -> Step:
        """Handles the next batch: what lies behind the checkpoints of these partitions, in one transaction.

        The events are in the order of their partitions, and of their positions within each. Raises what
        says nothing about an event (see PARKS); the checkpoints then stand before the batch.
        """
        events, more = self._next(partitions)
        if not events:
            return Step(0, more=False)
        started = time.monotonic()
        try:
            self._handle(events)
        except CheckpointMoved:
            # Another instance was faster: go on from where it stands.
            self._known.clear()
            return Step(0, more=True)
        except BaseException as error:
            # A commit may have gone through although we were not told.
            self._known.clear()
            if isinstance(error, Unavailable):
                # It may be too much for the time that there is.
                self._limit = max(1, self._limit // 2)
            raise
        self._pace(time.monotonic() - started, more)
        EVENTS_CONSUMED.labels(self.subscription).inc(len(events))
        return Step(len(events), more)

    def _next(self, partitions: Sequence[int]) -> tuple[list[Event], bool]:
        """About `_limit` events, and whether some may be left."""
        events = self._log.read_behind(self.stream, {each: self.position(each) for each in partitions}, self._limit)
        return events, len(events) >= max(1, self._limit // max(1, len(partitions)))

    def retry(self, parked: Parked) -> bool:
        """Handles a parked event again; whether it was still parked. Raises what handling it raises, Unavailable where
        others keep writing what it would write."""
        [event] = self._log.read(parked.stream, parked.partition, parked.position - 1, 1)
        for _ in range(RETRIES):
            try:
                return self._retry(parked, event)
            except CheckpointMoved:
                continue
        raise Unavailable("others have written the same each time: try again")

    def _retry(self, parked: Parked, event: Event) -> bool:
        finish = self._prepare([event])

        def work(within: Transaction) -> bool:
            # It moves no checkpoint.
            self._checkpoints.guard(within)
            if not self._checkpoints.unpark(within, parked.id):
                return False
            if finish is not None:
                self._append(finish(within), within)
            return True

        return self._transactor.run(work)

    def _handle(self, events: list[Event]) -> None:
        """The batch as a whole; where that fails for an event's sake, its halves."""
        try:
            self._commit(events, self._prepare(events))
        except (PyMongoError, OSError):
            # Some of them are ValueErrors too.
            raise
        except PARKS as error:
            if len(events) == 1:
                self._park(events[0], error)
                return
            middle = len(events) // 2
            self._handle(events[:middle])
            self._handle(events[middle:])

    def _commit(self, events: list[Event], finish: Finish | None) -> None:
        reached = {event.partition: event.position for event in events}
        if finish is None:
            # Where nothing is written, nothing can be half written: no transaction is needed.
            self._checkpoints.move(None, self._moves(reached))
            self._reach(reached)
            return

        def work(within: Transaction) -> None:
            self._checkpoints.move(within, self._moves(reached))
            self._append(finish(within), within)

        self._transactor.run(work)
        self._reach(reached)

    def _reach(self, reached: dict[int, int]) -> None:
        for partition, position in reached.items():
            self._known[partition] = self._mark(partition)._replace(position=position)

    def _moves(self, reached: dict[int, int]) -> dict[Place, tuple[Mark, int]]:
        """In ascending order, like appenders: two instances meet at the first partition they share."""
        return {self._place(each): (self._mark(each), position) for each, position in sorted(reached.items())}

    def _append(self, outputs: Sequence[Output], within: Transaction) -> None:
        for stream, events in outputs:
            self._log.append(stream, events, within)

    def _park(self, event: Event, error: Exception) -> None:
        parked = _parked(self._place(event.partition), event, error, self._now_ms())
        reached = {event.partition: event.position}

        def work(within: Transaction) -> None:
            self._checkpoints.move(within, self._moves(reached))
            self._checkpoints.park(within, parked)

        self._transactor.run(work)
        self._reach(reached)
        EVENTS_PARKED.labels(self.subscription).inc()
        logger.error("an event is parked", parked=parked.id, error=parked.error, where=parked.where)

    def _pace(self, seconds: float, full: bool) -> None:
        BATCH_SECONDS.labels(self.subscription).observe(seconds)
        if seconds > LONG_BATCH:
            quicker = seconds < QUICKER * self._longest
            # Where halving was of no use, twice of what it was before; but the next is halved again, should this one
            # have been slow by chance.
            self._limit = max(1, self._limit // 2) if quicker else min(self._biggest, self._limit * 4)
            self._longest = seconds if quicker else math.inf
            return
        self._longest = math.inf
        if full and seconds < LONG_BATCH / 2:
            self._limit = min(self._biggest, self._limit * 2)

    def _place(self, partition: int) -> Place:
        return Place(self.subscription, self.stream, partition)


def _parked(place: Place, event: Event, error: Exception, now_ms: int) -> Parked:
    return Parked(
        id=parked_id(place, event.position),
        subscription=place.subscription,
        stream=place.stream,
        partition=place.partition,
        position=event.position,
        event=event.id,
        type=event.type,
        error=_safe_text(error),
        where=_where(error),
        time=now_ms,
    )


def _safe_text(error: Exception) -> str:
    """Our own errors say nothing personal; the text of any other might quote the event."""
    return f"{type(error).__name__}: {error}" if isinstance(error, SamlaError) else type(error).__name__


def _where(error: Exception) -> str:
    frames = extract_tb(error.__traceback__)
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames[-4:]))
