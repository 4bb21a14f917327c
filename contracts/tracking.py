"""What SDKs send, and what the collector makes of it: the events of the stream `tracking`.

The door takes what existing SDKs speak (`Message`); the log holds a `Body`, sealed, and beside it, sealed
under a key of its own, what belongs to a special category (`SensitiveBody`). The hot path uses plain functions
(services/collector/domain); a test holds them to these schemas.
"""

from typing import Any, Final

from marshmallow import EXCLUDE, Schema, fields, validate

KINDS: Final = ("track", "identify", "page", "screen", "group", "alias")
TYPES: Final = {kind: f"tracking.{kind}.v1" for kind in KINDS}
"""Kind of message -> event type."""
CORRECTED: Final = "tracking.corrected.v1"
"""What an earlier event of the same subject should have said, by newer cleaning rules: `data` is a Corrected, the
body stands in its place. Of several, the last one does."""
REPLAYED: Final = "replayed"
"""In `data` of an event that was replayed from the quarantine: when that was (ms). Its time is when it was received."""
PARTIES: Final = ("first", "second", "third")
"""Whose data it is; the first ranks above the second, that above the third."""

CONSENT_UPDATED: Final = "Segment Consent Preference Updated"
"""The track event that says that somebody has changed what they agree to."""


BIGGEST_EVENT: Final = 32_768
"""Bytes of one message."""
LONGEST_MESSAGE_ID: Final = 100
LONGEST_NAME: Final = 256
WORD: Final = r"\s*\S"
"""What a text that must say something begins with."""


class Id(fields.Field[str | int]):
    """A text that says something, or an integer."""

    default_error_messages = {"invalid": "Not a string or an integer."}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | int:
        if (
            isinstance(value, bool)
            or not isinstance(value, (str, int))
            or (isinstance(value, str) and not value.strip())
        ):
            raise self.make_error("invalid")
        return value


class Message(Schema):
    """One message of an SDK: its JSON, under any content type. What a kind needs besides is in `MESSAGES`."""

    class Meta:
        """Fields that we do not know are ignored."""

        unknown = EXCLUDE

    type = fields.String(required=True, validate=validate.OneOf(KINDS))
    messageId = fields.String(allow_none=True, validate=validate.Length(max=LONGEST_MESSAGE_ID))
    userId = fields.Raw(allow_none=True, metadata={"description": "or anonymousId; a string or an integer"})
    anonymousId = fields.Raw(allow_none=True)
    previousId = fields.Raw(allow_none=True, metadata={"description": "alias: the id that userId was known by"})
    groupId = fields.Raw(allow_none=True)
    event = fields.Raw(allow_none=True, metadata={"description": "track: what happened"})
    name = fields.Raw(allow_none=True, metadata={"description": "page and screen: which"})
    properties = fields.Dict(allow_none=True)
    traits = fields.Dict(allow_none=True)
    context = fields.Dict(allow_none=True)
    integrations = fields.Dict(allow_none=True)
    timestamp = fields.String(allow_none=True, metadata={"description": "ISO 8601"})
    originalTimestamp = fields.String(allow_none=True)
    sentAt = fields.String(allow_none=True)


class TrackMessage(Message):
    """Something happened."""

    event = fields.String(required=True, validate=[validate.Length(max=LONGEST_NAME), validate.Regexp(WORD)])  # type: ignore[assignment]


class GroupMessage(Message):
    """Somebody belongs to a group."""

    groupId = Id(required=True)  # type: ignore[assignment]


class AliasMessage(Message):
    """Somebody is known by another id, too."""

    previousId = Id(required=True)  # type: ignore[assignment]
    userId = Id(required=True)  # type: ignore[assignment]


MESSAGES: Final[dict[str, type[Message]]] = {
    **dict.fromkeys(KINDS, Message),
    "track": TrackMessage,
    "group": GroupMessage,
    "alias": AliasMessage,
}
"""Kind of message -> its schema."""


class Body(Schema):
    """What is sealed as `ordinary` in every tracking event."""

    type = fields.String(required=True, validate=validate.OneOf(KINDS))
    message_id = fields.String(required=True, validate=validate.Length(1, 100))
    event = fields.String(required=True, allow_none=True, metadata={"description": "None where it is special"})
    time = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC, by our clock"})
    party = fields.String(required=True, validate=validate.OneOf(PARTIES))
    source_name = fields.String(required=True)
    identifiers = fields.List(
        fields.List(fields.String(), validate=validate.Length(equal=2)),
        required=True,
        metadata={"description": "[kind, normalized value] by priority; the first is the event's subject"},
    )
    properties = fields.Dict(required=True)
    traits = fields.Dict(required=True)
    context = fields.Dict(required=True)
    integrations = fields.Dict(required=True)
    group_id = fields.Raw(required=True, allow_none=True)
    consent = fields.Dict(keys=fields.String(), values=fields.Boolean(), metadata={"description": "category -> agreed"})
    client = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "browser, os, device, bot: what the user agent says, as far as it is known"},
    )
    gpc = fields.Boolean(metadata={"description": "Sec-GPC: 1 was said: no sale, no sharing, no ads"})
    agreement = fields.String(metadata={"description": "the agreement or licence that it came under"})
    merges = fields.Boolean(metadata={"description": "its agreement lets its identifiers show that two are one person"})
    cleaned = fields.Integer(strict=True, metadata={"description": "version of the source's cleaning rules"})
    uncleaned = fields.List(fields.String(), metadata={"description": "paths of values that they could not read"})
    set_aside = fields.List(
        fields.List(fields.String()), metadata={"description": "[kind, reason] of identifiers that are nobody's"}
    )


class SensitiveBody(Schema):
    """What is sealed as `sensitive`, where anything of the message belongs to a special category."""

    type = fields.String(required=True, validate=validate.OneOf(KINDS))
    time = fields.Integer(required=True, strict=True)
    party = fields.String(required=True, validate=validate.OneOf(PARTIES))
    source_name = fields.String(required=True)
    event = fields.String(required=True, allow_none=True)
    properties = fields.Dict(required=True)
    traits = fields.Dict(required=True)
    categories = fields.List(fields.String(), required=True)
    uncleaned = fields.List(fields.String(), metadata={"description": "as in the ordinary body, of what is special"})


class Corrected(Schema):
    """`data` of tracking.corrected.v1."""

    corrects = fields.String(required=True, metadata={"description": "the id of the event"})
    number = fields.Integer(required=True, strict=True, metadata={"description": "1, 2, 3 ... of that event's"})
    cleaning = fields.Integer(required=True, strict=True, metadata={"description": "version of the rules; 0: none"})


EVENTS: Final = {CORRECTED: Corrected}
"""Event type -> its `data`, of those that have any."""
