"""What a request said, as it was received: kept for a while, so that rules can be tried and used on it again."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson
import zstandard

from services.collector.domain.client import Sender, address
from services.collector.domain.decode import Batch, Message
from services.collector.domain.intake import Accepted, Intake, SetAside, take_in
from services.collector.domain.source import Source
from shared.policy import Policy


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What stood beside the messages of a request, without what the source does not keep."""

    shared: dict[str, Any] = {}
    """Of the batch: context, integrations, sentAt."""
    gpc: bool = False
    address: str = ""
    agent: str = ""
    exact: bool = False
    """Whether no number of its messages can have been rounded when it was read; older ones do not say."""


class Received(Request, frozen=True, kw_only=True):
    """A request with those of its messages that were taken in."""

    id: str
    """Its correlation id: events that it became have it too."""
    received: int
    """ms since 1970 UTC."""
    messages: list[tuple[str, msgspec.Raw]]
    """(id of the event that it became, the message as JSON)."""


def request_of(intake: Intake) -> Request:
    """What is kept of a request beside its messages."""
    sender = intake.arrival.sender
    return Request(
        shared=dict(intake.shared),
        gpc=intake.arrival.gpc,
        address=address(sender.address, sender.ip_policy) or "",
        agent=sender.agent,
        exact=intake.arrival.exact,
    )


def received_of(request: Request, identity: str, received: int, messages: Sequence[tuple[str, bytes]]) -> Received:
    """The request with its messages: (event id, JSON)."""
    return Received(
        id=identity,
        received=received,
        shared=request.shared,
        gpc=request.gpc,
        address=request.address,
        agent=request.agent,
        exact=request.exact,
        messages=[(identity, msgspec.Raw(text)) for identity, text in messages],
    )


def encoded(request: Received) -> bytes:
    """As JSON."""
    return msgspec.json.encode(request)


def packed(texts: Sequence[bytes]) -> bytes:
    """To be sealed, of encoded requests: they have much in common, and what is sealed cannot be compressed any more."""
    return zstandard.ZstdCompressor().compress(b"[" + b",".join(texts) + b"]")


def unpacked(sealed: bytes) -> list[Received]:
    """What `packed` made."""
    return msgspec.json.decode(zstandard.ZstdDecompressor().decompress(sealed), type=list[Received])


TIME_DIGITS: Final = 12


def request_id(received: int, fresh: str) -> str:
    """The correlation id of a request: the instant at which it came (ms), and of a random id what fits behind it."""
    return f"{received:0{TIME_DIGITS}x}{fresh[TIME_DIGITS:]}"


def received_at(request: str) -> int | None:
    """When a request came, by its id; None where it is none."""
    try:
        return int(request[:TIME_DIGITS], 16)
    except ValueError:
        return None


def message_of(raw: msgspec.Raw) -> Message:
    """A message, decoded."""
    message: Message = orjson.loads(bytes(raw))
    return message


def retaken(message: object, request: Request, received: int, source: Source, policy: Policy, fresh_id: str) -> Intake:
    """Takes a message in as of then, by the source's rules of now. `fresh_id`: its message id, where it has none."""
    sender = Sender(request.address, request.agent, source.ip, source.bots)
    arrival = source.arrival(received, request.gpc, sender, exact=request.exact)
    return take_in(Batch([message], request.shared), arrival, policy, lambda: fresh_id)


def again(
    message: object, request: Request, received: int, source: Source, policy: Policy, fresh_id: str
) -> Accepted | SetAside:
    """What becomes of a message that is taken in again, see retaken."""
    intake = retaken(message, request, received, source, policy, fresh_id)
    return intake.accepted[0] if intake.accepted else intake.set_aside[0]
