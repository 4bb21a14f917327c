"""A request's messages, sorted: what is to be appended, and what is to be quarantined."""

from collections.abc import Callable
from typing import Final, NamedTuple

import orjson

from contracts.tracking import TYPES
from services.collector.domain.classify import split
from services.collector.domain.decode import Batch
from services.collector.domain.normalize import Arrival, Rejected, normalized
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


def take_in(batch: Batch, arrival: Arrival, policy: Policy, fresh_id: Callable[[], str]) -> Intake:
    """Sorts the messages. `fresh_id` gives message ids where they are missing."""
    accepted, aside = [], []
    for index, message in enumerate(batch.messages):
        body = normalized(message, batch.shared, arrival, fresh_id())
        if isinstance(body, Rejected):
            aside.append(SetAside(index, *body, raw=orjson.dumps(message)[:MOST_QUARANTINED_BYTES]))
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
    return Intake(accepted, aside)
