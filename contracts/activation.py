"""What activation says to others: its events, the webhook that goes out, and its RPCs.

A delivery is one message to one destination about one person, made by one subscription from one
`segmentation.entered` or `segmentation.left`. Its id follows from that cause, and is the `webhook-id`.
"""

from typing import Final

from marshmallow import Schema, fields, validate

from contracts.envelope import ID

SCHEDULED: Final = "activation.scheduled.v1"
DELIVERED: Final = "activation.delivered.v1"
HELD: Final = "activation.held.v1"
FAILED: Final = "activation.failed.v1"
DEAD: Final = "activation.dead.v1"
REDRIVEN: Final = "activation.redriven.v1"

ENTERED: Final = "entered"
LEFT: Final = "left"
CHANGES: Final = (ENTERED, LEFT)
"""What happens to a person in a segment, and what a subscription can be for."""

WEBHOOK_TYPES: Final = {ENTERED: "segment.entered", LEFT: "segment.left"}

FORMS: Final = ("samla", "track", "identify")
"""How a destination gets to hear: WebhookBody, or as tools expect that know Segment's audiences."""
AUDIENCE_EVENTS: Final = {ENTERED: "Audience Entered", LEFT: "Audience Exited"}

PENDING: Final = "pending"
STATUSES: Final = (PENDING, "delivered", "held", "dead")
"""Of a delivery: to be sent (again); received; stopped by the gate; given up, to be redriven by hand."""


def _id(text: str) -> fields.String:
    return fields.String(required=True, validate=ID, metadata={"description": text})


def _when(text: str) -> fields.Integer:
    described = {"description": text, "unit": "ms since 1970 UTC"}
    return fields.Integer(required=True, strict=True, metadata=described)


def _count(text: str) -> fields.Integer:
    return fields.Integer(required=True, strict=True, validate=validate.Range(min=1), metadata={"description": text})


def _reason(text: str) -> fields.String:
    return fields.String(required=True, validate=validate.Length(1, 200), metadata={"description": text})


class _OfDelivery(Schema):
    delivery = _id("the delivery")


class Scheduled(_OfDelivery):
    """There is something to send. The envelope's `causes` are what the gate waits for."""

    destination = _id("where to")
    profile = _id("about whom; also the envelope's subject")
    segment = _id("the segment entered or left")
    segment_version = fields.Integer(load_default=0, strict=True)
    subscription = _id("what made the delivery")
    change = fields.String(required=True, validate=validate.OneOf(CHANGES))
    at = _when("when the person entered or left")
    reason = fields.String(load_default="event", metadata={"description": "why: event, time, definition ..."})
    purpose = fields.String(required=True, metadata={"description": "what the person must have agreed to"})


class Delivered(_OfDelivery):
    """The destination answered 2xx."""

    attempt = _count("1 for the first, counted from the last redrive")
    status = fields.Integer(required=True, strict=True, validate=validate.Range(200, 299))


class Held(_OfDelivery):
    """The gate said no; nothing was sent at this attempt."""

    reason = _reason("the gate's")


class Failed(_OfDelivery):
    """An attempt failed and another follows."""

    attempt = _count("1 for the first, counted from the last redrive")
    reason = _reason("such as http_500, timeout, address_refused")
    next = _when("not before")


class Dead(_OfDelivery):
    """Given up: after the last attempt, or because the destination is gone."""

    reason = _reason("that of the last attempt, or of the destination")


class Redriven(_OfDelivery):
    """A person asked for it to be sent again: it starts over, under the same id."""


EVENTS: Final[dict[str, type[Schema]]] = {
    SCHEDULED: Scheduled,
    DELIVERED: Delivered,
    HELD: Held,
    FAILED: Failed,
    DEAD: Dead,
    REDRIVEN: Redriven,
}
"""Event type -> schema of its data. The stream is `activation`, the subject is the profile."""


class WebhookSegment(Schema):
    """Which segment."""

    id = _id("the segment")
    key = fields.String(required=True)
    name = fields.String(required=True)


class WebhookData(Schema):
    """What happened, and to whom."""

    segment = fields.Nested(WebhookSegment, required=True)
    profile = _id("the person; after a merge, the one that the profile was merged into")
    identifiers = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        metadata={"description": "kind -> values, last seen first; only kinds that the destination may have"},
    )
    reason = fields.String(required=True, metadata={"description": "event, time, definition ..."})


class WebhookBody(Schema):
    """The body of a webhook (Standard Webhooks 1.0). Signed as it is sent, anew at each attempt."""

    type = fields.String(required=True, validate=validate.OneOf(tuple(WEBHOOK_TYPES.values())))
    timestamp = fields.String(required=True, metadata={"description": "ISO 8601, UTC: when it happened"})
    data = fields.Nested(WebhookData, required=True)


class AudienceBody(Schema):
    """The body of a webhook of the form `track` or `identify`: a message of Segment's protocol."""

    type = fields.String(required=True, validate=validate.OneOf(FORMS[1:]))
    messageId = _id("the delivery: the same at each attempt")
    timestamp = fields.String(required=True, metadata={"description": "ISO 8601, UTC: when it happened"})
    userId = fields.String(metadata={"description": "where the destination may have it, and there is one"})
    anonymousId = fields.String(metadata={"description": "else: an anonymous id that it may have, or the profile's id"})
    event = fields.String(
        validate=validate.OneOf(tuple(AUDIENCE_EVENTS.values())), metadata={"description": "of track"}
    )
    properties = fields.Dict(metadata={"description": "of track: {audience_key: KEY, KEY: true or false}"})
    traits = fields.Dict(metadata={"description": "of identify: {KEY: true or false}"})
    context = fields.Dict(
        required=True,
        metadata={"description": "{externalIds: [{id, type, collection, encoding}]}: the identifiers it may have"},
    )


class DeliveryRow(Schema):
    """One of `deliveries()`."""

    delivery = _id("its id")
    destination = _id("where to")
    subscription = _id("what made it")
    profile = _id("about whom")
    segment = _id("of which segment")
    change = fields.String(required=True, validate=validate.OneOf(CHANGES))
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    attempts = fields.Integer(required=True, strict=True)
    reason = fields.String(required=True)
    next = fields.Integer(required=True, strict=True, allow_none=True)
    created = _when("when it was scheduled")


class DestinationRow(Schema):
    """One of `destinations()`."""

    destination = _id("its id")
    name = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(("webhook",)))
    url = fields.String(required=True)
    form = fields.String(required=True, validate=validate.OneOf(FORMS))
    enabled = fields.Boolean(required=True)
    reason = fields.String(required=True, metadata={"description": "why it is disabled, else empty"})
    identifiers = fields.List(fields.String(), required=True)
    subscriptions = fields.List(fields.Dict(keys=fields.String()), required=True)


RPCS: Final[dict[str, str]] = {
    "create_destination": "(name, kind, url, secret?, identifiers?, form?) -> {destination, secret}, shown once",
    "rotate_secret": "(destination, overlap_hours?) -> {destination, secret}; both sign for a while",
    "enable_destination": "(destination) -> DestinationRow",
    "disable_destination": "(destination) -> DestinationRow",
    "destinations": "() -> [DestinationRow]",
    "subscribe": "(destination, segment, on, purpose) -> {subscription, destination, segment, on, purpose}",
    "unsubscribe": "(subscription) -> bool",
    "deliveries": "(status?, limit?, destination?) -> [DeliveryRow], latest first",
    "redrive": "(delivery) -> 1, or 0 where it is neither dead nor held",
    "redrive_all": "(destination) -> how many dead deliveries are sent again",
    "stats": "() -> {statuses: {status: n}, held: {reason: n}, dead: {reason: n}, destinations: n}",
}
"""RPC of the service `activation` -> its arguments and reply."""
