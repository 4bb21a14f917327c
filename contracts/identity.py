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
SHARED: Final = "identity.shared.v1"
UNSHARED: Final = "identity.unshared.v1"
GIVEN: Final = "identity.given.v1"
REFUSED: Final = "identity.refused.v1"
SPLIT: Final = "identity.split.v1"
REGROUPED: Final = "identity.regrouped.v1"
REGROUPINGS: Final = (SPLIT, REGROUPED)
"""Those that stand in place of what was decided before, with facts of their own."""
RULES_CHANGED: Final = "identity.rules_changed.v1"
ERASED: Final = "identity.erased.v1"


NOBODY: Final = (
    "", "0", "-1", "null", "none", "nil", "nan", "undefined", "anonymous", "guest", "unknown", "n/a", "na", "true",
    "false", "[object object]", "(null)", "<null>", "{}", "[]", "id", "userid", "user_id", "test",
    "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
NOBODYS_EMAILS: Final = (
    "test@test.com", "test@example.com", "user@example.com", "a@a.com", "none@none.com", "no@no.com",
    "noreply@example.com", "email@email.com",
)  # fmt: skip
"""Values that are nobody's, in lower case: the door sets them aside, and identity's rules block them."""


def _id(text: str) -> fields.String:
    return fields.String(required=True, validate=ID, metadata={"description": text})


def _kind() -> fields.String:
    return fields.String(required=True, metadata={"description": "user, anonymous, email, phone, ..."})


class Decided(Schema):
    """By what something was decided."""

    event = fields.String(validate=ID, metadata={"description": "the tracking event that showed it"})
    candidate = fields.String(validate=ID, metadata={"description": "the look-alikes of whom it was said"})
    rules = fields.Integer(strict=True, metadata={"description": "version of the rules; 0: those that are shipped"})


class Created(Decided):
    """A person nobody knew, by a first identifier."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the identifier's subject")
    kind = _kind()


class Attached(Created):
    """One more identifier of a person."""


class Merged(Decided):
    """Two profiles were one person all along."""

    into = _id("the profile that stays: the older; also the envelope's subject")
    profile = _id("the profile that is a part of it from now on")
    subject = fields.String(validate=ID, metadata={"description": "the identifier that showed it"})
    kind = fields.String(metadata={"description": "its kind"})
    reason = fields.String(metadata={"description": "accepted, threshold; left out: by identifiers"})
    probability = fields.Float(metadata={"description": "of look-alikes: that they are one person"})
    subjects = fields.List(fields.String(validate=ID), metadata={"description": "of look-alikes: one of each"})


class SetAside(Decided):
    """An identifier that came with a person's, but is not taken for theirs."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the identifier's subject")
    kind = _kind()
    reason = fields.String(required=True, metadata={"description": "such as limit_of_user"})


class Shared(Decided):
    """Somebody else is known on a person's device: from then on it tells nobody's."""

    profile = _id("the person whose it was; also the envelope's subject")
    subject = _id("the device's subject")
    kind = _kind()
    since = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC, of the event's own time"})
    other = _id("a subject of who else is known on it")


class Unshared(Decided):
    """Who else was known on a person's device is the same person after all."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the device's subject")
    kind = _kind()


class Given(Decided):
    """An event is somebody's although its own identifier is not theirs: it was done on a device that others use too,
    or its own identifier was set aside. It stays theirs whoever gets its own identifier."""

    profile = _id("the person; also the envelope's subject")
    subject = _id("the event's own subject")
    to = _id("the subject of the person's that the event named")
    at = fields.Integer(strict=True, metadata={"unit": "ms since 1970 UTC, of the event's own time"})


class Refused(Schema):
    """Two who look alike are two, somebody says: they are not proposed again."""

    candidate = _id("the look-alikes; also the envelope's subject")
    profiles = fields.List(fields.String(validate=ID), required=True, metadata={"description": "the two, as of then"})
    subjects = fields.List(
        fields.String(validate=ID), required=True, metadata={"description": "one of each, whoever's they become"}
    )
    probability = fields.Float(required=True, metadata={"description": "that they are one person"})


class Regrouped(Schema):
    """Who is who was decided again, from the events themselves: `facts` stand in place of everything that had been
    decided about the dissolved people. It is one step: nobody ever sees them taken apart and not yet put together."""

    decision = _id("what this is a part of; a split's own id")
    regrouping = fields.String(validate=ID, metadata={"description": "this event's id; left out: the decision's"})
    dissolved = fields.List(fields.String(validate=ID), required=True, metadata={"description": "profiles"})
    facts = fields.List(
        fields.Dict(),
        required=True,
        metadata={"description": "in order: type, time (ms), and the data of a created, attached, merged, ..."},
    )


class Split(Regrouped):
    """Identifiers are not one person's, whatever has shown it: those on the left are never those of somebody with one
    on the right. The envelope's subject is the person's profile as of then."""

    left = fields.List(fields.String(validate=ID), required=True, metadata={"description": "subjects"})
    right = fields.List(fields.String(validate=ID), required=True, metadata={"description": "subjects"})


class RulesChanged(Schema):
    """Other rules decide from here on; they are sealed as `ordinary`, since they may name values. The envelope's
    subject is the id of the change."""

    version = fields.Integer(required=True, strict=True)
    past = fields.Boolean(metadata={"description": "whether what was decided before is decided again by them"})


class Erased(Schema):
    """A person is forgotten. The envelope's subject is the request."""

    request = _id("the erasure request")
    profiles = fields.List(fields.String(validate=ID), required=True)
    subjects = fields.List(fields.String(validate=ID), required=True)


class Part(Schema):
    """A person after a split."""

    profile = _id("whose some of the identifiers are now")
    identifiers = fields.Integer(required=True, metadata={"description": "how many"})


class SplitDone(Schema):
    """What came of a split."""

    decision = _id("the split")
    was = _id("the profile that it was")
    profiles = fields.List(fields.Nested(Part), required=True)


class Identified(Schema):
    """One of a person's identifiers."""

    kind = _kind()
    value = fields.String(allow_none=True, metadata={"description": "None where it was erased"})
    subject = _id("what stands for it")
    since = fields.Integer(required=True, metadata={"unit": "ms since 1970 UTC"})
    shared_since = fields.Integer(allow_none=True, metadata={"description": "from then on (ms) others use it, too"})


class Link(Schema):
    """One decision."""

    id = fields.String(required=True, metadata={"description": "a merge's can be split"})
    decided = fields.String(
        required=True, metadata={"description": "created, attached, merged, set_aside, shared, ..."}
    )
    time = fields.Integer(required=True, metadata={"unit": "ms since 1970 UTC"})
    profile = fields.String()
    into = fields.String()
    kind = fields.String()
    value = fields.String(allow_none=True)
    reason = fields.String()
    since = fields.Integer()
    rules = fields.Integer(metadata={"description": "the version by which it was decided"})
    event = fields.String(metadata={"description": "the tracking event that showed it"})
    candidate = fields.String(metadata={"description": "the look-alikes of whom it was said"})
    probability = fields.Float(metadata={"description": "of look-alikes: that they are one person"})
    source = fields.String(allow_none=True)
    received = fields.Integer(allow_none=True, metadata={"unit": "ms since 1970 UTC"})


class Explained(Schema):
    """Why a profile is one person."""

    profile = _id("the person")
    profiles = fields.List(fields.String(), required=True, metadata={"description": "all that it was merged from"})
    identifiers = fields.List(fields.Nested(Identified), required=True)
    chain = fields.List(fields.Nested(Link), required=True, metadata={"description": "every decision, in order"})


EVENTS: Final[dict[str, type[Schema]]] = {
    CREATED: Created,
    ATTACHED: Attached,
    MERGED: Merged,
    SET_ASIDE: SetAside,
    SHARED: Shared,
    UNSHARED: Unshared,
    GIVEN: Given,
    REFUSED: Refused,
    SPLIT: Split,
    REGROUPED: Regrouped,
    RULES_CHANGED: RulesChanged,
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
    obstacle = fields.String(
        required=True, allow_none=True, metadata={"description": "why identity's rules do not let them be one person"}
    )
    against = fields.List(fields.Nested(FieldOf), required=True)
    # `for` is a word of Python's.
    locals()["for"] = fields.List(fields.Nested(FieldOf), required=True)


class LikenessRow(Schema):
    """What was set for a source's look-alikes."""

    source = fields.String(required=True, metadata={"description": "its name, as profiles show it"})
    threshold = fields.Float(required=True, allow_none=True, metadata={"description": "None: never by itself"})
    repeats = fields.Boolean(required=True, metadata={"description": "whether it holds a person more than once"})
    compare = fields.Boolean(
        required=True, metadata={"description": "whether it is compared though a partner's or supplier's"}
    )


RPCS: Final[dict[str, str]] = {
    "resolve": "([[kind, value], ...]) -> profile id of the first that is known and nobody else's, or None",
    "identified": "([[kind, value], ...]) -> [{subject, profile, shared: whether others use it, too} or None], each",
    "members": "(profile, passed?) -> {profile, subjects, profiles, shared: {subject: since ms}, given and elsewhere: "
    "{subject: [events]}, behind}; None where there is no such profile",
    "members_of": "([{profile, causes}]) -> [the same, or None]",
    "explain": "(profile) -> {profile, profiles, identifiers, chain}: each decision with its event, source and rules",
    "split": "([kind, value]?, merge?) -> {decision, was, profiles}: takes an identifier or a merge back",
    "rules": "() -> {rules, changes}",
    "change_rules": "(rules) -> the rules in full, in force from now on",
    "candidates": "(status?, limit?) -> [CandidateRow], the likeliest first",
    "propose": "([{profiles, probability, sources, for, against}]) -> {proposed, decided_before, merged, not_merged}",
    "accept_candidate": "(candidate) -> CandidateRow; the two are merged",
    "refuse_candidate": "(candidate) -> CandidateRow; not proposed again",
    "likeness_sources": "() -> [LikenessRow]",
    "set_likeness": "(source, threshold?, repeats?, compare?) -> LikenessRow",
    "stats": "() -> {people, identifiers, merges, set_aside}",
}
"""RPC of the service `identity` -> its arguments and reply. `passed` and `causes`: `stream:partition` -> position."""
