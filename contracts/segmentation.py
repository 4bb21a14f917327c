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
    since = fields.Integer(
        required=True, strict=True, metadata={"description": "when this version came in force, in ms"}
    )
    coming = fields.Dict(metadata={"description": "its next definition, until all is there that it looks at"})


class VersionRow(Schema):
    """One of `versions()`."""

    version = fields.Integer(required=True, strict=True)
    definition = fields.Dict(required=True)
    since = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})


class Size(Schema):
    """One of `history()`."""

    at = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    size = fields.Integer(required=True, strict=True)


class SharedMembers(Schema):
    """How many of those that a definition holds are in another segment."""

    segment = fields.String(required=True, validate=ID)
    key = fields.String(required=True)
    size = fields.Integer(required=True)
    both = fields.Integer(required=True)


class Previewed(Schema):
    """What a definition would hold."""

    count = fields.Integer(required=True, metadata={"description": "exactly"})
    profiles = fields.Integer(required=True, metadata={"description": "of how many"})
    sample = fields.List(fields.String(validate=ID), required=True)
    overlap = fields.List(fields.Nested(SharedMembers), required=True)


class Why(Schema):
    """Why a person is in a segment, or would be by a definition."""

    profile = fields.String(required=True, validate=ID)
    at = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    since = fields.Integer(required=True, allow_none=True, metadata={"description": "since when they are in, in ms"})
    version = fields.Integer(required=True, allow_none=True)
    why = fields.Dict(
        required=True,
        metadata={
            "description": "{holds, changes_at (ms)}, and all, any, not, or segment with `is`, in which stands the "
            "same; or the condition, and what was found"
        },
    )


DEFINITION: Final = """
A definition is JSON (segment.schema.json; docs/segments.md), one of
  {"all": [definition, ...]}   {"any": [definition, ...]}   {"not": definition}   {"segment": key}
  {"trait": name, OP: value}   {"computed": key, OP: value}
      OP: is, is_not, in, not_in, contains, starts_with, ends_with, matches, gt, gte, lt, lte, exists
      and of dates: before, after ("2026-01-31", "now", "-30d", "7d"), within_last, within_next ("30d")
  {"identifier": kind, "exists": true|false}   {"consent": purpose, "is": true|false}
  {"event": name, "where": WHERE, "count": {CMP: n}, "within": "30d"}        CMP: gte, gt, lte, lt, eq
  {"event": name, "sum": {CMP: n}, "currency": "EUR", "within": "30d"}       n in the currency's main unit
  {"event": name, "where": WHERE, "sum": {CMP: n}, "of": property, "currency": "EUR", "within": "30d"}
  {"event": name, "where": WHERE, "last"|"first": {"within"|"not_within": "7d"}}
  {"sequence": [{"event": name, "where": WHERE, "within": "3d"}, {"not": {"event": name, "where": WHERE},
   "within": "3d"}, ...], "within": "30d", "span": "7d"}
WHERE is [{"property": path, OP: value}, ...]; spans are a number and one of s, m, h, d, w.
`where`, `within` and `span` may be left out: any, ever.
"""

RPCS: Final[dict[str, str]] = {
    "create_segment": "(key, name, definition) -> SegmentRow; history is looked through in the background",
    "change_segment": "(segment, definition, name?) -> SegmentRow; a new version, in force when all is there that it "
    "looks at; who enters and leaves by it does so in the background",
    "segments": "() -> [SegmentRow], oldest first",
    "versions": "(segment) -> [VersionRow], the latest first",
    "preview": "(definition, sample?) -> Previewed",
    "explain": "(profile, segment? or definition?) -> Why",
    "history": "(segment, instants in ms) -> [{at, size}]: who was in then by today's definition and events; traits, "
    "identifiers and consents are those of today",
    "members": "(segment, after?, limit?) -> [profile]; the segment's id or key",
    "of": "(profile) -> [{segment, key, name, since}]",
    "delete_segment": "(segment) -> how many left it",
    "uses": "(name) -> [key] of the segments that depend on a name of profile.changed (computed.KEY, traits.NAME ...), "
    "now or by a definition to come, through others too",
    "stats": "() -> {segments, memberships}",
}
"""RPC of the service `segmentation` -> its arguments and reply."""
