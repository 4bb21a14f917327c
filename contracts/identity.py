"""What identity decides: the events of the stream `identity` (one partition, one order), and its RPCs.

An identifier's random subject stands for it; the identifiers themselves are not in here.
"""

from typing import Final

from marshmallow import Schema, fields, validate

from contracts.envelope import ID

CREATED: Final = "identity.created.v1"
ATTACHED: Final = "identity.attached.v1"
MERGED: Final = "identity.merged.v1"
SET_ASIDE: Final = "identity.set_aside.v1"
ERASED: Final = "identity.erased.v1"


def _id(text: str) -> fields.String:
    return fields.String(required=True, validate=ID, metadata={"description": text})


def _kind() -> fields.String:
    return fields.String(required=True, metadata={"description": "user, anonymous, email, phone, ..."})


class Created(Schema):
    """A person nobody knew, by a first identifier."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the identifier's subject")
    kind = _kind()


class Attached(Created):
    """One more identifier of a person."""


class Merged(Schema):
    """Two profiles were one person all along."""

    into = _id("the profile that stays: the older; also the envelope's subject")
    profile = _id("the profile that is a part of it from now on")
    reason = fields.String(metadata={"description": "accepted, threshold; left out: by identifiers"})
    candidate = fields.String(validate=ID, metadata={"description": "the look-alikes that were accepted"})
    probability = fields.Float(metadata={"description": "theirs"})


class SetAside(Schema):
    """An identifier that came with a person's, but is not taken for theirs."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the identifier's subject")
    kind = _kind()
    reason = fields.String(required=True, metadata={"description": "such as limit_of_user"})


class Erased(Schema):
    """A person is forgotten. The envelope's subject is the request."""

    request = _id("the erasure request")
    profiles = fields.List(fields.String(validate=ID), required=True)
    subjects = fields.List(fields.String(validate=ID), required=True)


EVENTS: Final[dict[str, type[Schema]]] = {
    CREATED: Created,
    ATTACHED: Attached,
    MERGED: Merged,
    SET_ASIDE: SetAside,
    ERASED: Erased,
}
"""Event type -> schema of its data."""


class FieldOf(Schema):
    """What a field says of two people; not what is in it."""

    field = fields.String(required=True)
    how = fields.String(required=True, metadata={"description": "same, alike, similar, different ..."})
    weight = fields.Float(required=True, metadata={"description": "log2 of odds"})


class CandidateRow(Schema):
    """Two profiles that look like one person."""

    candidate = fields.String(required=True, validate=ID)
    profiles = fields.List(fields.String(validate=ID), required=True)
    probability = fields.Float(required=True)
    status = fields.String(required=True, validate=validate.OneOf(("proposed", "accepted", "refused")))
    sources = fields.List(fields.String(), required=True)
    found = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    decided = fields.Integer(required=True, allow_none=True, strict=True)
    against = fields.List(fields.Nested(FieldOf), required=True)
    # `for` is a word of Python's.
    locals()["for"] = fields.List(fields.Nested(FieldOf), required=True)


class LikenessRow(Schema):
    """What was set for a source's look-alikes."""

    source = fields.String(required=True, metadata={"description": "its name, as profiles show it"})
    threshold = fields.Float(required=True, allow_none=True, metadata={"description": "None: never by itself"})
    repeats = fields.Boolean(required=True, metadata={"description": "whether it holds a person more than once"})


RPCS: Final[dict[str, str]] = {
    "resolve": "([[kind, value], ...]) -> profile id of the first that is known, or None",
    "members": "(profile, passed?) -> {profile, subjects, profiles, behind}; None where there is no such profile",
    "members_of": "([{profile, causes}]) -> [the same, or None]",
    "candidates": "(status?, limit?) -> [CandidateRow], the likeliest first",
    "propose": "([{profiles, probability, sources, for, against}]) -> {proposed, decided_before, merged}",
    "accept_candidate": "(candidate) -> CandidateRow; the two are merged",
    "refuse_candidate": "(candidate) -> CandidateRow; not proposed again",
    "likeness_sources": "() -> [LikenessRow]",
    "set_likeness": "(source, threshold?, repeats?) -> LikenessRow",
    "stats": "() -> {people, identifiers, merges, set_aside}",
}
"""RPC of the service `identity` -> its arguments and reply. `passed` and `causes`: `stream:partition` -> position."""
