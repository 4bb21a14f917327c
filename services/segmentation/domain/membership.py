"""Membership: which segments a profile is in, when to look again, and what changed."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from services.segmentation.domain.answer import Answer


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's definition."""

    id: str
    key: str
    name: str
    definition: dict[str, object]
    version: int
    created: int
    filled: bool = False
    """Whether history has been looked through."""
    after: str = ""
    """How far that has come: the last profile."""
    deleted: bool = False


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One profile's."""

    profile: str
    turn: int = 0
    """Moves on with every change: what was evaluated on an older one is void."""
    since: dict[str, int] = {}
    """Segment -> since when the profile is in it (ms)."""
    due: dict[str, int] = {}
    """Segment -> when the answer changes by itself (ms)."""

    @property
    def next(self) -> int | None:
        """When to look again, should nothing happen."""
        return min(self.due.values(), default=None)


class Change(NamedTuple):
    """Somebody enters (or leaves) a segment."""

    segment: str
    entered: bool


def evolve(membership: Membership, answers: Mapping[str, Answer], now: int) -> tuple[Membership, list[Change]]:
    """The membership after an evaluation (segment -> answer), and what changed."""
    since, due = dict(membership.since), dict(membership.due)
    changes = []
    for segment, (inside, changes_at) in answers.items():
        if inside != (segment in since):
            changes.append(Change(segment, inside))
            if inside:
                since[segment] = now
            else:
                del since[segment]
        if changes_at is None:
            due.pop(segment, None)
        else:
            due[segment] = changes_at
    return msgspec.structs.replace(membership, since=since, due=due), changes


def moved(old: Membership, into: Membership) -> tuple[Membership, Membership, list[str], list[str]]:
    """Two profiles are one: (what is left of the old, the other, segments left by the old, entered by the other)."""
    entered = [segment for segment in old.since if segment not in into.since]
    since = {**into.since, **{segment: old.since[segment] for segment in entered}}
    return (
        Membership(profile=old.profile, turn=old.turn),
        msgspec.structs.replace(into, since=since),
        list(old.since),
        entered,
    )


def concerned(segments: Iterable[Segment], depends: Mapping[str, set[str]], names: set[str]) -> list[Segment]:
    """The segments whose answer the change of these names may change."""
    return [each for each in segments if "*" in names or depends[each.id] & names]
