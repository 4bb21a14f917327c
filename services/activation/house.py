"""The other services, as activation asks them: the gate, the facts, the segments' names."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from services.activation.domain.segment import Segment, Special, segment_of

Facts = Mapping[str, Any]
MOST_MERGES: Final = 5
"""Merges that are followed from a profile to the one it is part of by now."""


class House(Protocol):
    """Asks the others. Any exception means: no answer, so nothing is sent."""

    def judge(
        self, requests: Sequence[dict[str, Any]], profiles: Sequence[str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """privacy.decide of the requests and profile.facts of the profiles, asked at the same time."""

    def facts(self, profiles: Sequence[str]) -> dict[str, Any]:
        """profile.facts: id -> {"profile", "facts"}, {"merged_into"}, or None."""

    def segments(self) -> list[dict[str, Any]]:
        """segmentation.segments."""


class Person(NamedTuple):
    """Who a delivery is about, by now."""

    profile: str
    facts: Facts


def people_of(house: House, profiles: Collection[str], found: Mapping[str, Any]) -> dict[str, Person]:
    """Profile id -> the person, through merges; those that are gone are left out."""
    people: dict[str, Person] = {}
    now_at = {profile: profile for profile in profiles}
    for _ in range(MOST_MERGES):
        moved = {}
        for profile, at in now_at.items():
            entry = found.get(at)
            if entry and "merged_into" in entry:
                moved[profile] = entry["merged_into"]
            elif entry:
                people[profile] = Person(entry.get("profile", at), entry.get("facts") or {})
        if not moved:
            break
        now_at, found = moved, house.facts(sorted(set(moved.values())))
    return people


class Segments:
    """What segments are called, remembered by version: asked for when a newer version is spoken of."""

    def __init__(self, remembered: Callable[[str], Segment | None], trait: Special, event: Special) -> None:
        self._remembered = remembered
        self._trait = trait
        self._event = event
        self._known: dict[str, Segment] = {}
        self._lock = threading.Lock()

    def all(self, house: House) -> list[Segment]:
        """Every segment that there is, as of now."""
        return [segment_of(row, self._trait, self._event) for row in house.segments()]

    def of(self, house: House, wanted: Mapping[str, int]) -> dict[str, Segment]:
        """The segments by id, each at least of the version wanted, if there is such a one.

        A deleted one is as it was when it was subscribed to; one that nobody has heard of is left out.
        """
        with self._lock:
            if any(name not in self._known or self._known[name].version < wanted[name] for name in wanted):
                self._known.update({each.id: each for each in self.all(house)})
            found = {name: self._known.get(name) or self._remembered(name) for name in wanted}
            segments = {name: each for name, each in found.items() if each is not None}
            # One that is behind, or gone, is not asked for at every delivery.
            for name, each in segments.items():
                self._known[name] = replace(each, version=max(each.version, wanted[name]))
        return segments
