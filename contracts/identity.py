"""What identity decides: the events of the stream `identity` (one partition, one order), and its RPCs.

An identifier's random subject stands for it; the identifiers themselves are not in here.
"""

from typing import Final

from marshmallow import Schema, fields

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

RPCS: Final[dict[str, str]] = {
    "resolve": "([[kind, value], ...]) -> profile id of the first that is known, or None",
    "members": "(profile, passed?) -> {profile, subjects, profiles, behind}; None where there is no such profile",
    "members_of": "([{profile, causes}]) -> [the same, or None]",
    "stats": "() -> {people, identifiers, merges, set_aside}",
}
"""RPC of the service `identity` -> its arguments and reply. `passed` and `causes`: `stream:partition` -> position."""
