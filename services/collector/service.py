"""The nameko service `collector`: sources and the quarantine. Data comes in at the edge (edge.py)."""

from typing import Any

from nameko.rpc import rpc

from contracts.streams import TRACKING
from services.collector.activity import ActivityStore
from services.collector.store import QuarantineStore, SourceStore
from shared.errors import SamlaError
from shared.runtime import Runtime
from shared.service import Service

MOST_ROWS = 1_000
MOST_OVERLAP_HOURS = 24 * 365
_NOTHING = {"last_seen": 0, "events": 0, "errors": 0, "refused": 0}


class Stores:
    """The collections."""

    def __init__(self, runtime: Runtime) -> None:
        self.sources = SourceStore(runtime.db)
        self.sources.setup()
        self.quarantine = QuarantineStore(runtime.db, runtime.keyring)
        self.quarantine.setup()
        self.activity = ActivityStore(runtime.db)


class CollectorService(Service):
    """Where data comes from, and what of it could not be taken in."""

    name = "collector"
    store: Stores

    @classmethod
    def make_store(cls, runtime: Runtime) -> Stores:
        """Made before anything starts."""
        return Stores(runtime)

    @rpc(expected_exceptions=SamlaError)
    def create_source(self, name: str, party: str = "first") -> dict[str, Any]:
        """A new source; its write key is told this once."""
        made, key = self.store.sources.create(name, party, self.runtime.clock.now_ms())
        return {"source": made.id, "name": made.name, "party": made.party, "write_key": key}

    @rpc
    def sources(self) -> list[dict[str, Any]]:
        """All sources, oldest first."""
        activity = self.store.activity.all()
        return [{**each.row(), **activity.get(each.id, _NOTHING)} for each in self.store.sources.all()]

    @rpc(expected_exceptions=SamlaError)
    def disable_source(self, source: str) -> dict[str, Any]:
        """The source is refused from now on (the edge looks every few seconds)."""
        return self.store.sources.change(source, {"enabled": False}).row()

    @rpc(expected_exceptions=SamlaError)
    def change_source(self, source: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes what is done with what a source sends: enabled, ip, bots, rate."""
        return self.store.sources.change(source, changes).row()

    @rpc(expected_exceptions=SamlaError)
    def rotate_key(self, source: str, overlap_hours: float = 24) -> dict[str, Any]:
        """A new write key, told this once; the old ones are good for some hours more."""
        if not 0 <= overlap_hours <= MOST_OVERLAP_HOURS:
            raise SamlaError(f"keys may overlap for 0 to {MOST_OVERLAP_HOURS} hours")
        now = self.runtime.clock.now_ms()
        until = now + int(overlap_hours * 3_600_000)
        return {"source": source, "write_key": self.store.sources.rotate(source, now, until), "old_until": until}

    @rpc
    def quarantine_counts(self) -> list[dict[str, Any]]:
        """How many messages are quarantined, by source and reason."""
        return self.store.quarantine.counts()

    @rpc
    def quarantine_list(
        self, source: str | None = None, reason: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Quarantined messages, latest first."""
        return self.store.quarantine.latest(source, reason, max(1, min(limit, MOST_ROWS)))

    @rpc(expected_exceptions=SamlaError)
    def quarantine_show(self, identity: str) -> dict[str, Any]:
        """One quarantined message with what was sent."""
        return self.store.quarantine.show(identity)

    @rpc
    def quarantined_of(self, identifiers: list[list[str]]) -> list[str]:
        """What was sent about somebody and is in quarantine."""
        return [raw.decode(errors="replace") for _, raw in self.store.quarantine.naming(_values(identifiers))]

    @rpc
    def forget_quarantined(self, identifiers: list[list[str]]) -> int:
        """Removes what names one of these identifiers; how many entries."""
        return self.store.quarantine.remove(
            [identity for identity, _ in self.store.quarantine.naming(_values(identifiers))]
        )

    @rpc
    def stats(self) -> dict[str, Any]:
        """Events in the log, quarantined messages, sources."""
        return {
            "events": sum(self.runtime.log.heads(TRACKING).values()),
            "quarantined": sum(each["count"] for each in self.store.quarantine.counts()),
            "sources": len(self.store.sources.all()),
        }


def _values(identifiers: list[list[str]]) -> set[str]:
    return {value for _, value in identifiers}


SERVICE = CollectorService
