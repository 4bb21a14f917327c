"""One run: asks the profile service for everybody, page by page, and tells identity who looks like whom."""

from collections.abc import Collection, Iterable, Sequence
from math import log2
from typing import Any, Final

from services.identity.likeness.assign import Pair, assigned, plausible
from services.identity.likeness.explain import explained
from services.identity.likeness.linking import pairs_of
from services.identity.likeness.records import Record, record_of

PAGE: Final = 500
LEAST: Final = 0.9
"""The probability from which a pair is worth a person's look."""
LEAST_SAID: Final = 3
"""Fields that must be known of somebody to be compared at all."""


def found_by(services: Any, least: float = LEAST) -> dict[str, int]:
    """Finds and proposes; counts of what came of it. `services` is a nameko cluster proxy."""
    records = [each for each in everybody(services) if each.says() >= LEAST_SAID]
    repeating = {each["source"] for each in services.identity.likeness_sources() if each["repeats"]}
    pairs = likely(records, least, repeating)
    counts = {"people": len(records), "proposed": 0, "decided_before": 0, "merged": 0}
    sources = {each.id: each.source for each in records}
    for at in range(0, len(pairs), PAGE):
        answer = services.identity.propose([told(each, sources) for each in pairs[at : at + PAGE]])
        counts |= {name: counts[name] + number for name, number in answer.items()}
    return counts


def everybody(services: Any) -> Iterable[Record]:
    """All profiles as records."""
    after: str | None = ""
    while after is not None:
        page = services.profile.scan(after, PAGE)
        yield from (record_of(profile, facts) for profile, facts in page["profiles"].items())
        after = page["after"]


def likely(records: Sequence[Record], least: float, repeating: Collection[str]) -> list[Pair]:
    """Pairs of this probability and more, against which nothing speaks, the likeliest first."""
    known = {each.id: each for each in records}
    weight = log2(least / (1 - least)) if least < 1 else 1000.0
    return assigned(plausible(pairs_of(records), known), known, weight, repeating)


def told(pair: Pair, sources: dict[str, str]) -> dict[str, Any]:
    """A pair as identity takes it: no value of anybody's."""
    return {
        "profiles": [pair.left, pair.right],
        "probability": round(pair.probability, 6),
        "sources": sorted({sources[pair.left], sources[pair.right]} - {""}),
        **explained(pair),
    }
