"""A request's messages, sorted: what is to be appended, and what is to be quarantined."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from contracts.tracking import TYPES
from services.collector.domain.classify import split
from services.collector.domain.decode import Batch
from services.collector.domain.normalize import Arrival, Rejected, normalized
from services.collector.domain.source import address
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


class SetAside(NamedTuple):
    """A message that goes into quarantine."""

    at: int
    """Which of the request's messages."""
    code: str
    place: str
    why: str
    raw: bytes
    """What was sent, as JSON; cut off where it is too long to be kept."""


class Intake(NamedTuple):
    """What became of a request's messages."""

    accepted: list[Accepted]
    set_aside: list[SetAside]
    arrival: Arrival
    shared: Mapping[str, Any]
    """Fields of the batch, to be kept with what is set aside."""


BESIDE: Final = ("context", "integrations", "sentAt")


def take_in(batch: Batch, arrival: Arrival, policy: Policy, fresh_id: Callable[[], str]) -> Intake:
    """Sorts the messages. `fresh_id` gives message ids where they are missing."""
    accepted, aside = [], []
    for index, message in enumerate(batch.messages):
        body = normalized(message, batch.shared, arrival, fresh_id())
        if isinstance(body, Rejected):
            kept = _without_address(message, arrival.sender.ip_policy)
            aside.append(SetAside(index, *body, raw=orjson.dumps(kept)[:MOST_QUARANTINED_BYTES]))
            continue
        identifiers = tuple((kind, value) for kind, value in body["identifiers"])
        ordinary, sensitive = split(body, policy)
        accepted.append(
            Accepted(
                TYPES[body["type"]],
                body["message_id"],
                identifiers,
                orjson.dumps(ordinary),
                None if sensitive is None else orjson.dumps(sensitive),
            )
        )
    shared = {name: batch.shared[name] for name in BESIDE if name in batch.shared} if aside else {}
    return Intake(accepted, aside, arrival, _without_address(shared, arrival.sender.ip_policy))


def _without_address(message: Any, policy: str) -> Any:
    """The message with its IP address as the source's policy lets it be kept, in quarantine too."""
    context = message.get("context") if isinstance(message, dict) else None
    if not isinstance(context, dict) or "ip" not in context:
        return message
    rest = {name: value for name, value in context.items() if name != "ip"}
    kept = address(context["ip"], policy)
    return {**message, "context": {**rest, "ip": kept} if kept else rest}
