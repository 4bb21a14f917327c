"""Which deliveries an entered or left makes, and which it does not."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from contracts.activation import ENTERED, LEFT
from contracts.segmentation import ENTERED as ENTERED_TYPE
from contracts.segmentation import LEFT as LEFT_TYPE
from services.activation.domain.delivery import Delivery
from shared.errors import Poison
from shared.eventlog.event import derive_id

SILENT: Final = frozenset({"merged", "erased"})
"""Reasons that are no news to a destination: two profiles were found to be one person, who was in before
under the other; or there is nobody left to tell about."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A destination's interest in what happens in one segment, for one purpose."""

    id: str
    destination: str
    segment: str
    on: tuple[str, ...]
    purpose: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A person entered or left a segment."""

    id: str
    """Of the event that says so."""
    change: str
    profile: str
    segment: str
    segment_version: int
    at: int
    reason: str


def change_of(identity: str, type: str, data: Mapping[str, Any]) -> Change | None:
    """An event of the segmentation stream as a change; None where it is something else.

    Raises Poison where it says less than the contract demands.
    """
    if type not in (ENTERED_TYPE, LEFT_TYPE):
        return None
    try:
        return Change(
            id=identity,
            change=ENTERED if type == ENTERED_TYPE else LEFT,
            profile=_text(data["profile"]),
            segment=_text(data["segment"]),
            segment_version=int(data.get("segment_version", 0)),
            at=int(data["at"]),
            reason=_text(data.get("reason", "event")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Poison(f"event {identity} is no {type}: {_wrong(error)}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _wrong(error: Exception) -> str:
    """Without quoting the event."""
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else "a field has another type"


def planned(change: Change, subscriptions: Iterable[Subscription]) -> list[Subscription]:
    """The subscriptions that make a delivery of the change, in the order of their ids."""
    if change.reason in SILENT:
        return []
    wanted = [each for each in subscriptions if each.segment == change.segment and change.change in each.on]
    return sorted(wanted, key=lambda each: each.id)


def delivery_id(change: Change, subscription: Subscription) -> str:
    """The same for the same cause and subscription, however often it is decided."""
    return derive_id("delivery", change.id, subscription.id)


def scheduled(change: Change, subscription: Subscription) -> dict[str, object]:
    """The data of `activation.scheduled.v1`."""
    return {
        "delivery": delivery_id(change, subscription),
        "destination": subscription.destination,
        "profile": change.profile,
        "segment": change.segment,
        "segment_version": change.segment_version,
        "subscription": subscription.id,
        "change": change.change,
        "at": change.at,
        "reason": change.reason,
        "purpose": subscription.purpose,
    }


def gate_request(delivery: Delivery, segment_sensitive: bool) -> dict[str, object]:
    """What privacy is asked before an attempt."""
    return {
        "profile": delivery.profile,
        "purpose": delivery.purpose,
        "causes": delivery.causes,
        "segment_sensitive": segment_sensitive,
    }
