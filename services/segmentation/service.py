"""The nameko service `segmentation`."""

import re
from typing import Any

import eventlet
from nameko.rpc import RpcProxy, rpc

from contracts.streams import PRIVACY, PROFILE
from services.segmentation.domain.definition import CONSENTS, check, depends_on, leaves, named, signals_of
from services.segmentation.domain.evaluate import evaluate
from services.segmentation.domain.membership import Segment
from services.segmentation.domain.special import refusal, special
from services.segmentation.evaluating import Evaluating
from services.segmentation.store import SegmentationStore
from shared.consumer import Finish
from shared.errors import SamlaError
from shared.eventlog import Event
from shared.keyring import new_id
from shared.policy import POLICY
from shared.rpc import time_limit
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe, ticker

KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ASK_SECONDS = 20
SCAN_PAGE = 500
MOST_MEMBERS = 10_000


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.segments = SegmentationStore(runtime.db)
        self.segments.setup()
        self.evaluating = Evaluating(
            self.segments, runtime.log, runtime.keyring, runtime.transactor, runtime.checkpoints, runtime.clock
        )


class SegmentationService(Service):
    """Who is in, who has just entered or left."""

    name = "segmentation"
    profile = RpcProxy("profile")
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Made before anything starts."""
        return Parts(runtime)

    @subscribe("segmentation.evaluate", stream=PROFILE)
    def on_profile(self, events: list[Event]) -> Finish | None:
        """Profiles that have changed are evaluated."""
        return self.store.evaluating.follow(events, self._facts)

    @subscribe("segmentation.erasures", stream=PRIVACY)
    def on_privacy(self, events: list[Event]) -> Finish | None:
        """Erased people's memberships are dropped."""
        return self.store.evaluating.forget(events)

    @ticker("segmentation.time", seconds=0.5)
    def time_passes(self) -> None:
        """Who leaves or enters because time has passed."""
        while self.store.evaluating.time_passes(self._facts):
            eventlet.sleep(0)

    @ticker("segmentation.fill", seconds=0.5)
    def fill(self) -> None:
        """New segments are filled from history, deleted ones emptied."""
        while self.store.evaluating.fill(self._scan, self._facts):
            eventlet.sleep(0)

    def _facts(self, profiles: list[str]) -> dict[str, Any]:
        with time_limit("profile", ASK_SECONDS):
            found: dict[str, Any] = self.profile.facts(profiles)
        return found

    def _scan(self, after: str, limit: int) -> dict[str, Any]:
        with time_limit("profile", ASK_SECONDS):
            found: dict[str, Any] = self.profile.scan(after, limit)
        return found

    @rpc(expected_exceptions=SamlaError)
    def create_segment(self, key: str, name: str, definition: dict[str, Any]) -> dict[str, Any]:
        """A new segment; it is filled from history in the background."""
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise SamlaError("a segment's key is made of a-z, 0-9, - and _, 64 at most")
        _check(definition)
        now = self.runtime.clock.now_ms()
        made = Segment(id=new_id(), key=key, name=name or key, definition=definition, version=1, created=now)
        self.store.segments.add(made)
        return _row(made, 0)

    @rpc
    def segments(self) -> list[dict[str, Any]]:
        """All segments with their sizes, oldest first."""
        sizes = self.store.segments.sizes()
        return [_row(each, sizes.get(each.id, 0)) for each in self.store.segments.all()]

    @rpc(expected_exceptions=SamlaError)
    def preview(self, definition: dict[str, Any]) -> dict[str, int]:
        """How many of all profiles would be in."""
        _check(definition)
        now = self.runtime.clock.now_ms()
        count = profiles = 0
        after: str | None = ""
        while after is not None:
            page = self._scan(after, SCAN_PAGE)
            profiles += len(page["profiles"])
            count += sum(evaluate(definition, facts, now).inside for facts in page["profiles"].values())
            after = page["after"]
        return {"count": count, "profiles": profiles}

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
        found = self.store.segments.find(segment)
        size = self.store.segments.sizes().get(found.id, 0)
        self.store.segments.delete(found)
        return size

    @rpc
    def stats(self) -> dict[str, int]:
        """Segments and memberships."""
        sizes = self.store.segments.sizes()
        return {"segments": len(self.store.segments.all()), "memberships": sum(sizes.values())}


def _check(definition: dict[str, Any]) -> None:
    check(definition)
    if parts := special(definition, POLICY):
        raise SamlaError(refusal(parts, POLICY))
    # What is kept by the minute serves for short windows until they are watched.
    watched = [leaf for leaf in leaves(definition) if signals_of(leaf) and (leaf.get("where") or "count" not in leaf)]
    if watched or named(definition, "segment") or CONSENTS in depends_on(definition):
        raise SamlaError("properties of events, sequences, other segments and consents are not evaluated yet")


def _row(segment: Segment, size: int) -> dict[str, Any]:
    return {
        "segment": segment.id,
        "key": segment.key,
        "name": segment.name,
        "version": segment.version,
        "definition": segment.definition,
        "sensitive": bool(special(segment.definition, POLICY)),
        "size": size,
        "filled": segment.filled,
        "created": segment.created,
    }


SERVICE = SegmentationService
