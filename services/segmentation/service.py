"""The nameko service `segmentation`."""

from collections.abc import Mapping, Sequence
from typing import Any

import eventlet
from nameko.rpc import RpcProxy, rpc

from contracts.streams import PRIVACY, PROFILE
from services.segmentation.asking import Causes, Signals
from services.segmentation.desk import MOST_SHOWN, Desk, row_of
from services.segmentation.evaluating import SERVICE as OWNER
from services.segmentation.evaluating import Evaluating
from services.segmentation.store import SegmentationStore
from shared.consumer import Finish
from shared.errors import SamlaError, Unavailable
from shared.eventlog import Event
from shared.rpc import time_limit
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe, ticker

ASK_SECONDS = 20
LONG_SECONDS = 25
"""For pages that are counted from the log."""
TRIES = 60
TRY_SECONDS = 0.1
MOST_MEMBERS = 10_000


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.segments = SegmentationStore(runtime.db)
        self.segments.setup()
        self.evaluating = Evaluating(
            self.segments, runtime.log, runtime.keyring, runtime.transactor, runtime.checkpoints, runtime.clock
        )
        self.desk = Desk(self.segments, runtime.transactor, runtime.clock)


class OverRpc:
    """The other services, over nameko's RPC with a time limit; see asking.Others."""

    def __init__(self, service: "SegmentationService") -> None:
        self._service = service

    def facts(self, profiles: Sequence[str], signals: Sequence[str]) -> Mapping[str, Any]:
        """profile.facts."""
        with time_limit("profile", ASK_SECONDS):
            found: Mapping[str, Any] = self._service.profile.facts(profiles, signals)
        return found

    def scan(self, after: str, limit: int, signals: Signals) -> Mapping[str, Any]:
        """profile.scan."""
        with time_limit("profile", LONG_SECONDS if signals else ASK_SECONDS):
            found: Mapping[str, Any] = self._service.profile.scan(after, limit, signals)
        return found

    def watch(self, signals: Signals) -> Mapping[str, bool]:
        """profile.watch."""
        with time_limit("profile", ASK_SECONDS):
            found: Mapping[str, bool] = self._service.profile.watch(OWNER, signals)
        return found

    def watched(self) -> Mapping[str, bool]:
        """profile.watched."""
        with time_limit("profile", ASK_SECONDS):
            found: Mapping[str, bool] = self._service.profile.watched(OWNER)
        return found

    def traits(self) -> Sequence[Mapping[str, Any]]:
        """profile.traits."""
        with time_limit("profile", ASK_SECONDS):
            found: Sequence[Mapping[str, Any]] = self._service.profile.traits()
        return found

    def agreed(self, asked: Sequence[tuple[str, str]], causes: Causes) -> Sequence[bool]:
        """privacy.decide; waits until privacy has come as far as the causes."""
        requests = [
            {"profile": profile, "purpose": purpose, "causes": causes[profile], "segment_sensitive": False}
            for profile, purpose in asked
        ]
        for _ in range(TRIES):
            with time_limit("privacy", ASK_SECONDS):
                said = self._service.privacy.decide(requests)
            if not any(each["again"] for each in said):
                return [each["allow"] for each in said]
            eventlet.sleep(TRY_SECONDS)
        raise Unavailable("privacy has not come as far as the events that segments are evaluated by")


class SegmentationService(Service):
    """Who is in, who has just entered or left."""

    name = "segmentation"
    profile = RpcProxy("profile")
    privacy = RpcProxy("privacy")
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Made before anything starts."""
        return Parts(runtime)

    @subscribe("segmentation.evaluate", stream=PROFILE)
    def on_profile(self, events: list[Event]) -> Finish | None:
        """Profiles that have changed are evaluated."""
        return self.store.evaluating.follow(events, OverRpc(self))

    @subscribe("segmentation.erasures", stream=PRIVACY)
    def on_privacy(self, events: list[Event]) -> Finish | None:
        """Erased people's memberships are dropped."""
        return self.store.evaluating.forget(events)

    @ticker("segmentation.time", seconds=0.5)
    def time_passes(self) -> None:
        """Who leaves or enters because time has passed."""
        while self.store.evaluating.time_passes(OverRpc(self)):
            eventlet.sleep(0)

    @ticker("segmentation.fill", seconds=0.5)
    def fill(self) -> None:
        """New and changed segments are filled from history, deleted ones emptied."""
        self.store.desk.prepare(OverRpc(self))
        while self.store.evaluating.fill(OverRpc(self)):
            eventlet.sleep(0)

    @rpc(expected_exceptions=SamlaError)
    def create_segment(self, key: str, name: str, definition: dict[str, Any]) -> dict[str, Any]:
        """A new segment; it is filled from history in the background."""
        return row_of(self.store.desk.create(key, name, definition, OverRpc(self)), 0)

    @rpc(expected_exceptions=SamlaError)
    def change_segment(self, segment: str, definition: dict[str, Any], name: str | None = None) -> dict[str, Any]:
        """Another definition, as a new version; who enters and leaves by it does so in the background."""
        changed = self.store.desk.change(segment, definition, name, OverRpc(self))
        return row_of(changed, self.store.segments.sizes().get(changed.id, 0))

    @rpc
    def segments(self) -> list[dict[str, Any]]:
        """All segments with their sizes, oldest first."""
        sizes = self.store.segments.sizes()
        return [row_of(each, sizes.get(each.id, 0)) for each in self.store.segments.all()]

    @rpc(expected_exceptions=SamlaError)
    def versions(self, segment: str) -> list[dict[str, Any]]:
        """A segment's definitions, the latest first."""
        return self.store.segments.versions_of(self.store.segments.find(segment))

    @rpc(expected_exceptions=SamlaError)
    def preview(self, definition: dict[str, Any], sample: int = 10) -> dict[str, Any]:
        """How many of all profiles would be in, some of them, and the overlap with the segments that there are."""
        return self.store.desk.preview(definition, max(0, min(sample, MOST_SHOWN)), OverRpc(self))

    @rpc(expected_exceptions=SamlaError)
    def explain(
        self, profile: str, segment: str | None = None, definition: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Why a person is in a segment or not, condition by condition."""
        return self.store.desk.explain(profile, segment, definition, OverRpc(self))

    @rpc(expected_exceptions=SamlaError)
    def history(self, segment: str, instants: list[int]) -> list[dict[str, int]]:
        """How many were in at instants, by today's definition and events."""
        return self.store.desk.history(segment, instants, OverRpc(self))

    @rpc(expected_exceptions=SamlaError)
    def members(self, segment: str, after: str | None = None, limit: int = 100) -> list[str]:
        """A page of a segment's members."""
        found = self.store.segments.find(segment)
        return self.store.segments.members(found.id, after or "", max(1, min(limit, MOST_MEMBERS)))

    @rpc
    def of(self, profile: str) -> list[dict[str, Any]]:
        """The segments that a profile is in."""
        since = self.store.segments.load([profile])[profile].since
        return [
            {"segment": each.id, "key": each.key, "name": each.name, "since": since[each.id]}
            for each in self.store.segments.all()
            if each.id in since
        ]

    @rpc(expected_exceptions=SamlaError)
    def delete_segment(self, segment: str) -> int:
        """Deletes a segment; how many are leaving it."""
        return self.store.desk.delete(segment)

    @rpc
    def uses(self, name: str) -> list[str]:
        """The keys of the segments that depend on something that is known of people, such as `computed.spent`."""
        return self.store.desk.uses(name)

    @rpc
    def stats(self) -> dict[str, int]:
        """Segments and memberships."""
        sizes = self.store.segments.sizes()
        return {"segments": len(self.store.segments.all()), "memberships": sum(sizes.values())}


SERVICE = SegmentationService
