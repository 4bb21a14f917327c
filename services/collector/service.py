"""The nameko service `collector`: sources and the quarantine. Data comes in at the edge (edge.py)."""

from functools import partial
from typing import Any, Final

import structlog
from msgspec.structs import replace
from nameko.rpc import rpc
from prometheus_client import Gauge

from contracts.streams import TRACKING
from services.collector.activity import ActivityStore
from services.collector.asked import asked, within
from services.collector.connections import ConnectionStore
from services.collector.domain import agreement as agreements
from services.collector.domain import decode
from services.collector.domain.mending import Rule, mended
from services.collector.domain.mending import checked as checked_rule
from services.collector.domain.plan import MODES
from services.collector.domain.quarantine import CUT, Kept
from services.collector.domain.source import Source
from services.collector.raw import Place, RawStore
from services.collector.recleaning import Recleaning
from services.collector.replaying import Replaying
from services.collector.rulebook import KINDS, PLAN
from services.collector.store import DAY_MS, Chosen, QuarantineStore, SourceStore, day_of
from services.collector.trying import Trying
from services.collector.writer import Appender
from shared.checking import bounded
from shared.errors import NotFound, SamlaError
from shared.keyring import Identifier, new_id
from shared.policy import POLICY
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import ticker

MOST_ROWS = 1_000
MOST_TESTED = 20_000
"""Messages on which rules are tried."""
MOST_OVERLAP_HOURS = 24 * 365
SETTLED_MS: Final = DAY_MS
"""So long after a day nothing is sealed under its key any more."""
HOUR_MS: Final = 3_600_000
LATELY: Final = Gauge("samla_quarantine_last_hour", "Messages quarantined in the last hour", ["source"])
ALARM: Final = Gauge("samla_quarantine_alarm", "1: more of them than the source's alarm", ["source"])
logger = structlog.get_logger(__name__)
_NOTHING = {"last_seen": 0, "events": 0, "errors": 0, "refused": 0}


class Stores:
    """The collections."""

    def __init__(self, runtime: Runtime) -> None:
        self.sources = SourceStore(runtime.db)
        self.sources.setup()
        self.quarantine = QuarantineStore(runtime.db, runtime.keyring)
        self.quarantine.setup()
        self.raw = RawStore(runtime.db, runtime.keyring, runtime.log)
        self.raw.setup()
        self.activity = ActivityStore(runtime.db)
        self.activity.setup()
        self.connections = ConnectionStore(runtime.db, runtime.keyring, self.sources)
        self.ringing: set[str] = set()
        appender = Appender(runtime.log, runtime.transactor, runtime.keyring, self.quarantine, self.raw)
        self.replaying = Replaying(self.quarantine, self.sources, appender, POLICY, runtime.clock.now_ms)
        self.trying = Trying(self.raw, self.sources, POLICY)
        self.recleaning = Recleaning(self.raw, self.sources, runtime.log, runtime.keyring, POLICY, runtime.clock.now_ms)


class CollectorService(Service):
    """Where data comes from, and what of it could not be taken in."""

    name = "collector"
    store: Stores

    @classmethod
    def make_store(cls, runtime: Runtime) -> Stores:
        """Made before anything starts."""
        return Stores(runtime)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def create_source(self, name: str, party: str = "first") -> dict[str, Any]:
        """A new source; its write key is told this once."""
        made, key = self.store.sources.create(name, party, self.runtime.clock.now_ms())
        return {"source": made.id, "name": made.name, "party": made.party, "write_key": key}

    @rpc
    def sources(self) -> list[dict[str, Any]]:
        """All sources, oldest first."""
        activity = self.store.activity.all()
        hour = self.runtime.clock.now_ms() - HOUR_MS
        return [
            {**each.row(), **activity.get(each.id, _NOTHING), "quarantined": self.store.quarantine.since(each.id, hour)}
            for each in self.store.sources.all()
        ]

    @rpc(expected_exceptions=SamlaError)
    @asked
    def disable_source(self, source: str) -> dict[str, Any]:
        """The source is refused from now on (by the edge within 8 s)."""
        return self.store.sources.change(source, {"enabled": False}).row()

    @rpc(expected_exceptions=SamlaError)
    @asked
    def change_source(self, source: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes what is done with what a source sends, see domain.source.checked."""
        return self.store.sources.change(source, changes).row()

    @rpc(expected_exceptions=SamlaError)
    @asked
    def rotate_key(self, source: str, overlap_hours: float = 24) -> dict[str, Any]:
        """A new write key, told this once; the old ones are good for some hours more."""
        now = self.runtime.clock.now_ms()
        until = now + _overlap_ms(overlap_hours)
        return {"source": source, "write_key": self.store.sources.rotate(source, now, until), "old_until": until}

    # Tools that send webhooks

    @rpc(expected_exceptions=SamlaError)
    @asked
    def connect_source(
        self,
        source: str,
        dialect: str,
        secret: str = "",
        document: dict[str, Any] | None = None,
        overlap_hours: float = 24,
    ) -> dict[str, Any]:
        """A tool may send webhooks for the source; `document`: a dialect of one's own, see domain.dialect. A secret
        that was there before is good for some hours more."""
        now, overlap = self.runtime.clock.now_ms(), _overlap_ms(overlap_hours)
        return self.store.connections.connect(source, dialect, secret, document, now, overlap)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def disconnect_source(self, source: str, dialect: str) -> None:
        """The tool's webhooks are refused from now on (the edge looks every few seconds)."""
        self.store.connections.disconnect(source, dialect)

    @rpc
    def connections(self) -> list[dict[str, Any]]:
        """Which tools send for which sources, oldest first."""
        return self.store.connections.all()

    # What a source's owner decides about its messages

    @rpc(expected_exceptions=SamlaError)
    @asked
    def rules(self, source: str) -> dict[str, Any]:
        """A source's rules in force: cleaning and plan with their versions, and its agreement."""
        found = self.store.sources.one(source)
        book = self.store.sources.rules
        shown = {kind: dict(zip(("version", "rule"), book.latest(source, kind), strict=True)) for kind in KINDS}
        return {**shown, "agreement": found.rules.agreement.row() if found.rules.agreement else None}

    @rpc(expected_exceptions=SamlaError)
    @asked
    def rules_of_version(self, source: str, kind: str, version: int) -> dict[str, Any]:
        """Rules that were in force once."""
        if kind not in KINDS:
            raise SamlaError(f"rules are {' or '.join(KINDS)}")
        return self.store.sources.rules.version(source, kind, version)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def test_rules(self, source: str, kind: str, rule: Any, messages: int = 1_000) -> dict[str, Any]:
        """What rules would make of the last messages; nothing is changed. `rule` None: if there were none."""
        return self.store.trying.test(source, kind, rule, _tested(messages))

    @rpc(expected_exceptions=SamlaError)
    @asked
    def change_rules(
        self, source: str, kind: str, rule: Any, messages: int = 1_000, meant: bool = False
    ) -> dict[str, Any]:
        """Tests rules on the last messages and puts them in force (None takes them away), see trying.Trying.change."""
        now = self.runtime.clock.now_ms()
        report = self.store.trying.change(source, kind, rule, _tested(messages), meant, now)
        if kind == PLAN and report["saved"]:
            self.store.activity.forget_violations(source)
        return report

    @rpc(expected_exceptions=SamlaError)
    @asked
    def learn_plan(self, source: str, messages: int = 1_000, mode: str = "warn") -> dict[str, Any]:
        """A plan that the last messages fit; it is not put in force."""
        if mode not in MODES:
            raise SamlaError(f"mode is one of {', '.join(MODES)}")
        return self.store.trying.learn(source, _tested(messages), mode)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def violations(self, source: str) -> list[dict[str, Any]]:
        """What was not as the source's plan says: by event, path and rule, with requests as examples."""
        return self.store.activity.violations(source)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def received(self, request: str) -> dict[str, Any]:
        """A request as it was received, by its correlation id. Raises NotFound where it is not kept (any more)."""
        return self.store.recleaning.received(request)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def trace(self, event: str) -> dict[str, Any]:
        """From a clean event to what was received."""
        return self.store.recleaning.trace(event)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def received_size(self, source: str) -> int:
        """How many requests of a source are kept as they were received."""
        return self.store.raw.count(source)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def reclean(
        self, source: str, after: list[Any] | None = None, limit: int = 1_000, dry: bool = False
    ) -> dict[str, Any]:
        """Uses the cleaning rules of now on a page of older messages: appends corrections."""
        return self.store.recleaning.page(source, _place(after or [0, ""]), _page(limit), dry)

    # Agreements

    @rpc(expected_exceptions=SamlaError)
    @asked
    def create_agreement(
        self,
        party: str,
        partner: str,
        purposes: list[str],
        fields: list[str],
        since: int,
        until: int,
        merges: bool = False,
    ) -> dict[str, Any]:
        """An agreement with a partner, or a licence of a supplier."""
        made = agreements.checked(new_id()[:16], party, partner, purposes, fields, since, until, merges)
        made = made._replace(created=self.runtime.clock.now_ms())
        self.store.sources.agreements.add(made)
        return made.row()

    @rpc
    def agreements(self) -> list[dict[str, Any]]:
        """All agreements and licences, oldest first."""
        return [each.row() for each in self.store.sources.agreements.all().values()]

    @rpc(expected_exceptions=SamlaError)
    @asked
    def sign_agreement(self, source: str, agreement: str) -> dict[str, Any]:
        """The source sends under this agreement from now on."""
        found = self.store.sources.agreements.all().get(agreement)
        if found is None:
            raise NotFound(f"there is no agreement {agreement}: see `samla agreement list`")
        return self.store.sources.sign(source, found).row()

    @rpc(expected_exceptions=SamlaError)
    @asked
    def end_agreement(self, agreement: str) -> dict[str, Any]:
        """It holds no longer: its sources are refused from now on."""
        return self.store.sources.agreements.end(agreement, self.runtime.clock.now_ms()).row()

    # Quarantine

    @rpc
    def quarantine_counts(self) -> list[dict[str, Any]]:
        """How many messages are quarantined, by source and reason."""
        return self.store.quarantine.counts()

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantine_list(
        self, source: str | None = None, reason: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Quarantined messages, latest first."""
        return self.store.quarantine.latest(source, reason, _page(limit))

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantine_show(self, identity: str) -> dict[str, Any]:
        """One quarantined message with what was sent."""
        return self.store.quarantine.show(identity)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantine_mend(
        self, identity: str, message: dict[str, Any] | None = None, rule: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Puts a message in a quarantined one's place, or mends it by a rule; it is replayed like that."""
        if (message is None) == (rule is None):
            raise SamlaError("give a message, or a rule that mends the one that was sent")
        wanted = checked_rule(rule) if rule is not None else None
        self.store.quarantine.mend(identity, partial(_mended, message=message, rule=wanted))
        return self.store.quarantine.show(identity)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantine_replay(
        self,
        source: str | None = None,
        reason: str | None = None,
        ids: list[str] | None = None,
        rule: dict[str, Any] | None = None,
        after: str = "",
        limit: int = 200,
        dry: bool = False,
    ) -> dict[str, Any]:
        """Takes quarantined messages in again: a page of them, see contracts."""
        wanted = checked_rule(rule) if rule is not None else None
        chosen = Chosen(source, reason, tuple(ids or ()))
        return self.store.replaying.page(chosen, wanted, after, _page(limit), dry)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantine_size(
        self, source: str | None = None, reason: str | None = None, ids: list[str] | None = None
    ) -> int:
        """How many quarantined messages there are of these."""
        return self.store.quarantine.count(Chosen(source, reason, tuple(ids or ())))

    @ticker("collector.quarantine", seconds=30)
    def look_after_what_is_kept(self) -> None:
        """Removes what is too old, secrets too; tells of sources that send too much that cannot be taken in."""
        now = self.runtime.clock.now_ms()
        self.store.connections.expire(now)
        for each in self.store.sources.all():
            if removed := self.store.quarantine.expire(each.id, now - each.quarantine_days * DAY_MS):
                logger.info("quarantined messages are removed", source=each.id, messages=removed)
            self.store.activity.expire_violations(each.id, now - each.quarantine_days * DAY_MS)
            if removed := self.store.raw.expire(each.id, now - each.raw_days * DAY_MS):
                logger.info("requests as received are removed", source=each.id, requests=removed)
            self._alarm(each, self.store.quarantine.since(each.id, now - HOUR_MS))

    def _alarm(self, source: Source, lately: int) -> None:
        LATELY.labels(source.id).set(lately)
        rings = bool(source.alarm) and lately >= source.alarm
        if rings and source.id not in self.store.ringing:
            logger.warning("a source sends much that cannot be taken in", source=source.id, messages=lately)
        (self.store.ringing.add if rings else self.store.ringing.discard)(source.id)
        ALARM.labels(source.id).set(rings)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def quarantined_of(self, identifiers: list[Any], after: str = "") -> dict[str, Any]:
        """What somebody has sent that is in quarantine: messages whose own identifiers, by kind, are theirs. A page:
        go on behind `after`."""
        wanted = _identifiers(identifiers)
        found = self.store.quarantine.of(wanted, self.store.sources.by_id(), after)
        return {"messages": [each.raw for each in found.kept], "after": found.after}

    @rpc(expected_exceptions=SamlaError)
    @asked
    def forget_quarantined(self, identifiers: list[Any], after: str = "") -> dict[str, Any]:
        """Removes what is theirs, or names an address or number of theirs; how many entries, see domain.naming. A
        page: go on behind `after`."""
        wanted = _identifiers(identifiers)
        removed, goes_on = self.store.quarantine.forget(wanted, self.store.sources.by_id(), after)
        return {"removed": removed, "after": goes_on}

    @rpc(expected_exceptions=SamlaError)
    @asked
    def received_of(self, subjects: list[str]) -> list[dict[str, Any]]:
        """Messages of somebody as they were received."""
        return self.store.raw.of_subjects(subjects)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def forget_received(self, subjects: list[str]) -> int:
        """Removes messages of these subjects from what was received; how many."""
        return self.store.raw.forget(subjects)

    @rpc(expected_exceptions=SamlaError)
    @asked
    def unused_days(self, holders: list[str]) -> list[str]:
        """Those of the keys of a source and day under which nothing is left; their days have long been over."""
        before = self.runtime.clock.now_ms() - SETTLED_MS
        kept = (self.store.raw, self.store.quarantine)
        days = [(holder, day) for holder in holders if (day := day_of(holder)) and day.ends < before]
        return [holder for holder, day in days if not any(each.holds(day) for each in kept)]

    @rpc
    def stats(self) -> dict[str, Any]:
        """Events in the log, quarantined messages, sources."""
        return {
            "events": sum(self.runtime.log.heads(TRACKING).values()),
            "quarantined": sum(each["count"] for each in self.store.quarantine.counts()),
            "sources": len(self.store.sources.all()),
        }


def _mended(kept: Kept, message: dict[str, Any] | None, rule: Rule | None) -> Kept:
    if rule is not None:
        if kept.cut:
            raise SamlaError(f"{CUT.why}: a rule cannot put back what is missing")
        message = kept.message
        if not isinstance(message, dict):
            raise SamlaError("what was sent is no message that a rule could mend: give the whole message")
        message = mended(message, rule)
    if not isinstance(message, dict):
        raise SamlaError("a message is a JSON object")
    bounded(message, "the message", deepest=decode.DEEPEST)
    return replace(kept, mended=message)


def _overlap_ms(hours: float) -> int:
    if not 0 <= hours <= MOST_OVERLAP_HOURS:
        raise SamlaError(f"overlap_hours: old and new may overlap for 0 to {MOST_OVERLAP_HOURS} hours")
    return int(hours * HOUR_MS)


def _tested(messages: int) -> int:
    return within("messages", messages, MOST_TESTED)


def _page(limit: int) -> int:
    return within("limit", limit, MOST_ROWS)


def _place(after: list[Any]) -> Place:
    at, document = after if len(after) == 2 else (None, None)
    if not isinstance(at, int) or isinstance(at, bool) or not isinstance(document, str):
        raise SamlaError("after is what the page before has given: [ms since 1970, id]")
    return Place(within("after", at, 2**63 - 1, 0), document)


def _identifiers(given: list[Any]) -> set[Identifier]:
    if not all(isinstance(each, list) and len(each) == 2 and all(isinstance(x, str) for x in each) for each in given):
        raise SamlaError("identifiers are pairs of texts: [kind, value]")
    return {(kind, value) for kind, value in given}


SERVICE = CollectorService
