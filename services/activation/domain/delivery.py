"""A delivery's life: what is decided about it, and what it is after each decision.

    scheduled -> pending -> delivered
                         -> held       the gate said no
                         -> pending    an attempt failed, the next one is at `next`
                         -> dead       the last attempt failed, or the destination is gone
    held or dead -> redriven -> pending

`decide` gives the events (type and data) that a command makes of a state; `evolve` gives the state
after an event. What the live service keeps and what a rebuild folds from the log is the same state.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from contracts import activation as contract
from services.activation.domain.schedule import wait_after

HELD: Final = "held"
DEAD: Final = "dead"
DELIVERED: Final = "delivered"
ENDED: Final = (DELIVERED, HELD, DEAD)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one destination about one person. Random ids and counts only, nothing personal."""

    id: str
    subscription: str
    destination: str
    profile: str
    segment: str
    segment_version: int
    change: str
    """`entered` or `left`."""
    cause: str
    """Why the person entered or left: event, time, definition ..."""
    at: int
    """When the person entered or left (ms)."""
    purpose: str
    causes: dict[str, int]
    """The positions that privacy and identity must have passed before the gate can decide."""
    correlation: str
    created: int
    status: str = contract.PENDING
    attempts: int = 0
    """Attempts that failed or arrived since it was scheduled or redriven."""
    reason: str = ""
    """Why it is held or dead, or why the last attempt failed."""
    next: int | None = None
    """Not to be attempted before this instant (ms); None once it has ended."""
    version: int = 1
    """How many events have made it: 1 once scheduled."""


class Fact(NamedTuple):
    """An event of the activation stream, as far as a delivery is concerned."""

    type: str
    data: Mapping[str, Any]


class Arrived(NamedTuple):
    """The destination answered with this 2xx status."""

    status: int


class Refused(NamedTuple):
    """The gate said no."""

    reason: str


class Missed(NamedTuple):
    """An attempt failed; the next one is worth waiting for."""

    reason: str
    jitter: float
    """A random number in [0, 1)."""
    retry_after: int | None = None
    """What the destination asked for, in ms."""


class Hopeless(NamedTuple):
    """No attempt can succeed: the destination is gone or disabled."""

    reason: str


class Redrive(NamedTuple):
    """A person asked for it to be sent again."""


Command = Arrived | Refused | Missed | Hopeless | Redrive


def decide(command: Command, state: Delivery, now: int) -> list[Fact]:
    """What follows from the command at `now` (ms): the events, none where nothing is to be done.

    Only a pending delivery is delivered, held, failed or dead; only a held or dead one is redriven.
    """
    if isinstance(command, Redrive):
        return [Fact(contract.REDRIVEN, {"delivery": state.id})] if state.status in (HELD, DEAD) else []
    if state.status != contract.PENDING:
        return []
    return [_outcome(command, state, now)]


def _outcome(command: Arrived | Refused | Missed | Hopeless, state: Delivery, now: int) -> Fact:
    attempt = state.attempts + 1
    match command:
        case Arrived(status):
            return Fact(contract.DELIVERED, {"delivery": state.id, "attempt": attempt, "status": status})
        case Refused(reason):
            return Fact(contract.HELD, {"delivery": state.id, "reason": reason})
        case Hopeless(reason):
            return Fact(contract.DEAD, {"delivery": state.id, "reason": reason})
        case Missed(reason, jitter, retry_after):
            wait = wait_after(attempt, jitter, retry_after)
            if wait is None:
                return Fact(contract.DEAD, {"delivery": state.id, "reason": reason})
            failed = {"delivery": state.id, "attempt": attempt, "reason": reason, "next": now + wait}
            return Fact(contract.FAILED, failed)


class Meta(Protocol):
    """What `begin` takes from an event's envelope."""

    @property
    def time(self) -> int: ...
    @property
    def causes(self) -> dict[str, int]: ...
    @property
    def correlation(self) -> str: ...


def begin(data: Mapping[str, Any], meta: Meta) -> Delivery:
    """The state after `activation.scheduled.v1`. A database's integers become plain ones."""
    return Delivery(
        id=data["delivery"],
        subscription=data["subscription"],
        destination=data["destination"],
        profile=data["profile"],
        segment=data["segment"],
        segment_version=int(data["segment_version"]),
        change=data["change"],
        cause=data["reason"],
        at=int(data["at"]),
        purpose=data["purpose"],
        causes={place: int(position) for place, position in meta.causes.items()},
        correlation=meta.correlation,
        created=meta.time,
        next=meta.time,
    )


def evolve(state: Delivery, fact: Fact, now: int) -> Delivery:
    """The state after the event, which was decided at `now` (its envelope's time).

    An event that this version does not know counts, and changes nothing else.
    """
    return msgspec.structs.replace(state, version=state.version + 1, **_changes(state, fact, now))


def _changes(state: Delivery, fact: Fact, now: int) -> dict[str, Any]:
    data = fact.data
    match fact.type:
        case contract.DELIVERED:
            return {"status": DELIVERED, "attempts": int(data["attempt"]), "reason": "", "next": None}
        case contract.HELD:
            return {"status": HELD, "reason": data["reason"], "next": None}
        case contract.FAILED:
            attempts, after = int(data["attempt"]), int(data["next"])
            return {"attempts": attempts, "reason": data["reason"], "next": after}
        case contract.DEAD:
            return {"status": DEAD, "reason": data["reason"], "next": None}
        case contract.REDRIVEN:
            return {"status": contract.PENDING, "attempts": 0, "reason": "", "next": now}
    return {}
