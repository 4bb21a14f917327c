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
    refused_fields = fields.List(
        fields.Dict(),
        metadata={
            "description": "{index, code, place} of fields outside of the source's agreement; index is null where the "
            "batch said it of all its messages"
        },
    )


class VisitorAsked(Schema):
    """`POST /v1/visitor`; the body may be left out."""

    consent = fields.Boolean(metadata={"description": "false: no id may be kept; true where nothing is said"})
    writeKey = fields.String()


class Visitor(Schema):
    """`/v1/visitor`, 200."""

    anonymousId = fields.String(required=True, allow_none=True, metadata={"description": "null: there is none"})


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
    cookie_days = fields.Integer(metadata={"description": "how long a browser keeps a visitor's id; 0: none is given"})
    origins = fields.List(fields.String(), metadata={"description": "web origins that may use the visitor's cookie"})
    cookie_gpc = fields.String(metadata={"description": "Sec-GPC and the visitor's id: ignore or refuse"})
    example = fields.Boolean(metadata={"description": "whether the example page is shown"})
    raw_days = fields.Integer(required=True, metadata={"description": "messages are kept as received; 0: not at all"})
    size = fields.Integer(required=True, metadata={"unit": "bytes", "description": "that one message may hold"})
    region = fields.String(required=True, metadata={"description": "of telephone numbers without a country code"})
    agreement = fields.String(required=True, allow_none=True, metadata={"description": "that it sends under"})
    cleaning = fields.Integer(required=True, metadata={"description": "version of its cleaning rules; 0: none"})
    plan = fields.Integer(required=True, metadata={"description": "version of its tracking plan; 0: none"})
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


class AgreementRow(Schema):
    """One of `agreements()`."""

    agreement = fields.String(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(("agreement", "licence")))
    party = fields.String(required=True, validate=validate.OneOf(PARTIES[1:]))
    partner = fields.String(required=True)
    purposes = fields.List(fields.String(), required=True)
    fields_ = fields.List(
        fields.String(), required=True, data_key="fields", metadata={"description": "paths such as traits.email"}
    )
    from_ = fields.Integer(required=True, strict=True, data_key="from", metadata={"unit": "ms since 1970 UTC"})
    until = fields.Integer(required=True, strict=True)
    created = fields.Integer(required=True, strict=True)
    ended = fields.Integer(required=True, strict=True, allow_none=True)
    merges = fields.Boolean(metadata={"description": "whether its identifiers may show that two people are one"})


class Tested(Schema):
    """What rules would make of the last messages."""

    messages = fields.Integer(required=True)
    set_aside = fields.Dict(required=True, metadata={"description": "reason -> how many"})
    newly_set_aside = fields.Integer(required=True, metadata={"description": "of those that are taken in now"})
    uncleaned = fields.Dict(required=True, metadata={"description": "path -> values that could not be read"})
    violations = fields.List(fields.Dict(), required=True, metadata={"description": "{event, path, rule, count}"})
    examples = fields.List(fields.Dict(), required=True)
    saved = fields.Boolean(metadata={"description": "whether they are in force now"})
    version = fields.Integer(metadata={"description": "that is in force now"})


class Recleaned(Schema):
    """What newer rules made of a page of older messages."""

    requests = fields.Integer(required=True)
    corrected = fields.Integer(required=True)
    unchanged = fields.Integer(required=True)
    set_aside = fields.Integer(required=True, metadata={"description": "they would not be taken in now; they stay"})
    other_agreement = fields.Integer(required=True, metadata={"description": "came under another agreement: they stay"})
    moved = fields.Integer(required=True, metadata={"description": "would be about somebody else: they stay"})
    suppressed = fields.Integer(required=True, metadata={"description": "about who is erased or suppressed: they stay"})
    examples = fields.List(fields.Dict(), required=True, metadata={"description": "{event, part, from, to}"})
    after = fields.List(fields.Raw(), required=True, allow_none=True, metadata={"description": "None: the last page"})


class Traced(Schema):
    """How a clean event came about."""

    event = fields.String(required=True)
    request = fields.String(required=True)
    source = fields.String(required=True)
    received = fields.Integer(required=True, strict=True)
    subject = fields.String(required=True)
    cleaning = fields.Integer(required=True, metadata={"description": "version of the rules; 0: none"})
    message = fields.Dict(required=True, metadata={"description": "as it was received"})
    beside = fields.Dict(required=True, metadata={"description": "what its batch said for all of them"})
    renamed = fields.Dict(required=True)
    changes = fields.List(fields.Dict(), required=True, metadata={"description": "{path, raw, clean, problem}"})
    body = fields.Dict(required=True, metadata={"description": "as it stands in the log"})


DAYS: Final = "source:"
"""What the names begin with under whose keys lies what has no subject yet: `source:{source}:{day}`."""


RPCS: Final[dict[str, str]] = {
    "create_source": "(name, party) -> {source, name, party, write_key}; the key is shown once",
    "sources": "() -> [SourceRow], oldest first",
    "disable_source": "(source) -> SourceRow",
    "change_source": "(source, {enabled?, ip?, rate? ...}) -> SourceRow; see services/collector/domain/source.py",
    "rotate_key": "(source, overlap_hours) -> {source, write_key, old_until}; the old keys are good until then",
    "connect_source": "(source, dialect, secret?, document?, overlap_hours?) -> {source, dialect, path, secret, "
    "old_until}: a tool may send its webhooks to the path; without a secret one is made; document: a dialect of one's "
    "own; the secrets before are good until old_until, None where there are none",
    "disconnect_source": "(source, dialect) -> None; the tool is refused from now on",
    "connections": "() -> [{source, dialect, own, since, old_until}], oldest first; own: the dialect is one's own",
    "rules": "(source) -> {cleaning: {version, rule}, plan: {version, rule}, agreement: AgreementRow or None}",
    "rules_of_version": "(source, kind, version) -> rules that were in force once; kind: cleaning or plan",
    "test_rules": "(source, kind, rule or None, messages) -> Tested, on the last messages; nothing is changed",
    "change_rules": "(source, kind, rule or None, messages, meant) -> Tested with {saved, version}: in force where "
    "nothing that is taken in now would be set aside, or that is meant",
    "learn_plan": "(source, messages, mode) -> a plan that the last messages fit; not in force",
    "violations": "(source) -> [{event, path, rule, count, first, last, examples: [request]}], most frequent first",
    "received": "(request) -> {request, source, received, beside, messages: [{event, message}]}; NotFound where "
    "nothing is kept of it",
    "received_size": "(source) -> how many of its requests are kept as they were received",
    "trace": "(event) -> Traced: from a clean event to what was received",
    "reclean": "(source, after, limit, dry) -> Recleaned: a page; go on behind `after`",
    "create_agreement": "(party, partner, purposes, fields, since, until, merges?) -> AgreementRow",
    "agreements": "() -> [AgreementRow], oldest first",
    "sign_agreement": "(source, agreement) -> SourceRow: it sends under this agreement",
    "end_agreement": "(agreement) -> AgreementRow; its sources are refused from now on",
    "quarantine_counts": "() -> [{source, reason, count}]",
    "quarantine_list": "(source?, reason?, limit?) -> [QuarantineRow], latest first",
    "quarantine_show": "(id) -> {..., message, mended}: what was sent, opened, and what is in its place",
    "quarantine_mend": "(id, message | rule) -> as quarantine_show",
    "quarantine_replay": "(source?, reason?, ids?, rule?, after, limit, dry) -> Replayed: a page; go on behind `after`",
    "quarantine_size": "(source?, reason?, ids?) -> how many",
    "quarantined_of": "(identifiers, after?) -> {messages, after}: quarantined messages whose own identifier, by kind, "
    "is one of [kind, value], for an export; of as many entries as can be looked at in a few seconds: go on behind "
    "`after`, None at the end",
    "forget_quarantined": "(identifiers, after?) -> {removed, after}: how many entries are gone that were theirs, or "
    "had an e-mail address or telephone number of theirs in them as a word; go on behind `after`, None at the end",
    "received_of": "(subjects) -> [{request, source, received, event, message}]: their messages as received",
    "forget_received": "(subjects) -> how many messages of these subjects are gone from what was received",
    "unused_days": "(holders) -> those keys of a source and day under which nothing is left",
    "stats": "() -> {events, quarantined, sources}",
}
"""RPC of the service `collector` -> its arguments and reply."""
