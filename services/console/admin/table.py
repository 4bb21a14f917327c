"""Every call of the admin API, as data: what is answered, checked and described follows from this table.

A row's path names arguments of the RPC; the query and the body hold the others by their names. To add a call is to
add a row, and its schemas to contracts/admin.py.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from marshmallow import Schema

from contracts import admin
from contracts.activation import DeliveryRow, DestinationRow
from contracts.admin import rows_of
from contracts.collector import AgreementRow, QuarantineRow, Recleaned, Replayed, SourceRow, Tested, Traced
from contracts.identity import CandidateRow, Explained, LikenessRow, SplitDone
from contracts.segmentation import Previewed, SegmentRow, Size, VersionRow, Why

ROOT: Final = "/api/v1"

ID_PATTERN: Final = r"^[0-9a-f]{32}$"
PATTERNS: Final[Mapping[str, tuple[str, str]]] = {
    "source": (r"^[0-9a-f]{16}$", "a source's id"),
    "segment": (r"^[a-z0-9][a-z0-9_-]{0,63}$", "a segment's id or key"),
    "destination": (ID_PATTERN, "a destination's id"),
    "subscription": (ID_PATTERN, "a subscription's id"),
    "delivery": (ID_PATTERN, "a delivery's id"),
    "request": (r"^[A-Za-z0-9_.:-]{1,200}$", "a request's id: of an erasure, or the X-Correlation-Id of a request"),
    "event": (ID_PATTERN, "an event's id"),
    "agreement": (r"^[0-9a-f]{16}$", "an agreement's id"),
    "dialect": (r"^[a-z0-9-]{1,40}$", "a dialect: shopify, stripe, mailchimp, typeform, or the name of one's own"),
    "kind": (r"^(cleaning|plan)$", "cleaning or plan"),
    "identity": (r"^[A-Za-z0-9_.:-]{1,200}$", "its id, as the list has it"),
    "candidate": (ID_PATTERN, "a candidate's id"),
    "who": (r"^([0-9a-f]{32}|[A-Za-z0-9_]{1,64}:[^/\x00]{1,1000})$", "a profile's id, or kind:value"),
    "key": (r"^[a-z0-9][a-z0-9_-]{0,63}$", "a computed trait's key"),
    "service": (f"^({'|'.join(admin.SERVICES)})$", "a service"),
    "import": (ID_PATTERN, "an import's id"),
}
"""What stands in a path -> how it is written, and what it is."""


class Call(NamedTuple):
    """One row."""

    method: str
    path: str
    service: str
    """May name what stands in the path."""
    rpc: str
    summary: str
    gives: type[Schema]
    takes: type[Schema] | None = None
    """Of the body."""
    query: type[Schema] | None = None
    status: int = 200
    under: str = ""
    """The answer's field for what the RPC gives, where that is no object itself."""
    whole: str = ""
    """The body is this one argument."""
    fixed: Mapping[str, Any] = {}
    """Arguments that the path says by itself."""
    pick: tuple[str, ...] = ()
    """The RPC gives a list: of it the row that has what the path names in one of these fields."""
    missing: str = ""
    """404 with this text where the RPC gives nothing."""
    seconds: float = 20
    own: str = ""
    """Not an RPC alone: a method of app.Admin."""
    others: Mapping[int, type[Schema]] = {}
    """Further answers that are no errors."""
    takes_file: bool = False
    takes_identifier: bool = False
    """The RPC is given `kind:value` as [kind, value], to find out itself who that is, or was."""

    @property
    def tag(self) -> str:
        """The resource."""
        return self.path.split("/")[1]


Sources = rows_of(SourceRow, "Sources")
Connections = rows_of(admin.ConnectionRow, "Connections")
Violations = rows_of(admin.Violation, "Violations")
Agreements = rows_of(AgreementRow, "Agreements")
Quarantine = rows_of(QuarantineRow, "QuarantineRows")
Counts = rows_of(admin.QuarantineCount, "QuarantineCounts")
Segments = rows_of(SegmentRow, "Segments")
Versions = rows_of(VersionRow, "SegmentVersions")
Sizes = rows_of(Size, "SegmentSizes")
Destinations = rows_of(DestinationRow, "Destinations")
Deliveries = rows_of(DeliveryRow, "Deliveries")
Parked = rows_of(admin.ParkedRow, "Parked")
Heads = rows_of(admin.Head, "Heads")
Candidates = rows_of(CandidateRow, "Candidates")
LikenessRows = rows_of(LikenessRow, "LikenessRows")
Traits = rows_of(admin.TraitRow, "Traits")
Imports = rows_of(admin.ImportRow, "Imports")

NOBODY: Final = "nobody is known by this"

CALLS: Final[tuple[Call, ...]] = (
    # Sources
    Call("GET", "/sources", "collector", "sources", "All sources, oldest first", Sources, under="items"),
    Call("POST", "/sources", "collector", "create_source", "Makes a source; its write key is told this once",
         admin.SourceMade, takes=admin.NewSource, status=201),
    Call("GET", "/sources/{source}", "collector", "sources", "One source", SourceRow, pick=("source",)),
    Call("PATCH", "/sources/{source}", "collector", "change_source", "Changes what is done with what a source sends",
         SourceRow, takes=admin.SourceChanges, whole="changes"),
    Call("POST", "/sources/{source}/disable", "collector", "change_source", "Its messages are refused from now on",
         SourceRow, fixed={"changes": {"enabled": False}}),
    Call("POST", "/sources/{source}/enable", "collector", "change_source", "Its messages are taken again",
         SourceRow, fixed={"changes": {"enabled": True}}),
    Call("POST", "/sources/{source}/rotate", "collector", "rotate_key", "A new write key, told this once",
         admin.KeyRotated, takes=admin.Overlap),
    # What a source's owner decides about its messages
    Call("GET", "/sources/{source}/rules", "collector", "rules", "Its rules in force", admin.Rules),
    Call("GET", "/sources/{source}/rules/{kind}", "collector", "rules_of_version", "Rules that were in force once",
         admin.Rule, query=admin.RuleQuery, under="rule"),
    Call("PUT", "/sources/{source}/rules/{kind}", "collector", "change_rules",
         "Tries rules on the last messages, and puts them in force", Tested, takes=admin.RuleMeant, seconds=120),
    Call("POST", "/sources/{source}/rules/{kind}/test", "collector", "test_rules",
         "What rules would make of the last messages", Tested, takes=admin.NewRule, seconds=120),
    Call("POST", "/sources/{source}/plan/learn", "collector", "learn_plan", "A plan that the last messages fit",
         admin.Plan, takes=admin.Learning, under="plan", seconds=120),
    Call("GET", "/sources/{source}/violations", "collector", "violations", "What was not as its plan says",
         Violations, under="items"),
    Call("POST", "/sources/{source}/reclean", "collector", "reclean", "Uses its rules on a page of older messages",
         Recleaned, takes=admin.Recleaning, seconds=120),
    Call("GET", "/received/{request}", "collector", "received", "A request as it was received", admin.Received,
         missing="nothing is kept of this request"),
    Call("GET", "/events/{event}/trace", "collector", "trace", "From a clean event to what was received", Traced),
    # Tools that send webhooks
    Call("GET", "/connections", "collector", "connections", "Which tools send for which sources, oldest first",
         Connections, under="items"),
    Call("PUT", "/sources/{source}/connections/{dialect}", "collector", "connect_source",
         "Takes a tool's webhooks from now on, with this secret; it is told this once", admin.ConnectionMade,
         takes=admin.NewConnection),
    Call("DELETE", "/sources/{source}/connections/{dialect}", "collector", "disconnect_source",
         "The tool's webhooks are refused from now on", admin.Nothing),
    # Agreements
    Call("GET", "/agreements", "collector", "agreements", "All agreements and licences", Agreements, under="items"),
    Call("POST", "/agreements", "collector", "create_agreement", "Makes one", AgreementRow,
         takes=admin.NewAgreement, status=201),
    Call("POST", "/agreements/{agreement}/end", "collector", "end_agreement", "Its sources are refused from now on",
         AgreementRow),
    Call("PUT", "/sources/{source}/agreement", "collector", "sign_agreement", "It sends under this agreement",
         SourceRow, takes=admin.Signing),
    # Quarantine
    Call("GET", "/quarantine", "collector", "quarantine_list", "Quarantined messages, latest first, still sealed",
         Quarantine, query=admin.QuarantineQuery, under="items"),
    Call("GET", "/quarantine/counts", "collector", "quarantine_counts", "How many there are by source and reason",
         Counts, under="items"),
    Call("GET", "/quarantine/{identity}", "collector", "quarantine_show", "One, with what was sent",
         admin.Quarantined),
    Call("PUT", "/quarantine/{identity}", "collector", "quarantine_mend", "Mends one; it is taken in by a replay",
         admin.Quarantined, takes=admin.Mending),
    Call("POST", "/quarantine/replay", "collector", "quarantine_replay", "Takes a page of them in again",
         Replayed, takes=admin.Replay, seconds=120),
    # Segments
    Call("GET", "/segments", "segmentation", "segments", "All segments, oldest first", Segments, under="items"),
    Call("POST", "/segments", "segmentation", "create_segment", "Makes a segment; it fills in the background",
         SegmentRow, takes=admin.NewSegment, status=201),
    Call("POST", "/segments/preview", "segmentation", "preview",
         "How many a definition would hold, some of them, and how many of those are in other segments",
         Previewed, takes=admin.Trial, seconds=300),
    Call("GET", "/segments/{segment}", "segmentation", "segments", "One segment", SegmentRow,
         pick=("segment", "key")),
    Call("PUT", "/segments/{segment}", "segmentation", "change_segment",
         "Another definition, as a new version; who enters and leaves by it does so in the background", SegmentRow,
         takes=admin.SegmentChange),
    Call("GET", "/segments/{segment}/versions", "segmentation", "versions", "Its definitions, the latest first",
         Versions, under="items"),
    Call("POST", "/segments/{segment}/history", "segmentation", "history",
         "How many were in at instants, by today's definition and events", Sizes, takes=admin.Instants, under="items",
         seconds=300),
    Call("GET", "/segments/{segment}/members", "segmentation", "members", "Its profiles, a page at a time",
         admin.Members, query=admin.MembersQuery, under="items"),
    Call("DELETE", "/segments/{segment}", "segmentation", "delete_segment", "Deletes it; its members leave it",
         admin.Left, under="members"),
    # Destinations and deliveries
    Call("GET", "/destinations", "activation", "destinations", "All destinations with their subscriptions",
         Destinations, under="items"),
    Call("POST", "/destinations", "activation", "create_destination", "Makes one; its secret is told this once",
         admin.SecretTold, takes=admin.NewDestination, status=201),
    Call("GET", "/destinations/{destination}", "activation", "destinations", "One destination", DestinationRow,
         pick=("destination",)),
    Call("POST", "/destinations/{destination}/rotate", "activation", "rotate_secret", "A new secret, told this once",
         admin.SecretTold, takes=admin.Overlap),
    Call("POST", "/destinations/{destination}/disable", "activation", "disable_destination",
         "What is due for it dies from now on", DestinationRow),
    Call("POST", "/destinations/{destination}/enable", "activation", "enable_destination",
         "It takes messages again", DestinationRow),
    Call("POST", "/destinations/{destination}/redrive", "activation", "redrive_all",
         "Sends all its dead deliveries again", admin.Redriven, under="redriven", seconds=120),
    Call("POST", "/destinations/{destination}/subscriptions", "activation", "subscribe",
         "Sends it what happens in a segment, for one purpose", admin.Subscribed, takes=admin.NewSubscription,
         status=201),
    Call("DELETE", "/subscriptions/{subscription}", "activation", "unsubscribe", "Ends a subscription",
         admin.Nothing, missing="there is no such subscription"),
    Call("GET", "/deliveries", "activation", "deliveries", "Deliveries, latest first", Deliveries,
         query=admin.DeliveriesQuery, under="items"),
    Call("POST", "/deliveries/{delivery}/redrive", "activation", "redrive", "Sends a dead or held one again",
         admin.Redriven, under="redriven"),
    # Look-alikes
    Call("GET", "/candidates", "identity", "candidates", "People that look alike, with what speaks for it and against",
         Candidates, query=admin.CandidatesQuery, under="items"),
    Call("POST", "/candidates/{candidate}/accept", "identity", "accept_candidate", "The two are one: they are merged",
         CandidateRow),
    Call("POST", "/candidates/{candidate}/refuse", "identity", "refuse_candidate",
         "They are two, and are not proposed again", CandidateRow),
    Call("GET", "/likeness", "identity", "likeness_sources", "What was set for sources' look-alikes", LikenessRows,
         under="items"),
    Call("PUT", "/likeness", "identity", "set_likeness", "Sets it for one source", LikenessRow, takes=admin.Likeness),
    # Profiles and privacy
    Call("POST", "/profiles/find", "identity", "resolve", "Who is known by this; nothing personal in the address",
         admin.Found, takes=admin.Find, under="profile", missing=NOBODY),
    Call("GET", "/profiles/{who}/explanation", "identity", "explain",
         "Every decision that made it one person: identifier, event, source, time, rules", Explained,
         missing="there is no such profile", seconds=60),
    Call("POST", "/splits", "identity", "split", "Takes an identifier, or a merge, back; it stays so", SplitDone,
         takes=admin.NewSplit, status=201, seconds=120),
    Call("GET", "/identity/rules", "identity", "rules", "Which identifiers are one person, as rules",
         admin.IdentityRulesInForce),
    Call("PUT", "/identity/rules", "identity", "change_rules", "In force for what is decided from now on",
         admin.IdentityRulesWhole, takes=admin.IdentityRules),
    Call("GET", "/profiles/{who}", "profile", "show", "The four parts of a profile, each value with its provenance",
         admin.ProfileView, query=admin.ProfileQuery, missing="there is no such profile", seconds=60,
         takes_identifier=True),
    Call("POST", "/profiles/batch", "profile", "batch", "Several profiles", admin.Profiles, takes=admin.Batch,
         under="items", seconds=60),
    Call("POST", "/profiles/search", "profile", "search", "Profiles by what is known of them, a page at a time",
         admin.Searched, takes=admin.Search, seconds=60),
    Call("GET", "/profiles/{who}/compare", "profile", "compare", "What is different between two instants",
         admin.Comparison, query=admin.ComparisonQuery, missing="nobody was known at either instant", seconds=60,
         takes_identifier=True),
    Call("GET", "/profiles/{who}/timeline", "profile", "timeline", "What a person did, latest first, a page at a time",
         admin.Timeline, query=admin.TimelineQuery, seconds=60),
    Call("GET", "/traits", "profile", "traits", "Computed traits, oldest first, and how far they are filled", Traits,
         under="items"),
    Call("POST", "/traits", "profile", "add_trait", "Defines a computed trait; it is filled in the background",
         admin.TraitRow, takes=admin.NewTrait, status=201),
    Call("GET", "/traits/{key}", "profile", "traits", "One computed trait", admin.TraitRow, pick=("key",)),
    Call("DELETE", "/traits/{key}", "profile", "remove_trait",
         "It is computed no longer; refused while a segment uses it", admin.Nothing),
    Call("GET", "/believing", "profile", "policy", "Whom to believe, where sources say different things",
         admin.BelievingInForce),
    Call("PUT", "/believing", "profile", "set_policy",
         "Puts a policy in force; of whom something else is believed by it is told in the background",
         admin.BelievingInForce, takes=admin.Believing),
    Call("GET", "/profiles/{who}/segments/{segment}", "segmentation", "explain",
         "Why a person is in a segment or not, condition by condition", Why, seconds=60),
    Call("POST", "/profiles/{who}/segments", "segmentation", "explain",
         "Whether a person would be in by a definition, and why", Why, takes=admin.Definition, seconds=60),
    Call("GET", "/profiles/{who}/consents", "privacy", "consents", "What a person has agreed to, with history",
         admin.Consents, under="consents"),
    Call("GET", "/profiles/{who}/export", "privacy", "export", "Everything that is held of a person",
         admin.Export, seconds=120),
    Call("POST", "/erasures", "privacy", "erase", "Forgets a person, everywhere and for good", admin.ErasureAsked,
         takes=admin.NewErasure, status=202, under="request"),
    Call("GET", "/erasures/{request}", "privacy", "request", "How far an erasure has come", admin.Erasure),
    Call("GET", "/policy", "privacy", "policy", "The data policy", admin.PolicyDocument),
    # Files
    Call("POST", "/imports", "", "", "Takes a file in, through the collector's door, in the background",
         admin.ImportRow, query=admin.ImportQuery, status=202, own="upload", others={200: admin.ImportTried},
         takes_file=True),
    Call("GET", "/imports", "", "", "All imports, latest first", Imports, own="imports"),
    Call("GET", "/imports/{import}", "", "", "How far an import has come", admin.ImportRow, own="one_import"),
    # The suite
    Call("GET", "/parked", "", "", "Events that services could not handle", Parked, own="parked"),
    # An id names subscription, stream and place, with slashes between: it stands in the body.
    Call("POST", "/parked/{service}/retry", "{service}", "parked_retry", "Handles one again",
         admin.Retried, takes=admin.Retrying, seconds=60),
    Call("GET", "/status", "", "", "How each service is, and how far behind the log", admin.Status, own="status"),
    Call("GET", "/log", "", "", "How far each stream of the log has come", Heads, own="heads"),
)  # fmt: skip
