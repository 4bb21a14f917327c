"""Segments: how they are defined, the events of the stream `segmentation`, and its RPCs."""

from typing import Final

from marshmallow import Schema, fields, validate

from contracts.envelope import ID

ENTERED: Final = "segmentation.entered.v1"
LEFT: Final = "segmentation.left.v1"

REASONS: Final = ("event", "time", "definition", "merged", "erased")
"""Why somebody is in or out from now on: what happened, time that passed, a segment made or deleted, two
profiles that are one. `merged` is no news: the person was in before, under the other profile."""


class Entered(Schema):
    """A person is in a segment from now on. The envelope's subject is the profile."""

    segment = fields.String(required=True, validate=ID)
    profile = fields.String(required=True, validate=ID)
    at = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    reason = fields.String(required=True, validate=validate.OneOf(REASONS))
    segment_version = fields.Integer(required=True, strict=True)


class Left(Entered):
    """A person is no longer in a segment."""


EVENTS: Final[dict[str, type[Schema]]] = {ENTERED: Entered, LEFT: Left}
"""Event type -> schema of its data."""


class SegmentRow(Schema):
    """One of `segments()`."""

    segment = fields.String(required=True, validate=ID)
    key = fields.String(required=True)
    name = fields.String(required=True)
    version = fields.Integer(required=True, strict=True)
    definition = fields.Dict(required=True)
    sensitive = fields.Boolean(required=True)
    size = fields.Integer(required=True, strict=True)
    filled = fields.Boolean(required=True, metadata={"description": "whether history has been looked through"})
    created = fields.Integer(required=True, strict=True)


DEFINITION: Final = """
A definition is JSON, one of
  {"all": [definition, ...]}   {"any": [definition, ...]}   {"not": definition}
  {"trait": name, OP: value}                  OP: is, is_not, in, not_in, contains, gt, gte, lt, lte, exists
  {"identifier": kind, "exists": true|false}
  {"event": name, "count": {CMP: n}, "within": "30d"}        CMP: gte, gt, lte, lt, eq; within: s, m, h, d, w
  {"event": name, "sum": {CMP: n}, "currency": "EUR", "within": "30d"}     n in the currency's main unit
`within` may be left out: ever. A window is as long as it says, in steps of a minute.
"""

RPCS: Final[dict[str, str]] = {
    "create_segment": "(key, name, definition) -> SegmentRow; history is looked through in the background",
    "segments": "() -> [SegmentRow], oldest first",
    "preview": "(definition) -> {count, profiles}",
    "members": "(segment, after?, limit?) -> [profile]; the segment's id or key",
    "of": "(profile) -> [{segment, key, name, since}]",
    "delete_segment": "(segment) -> how many left it",
    "stats": "() -> {segments, memberships}",
}
"""RPC of the service `segmentation` -> its arguments and reply."""
