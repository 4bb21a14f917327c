"""Deliveries folded from the log, and how they compare with the live ones."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from contracts.activation import SCHEDULED
from contracts.streams import IDENTITY
from services.activation.domain.delivery import Delivery, Fact, begin, evolve

IDENTITY_PLACE: Final = f"{IDENTITY}:0"


class Recorded(Protocol):
    """An event of the activation stream."""

    @property
    def type(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def time(self) -> int: ...
    @property
    def causes(self) -> dict[str, int]: ...
    @property
    def correlation(self) -> str: ...


def fold(events: Iterable[Recorded], seen: Callable[[Delivery], None] = lambda state: None) -> dict[str, Delivery]:
    """Delivery id -> state after all of the events; `seen` is told of every state on the way."""
    states: dict[str, Delivery] = {}
    for event in events:
        identity = event.data["delivery"]
        if event.type == SCHEDULED:
            state = begin(event.data, event)
        else:
            state = evolve(states[identity], Fact(event.type, event.data), event.time)
        states[identity] = state
        seen(state)
    return states


def digest_of(state: Delivery) -> bytes:
    """The state as 16 bytes: equal for equal states."""
    ordered = msgspec.json.encode(state, order="sorted")
    return hashlib.blake2b(ordered, digest_size=16).digest()


def digest_of_all(digests: Mapping[str, bytes]) -> str:
    """Many states as one digest, whatever order they came in."""
    summed = hashlib.sha256()
    for identity in sorted(digests):
        summed.update(identity.encode() + digests[identity])
    return summed.hexdigest()


def decided_at(event: Recorded) -> int:
    """Where identity's decision stands that an event of the profile service's tells of: those lie in several
    partitions, and may be read in another order."""
    return int(event.causes.get(IDENTITY_PLACE, 0))


class People:
    """Who was merged into whom and who is erased, from events in any order."""

    def __init__(self) -> None:
        self._into: dict[str, tuple[int, str]] = {}
        """Profile -> (as of which decision, the one that it is a part of, or itself)."""
        self._erased: set[str] = set()

    def merged(self, old: str, into: str, at: int) -> None:
        """`old` is a part of `into` by a decision."""
        self._into[old] = max(self._into.get(old, (-1, old)), (at, into))

    def parted(self, profiles: Iterable[str], at: int) -> None:
        """These are people of their own by a decision."""
        for profile in profiles:
            self.merged(profile, profile, at)

    def erased(self, profile: str) -> None:
        """Nothing of the profile may be kept."""
        self._erased.add(profile)

    def is_erased(self, profile: str) -> bool:
        """Whether the profile, or one that it has become a part of, is erased."""
        passed: set[str] = set()
        while profile not in passed:
            if profile in self._erased:
                return True
            passed.add(profile)
            _, profile = self._into.get(profile, (0, profile))
        return False
