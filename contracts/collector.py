"""What the collector answers at its door, and its RPCs."""

from typing import Final

from marshmallow import Schema, fields, validate

from contracts.tracking import PARTIES


class Answer(Schema):
    """200: what was sent is durable, or is in quarantine."""

    success = fields.Boolean(required=True)
    set_aside = fields.List(
        fields.Dict(), metadata={"description": "of a batch: {index, code, message, place} of each bad message"}
    )


class Refusal(Schema):
    """Any other answer. SDKs read both fields."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    success = fields.Boolean(required=True)


class SourceRow(Schema):
    """One of `sources()`."""

    source = fields.String(required=True)
    name = fields.String(required=True)
    party = fields.String(required=True, validate=validate.OneOf(PARTIES))
    enabled = fields.Boolean(required=True)
    created = fields.Integer(required=True, strict=True)
    ip = fields.String(required=True, metadata={"description": "of IP addresses: keep, truncate or drop"})
    bots = fields.String(required=True, metadata={"description": "messages of bots: set_aside or keep"})
    rate = fields.Integer(required=True, metadata={"unit": "events a second and edge; 0: no limit"})
    quarantine_days = fields.Integer(required=True, metadata={"description": "how long what failed is kept"})
    alarm = fields.Integer(required=True, metadata={"description": "quarantined in an hour: too many; 0: never"})
    quarantined = fields.Integer(metadata={"description": "in the last hour"})
    last_seen = fields.Integer(metadata={"unit": "ms since 1970 UTC; 0: never"})
    events = fields.Integer(metadata={"description": "messages taken in"})
    errors = fields.Integer(metadata={"description": "messages set aside"})
    refused = fields.Integer(metadata={"description": "requests refused"})


class QuarantineRow(Schema):
    """One of `quarantine_list()`; what was sent stays sealed."""

    id = fields.String(required=True)
    source = fields.String(required=True)
    reason = fields.String(required=True)
    place = fields.String(required=True)
    why = fields.String(required=True)
    received = fields.Integer(required=True, strict=True)


class Replayed(Schema):
    """What came of a page of quarantined messages."""

    looked_at = fields.Integer(required=True)
    replayed = fields.Integer(required=True)
    still = fields.Dict(required=True, metadata={"description": "reason -> how many stay"})
    examples = fields.List(fields.Dict(), required=True, metadata={"description": "{id, code, place, message}"})
    after = fields.String(required=True, allow_none=True, metadata={"description": "None: that was the last page"})


RPCS: Final[dict[str, str]] = {
    "create_source": "(name, party) -> {source, name, party, write_key}; the key is shown once",
    "sources": "() -> [SourceRow], oldest first",
    "disable_source": "(source) -> SourceRow",
    "change_source": "(source, {enabled?, ip?, bots?, rate?, quarantine_days?, alarm?}) -> SourceRow",
    "rotate_key": "(source, overlap_hours) -> {source, write_key, old_until}; the old keys are good until then",
    "quarantine_counts": "() -> [{source, reason, count}]",
    "quarantine_list": "(source?, reason?, limit?) -> [QuarantineRow], latest first",
    "quarantine_show": "(id) -> {..., message, mended}: what was sent, opened, and what is in its place",
    "quarantine_mend": "(id, message | rule) -> as quarantine_show",
    "quarantine_replay": "(source?, reason?, ids?, rule?, after, limit, dry) -> Replayed: a page; go on behind `after`",
    "quarantine_size": "(source?, reason?, ids?) -> how many",
    "quarantined_of": "(identifiers) -> [message]: what was sent about somebody, for an export",
    "forget_quarantined": "(identifiers) -> how many entries that named one of [kind, value] are gone",
    "stats": "() -> {events, quarantined, sources}",
}
"""RPC of the service `collector` -> its arguments and reply."""
