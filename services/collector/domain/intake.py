"""A request's messages, sorted: what is to be appended, and what is to be quarantined."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple

import orjson

from contracts.tracking import TYPES
from services.collector.domain.agreement import allows
from services.collector.domain.classify import split
from services.collector.domain.client import Agents, address
from services.collector.domain.decode import SHARED, Batch, shared_size
from services.collector.domain.identifiers import identifiers_of
from services.collector.domain.normalize import Arrival, normalized, too_large
from services.collector.domain.plan import Violation
from services.collector.domain.rules import Prepared, Rejected, prepared, within_rules
from shared.policy import Policy

MOST_QUARANTINED_BYTES: Final = 32_768


class Accepted(NamedTuple):
    """A message that is kept as an event."""

    type: str
    message_id: str
    identifiers: tuple[tuple[str, str], ...]
    """(kind, value) by priority; empty where all were set aside."""
    ordinary: bytes
    sensitive: bytes | None
    raw: bytes = b""
    """As it was received, but for what may not be kept; JSON."""
    agreement: str = ""
    """The agreement or licence that it came under."""


class SetAside(NamedTuple):
    """A message that goes into quarantine."""

    at: int
    """Which of the request's messages."""
    code: str
    place: str
    why: str
    raw: bytes
    """What was sent, as JSON; cut off where it is too long to be kept."""
    identifiers: tuple[tuple[str, str], ...] = ()
    """Those it has by the source's cleaning rules, where there are any."""


class Refusal(NamedTuple):
    """A field that was left out of a message."""

    at: int | None
    """Which of the request's messages; None: of what the batch says for all of them."""
    place: str


class Failure(NamedTuple):
    """An error of our own, for whose sake a message was set aside. Says nothing of the message."""

    at: int
    error: str
    """Which, and where in the code."""


class Intake(NamedTuple):
    """What became of a request's messages."""

    accepted: list[Accepted]
    set_aside: list[SetAside]
    arrival: Arrival
    """Its sender as far as may be kept."""
    shared: Mapping[str, Any]
    """Fields of the batch, to be kept with its messages."""
    refused: Sequence[Refusal] = ()
    """Fields outside of the source's agreement; MOST_REFUSED at most."""
    violations: Sequence[Violation] = ()
    """What is not as the source's tracking plan says."""
    uncleaned: Sequence[str] = ()
    """Paths of values that the source's cleaning rules could not read."""
    failures: Sequence[Failure] = ()
    agreement: str = ""
    """The agreement or licence that it came under, where there is one."""

    @property
    def size(self) -> int:
        """Bytes that are to be kept."""
        beside = min(shared_size(self.shared), BIGGEST_SHARED) if self.set_aside else 0
        kept = sum(len(each.ordinary) + len(each.sensitive or b"") + len(each.raw) for each in self.accepted)
        return kept + sum(len(each.raw) + beside for each in self.set_aside)


BIGGEST_SHARED: Final = 16_384
"""Bytes of what a batch says for all of its messages that are kept with each one that is set aside."""
BESIDE: Final = (*SHARED, "sentAt")
UNEXPECTED: Final = "unexpected"
"""The code of what is set aside since taking it in failed within: nothing is known to be wrong with the message."""
MOST_REFUSED: Final = 1_000
PIECE: Final = 25
"""Messages of a small request."""


def take_in(batch: Batch, arrival: Arrival, policy: Policy, fresh_id: Callable[[], str]) -> Intake:
    """Sorts the messages. `fresh_id` gives message ids where they are missing."""
    sorting = Sorting(batch, arrival, policy, fresh_id)
    for _ in sorting.pieces():
        pass
    return sorting.intake


class Sorting:
    """The sorting of a request's messages; `intake` is whole when `pieces` has come to its end."""

    def __init__(self, batch: Batch, arrival: Arrival, policy: Policy, fresh_id: Callable[[], str]) -> None:
        self._messages = batch.messages
        self._arrival = arrival = arrival if arrival.rules.agreement is None else _within_agreement(arrival)
        self._policy = policy
        self._fresh_id = fresh_id
        self._agents = Agents()
        self._refused: list[Refusal] = []
        self._violations: list[Violation] = []
        self._uncleaned: list[str] = []
        self._failures: list[Failure] = []
        self._shared: dict[str, Any] = {}
        self._fits = True
        if batch.shared:
            self._stand_beside({name: batch.shared[name] for name in BESIDE if name in batch.shared})
        found = (self._refused, self._violations, self._uncleaned, self._failures)
        beside = _without_address(self._shared, arrival.sender.ip_policy)
        under = arrival.rules.agreement
        self.intake = Intake([], [], arrival, beside, *found, agreement=under.id if under else "")

    def _stand_beside(self, said: dict[str, Any]) -> None:
        self._shared, refused = within_rules(said, self._arrival.rules)
        self._refuse(None, refused)
        self._fits = self._arrival.sized or shared_size(self._shared) <= self._arrival.biggest

    def pieces(self) -> Iterator[None]:
        """Sorts a message a step: what one costs depends on the source's rules."""
        for index, message in enumerate(self._messages):
            try:
                self._sort(index, message)
            except Exception as error:
                # Whatever it is about this message: the others are none the worse for it.
                self._failures.append(Failure(index, _told(error)))
                self._set_aside(index, _UNEXPECTED, _keepable(message, self._arrival))
            yield

    def _sort(self, index: int, message: Any) -> None:
        arrival = self._arrival
        if not self._fits and isinstance(message, dict):
            received, refused = within_rules(message, arrival.rules)
            self._refuse(index, refused)
            return self._set_aside(index, too_large(arrival), received)
        ready = prepared(message, self._shared, arrival.rules)
        found = ready.rejected or normalized(ready.message, self._shared, arrival, self._fresh_id(), self._agents)
        # First what may fail, so that a message that does is not counted among those that did not.
        made = found if isinstance(found, Rejected) else _accepted(found, ready, arrival, self._policy)
        self._violations += ready.violations
        self._uncleaned += ready.uncleaned
        if ready.refused:
            self._refuse(index, ready.refused)
        if isinstance(made, Rejected):
            return self._set_aside(index, made, ready.received, _cleanly(ready.message, arrival))
        return self.intake.accepted.append(made)

    def _refuse(self, at: int | None, places: Sequence[str]) -> None:
        self._refused += [Refusal(at, place) for place in places[: MOST_REFUSED - len(self._refused)]]

    def _set_aside(
        self, index: int, why: Rejected, received: Any, identifiers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        kept = _json(_without_address(received, self._arrival.sender.ip_policy))[:MOST_QUARANTINED_BYTES]
        self.intake.set_aside.append(SetAside(index, *why, raw=kept, identifiers=identifiers))


_UNEXPECTED: Final = Rejected(UNEXPECTED, "", "taking it in failed within; nothing is known to be wrong with it")


def _cleanly(message: Any, arrival: Arrival) -> tuple[tuple[str, str], ...]:
    """The identifiers of a message that is set aside, as the source's cleaning rules have left it."""
    if arrival.rules.cleaning is None or not isinstance(message, dict):
        return ()
    said = (message.get(name) for name in ("traits", "context"))
    traits, context = (each if isinstance(each, dict) else {} for each in said)
    common = context.get("traits")
    traits = {**common, **traits} if isinstance(common, dict) else traits
    found, _ = identifiers_of(message, traits, context, arrival.region or None)
    return tuple((kind, value) for kind, value in found)


def _within_agreement(arrival: Arrival) -> Arrival:
    """What the connection says of the person is asked about as if the message said it."""
    agreement, sender = arrival.rules.agreement, arrival.sender
    where = sender.address if agreement and allows(agreement, "context.ip") else ""
    agent = sender.agent if agreement and allows(agreement, "context.userAgent") else ""
    return arrival._replace(sender=sender._replace(address=where, agent=agent))


def _keepable(message: Any, arrival: Arrival) -> Any:
    """What may be kept of a message that made something fail, which may be this, too."""
    try:
        return within_rules(message, arrival.rules).message
    except Exception:
        return None


def _json(received: Any) -> bytes:
    try:
        return orjson.dumps(received)
    except TypeError:
        # Numbers that 64 bits do not hold, and whatever else only our own code can have put there.
        return json.dumps(received, default=str).encode()


def _told(error: Exception) -> str:
    """Which error it is, and where it came up; its text may hold what was sent."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = f" at {PurePath(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at is not None else ""
    return f"{type(error).__name__}{place}"


def _accepted(body: dict[str, Any], ready: Prepared, arrival: Arrival, policy: Policy) -> Accepted:
    rules = arrival.rules
    if rules.cleaning is not None:
        body |= {"cleaned": rules.cleaning.version} | ({"uncleaned": ready.uncleaned} if ready.uncleaned else {})
    if rules.agreement is not None:
        body |= {"agreement": rules.agreement.id} | ({"merges": True} if rules.agreement.merges else {})
    ordinary, sensitive = split(body, policy)
    return Accepted(
        TYPES[body["type"]],
        body["message_id"],
        tuple((kind, value) for kind, value in body["identifiers"]),
        orjson.dumps(ordinary),
        None if sensitive is None else orjson.dumps(sensitive),
        orjson.dumps(_without_address(ready.received, arrival.sender.ip_policy)) if arrival.keeps_raw else b"",
        rules.agreement.id if rules.agreement else "",
    )


def _without_address(message: Any, policy: str) -> Any:
    """The message with its IP address as the source's policy lets it be kept, in quarantine too."""
    context = message.get("context") if isinstance(message, dict) else None
    if not isinstance(context, dict) or "ip" not in context:
        return message
    rest = {name: value for name, value in context.items() if name != "ip"}
    kept = address(context["ip"], policy)
    return {**message, "context": {**rest, "ip": kept} if kept else rest}
