"""A request's messages, sorted: what is to be appended, and what is to be quarantined."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts.tracking import TYPES
from services.collector.domain.classify import split
from services.collector.domain.client import address
from services.collector.domain.decode import Batch
from services.collector.domain.normalize import Arrival, normalized
from services.collector.domain.plan import Violation
from services.collector.domain.rules import Prepared, Rejected, prepared, shared_within
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


class Refusal(NamedTuple):
    """A field that was left out of a message."""

    at: int
    place: str


class Intake(NamedTuple):
    """What became of a request's messages."""

    accepted: list[Accepted]
    set_aside: list[SetAside]
    arrival: Arrival
    shared: Mapping[str, Any]
    """Fields of the batch, to be kept with its messages."""
    refused: Sequence[Refusal] = ()
    """Fields outside of the source's agreement."""
    violations: Sequence[Violation] = ()
    """What is not as the source's tracking plan says."""


BESIDE: Final = ("context", "integrations", "sentAt")


def take_in(batch: Batch, arrival: Arrival, policy: Policy, fresh_id: Callable[[], str]) -> Intake:
    """Sorts the messages. `fresh_id` gives message ids where they are missing."""
    accepted: list[Accepted] = []
    aside: list[SetAside] = []
    refused: list[Refusal] = []
    violations: list[Violation] = []
    shared = _beside(batch.shared, arrival)
    for index, message in enumerate(batch.messages):
        ready = prepared(message, shared, arrival.rules)
        violations += ready.violations
        refused += [Refusal(index, place) for place in ready.refused]
        body = ready.rejected or normalized(ready.message, shared, arrival, fresh_id())
        if isinstance(body, Rejected):
            aside.append(_set_aside(index, body, ready.received, arrival))
        else:
            accepted.append(_accepted(body, ready, arrival, policy))
    return Intake(accepted, aside, arrival, _without_address(shared, arrival.sender.ip_policy), refused, violations)


def _beside(shared: Mapping[str, Any], arrival: Arrival) -> dict[str, Any]:
    return shared_within({name: shared[name] for name in BESIDE if name in shared}, arrival.rules)


def _set_aside(index: int, why: Rejected, received: Any, arrival: Arrival) -> SetAside:
    kept = _without_address(received, arrival.sender.ip_policy)
    return SetAside(index, *why, raw=orjson.dumps(kept)[:MOST_QUARANTINED_BYTES])


def _accepted(body: dict[str, Any], ready: Prepared, arrival: Arrival, policy: Policy) -> Accepted:
    rules = arrival.rules
    if rules.cleaning is not None:
        body |= {"cleaned": rules.cleaning.version} | ({"uncleaned": ready.uncleaned} if ready.uncleaned else {})
    if rules.agreement is not None:
        body["agreement"] = rules.agreement.id
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
