"""One run: asks the profile service for everybody, page by page, and tells identity who looks like whom."""

from collections.abc import Callable, Iterator, Mapping
from math import log2
from typing import Any, Final

from services.identity.likeness.assign import Pair, assigned
from services.identity.likeness.explain import explained
from services.identity.likeness.linking import alikes
from services.identity.likeness.records import FIRST, Record, Use, record_of

PAGE: Final = 500
LEAST: Final = 0.9
"""The probability from which a pair is worth a person's look."""
LEAST_SAID: Final = 3
"""Fields that must be known of somebody to be compared at all."""


Say = Callable[[str, int], None]
"""Told from time to time: what is being done, and how much of it is done."""


def found_by(services: Any, least: float = LEAST, say: Say = lambda what, done: None) -> dict[str, int]:
    """Finds and proposes; counts of what came of it. `services` is a nameko cluster proxy."""
    set_for = services.identity.likeness_sources()
    use = Use(
        frozenset(each["name"] for each in services.collector.sources() if each["party"] != FIRST),
        frozenset(each["source"] for each in set_for if each["compare"]),
    )
    counts = {"people": 0, "proposed": 0, "decided_before": 0, "merged": 0, "not_merged": 0}

    def compared() -> Iterator[Record]:
        for each in everybody(services, use):
            if each.says() >= LEAST_SAID:
                counts["people"] += 1
                yield each
            if not counts["people"] % PAGE:
                say("people", counts["people"])
        say("comparing people", counts["people"])

    found = alikes(compared(), weight_of(least))
    pairs = assigned(
        found.pairs, found.records, weight_of(least), {each["source"] for each in set_for if each["repeats"]}
    )
    for at in range(0, len(pairs), PAGE):
        answer = services.identity.propose([told(each, found.records) for each in pairs[at : at + PAGE]])
        counts |= {name: counts[name] + number for name, number in answer.items()}
        say("pairs", min(at + PAGE, len(pairs)))
    return counts


def everybody(services: Any, use: Use) -> Iterator[Record]:
    """All profiles as records."""
    after: str | None = ""
    while after is not None:
        page = services.profile.scan(after, PAGE, said=True)
        yield from (record_of(profile, facts, use) for profile, facts in page["profiles"].items())
        after = page["after"]


def weight_of(probability: float) -> float:
    """log2 of its odds."""
    return log2(probability / (1 - probability)) if probability < 1 else 1000.0


def told(pair: Pair, records: Mapping[str, Record]) -> dict[str, Any]:
    """A pair as identity takes it: no value of anybody's. A source that is not known is empty: it has no threshold."""
    return {
        "profiles": [pair.left, pair.right],
        "probability": round(pair.probability, 6),
        "sources": sorted({*records[pair.left].said_by, *records[pair.right].said_by}),
        **explained(pair),
    }
