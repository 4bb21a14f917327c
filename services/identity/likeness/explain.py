"""What speaks for a pair and what against it, by field: from the weights, without a value of anybody's."""

from typing import Any, Final

from services.identity.likeness.assign import Pair

WORTH_SAYING: Final = 0.5
"""Of a weight; less says nothing either way."""


def explained(pair: Pair) -> dict[str, list[dict[str, Any]]]:
    """`for` and `against`: fields with how alike they are and their weight (log2 of odds), the strongest first."""
    rows: list[dict[str, Any]] = [
        {"field": name, "how": pair.levels[name], "weight": round(weight, 2)}
        for name, weight in sorted(pair.weights.items(), key=lambda each: (-abs(each[1]), each[0]))
        if abs(weight) >= WORTH_SAYING
    ]
    return {
        "for": [each for each in rows if each["weight"] > 0],
        "against": [each for each in rows if each["weight"] < 0],
    }
