"""What the console's admin API takes and gives (/api/v1); its paths are in services/console/admin/table.py.

Ids, names and numbers; what a person said or is stands in the answers about profiles and quarantined messages only.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from contracts.activation import CHANGES, FORMS, STATUSES
from contracts.envelope import ID
from contracts.privacy import MODES
from contracts.tracking import PARTIES

SERVICES: Final = ("collector", "identity", "profile", "segmentation", "activation", "privacy")
FORMATS: Final = ("csv", "ndjson", "json", "parquet", "xlsx")
PLAN_MODES: Final = ("warn", "drop", "quarantine")
"""What a tracking plan does with what is not as expected."""
STATES: Final = ("running", "done", "failed")
"""Of an import."""
MOST_ROWS: Final = 1_000


def rows_of(row: type[Schema], name: str) -> type[Schema]:
    """The schema of a list: `{"items": [row]}`, so that something can be said beside it one day."""
    return type(name, (Schema,), {"items": fields.List(fields.Nested(row), required=True), "__doc__": row.__doc__})


def _text(most: int, text: str = "", **more: Any) -> fields.String:
    checks = [validate.Length(1, most), validate.Regexp(r"^[^\x00]*$", error="holds a NUL")]
    return fields.String(validate=checks, metadata={"description": text}, **more)


def _whole(least: int, most: int, text: str = "", **more: Any) -> fields.Integer:
    return fields.Integer(validate=validate.Range(least, most), metadata={"description": text}, **more)


def _limit(usual: int = 50, most: int = MOST_ROWS) -> fields.Integer:
    return _whole(1, most, "rows at most", load_default=usual)


def _moment(text: str = "") -> fields.Integer:
    described = {"description": text, "unit": "ms since 1970 UTC"}
    return fields.Integer(required=True, metadata=described)


def _each_is_who(given: list[Any]) -> None:
    for each in given:
        if isinstance(each, str) and re.fullmatch(r"[0-9a-f]{32}", each):
            continue
        if not (isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) and part for part in each)):
            raise ValidationError("each is a profile's id, or [kind, value]")


class Instant(fields.String):
    """An ISO date or time (UTC where it does not say); milliseconds since 1970 once it is read."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        written = super()._deserialize(value, attr, data, **kwargs)
        try:
            parsed = datetime.fromisoformat(written)
            return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError) as error:
            raise ValidationError("write 2017-06-01 or 2017-06-01T12:00Z") from error


class Trouble(Schema):
    """Any answer that is not 2xx."""

    code = fields.String(required=True, metadata={"description": "for programs"})
    message = fields.String(
        required=True, metadata={"description": "for people: what is wrong, and what would be right"}
    )


class Nothing(Schema):
    """An empty object."""


# Sources


class NewSource(Schema):
    """A source to be made."""

    name = _text(100, "nobody else's", required=True)
    party = fields.String(load_default="first", validate=validate.OneOf(PARTIES))


class SourceMade(Schema):
    """A source that was made; its write key is told this once."""

    source = fields.String(required=True)
    name = fields.String(required=True)
    party = fields.String(required=True)
    write_key = fields.String(required=True)


class SourceChanges(Schema):
    """What is to be different; what is left out stays."""

    enabled = fields.Boolean()
    ip = fields.String(validate=validate.OneOf(("keep", "truncate", "drop")))
    bots = fields.String(validate=validate.OneOf(("set_aside", "keep")))
    region = fields.String(metadata={"description": "of telephone numbers without a country code; empty: none"})
    rate = _whole(0, 1_000_000, "events a second and edge; 0: no limit", strict=True)
    quarantine_days = _whole(1, 3_650, strict=True)
    alarm = _whole(0, 1_000_000, "quarantined in an hour: too many; 0: never", strict=True)
    raw_days = _whole(0, 3_650, "messages are kept as received; 0: not at all", strict=True)
    size = _whole(1_024, 1 << 25, "bytes that one message may hold", strict=True)
    origins = fields.List(_text(300), metadata={"description": "whose pages may use the visitor's cookie"})
    cookie_days = _whole(0, 3_650, "how long a visitor's cookie is kept; 0: none is given", strict=True)
    cookie_gpc = _text(20, "what Sec-GPC means for it: ignore or refuse")


class Overlap(Schema):
    """How long what is replaced is still good."""

    overlap_hours = fields.Float(load_default=24, allow_nan=False, validate=validate.Range(0, 24 * 30))


class KeyRotated(Schema):
    """A new write key, told this once."""

    source = fields.String(required=True)
    write_key = fields.String(required=True)
    old_until = _moment("the keys before it are good until then")


class Rules(Schema):
    """A source's rules in force."""

    cleaning = fields.Dict(required=True, metadata={"description": "{version, rule}"})
    plan = fields.Dict(required=True, metadata={"description": "{version, rule}"})
    agreement = fields.Dict(required=True, allow_none=True)


class RuleQuery(Schema):
    """Which of them."""

    version = _whole(1, 1_000_000, required=True)


class Rule(Schema):
    """Rules that were in force once."""

    rule = fields.Dict(required=True)


class NewRule(Schema):
    """Rules, to be tried on the last messages."""

    rule = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "cleaning rules, or a tracking plan; null takes them away"},
    )
    messages = _whole(1, 20_000, "the last of them, on which it is tried", load_default=1_000, strict=True)


class RuleMeant(NewRule):
    """Rules, to be in force where nothing would be set aside that is taken in now, or where that is meant."""

    meant = fields.Boolean(load_default=False)


class Learning(Schema):
    """From what a plan is learned."""

    messages = _whole(1, 20_000, load_default=1_000, strict=True)
    mode = fields.String(
        load_default="warn", validate=validate.OneOf(PLAN_MODES), metadata={"description": "of the plan"}
    )


class Plan(Schema):
    """A plan that the last messages fit; it is not in force."""

    plan = fields.Dict(required=True)


class Violation(Schema):
    """What was not as the plan says."""

    event = fields.String(required=True, allow_none=True)
    path = fields.String(required=True)
    rule = fields.String(required=True)
    count = fields.Integer(required=True)
    first = fields.Integer(required=True)
    last = fields.Integer(required=True)
    examples = fields.List(fields.String(), required=True, metadata={"description": "requests: see /received"})


class Recleaning(Schema):
    """A page of older messages, on which the rules of now are used; go on behind the answer's `after`."""

    after = fields.Tuple((fields.Integer(strict=True), fields.String()), allow_none=True)
    limit = _limit(100)
    dry = fields.Boolean(load_default=False, metadata={"description": "only says what would come of it"})


class Received(Schema):
    """A request as it was received."""

    request = fields.String(required=True)
    source = fields.String(required=True)
    received = _moment()
    beside = fields.Dict(required=True)
    messages = fields.List(fields.Dict(), required=True)


# Tools that send webhooks


class NewConnection(Schema):
    """How a tool signs, and where the dialect is one's own, what it says."""

    secret = fields.String(
        load_default="",
        validate=[validate.Length(max=500), validate.Regexp(r"^[^\x00]*$", error="holds a NUL")],
        metadata={"description": "that the tool signs with; one is made where left out"},
    )
    document = fields.Dict(metadata={"description": "a dialect of one's own: see docs/inbound.md"})
    overlap_hours = fields.Float(load_default=24, allow_nan=False, validate=validate.Range(0, 24 * 30))


class ConnectionMade(Schema):
    """A tool may send webhooks to the path, behind the collector's address; its secret is told this once."""

    source = fields.String(required=True)
    dialect = fields.String(required=True)
    path = fields.String(required=True, metadata={"description": "holds the secret where the tool signs nothing"})
    secret = fields.String(required=True)
    old_until = fields.Integer(
        required=True, allow_none=True, metadata={"description": "a secret before it is good until then (ms)"}
    )


class ConnectionRow(Schema):
    """Which tool sends for which source."""

    source = fields.String(required=True)
    dialect = fields.String(required=True)
    own = fields.Boolean(required=True, metadata={"description": "whether the dialect is one's own"})
    since = _moment()
    old_until = fields.Integer(
        required=True, allow_none=True, metadata={"description": "a secret before it is good until then (ms)"}
    )


class NewAgreement(Schema):
    """An agreement with a partner, or a licence of a supplier."""

    party = fields.String(required=True, validate=validate.OneOf(PARTIES[1:]))
    partner = _text(200, required=True)
    purposes = fields.List(_text(64), required=True)
    # `fields` is marshmallow's word.
    fields_ = fields.List(_text(200), required=True, data_key="fields", attribute="fields")
    since = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    until = fields.Integer(required=True, strict=True, metadata={"unit": "ms since 1970 UTC"})
    merges = fields.Boolean(
        load_default=False, metadata={"description": "whether a partner's identifiers may show that two people are one"}
    )


class Signing(Schema):
    """Under which agreement a source sends."""

    agreement = _text(64, required=True)


# Quarantine


class QuarantineQuery(Schema):
    """Which of the quarantined messages."""

    source = _text(64)
    reason = _text(64)
    limit = _limit()


class QuarantineCount(Schema):
    """How many there are of a source and reason."""

    source = fields.String(required=True)
    reason = fields.String(required=True)
    count = fields.Integer(required=True)


class Quarantined(Schema):
    """A quarantined message, opened."""

    id = fields.String(required=True)
    source = fields.String(required=True)
    reason = fields.String(required=True)
    place = fields.String(required=True)
    why = fields.String(required=True)
    received = _moment()
    message = fields.Raw(required=True, allow_none=True, metadata={"description": "what was sent"})
    mended = fields.Dict(required=True, allow_none=True, metadata={"description": "what is taken in its place"})


class Mending(Schema):
    """Either the message to take in its place, or a rule that makes it."""

    message = fields.Dict()
    rule = fields.Dict(metadata={"description": 'such as {"set": {"type": "track"}}'})

    @validates_schema
    def one_of_both(self, data: dict[str, Any], **kwargs: Any) -> None:
        """Just one."""
        if len(data) != 1:
            raise ValidationError("give either a message or a rule")


class Replay(Schema):
    """A page of quarantined messages to be taken in again; go on behind the answer's `after`."""

    source = _text(64)
    reason = _text(64)
    ids = fields.List(_text(64), validate=validate.Length(max=MOST_ROWS))
    rule = fields.Dict(metadata={"description": "mends each of them before"})
    after = fields.String(load_default="", validate=validate.Length(max=64))
    limit = _limit(200)
    dry = fields.Boolean(load_default=False, metadata={"description": "only says what would come of it"})


# Segments


class NewSegment(Schema):
    """A segment to be made; it is filled from history in the background."""

    key = fields.String(required=True, validate=validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}\Z"))
    name = _text(200, "for people; the key where left out")
    definition = fields.Dict(required=True, metadata={"description": "see contracts/segment.schema.json"})

    @post_load
    def named(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """By its key, where there is no name."""
        return {"name": data["key"], **data}


class Definition(Schema):
    """A definition to be tried."""

    definition = fields.Dict(required=True, metadata={"description": "see contracts/segment.schema.json"})


class Trial(Definition):
    """A definition to be tried on everybody."""

    sample = _whole(0, 100, "how many of those who would be in are shown", load_default=10)


class Instants(Schema):
    """When a segment's size is asked for."""

    instants = fields.List(
        _whole(0, 1 << 47, "ms since 1970 UTC", strict=True), required=True, validate=validate.Length(1, 400)
    )


class SegmentChange(Definition):
    """Another definition of a segment."""

    name = _text(200, "for people; as it was where left out")


class MembersQuery(Schema):
    """A page of members."""

    after = fields.String(validate=ID, metadata={"description": "the last one of the page before"})
    limit = _limit(100)


class Members(Schema):
    """Profiles, by id."""

    items = fields.List(fields.String(), required=True)


class Left(Schema):
    """How many left it."""

    members = fields.Integer(required=True)


# Destinations and deliveries


class NewDestination(Schema):
    """A destination to be made."""

    name = _text(200, required=True)
    kind = fields.String(load_default="webhook", validate=validate.OneOf(("webhook",)))
    url = _text(2_048, "https, and no address of this machine or its networks", required=True)
    secret = _text(200, "whsec_...; one is made where left out")
    identifiers = fields.List(
        _text(32), validate=validate.Length(max=50), metadata={"description": "kinds it may have"}
    )
    form = fields.String(load_default="samla", validate=validate.OneOf(FORMS))


class SecretTold(Schema):
    """A destination and its signing secret, told this once."""

    destination = fields.String(required=True)
    secret = fields.String(required=True)


class NewSubscription(Schema):
    """What a destination is to be sent, and for which purpose."""

    segment = _text(64, "its id or key", required=True)
    on = fields.List(fields.String(validate=validate.OneOf(CHANGES)), load_default=list(CHANGES))
    purpose = _text(64, "what people must have agreed to", required=True)


class Subscribed(Schema):
    """A subscription."""

    subscription = fields.String(required=True)
    destination = fields.String(required=True)
    segment = fields.String(required=True)
    on = fields.List(fields.String(), required=True)
    purpose = fields.String(required=True)


class DeliveriesQuery(Schema):
    """Which of the deliveries."""

    status = fields.String(validate=validate.OneOf(STATUSES))
    destination = fields.String(validate=ID)
    limit = _limit()


class Redriven(Schema):
    """How many are sent again; 0 where it is neither dead nor held."""

    redriven = fields.Integer(required=True)


# Profiles and privacy


class NewSplit(Schema):
    """What is to be taken back: an identifier out of its person, or a merge. One of the two."""

    identifier = fields.List(_text(1_000), validate=validate.Length(equal=2), metadata={"description": "[kind, value]"})
    merge = _text(64, "the merge's id, as the explanation tells it")


class IdentityRules(Schema):
    """The rules of identity."""

    rules = fields.Dict(required=True, metadata={"description": "see docs/identity.md"})


class IdentityRulesInForce(Schema):
    """The rules of identity in force, and every change of them."""

    rules = fields.Dict(required=True)
    changes = fields.List(fields.Dict(), required=True)


class IdentityRulesWhole(Schema):
    """The rules of identity in full."""

    kinds = fields.Dict(required=True)
    others = fields.Dict(required=True)
    most = fields.Integer(required=True, metadata={"description": "identifiers of all kinds that one person may have"})
    second_party_merges = fields.Boolean(required=True)
    version = fields.Integer(required=True)


class CandidatesQuery(Schema):
    """Which look-alikes."""

    status = fields.String(load_default="proposed", validate=validate.OneOf(("proposed", "accepted", "refused")))
    limit = _limit(100)


class Likeness(Schema):
    """What is to be done with a source's look-alikes."""

    source = _text(200, "its name, as profiles show it", required=True)
    threshold = fields.Float(
        load_default=None,
        allow_none=True,
        validate=validate.Range(0.9, 1),
        metadata={"description": "the probability from which they merge by themselves; never where left out"},
    )
    repeats = fields.Boolean(load_default=False, metadata={"description": "it holds a person more than once"})
    compare = fields.Boolean(
        load_default=False, metadata={"description": "it is compared though it is a partner's or a supplier's"}
    )


class Find(Schema):
    """By what somebody is known."""

    identifiers = fields.List(
        fields.List(_text(1_000), validate=validate.Length(equal=2)),
        required=True,
        validate=validate.Length(1, 20),
        metadata={"description": "[kind, value]; the first that is known counts"},
    )

    @post_load
    def normalized(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """As the log has them."""
        pairs = [[kind, value.strip().lower() if kind == "email" else value] for kind, value in data["identifiers"]]
        return {"identifiers": pairs}


class Found(Schema):
    """Who that is."""

    profile = fields.String(required=True, validate=ID)


class ProfileQuery(Schema):
    """As of when, and how much."""

    as_of = Instant(metadata={"description": "of what had happened by an ISO date or time; now where left out"})
    known_at = Instant(metadata={"description": "of what was known at an ISO date or time, of who it was then"})
    sensitive = fields.Boolean(load_default=False, metadata={"description": "with what is of a special category"})


class ProfileView(Schema):
    """The four parts of a profile, each value with where it is from."""

    profile = fields.String(required=True, validate=ID)
    identity = fields.Dict(required=True, values=fields.List(fields.Dict()), metadata={"description": "by kind"})
    quantitative = fields.Dict(required=True, values=fields.Dict(), metadata={"description": "by event"})
    descriptive = fields.Dict(required=True, values=fields.Dict(), metadata={"description": "by trait"})
    qualitative = fields.Dict(required=True, values=fields.Dict(), metadata={"description": "surveys and opinions"})
    computed = fields.Dict(required=True, values=fields.Dict(), metadata={"description": "by a computed trait's key"})
    sensitive = fields.Dict(metadata={"description": "the same parts, where that was asked for"})
    people_then = fields.List(
        fields.String(), metadata={"description": "of known_at: who else had one of today's identifiers then"}
    )


class Batch(Schema):
    """Several profiles."""

    profiles = fields.List(
        fields.Raw(metadata={"description": "an id, or [kind, value]"}),
        required=True,
        validate=[validate.Length(1, 100), _each_is_who],
    )
    sensitive = fields.Boolean(load_default=False, metadata={"description": "with what is of a special category"})


class Profiles(Schema):
    """In the order in which they were asked for; null where nobody is known."""

    items = fields.List(fields.Nested(ProfileView, allow_none=True), required=True)


class ComparisonQuery(Schema):
    """Between which instants."""

    start = Instant(required=True, data_key="from", metadata={"description": "an ISO date or time"})
    end = Instant(required=True, data_key="to", metadata={"description": "an ISO date or time"})
    by = fields.String(
        load_default="event",
        validate=validate.OneOf(("event", "known")),
        metadata={"description": "of what had happened by then, or of what was known then"},
    )


class Difference(Schema):
    """Of a part, by name."""

    added = fields.Dict(required=True)
    removed = fields.Dict(required=True)
    changed = fields.Dict(
        required=True, metadata={"description": "{from, to, by?}; of events {count, minor_units}: how much more"}
    )


class Comparison(Schema):
    """What is different between two instants, by part."""

    profile = fields.String(required=True, validate=ID)
    # `from` is a word of Python's.
    locals()["from"] = _moment()
    to = _moment()
    by = fields.String(required=True)
    identity = fields.Nested(Difference, required=True)
    quantitative = fields.Nested(Difference, required=True)
    descriptive = fields.Nested(Difference, required=True)
    qualitative = fields.Nested(Difference, required=True)
    computed = fields.Nested(Difference, required=True)


class Search(Schema):
    """Whom to look for."""

    where = fields.Raw(
        required=True,
        metadata={
            "description": 'such as {"trait": "plan", "is": "pro"}; trait, identifier or computed; of a list all'
        },
    )
    after = fields.String(validate=ID, metadata={"description": "the answer's `after`, to go on"})
    limit = _limit(100)


class FoundProfile(Schema):
    """Somebody of whom all conditions hold."""

    profile = fields.String(required=True, validate=ID)
    found = fields.Dict(
        required=True, values=fields.List(fields.Raw()), metadata={"description": "what was asked about"}
    )


class Searched(Schema):
    """A page, by id: it may be short, or empty, and not be the last one."""

    profiles = fields.List(fields.Nested(FoundProfile), required=True)
    after = fields.String(required=True, allow_none=True, metadata={"description": "null at the end"})


class TimelineQuery(Schema):
    """Which page of it."""

    limit = _limit(20)
    before = fields.String(
        validate=validate.Regexp(r"^-?[0-9]{1,18}\.[0-9a-f]{32}\Z"),
        metadata={"description": "the `next` of the page before"},
    )
    events = fields.String(
        validate=validate.Length(1, 2_000), metadata={"description": "only these, by name, with commas between"}
    )

    @post_load
    def listed(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """By its names."""
        names = [each.strip() for each in data.get("events", "").split(",") if each.strip()]
        return {**data, "events": names} if "events" in data else data


class Line(Schema):
    """What a person did."""

    time = _moment()
    what = fields.String(required=True)
    details = fields.String(required=True)
    source = fields.String(required=True)
    party = fields.String(required=True)
    event = fields.String(required=True)


class Timeline(Schema):
    """A page of what a person did, latest first."""

    lines = fields.List(fields.Nested(Line), required=True)
    next = fields.String(required=True, allow_none=True, metadata={"description": "null at the end"})


class NewTrait(Schema):
    """A computed trait to be made; it is filled from the log in the background."""

    key = fields.String(required=True, validate=validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}\Z"))
    definition = fields.Dict(required=True, metadata={"description": "see docs/profiles.md"})


class TraitRow(Schema):
    """A computed trait, and how far it is filled."""

    key = fields.String(required=True)
    definition = fields.Dict(required=True)
    created = _moment()
    filled = fields.Boolean(required=True, metadata={"description": "profiles show it from then on"})
    left = fields.Integer(required=True, metadata={"description": "states that lack it still"})
    of = fields.Integer(required=True, metadata={"description": "of so many; 0 once it is filled"})


class Believing(Schema):
    """Whom to believe, where sources say different things."""

    policy = fields.Dict(required=True, metadata={"description": "see docs/profiles.md"})


class BelievingVersion(Believing):
    """A version of it, and how far it is told of whom something else is believed."""

    version = fields.Integer(required=True)
    since = _moment()
    told = fields.Boolean(required=True, metadata={"description": "of everybody"})
    looked = fields.Integer(required=True, metadata={"description": "profiles that were looked at"})
    changed = fields.Integer(required=True, metadata={"description": "of them, those of whom it was told"})


class BelievingInForce(Believing):
    """The policy in force, and its versions, latest first."""

    version = fields.Integer(required=True, metadata={"description": "0: as shipped"})
    versions = fields.List(fields.Nested(BelievingVersion), required=True)


class Consents(Schema):
    """What a person has agreed to and refused, with history."""

    consents = fields.Dict(required=True, values=fields.Dict(), metadata={"description": "by purpose"})


class Export(Schema):
    """Everything that is held of a person."""

    exported_at = _moment()
    profile = fields.Dict(required=True, allow_none=True)
    events = fields.List(fields.Dict(), required=True)
    consents = fields.Dict(required=True)
    segments = fields.List(fields.Dict(), required=True)
    quarantined = fields.List(fields.String(), required=True)


class NewErasure(Schema):
    """Who is to be forgotten."""

    who = _text(1_000, "a profile's id, or kind:value", required=True)
    mode = fields.String(
        load_default="forget",
        validate=validate.OneOf(MODES),
        metadata={"description": "suppress: and never taken in again"},
    )


class ErasureAsked(Schema):
    """An erasure that has begun."""

    request = fields.String(required=True, validate=ID)


class Erasure(ErasureAsked):
    """How far an erasure has come."""

    profile = fields.String(required=True)
    mode = fields.String(required=True)
    status = fields.String(
        required=True, metadata={"description": "under way; waiting: its step has failed and is tried again; completed"}
    )
    step = fields.String(required=True)
    error = fields.String(required=True, metadata={"description": "the type of the last error while it waits"})
    failures = fields.Integer(required=True, metadata={"description": "of the step, in a row"})
    created = _moment()
    changed = _moment()


class PolicyDocument(Schema):
    """The data policy."""

    version = fields.Integer(required=True)
    law = fields.String(required=True)
    categories = fields.Raw(required=True)


# The suite


class ParkedRow(Schema):
    """An event that a service could not handle."""

    service = fields.String(required=True, validate=validate.OneOf(SERVICES))
    id = fields.String(required=True)
    subscription = fields.String(required=True)
    stream = fields.String(required=True)
    partition = fields.Integer(required=True)
    position = fields.Integer(required=True)
    event = fields.String(required=True)
    type = fields.String(required=True)
    error = fields.String(required=True)
    where = fields.String(required=True)
    time = fields.Raw(required=True)


class Retrying(Schema):
    """Which event is to be handled again."""

    identity = _text(500, "its id, as the list has it; it says where the event is from", required=True, data_key="id")


class Retried(Schema):
    """What came of it."""

    done = fields.Boolean(required=True)
    why = fields.String(required=True)


class ServiceState(Schema):
    """How a service is."""

    service = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(("ok", "unavailable")))
    stats = fields.Dict(required=True)
    progress = fields.Dict(required=True, metadata={"description": "subscription -> stream:partition -> position"})
    behind = fields.Dict(
        required=True,
        values=fields.Integer(),
        metadata={"description": "subscription -> events not handled yet; empty where the log cannot be read"},
    )


class Status(Schema):
    """How the suite is."""

    status = fields.String(required=True, validate=validate.OneOf(("ok", "unavailable")))
    services = fields.List(fields.Nested(ServiceState), required=True)


class Head(Schema):
    """How far a partition of a stream has come."""

    stream = fields.String(required=True)
    partition = fields.Integer(required=True)
    position = fields.Integer(required=True)


# Imports


class ImportQuery(Schema):
    """How a file is to be read and what is to become of it."""

    mapping = _text(60_000, "how rows become messages: JSON, see `propose`")
    format = fields.String(load_default="csv", validate=validate.OneOf(FORMATS))
    encoding = _text(40, "told by looking, where left out", load_default="")
    separator = fields.String(load_default="", validate=validate.Length(max=1), metadata={"description": "likewise"})
    propose = fields.Boolean(load_default=False, metadata={"description": "only proposes a mapping"})
    dry_run = fields.Boolean(load_default=False, metadata={"description": "only shows the first messages"})


class ImportTried(Schema):
    """With `propose` a mapping (or several) to begin with; with `dry_run` what would come of the first rows."""

    mapping = fields.Raw(metadata={"description": "with `propose`; the rest with `dry_run`"})
    rows = fields.Integer(metadata={"description": "that were looked at"})
    messages = fields.Integer()
    accepted = fields.Integer()
    set_aside = fields.Integer()
    reasons = fields.Dict(values=fields.Integer(), metadata={"description": "why messages would be set aside"})
    unread = fields.Dict(values=fields.Integer(), metadata={"description": "column -> cells that could not be read"})
    absent = fields.List(fields.String(), metadata={"description": "columns of the mapping that no row has"})
    repeated = fields.Integer(metadata={"description": "messages with the id of an earlier one of the same person"})
    sample = fields.List(fields.Dict(), metadata={"description": "the first messages"})
    notes = fields.List(fields.String(), metadata={"description": "what was noticed of the file, for people"})


class ImportRow(Schema):
    """How far an import has come."""

    id = fields.String(required=True, validate=ID)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    format = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "bytes of the file"})
    bytes = fields.Integer(required=True, metadata={"description": "of them, so many are done"})
    rows = fields.Integer(required=True, metadata={"description": "so many are durable"})
    skipped = fields.Integer(required=True, metadata={"description": "of them, sent by an earlier import of this file"})
    set_aside = fields.Integer(required=True, metadata={"description": "messages that are in quarantine"})
    reasons = fields.Dict(required=True, values=fields.Integer(), metadata={"description": "of those"})
    repeated = fields.Integer(
        required=True,
        metadata={"description": "messages with the id of an earlier one of the same person: they are one"},
    )
    refused_fields = fields.Dict(
        required=True,
        values=fields.Integer(),
        metadata={
            "description": "place -> how often what stood there was left out, as the source's agreement does not name "
            "it; the door names 1,000 in 500 messages"
        },
    )
    why = fields.String(required=True, metadata={"description": "why it failed, or what it waits for"})
    notes = fields.List(
        fields.String(), required=True, metadata={"description": "what was noticed of the file, for people"}
    )
    created = _moment()
    changed = _moment()
