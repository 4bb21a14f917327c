"""The edge's writer: it groups what arrives together into one append.

While a group is being committed the next one gathers, so the busier it is, the larger the groups are and
the less an event costs. Nobody is told of success before the commit (majority, journal).
"""

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple

import structlog
from prometheus_client import Counter, Gauge, Histogram
from pymongo.errors import BulkWriteError, ExecutionTimeout, OperationFailure, PyMongoError, WriteConcernError

from contracts.streams import TRACKING
from contracts.tracking import REPLAYED
from services.collector.domain.agreement import class_of
from services.collector.domain.intake import Accepted, Intake
from services.collector.domain.raw import Request, received_of, request_of
from services.collector.raw import Entry, RawStore
from services.collector.store import QuarantineStore
from shared.errors import SamlaError, SubjectsFenced, Unavailable
from shared.eventlog import Appended, EventLog, NewEvent
from shared.keyring import ORDINARY, SENSITIVE, Identifier, Keyring, Sealing, new_id
from shared.runtime import Runtime
from shared.transaction import Transaction, Transactor

MOST_WAITING: Final = 20_000
"""Events that may wait in memory; with more the edge answers 503."""
MOST_WAITING_BYTES: Final = 128_000_000
BIGGEST_GROUP: Final = 1_000
"""Events in one append, unless a single request holds more."""
BIGGEST_GROUP_BYTES: Final = 8_000_000
"""Of what is to be kept, likewise."""
LINGER_SECONDS: Final = 0.005
ERASING_SECONDS: Final = 0.02
"""Between a subject's fence and the end of its token lie two steps of an erasure."""
ATTEMPTS: Final = 5
"""At an append whose subjects were erased meanwhile."""

EVENTS: Final = Counter("samla_collector_events_total", "Messages by what became of them", ["outcome"])
GROUP: Final = Histogram("samla_collector_group_events", "Events in an append", buckets=(1, 3, 10, 30, 100, 300, 1000))
SECONDS: Final = Histogram("samla_collector_append_seconds", "Time of an append")
WAITING: Final = Gauge("samla_collector_waiting_events", "Events that wait to be appended", multiprocess_mode="livesum")

logger = structlog.get_logger(__name__)


class Outcome(enum.Enum):
    """What became of a request."""

    DURABLE = "durable"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class BeingErased(SamlaError):
    """A request is about somebody who is just being erased; it may be sent again."""


class Work(NamedTuple):
    """A request's messages on their way into the log."""

    source: str
    received: int
    correlation: str
    intake: Intake
    bytes: int
    waiting: Any
    """Who waits for the outcome; given back to `tell`."""

    @property
    def events(self) -> int:
        """How many messages it holds."""
        return len(self.intake.accepted) + len(self.intake.set_aside)


class Item(NamedTuple):
    """One message on its way, with what its request says about it."""

    source: str
    received: int
    correlation: str
    message: Accepted
    request: Request
    replayed: int | None = None
    """When it was replayed from the quarantine (ms), if it was."""


class Appender:
    """Turns messages into sealed events and appends them."""

    def __init__(
        self, log: EventLog, transactor: Transactor, keyring: Keyring, quarantine: QuarantineStore, raw: RawStore
    ) -> None:
        self._log = log
        self._transactor = transactor
        self._keyring = keyring
        self._quarantine = quarantine
        self._raw = raw

    def write(self, group: Sequence[Work]) -> None:
        """Everything of the group is durable, or nothing may be believed to be. Raises what failed."""
        for work in group:
            kept = self._quarantine.add(work.source, work.received, work.intake, work.correlation)
            for each in kept:
                EVENTS.labels(f"quarantined_{each.code}").inc()
            EVENTS.labels("suppressed").inc(len(work.intake.set_aside) - len(kept))
        requests = [request_of(work.intake) for work in group]
        self.append(
            [
                Item(work.source, work.received, work.correlation, each, request)
                for work, request in zip(group, requests, strict=True)
                for each in work.intake.accepted
            ]
        )

    def append(self, items: list[Item]) -> None:
        """Seals and appends them. Raises what failed; then nothing of them may be believed to be durable."""
        allowed = self._without_suppressed(items)
        EVENTS.labels("suppressed").inc(len(items) - len(allowed))
        for attempt in range(ATTEMPTS):
            try:
                places = self._appended(allowed)
            except SubjectsFenced as error:
                if attempt == ATTEMPTS - 1:
                    raise BeingErased("subjects are being erased; try again") from error
                time.sleep(ERASING_SECONDS)
                # They are erased by now: who is known by these identifiers from here on is somebody new.
                self._keyring.evict(error.subjects)
                continue
            duplicates = sum(each.duplicate for each in places)
            EVENTS.labels("duplicate").inc(duplicates)
            EVENTS.labels("accepted").inc(len(places) - duplicates)
            return

    def _appended(self, items: list[Item]) -> list[Appended]:
        """The events, and the requests that they came with as they were received, in one transaction."""
        events = self._sealed(items)
        if not events:
            return []
        raw = self._raw.documents(_received(items, events))

        def work(within: Transaction) -> list[Appended]:
            places = self._log.append(TRACKING, events, within)
            # A message that was sent again says nothing that is not kept; and what is kept is found by its event.
            new = [not place.duplicate for place in places]
            kept = (
                raw
                if all(new)
                else self._raw.documents(_received(list(compress(items, new)), list(compress(events, new))))
            )
            self._raw.add(kept, within)
            return places

        return self._transactor.run(work)

    def _without_suppressed(self, items: list[Item]) -> list[Item]:
        """Without messages about people who are not to be taken in again."""
        identifiers = list({pair for item in items for pair in item.message.identifiers})
        suppressed = self._keyring.suppressed(identifiers)
        return items if not suppressed else [item for item in items if suppressed.isdisjoint(item.message.identifiers)]

    def _sealed(self, items: list[Item]) -> list[NewEvent]:
        subjects = self._subjects(items)
        ids = [
            self._keyring.event_id(item.source, item.message.message_id, subject)
            for item, subject in zip(items, subjects, strict=True)
        ]
        sealings = []
        for item, subject, identity in zip(items, subjects, ids, strict=True):
            ordinary, sensitive = classes(item.message)
            sealings.append(Sealing(subject, ordinary, identity, item.message.ordinary))
            if item.message.sensitive is not None:
                sealings.append(Sealing(subject, sensitive, identity, item.message.sensitive))
        texts = iter(self._keyring.seal(sealings))
        return [
            _event(item, subject, identity, texts) for item, subject, identity in zip(items, subjects, ids, strict=True)
        ]

    def _subjects(self, items: list[Item]) -> list[str]:
        primaries: list[Identifier | None] = [
            item.message.identifiers[0] if item.message.identifiers else None for item in items
        ]
        known = self._keyring.subjects_of(list({each for each in primaries if each is not None}), create=True)
        return [(known[each] if each is not None else None) or new_id() for each in primaries]


def classes(message: Accepted) -> tuple[str, str]:
    """Under which keys its ordinary and its sensitive part are sealed."""
    if not message.agreement:
        return ORDINARY, SENSITIVE
    return class_of(message.agreement, sensitive=False), class_of(message.agreement, sensitive=True)


def _received(items: Sequence[Item], events: Sequence[NewEvent]) -> list[Entry]:
    """The requests with their messages, of the sources that keep them."""
    found: dict[str, list[tuple[Item, NewEvent]]] = {}
    for item, event in zip(items, events, strict=True):
        if item.message.raw:
            found.setdefault(item.correlation, []).append((item, event))
    return [
        Entry(
            of[0][0].source,
            [event.subject for _, event in of],
            received_of(
                of[0][0].request, correlation, of[0][0].received, [(event.id, item.message.raw) for item, event in of]
            ),
        )
        for correlation, of in found.items()
    ]


def _event(item: Item, subject: str, identity: str, texts: Any) -> NewEvent:
    ordinary, sensitive = classes(item.message)
    sealed = {ordinary: next(texts)}
    if item.message.sensitive is not None:
        sealed[sensitive] = next(texts)
    return NewEvent(
        id=identity,
        type=item.message.type,
        source=item.source,
        subject=subject,
        time=item.received,
        data={} if item.replayed is None else {REPLAYED: item.replayed},
        sealed=sealed,
        correlation=item.correlation,
    )


Tell = Callable[[list[tuple[Work, Outcome]]], None]


class Writer:
    """The thread. `submit` never waits; `stop` ends it after what it has taken.

    An append costs much the same for one event as for fifty. So while clients keep coming back with the next
    request as soon as the last is answered, the writer waits a moment for those that it has just answered: as
    many as it has seen at once. Where nobody else is waiting it does not wait either.

    `tell` is called in the writer's thread, once a group, with what became of it.
    """

    def __init__(self, appender: Appender, tell: Tell) -> None:
        self._appender = appender
        self._tell = tell
        self._waiting: deque[Work] = deque()
        self._events = 0
        self._bytes = 0
        self._something = threading.Condition()
        self._stopping = False
        self._expected = 1
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, work: Work) -> bool:
        """Whether there was room for it."""
        with self._something:
            if self._stopping or self._events + work.events > MOST_WAITING or self._bytes > MOST_WAITING_BYTES:
                return False
            self._waiting.append(work)
            self._count(work, 1)
            if len(self._waiting) == 1 or self._is_worth_a_group():
                self._something.notify()
            return True

    def stop(self, seconds: float) -> None:
        """Writes what waits, then ends; waits for that so long."""
        with self._something:
            self._stopping = True
            self._something.notify()
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while group := self._take():
            WAITING.set(self._events)
            GROUP.observe(sum(work.events for work in group))
            with SECONDS.time():
                self._write(group)
            self._expected = len(group) + len(self._waiting)

    def _take(self) -> list[Work]:
        """The next group; empty once stopped."""
        with self._something:
            while not self._waiting and not self._stopping:
                self._something.wait()
            if self._expected > 1:
                self._something.wait_for(self._is_worth_a_group, LINGER_SECONDS)
            group: list[Work] = []
            events = size = 0
            while self._waiting:
                work = self._waiting[0]
                events, size = events + work.events, size + work.bytes
                if group and (events > BIGGEST_GROUP or size > BIGGEST_GROUP_BYTES):
                    break
                group.append(self._waiting.popleft())
                self._count(work, -1)
            return group

    def _is_worth_a_group(self) -> bool:
        is_full = self._events >= BIGGEST_GROUP or self._bytes >= BIGGEST_GROUP_BYTES
        return is_full or len(self._waiting) >= self._expected or self._stopping

    def _count(self, work: Work, sign: int) -> None:
        self._events += sign * work.events
        self._bytes += sign * work.bytes

    def _write(self, group: Sequence[Work]) -> None:
        """Where a group fails for another reason than a server that is away, its halves are tried."""
        try:
            self._appender.write(group)
            outcome = Outcome.DURABLE
        except Exception as error:
            if isinstance(error, (Unavailable, PyMongoError, OSError)) and not _is_refusal(error):
                logger.warning("nothing can be appended", error=type(error).__name__, requests=len(group))
                outcome = Outcome.UNAVAILABLE
            elif len(group) > 1:
                # One request that cannot be written does not sink the others.
                middle = len(group) // 2
                self._write(group[:middle])
                self._write(group[middle:])
                return
            else:
                outcome = Outcome.UNAVAILABLE if isinstance(error, BeingErased) else Outcome.FAILED
                named = {"error": type(error).__name__, "code": getattr(error.__cause__ or error, "code", None)}
                logger.error("a request cannot be written", correlation=group[0].correlation, **named)
        self._tell([(work, outcome) for work in group])


_SERVERS: Final = frozenset({None, 13, 18, 20, 24, 91, 112, 134, 251, 262, 263, 11000, 11601, 11602, 14031})
"""Codes of MongoDB's errors that say nothing of what was to be written: no rights, no transactions, locks and
conflicts, time and shutdown, no room on its disk."""


def _is_refusal(error: Exception) -> bool:
    """Whether MongoDB will not keep what it was given, and would say so again; a transaction has that as its cause."""
    cause = error.__cause__ if isinstance(error, Unavailable) else error
    if not isinstance(cause, OperationFailure) or isinstance(cause, (ExecutionTimeout, WriteConcernError)):
        return False
    if cause.has_error_label("TransientTransactionError") or cause.has_error_label("RetryableWriteError"):
        return False
    if not isinstance(cause, BulkWriteError):
        return cause.code not in _SERVERS
    codes = {each.get("code") for each in (cause.details or {}).get("writeErrors", ())}
    return bool(codes) and codes.isdisjoint(_SERVERS)


def writer_of(runtime: Runtime, tell: Tell) -> Writer:
    """A writer with all that it stands on; not started yet."""
    quarantine, raw = QuarantineStore(runtime.db, runtime.keyring), RawStore(runtime.db, runtime.keyring, runtime.log)
    quarantine.setup()
    raw.setup()
    return Writer(Appender(runtime.log, runtime.transactor, runtime.keyring, quarantine, raw), tell)
