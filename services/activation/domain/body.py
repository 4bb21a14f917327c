"""What a webhook says. Made at each attempt from what is known then, and kept nowhere."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from contracts.activation import AUDIENCE_EVENTS, ENTERED, FORMS, WEBHOOK_TYPES
from services.activation.domain.delivery import Delivery
from services.activation.domain.segment import Segment

MOST_VALUES: Final = 20
"""Values of one kind of identifier that a message holds at most: those seen last."""
DEFAULT_IDENTIFIERS: Final = ("user", "email")
"""Kinds that a destination gets unless it is made with others."""
SAMLA, TRACK, IDENTIFY = FORMS


def body_of(
    delivery: Delivery,
    segment: Segment,
    profile: str,
    facts: Mapping[str, Any],
    kinds: Collection[str],
    form: str = SAMLA,
) -> bytes:
    """The body as JSON (contracts.activation.WebhookBody, or AudienceBody where the destination's `form` is another).

    `profile` is the person's id by now (after a merge not the delivery's); `facts` is what the profile
    service knows; `kinds` are the identifiers that the destination may have.
    """
    if form != SAMLA:
        return orjson.dumps(_audience(delivery, segment, profile, identifiers_of(facts, kinds), form))
    message = {
        "type": WEBHOOK_TYPES[delivery.change],
        "timestamp": iso(delivery.at),
        "data": {
            "segment": {"id": segment.id, "key": segment.key, "name": segment.name},
            "profile": profile,
            "identifiers": identifiers_of(facts, kinds),
            "reason": delivery.cause,
        },
    }
    return orjson.dumps(message)


def _audience(
    delivery: Delivery, segment: Segment, profile: str, identifiers: Mapping[str, Sequence[str]], form: str
) -> dict[str, Any]:
    """As Segment's users know it: somebody enters or exits an audience."""
    inside = delivery.change == ENTERED
    said: dict[str, Any] = {"traits": {segment.key: inside}}
    if form == TRACK:
        properties = {"audience_key": segment.key, segment.key: inside}
        said = {"event": AUDIENCE_EVENTS[delivery.change], "properties": properties}
    externals = [
        {"id": value, "type": kind, "collection": "users", "encoding": "none"}
        for kind, values in identifiers.items()
        for value in values
    ]
    users, devices = identifiers.get("user"), identifiers.get("anonymous")
    who = {"userId": users[0]} if users else {"anonymousId": devices[0] if devices else profile}
    return {
        "type": form,
        "messageId": delivery.id,
        "timestamp": iso(delivery.at),
        **who,
        **said,
        "context": {"externalIds": externals},
    }


def identifiers_of(facts: Mapping[str, Any], kinds: Collection[str]) -> dict[str, list[str]]:
    """Kind -> values, the one seen last first, of the kinds allowed."""
    known: Mapping[str, Mapping[str, Sequence[Any]]] = facts.get("ids") or {}
    return {kind: _latest_first(known[kind]) for kind in sorted(kinds) if known.get(kind)}


def _latest_first(values: Mapping[str, Sequence[Any]]) -> list[str]:
    return sorted(values, key=lambda value: (-int(values[value][1]), value))[:MOST_VALUES]


def iso(milliseconds: int) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
