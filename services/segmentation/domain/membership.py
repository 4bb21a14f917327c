"""Membership: which segments a profile is in, when to look again, and what changed."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from services.segmentation.domain.answer import Answer

MOST_TURNS: Final = 1_000
"""Instants that time that has passed is gone through, of one person and segment at once."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's definition."""

    id: str
    key: str
    name: str
    definition: dict[str, object]
    version: int
    created: int
    since: int = 0
    """Since when this version is in force (ms)."""
    ready: bool = True
    """Whether all that it looks at is there; until then nobody is in."""
    coming: dict[str, object] | None = None
    """Its next version, until all that it looks at is there."""
    filled: bool = False
    """Whether history has been looked through."""
    after: str = ""
    """How far that has come: the last profile."""
    round: int = 0
    """Moves on when history is to be looked through once more."""
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
    """Somebody enters (or leaves) a segment at an instant (ms)."""

    segment: str
    entered: bool
    at: int


Evaluate = Callable[[int], Answer]
"""The answer of one person and segment at an instant (ms)."""


def evolve(membership: Membership, answers: Mapping[str, Answer], now: int) -> tuple[Membership, list[Change]]:
    """The membership after an evaluation (segment -> answer) at `now`, and what changed."""
    since, due = dict(membership.since), dict(membership.due)
    changes = []
    for segment, answer in answers.items():
        changes += _turned(since, segment, answer.inside, now)
        _look_again(due, segment, answer.changes_at)
    return msgspec.structs.replace(membership, since=since, due=due), changes


def passed(
    membership: Membership, evaluations: Mapping[str, Evaluate], begins: Mapping[str, int], until: int
) -> tuple[Membership, list[Change]]:
    """The membership after time alone has passed until then (ms), and what changed, each at its own instant.

    What is due is evaluated at the instant at which it is, and again at the next that follows from that. Before a
    segment (by its id) `begins` nothing is evaluated by it."""
    since, due = dict(membership.since), dict(membership.due)
    changes: list[Change] = []
    for segment, evaluate in evaluations.items():
        for _ in range(MOST_TURNS):
            at = due.get(segment)
            if at is None or at > until:
                break
            # Whoever was rebuilt is due at 0: when anything changed before is in the log.
            at = min(max(at, begins.get(segment, 0)), until) if at else until
            inside, changes_at = evaluate(at)
            changes += _turned(since, segment, inside, at)
            # What others have found out at another time may say what is over already.
            _look_again(due, segment, changes_at if changes_at is None or changes_at > at else until + 1)
    changes.sort(key=lambda each: each.at)
    return msgspec.structs.replace(membership, since=since, due=due), changes


def _turned(since: dict[str, int], segment: str, inside: bool, at: int) -> list[Change]:
    if inside == (segment in since):
        return []
    if inside:
        since[segment] = at
    else:
        del since[segment]
    return [Change(segment, inside, at)]


def _look_again(due: dict[str, int], segment: str, at: int | None) -> None:
    if at is None:
        due.pop(segment, None)
    else:
        due[segment] = at


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
