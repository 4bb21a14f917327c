"""The ledger: what became of attempts, each as an event and a state, both or neither.

Whoever ends an attempt notes it. The first to note writes for all who note meanwhile, in one transaction;
so a commit costs the same for one delivery as for thirty.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from contracts.activation import SCHEDULED
from contracts.streams import ACTIVATION
from services.activation.domain.delivery import Command, Delivery, Fact, Redrive, decide, evolve
from services.activation.store import ActivationStore
from shared.clock import Clock
from shared.errors import SubjectsFenced, Unavailable
from shared.eventlog import EventLog, NewEvent, derive_id
from shared.keyring import Keyring
from shared.transaction import Transaction, Transactor

SERVICE: Final = "activation"
PAUSES: Final = (0.05, 0.2, 1.0)
"""Seconds before writing is tried again, after the first, second ... failure in a row."""
OUTCOMES: Final = Counter("samla_deliveries_total", "Decisions about deliveries", ["outcome"])

logger = structlog.get_logger(__name__)


class Outcome(NamedTuple):
    """What became of an attempt at a delivery."""

    delivery: Delivery
    """As it was when it was attempted: should it have moved on since, the outcome is void."""
    command: Command
    disables: str = ""
    """Why its destination is disabled from now on; empty where it is not."""


class Decided(NamedTuple):
    """A delivery's new state and the events that made it."""

    state: Delivery
    facts: list[Fact]


class Ledger:
    """Records outcomes; see the module's text."""

    def __init__(
        self,
        store: ActivationStore,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        clock: Clock,
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._clock = clock
        self._spawn = spawn
        self._lock = threading.Lock()
        self._noted: list[tuple[Outcome, Callable[[], None]]] = []
        self._writing = False

    def note(self, outcome: Outcome, then: Callable[[], None]) -> None:
        """Records the outcome soon, then calls `then`; does not wait."""
        with self._lock:
            self._noted.append((outcome, then))
            start, self._writing = not self._writing, True
        if start:
            self._spawn(self._write)

    def _write(self) -> None:
        while batch := self._taken():
            self._write_until_done([outcome for outcome, _ in batch])
            for _, then in batch:
                then()

    def _taken(self) -> list[tuple[Outcome, Callable[[], None]]]:
        with self._lock:
            batch, self._noted = self._noted, []
            self._writing = bool(batch)
        return batch

    def _write_until_done(self, outcomes: Sequence[Outcome]) -> None:
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            try:
                self.record(outcomes)
                return
            except (Unavailable, SubjectsFenced, PyMongoError) as error:
                name = type(error).__name__
                logger.warning("outcomes are not recorded yet", error=name, outcomes=len(outcomes))
                time.sleep(pause)
            except Exception as error:
                # Unrecorded, they fall due again when their lease ends.
                logger.error("outcomes are lost", error=type(error).__name__, outcomes=len(outcomes))
                return

    def record(self, outcomes: Sequence[Outcome]) -> list[Decided]:
        """Records the outcomes in one transaction, now; gives what was really decided."""
        decided = self._transactor.run(lambda within: self._record(outcomes, within))
        for each in decided:
            _tell(each)
        return decided

    def redrive(self, identities: Collection[str]) -> int:
        """Starts held and dead deliveries over; how many."""
        states = self._store.current(identities).values()
        return len(self.record([Outcome(state, Redrive()) for state in states]))

    def _record(self, outcomes: Sequence[Outcome], within: Transaction) -> list[Decided]:
        now = self._clock.now_ms()
        current = self._store.current([each.delivery.id for each in outcomes], within)
        erased = self._keyring.fenced({state.profile for state in current.values()}, within)
        decided = [
            made
            for each in outcomes
            if (state := current.get(each.delivery.id)) is not None
            and state.version == each.delivery.version
            and state.profile not in erased
            and (made := _decided(each.command, state, now)).facts
        ]
        if erased:
            self._store.drop(erased, within)
        for destination, reason in {(o.delivery.destination, o.disables) for o in outcomes if o.disables}:
            self._store.change_destination(destination, {"enabled": False, "reason": reason}, within)
        self._store.save([each.state for each in decided], within)
        self._log.append(ACTIVATION, [event for each in decided for event in events_of(each, now)], within)
        return decided


def _decided(command: Command, state: Delivery, now: int) -> Decided:
    facts = decide(command, state, now)
    for fact in facts:
        state = evolve(state, fact, now)
    return Decided(state, facts)


def events_of(decided: Decided, now: int) -> list[NewEvent]:
    """The events to append. Their ids follow from the delivery's version: there is one n-th event of it."""
    state = decided.state
    first = state.version - len(decided.facts) + 1
    return [
        NewEvent(
            id=derive_id(SERVICE, state.id, version),
            type=fact.type,
            source=SERVICE,
            subject=state.profile,
            time=now,
            data=dict(fact.data),
            causes=state.causes,
            correlation=state.correlation,
        )
        for version, fact in enumerate(decided.facts, first)
    ]


def scheduling(delivery: Delivery, data: dict[str, Any]) -> NewEvent:
    """The `activation.scheduled.v1` that made the delivery."""
    return NewEvent(
        id=derive_id(SERVICE, delivery.id, 1),
        type=SCHEDULED,
        source=SERVICE,
        subject=delivery.profile,
        time=delivery.created,
        data=data,
        causes=delivery.causes,
        correlation=delivery.correlation,
    )


def _tell(decided: Decided) -> None:
    for fact in decided.facts:
        outcome = fact.type.split(".")[1]
        OUTCOMES.labels(outcome).inc()
        logger.info(
            "delivery",
            outcome=outcome,
            delivery=decided.state.id,
            destination=decided.state.destination,
            reason=decided.state.reason,
            attempts=decided.state.attempts,
            correlation=decided.state.correlation,
        )
