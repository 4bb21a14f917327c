"""What the profile service says: the events of the stream `profile` (what changed, no values), and its RPCs."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypedDict

import orjson
from marshmallow import Schema, fields

from contracts.envelope import ID

CHANGED: Final = "profile.changed.v1"
MERGED: Final = "profile.merged.v1"
SPLIT: Final = "profile.split.v1"

EVERYTHING: Final = "*"
"""Among the names: anything may have changed."""
CONSENTS: Final = "consents"
"""Among the names: something was said about consent."""


class Changed(Schema):
    """Something is known now that was not. Which, is sealed (`Names`) under the profile's own key."""

    profile = fields.String(required=True, validate=ID, metadata={"description": "also the envelope's subject"})


class Names(Schema):
    """What is sealed as `ordinary` in `profile.changed.v1`."""

    names = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "ids.KIND, traits.NAME, events.NAME, opinions.KEY, computed.KEY, signals.ID, consents, "
            "sensitive, or *"
        },
    )


class Merged(Schema):
    """A profile is a part of another from now on. The envelope's subject is `into`."""

    into = fields.String(required=True, validate=ID)
    # `from` is a word of Python's.
    locals()["from"] = fields.String(required=True, validate=ID)


class Split(Schema):
    """A profile was several people, or is put together otherwise. The envelope's subject is the profile that it was."""

    profile = fields.String(required=True, validate=ID, metadata={"description": "what it was"})
    profiles = fields.List(
        fields.String(validate=ID), required=True, metadata={"description": "people of their own from now on"}
    )
    merged = fields.List(
        fields.List(fields.String(validate=ID)),
        required=True,
        metadata={"description": "[profile, the one that it is a part of from now on]"},
    )


def merges_of(kind: str, data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(profile, the one that it is a part of from now on), by an event's type and data; none where it tells of none."""
    if kind == MERGED:
        return [(str(data["from"]), str(data["into"]))]
    pairs = (data.get("merged") or ()) if kind == SPLIT else ()
    return [(str(old), str(into)) for old, into in pairs]


EVENTS: Final[dict[str, type[Schema]]] = {CHANGED: Changed, MERGED: Merged, SPLIT: Split}
"""Event type -> schema of its data."""

Facts = dict[str, Any]
"""What is known, as JSON:

ids       {kind: {value: [first seen ms, last seen ms, event, origin]}}
traits    {name: [ms, event, value, source, party, agreement?]}        the value that is believed
events    {name: [count, first ms, last ms, {minute: count}, {currency: {minute: minor units}}]}
opinions  {key: [ms, event, {...}, source, party, agreement?]}
computed  {key: [value, ms when it may change by itself or None]}; no value where it could not be kept
said      {name: {origin: [ms, event, value]}}, only where that was asked for: the traits, whoever is believed
signals   {id: {where its bucket begins (ms): number}}, of those that were asked for: how many, or a sum in units of
          10^-9, as a text; None where there were too many to keep. The buckets of a window of a day or less are a
          second wide, of up to 60 days a minute, of more an hour; all time is one bucket, 0.
"""


SIGNAL_MEASURES: Final = ("count", "sum", "times")


class Signal(TypedDict, total=False):
    """What a watcher wants to be kept of people's events: {"event", "where"?, "measure", "value"?, "within"?}, as of a
    computed trait. `times` has every event by its millisecond."""

    event: str
    where: list[dict[str, Any]]
    measure: str
    value: str
    within: str


def signal_id(signal: Mapping[str, Any]) -> str:
    """32 hex characters, the same for the same signal."""
    return hashlib.sha256(orjson.dumps(signal, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


class Origin(NamedTuple):
    """Where a value is from; as a text, a state's key."""

    party: str
    agreement: str
    """The agreement or licence that it came under; empty for what is the company's own."""
    source: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Origin":
        """Of a body of contracts/tracking.py."""
        return cls(body["party"], body.get("agreement", ""), body["source_name"])

    @classmethod
    def read(cls, text: str) -> "Origin":
        """The one that was written as this text."""
        party, agreement, source = text.split(":", 2)
        return cls(party, agreement, source)

    def __str__(self) -> str:
        return f"{self.party}:{self.agreement}:{self.source}"

    def shown(self) -> dict[str, str]:
        """For people: source, party, and the agreement where there is one."""
        under = {"agreement": self.agreement} if self.agreement else {}
        return {"source": self.source, "party": self.party, **under}


class Known(TypedDict, total=False):
    """An entry of `facts()`."""

    profile: str
    facts: Facts
    merged_into: str


RPCS: Final[dict[str, str]] = {
    "facts": "(profiles, signals?: ids) -> {profile: {profile, facts} | {merged_into} | None}",
    "scan": "(after, limit, signals?: definitions, said?) -> {profiles: {profile: facts}, after}; after is None at the "
    "end; with `said` facts hold what each origin has said",
    "watch": "(owner, signals: definitions) -> {id: filled}: all that the owner needs, from now on",
    "watched": "(owner) -> {id: filled}",
    "show": "(profile, as_of?, sensitive?, known_at?) -> the profile's four parts and what is computed, each value "
    "with its provenance, or None; of what had happened by as_of, of what was known at known_at (with people_then)",
    "batch": "([profile, ...], sensitive?) -> [the same or None], in their order; 100 at most",
    "compare": "(profile, start, end, by?) -> {profile, from, to, by, and by part {added, removed, changed}}, or None",
    "timeline": "(profile, limit?, before?, events?) -> {lines: [{time, what, details, source, party, event}], next}, "
    "latest first; next is the `before` of the page behind it, None at the end",
    "search": "(where, after?, limit?) -> {profiles: [{profile, found}], after}; after is None at the end; a page "
    "before it may be short",
    "everything": "(profile) -> {profile, events, corrected}: what an export holds",
    "add_trait": "(key, definition) -> {key, definition, created, filled, left, of}: it is filled from the log",
    "traits": "() -> [{key, definition, created, filled, left, of}], oldest first",
    "remove_trait": "(key) -> None; refused (Conflict) while a segment uses it, and while segmentation does not say",
    "policy": "() -> {version, policy, versions: [{version, policy, since, told, looked, changed}]}: whom to believe",
    "set_policy": "(policy) -> as `policy`; of whom something else is believed by it is told in the background",
    "stats": "() -> {profiles, subjects, merges}",
}
"""RPC of the service `profile` -> its arguments and reply. Instants are ms since 1970 UTC. In show, batch, compare and
timeline `profile` is an id (also of one that was merged), or [kind, value] of any identifier."""
