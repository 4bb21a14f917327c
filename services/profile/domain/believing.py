"""Whom to believe, where sources say different things: a policy that is data.

    {"rank": ["first", "second", "third"],
     "traits": {"phone": ["source:crm", "first", "second", "third"]}}

A rank names parties, and sources by name; who stands earlier is believed, whatever the others said later. A source
that is named has that place, not its party's; who is not named comes after all who are. Of those that stand alike, who
said it last is believed, by event time. `traits` has ranks for single traits and opinions, by their names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from contracts.profile import Origin
from contracts.tracking import PARTIES
from shared.errors import SamlaError

SOURCE: Final = "source:"
MOST_NAMES: Final = 1_000
MOST_IN_ALL: Final = 10_000
SHIPPED: Final[Mapping[str, Any]] = {"rank": list(PARTIES), "traits": {}}
"""What the customer has said ranks above what a partner says, and that above what was bought."""

Said = Mapping[str, Sequence[Any]]
"""Origin -> [ms, event, value]: the last that each has said."""


class Believing:
    """A policy, ready to choose by."""

    def __init__(self, document: Mapping[str, Any] = SHIPPED) -> None:
        self.document = document
        self._rank = _places(document["rank"])
        self._traits = {name: _places(rank) for name, rank in document.get("traits", {}).items()}

    def ordered(self, name: str, said: Said) -> list[tuple[str, Sequence[Any]]]:
        """(origin, [ms, event, value]) of a trait or an opinion, the one that is believed first."""
        places = self._traits.get(name, self._rank)
        latest = sorted(said.items(), key=lambda item: (item[1][0], item[1][1]), reverse=True)
        return sorted(latest, key=lambda item: _place(places, Origin.read(item[0])))

    def best(self, name: str, said: Said) -> tuple[str, Sequence[Any]]:
        """The one that is believed."""
        return self.ordered(name, said)[0] if len(said) > 1 else next(iter(said.items()))


def _places(rank: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(rank)}


def _place(places: Mapping[str, int], origin: Origin) -> int:
    return places.get(f"{SOURCE}{origin.source}", places.get(origin.party, len(places)))


def differing(state: Mapping[str, Any], one: Believing, other: Believing) -> Iterator[str]:
    """The names (contracts.profile.Names) of a state's traits and opinions of which the two believe another value."""
    for part in ("traits", "opinions"):
        for name, said in state[part].items():
            # As JSON: to Python, 1 is true.
            if len(said) > 1 and _told(one.best(name, said)) != _told(other.best(name, said)):
                yield f"{part}.{name}"


def _told(best: tuple[str, Sequence[Any]]) -> bytes:
    return orjson.dumps(best[1][2], option=orjson.OPT_SORT_KEYS)


def check(document: object) -> Mapping[str, Any]:
    """The document, if it is a policy. Raises SamlaError, saying where and what, if it is none."""
    if not isinstance(document, dict) or not document.keys() <= {"rank", "traits"} or "rank" not in document:
        raise SamlaError('policy: an object with `rank` and maybe `traits`, such as {"rank": ["first", "second"]}')
    _check_rank(document["rank"], "policy.rank")
    traits = document.get("traits", {})
    if not isinstance(traits, dict) or len(traits) > MOST_NAMES:
        raise SamlaError(f"policy.traits: an object, trait -> rank, of {MOST_NAMES} traits at most")
    for name, rank in traits.items():
        _check_rank(rank, f"policy.traits.{name}")
    if sum(map(len, [document["rank"], *traits.values()])) > MOST_IN_ALL:
        raise SamlaError(f"policy: its ranks name {MOST_IN_ALL:,} at most in all")
    return document


def _check_rank(rank: object, place: str) -> None:
    if not isinstance(rank, list) or not rank or len(rank) > MOST_NAMES:
        raise SamlaError(f"{place}: a list of parties and sources, {MOST_NAMES} at most")
    for number, name in enumerate(rank):
        if not isinstance(name, str) or not (name in PARTIES or (name.startswith(SOURCE) and name != SOURCE)):
            raise SamlaError(f"{place}[{number}]: one of {', '.join(PARTIES)}, or {SOURCE}NAME")
    if len(set(rank)) != len(rank):
        raise SamlaError(f"{place}: names one twice")
