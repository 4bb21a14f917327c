"""Which of the alike pairs may be one person: what families share says nothing, and a file holds a person once.

A family has one last name, one address, often one phone; twins have one birth date too. So where two records are of
one household, the given name decides; where it agrees as well (father and son), the birth date does. Then the likeliest
pairs are taken first, and groups grow only while they are alike on the whole, not by a chain of pairs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from services.identity.likeness.records import Record

THRESHOLD: Final = 6.0
"""The weight from which a pair is likely one person (odds of 64 to 1); measured by `make bench ONLY=likeness`."""
MISSING_WEIGHT: Final = -6.0
"""Of a pair within a group that was not found alike at all."""
NEAR: Final = frozenset({"same", "alike"})
LIKE: Final = NEAR | {"similar"}
FEW_HOUSEHOLDS: Final = 50
FAMILIES: Final = 0.3
"""Of pairs at one address with differing birth dates, the share with another given name that errors do not explain."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two records that are somewhat alike."""

    left: str
    right: str
    weight: float
    """log2 of the odds that they are one person."""
    weights: Mapping[str, float]
    """Field -> its part of the weight."""
    levels: Mapping[str, str]
    """Field -> how alike it is, see model.py."""

    @property
    def probability(self) -> float:
        """That they are one person."""
        return 1 / (1 + 2 ** -max(-1000.0, min(1000.0, self.weight)))


def objection(pair: Pair, left: Record, right: Record, families: bool = True) -> str:
    """Why two records are not one person, however much they share; empty where nothing is against it. `families`:
    whether people of one household are among the records."""
    levels = pair.levels
    if levels.get("national") == "same":
        return ""
    if left.suffix and right.suffix and left.suffix != right.suffix:
        return "another generation"
    return _of_a_family(levels) if families and one_household(levels) else ""


def _of_a_family(levels: Mapping[str, str]) -> str:
    if levels.get("given") == "different" and not _one_all_the_same(levels):
        return "another given name in one household"
    if levels.get("middle") == "different" and levels.get("given") not in ("same", "short form", "alike"):
        return "another second name in one household"
    return "another birth date in one household" if levels.get("birth") == "different" else ""


def one_household(levels: Mapping[str, str]) -> bool:
    """Whether what two records share is what families share."""
    address = levels.get("street") in LIKE and levels.get("number", "unknown") != "different"
    return address or (levels.get("phone") == "same" and levels.get("surname") in NEAR)


def _one_all_the_same(levels: Mapping[str, str]) -> bool:
    """Twins share their birth date, but no second name, nor an address of their own for e-mail."""
    return levels.get("birth") == "same" and "same" in (levels.get("middle"), levels.get("email"))


def families_among(pairs: Iterable[Pair]) -> bool:
    """Whether there are families: in files of single people those of one address have one given name, but for errors,
    whether their birth dates agree or not. Too few to tell: there are."""
    other = [each for each in pairs if one_household(each.levels) and each.levels.get("birth") != "same"]
    named = [each for each in other if each.levels.get("given", "unknown") != "unknown"]
    strangers = sum(each.levels["given"] == "different" for each in named)
    return len(named) < FEW_HOUSEHOLDS or strangers > FAMILIES * len(named)


def plausible(pairs: Iterable[Pair], records: Mapping[str, Record], families: bool) -> list[Pair]:
    """Pairs against which nothing speaks. `families`: whether people of one household are among all records."""
    return [each for each in pairs if not objection(each, records[each.left], records[each.right], families)]


def groups(
    pairs: Sequence[Pair], records: Mapping[str, Record], least: float, repeating: Collection[str] = ()
) -> list[list[str]]:
    """Records that are one person: groups of two and more. `least`: the weight that they need on the whole;
    `repeating`: sources that hold a person more than once."""
    weights = {(each.left, each.right): each.weight for each in pairs}
    group = {name: [name] for name in records}
    for pair in sorted(pairs, key=lambda each: (-each.weight, each.left, each.right)):
        if pair.weight < least:
            break
        mine, theirs = group[pair.left], group[pair.right]
        if mine is theirs or _twice(mine, theirs, records, repeating) or _mean(mine, theirs, weights) < least:
            continue
        mine.extend(theirs)
        for each in theirs:
            group[each] = mine
    return [each for name, each in group.items() if each[0] == name and len(each) > 1]


def assigned(
    pairs: Sequence[Pair], records: Mapping[str, Record], least: float, repeating: Collection[str] = ()
) -> list[Pair]:
    """The pairs of that weight that stand within the groups, the likeliest first."""
    place = {name: number for number, each in enumerate(groups(pairs, records, least, repeating)) for name in each}
    return [
        each
        for each in pairs
        if each.weight >= least and each.left in place and place[each.left] == place.get(each.right)
    ]


def _twice(mine: list[str], theirs: list[str], records: Mapping[str, Record], repeating: Collection[str]) -> bool:
    """Whether a file would hold a person twice, against what is known of it."""
    sources = {records[each].source for each in mine} - {"", *repeating}
    return any(records[each].source in sources for each in theirs)


def _mean(mine: list[str], theirs: list[str], weights: Mapping[tuple[str, str], float]) -> float:
    found = [weights.get((min(a, b), max(a, b)), MISSING_WEIGHT) for a in mine for b in theirs]
    return sum(found) / len(found)
