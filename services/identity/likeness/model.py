"""What is compared, and how: splink's settings, as plain data.

Each comparison is a list of levels, from alike to different; a level has the shares of pairs of one person (m) and of
two (u) that fall into it. What is shipped here is meant for few records; with enough of them, u is counted and m is
learned from the records themselves.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

FEW: Final = 1_000
"""Below so many records nothing is learned from them, and names are not weighed by how common they are."""
PRIOR: Final = 1e-4
"""The share of pairs that are one person, where nothing is learned."""

ALIKE: Final = 0.92
SIMILAR: Final = 0.8


class Level(NamedTuple):
    """Where the condition holds (and none before it)."""

    name: str
    condition: str
    m: float
    u: float


def _alike(column: str, other: str = "", least: float = ALIKE) -> str:
    return f"jaro_winkler_similarity({column}_l, {other or column}_r) >= {least}"


def _typos(column: str, most: int) -> str:
    return f"damerau_levenshtein({column}_l, {column}_r) <= {most}"


def _same(column: str) -> str:
    return f"{column}_l = {column}_r"


_DATE_PARTS: Final = "+ ".join(
    f"(substr(birth_l, {at}, {length}) = substr(birth_r, {at}, {length}))::int "
    for at, length in ((1, 4), (5, 2), (7, 2))
)

COMPARISONS: Final[Mapping[str, tuple[Level, ...]]] = {
    "given": (
        Level("same", _same("given"), 0.75, 0.005),
        Level("short form", "root_l = root_r", 0.03, 0.002),
        Level("swapped", f"{_alike('given', 'surname')} and {_alike('surname', 'given')}", 0.03, 0.0001),
        Level("initial", "least(length(given_l), length(given_r)) = 1 and given_l[1] = given_r[1]", 0.02, 0.002),
        Level("alike", _alike("given"), 0.08, 0.002),
        Level("similar", f"{_alike('given', least=SIMILAR)} or {_typos('given', 1)}", 0.05, 0.008),
        Level("different", "ELSE", 0.04, 0.98),
    ),
    "middle": (Level("same", _same("middle"), 0.95, 0.08), Level("different", "ELSE", 0.05, 0.92)),
    "surname": (
        Level("same", _same("surname"), 0.78, 0.002),
        Level("swapped", f"{_alike('given', 'surname')} and {_alike('surname', 'given')}", 0.03, 0.0001),
        Level("alike", _alike("surname"), 0.10, 0.001),
        Level("similar", f"{_alike('surname', least=SIMILAR)} or {_typos('surname', 1)}", 0.05, 0.005),
        Level("different", "ELSE", 0.04, 0.992),
    ),
    "birth": (
        Level("same", _same("birth"), 0.86, 0.00005),
        Level("a typo", _typos("birth", 1), 0.07, 0.001),
        Level("two parts", f"{_DATE_PARTS} = 2", 0.03, 0.006),
        Level("two typos", _typos("birth", 2), 0.01, 0.02),
        Level("different", "ELSE", 0.03, 0.973),
    ),
    "street": (
        Level("same", _same("street"), 0.70, 0.002),
        Level("swapped", f"{_alike('street', 'extra')} or {_alike('extra', 'street')}", 0.03, 0.0003),
        Level("alike", _alike("street"), 0.10, 0.002),
        Level("similar", _alike("street", least=SIMILAR), 0.05, 0.02),
        Level("different", "ELSE", 0.12, 0.975),
    ),
    "number": (
        Level("same", _same("number"), 0.80, 0.02),
        Level("a typo", f"{_typos('number', 1)} and least(length(number_l), length(number_r)) > 1", 0.06, 0.05),
        Level("different", "ELSE", 0.14, 0.93),
    ),
    "extra": (
        Level("same", _same("extra"), 0.75, 0.005),
        Level("alike", _alike("extra", least=0.88), 0.10, 0.003),
        Level("different", "ELSE", 0.15, 0.992),
    ),
    "city": (
        Level("same", _same("city"), 0.80, 0.03),
        Level("alike", _alike("city", least=0.88), 0.07, 0.01),
        Level("different", "ELSE", 0.13, 0.96),
    ),
    "postal": (
        Level("same", _same("postal"), 0.80, 0.005),
        Level("a typo", _typos("postal", 1), 0.08, 0.02),
        Level("different", "ELSE", 0.12, 0.975),
    ),
    "region": (Level("same", _same("region"), 0.92, 0.2), Level("different", "ELSE", 0.08, 0.8)),
    "phone": (
        Level("same", _same("phone"), 0.70, 0.0001),
        Level("a typo", _typos("phone", 1), 0.05, 0.0005),
        Level("different", "ELSE", 0.25, 0.9994),
    ),
    "email": (
        Level("same", _same("email"), 0.60, 0.00005),
        Level("same name", "split_part(email_l, '@', 1) = split_part(email_r, '@', 1)", 0.08, 0.0005),
        Level("alike", _alike("email"), 0.05, 0.001),
        Level("different", "ELSE", 0.27, 0.998),
    ),
    "national": (
        Level("same", _same("national"), 0.90, 0.000002),
        Level("a typo", _typos("national", 1), 0.06, 0.0001),
        Level("two typos", _typos("national", 2), 0.01, 0.003),
        Level("different", "ELSE", 0.03, 0.997),
    ),
}  # fmt: skip
"""Field -> its levels, the most alike first."""

BY_TERM: Final = frozenset({"given", "surname", "street", "city", "postal"})
"""Fields where what is rare says more than what is common."""
SMALLEST_U: Final = 0.0005
"""A value that hardly anybody has says no more than this."""

BLOCKS: Final = (
    ("national",), ("email",), ("phone",), ("birth",), ("given", "surname"), ("street", "number"), ("given", "postal"),
    ("surname", "postal"), ("surname", "street"), ("given", "street"), ("number", "postal"), ("extra", "postal"),
    ("given", "extra"), ("surname", "extra"), ("surname", "number"), ("given", "number", "city"),
    ("surname", "number", "city"),
)  # fmt: skip
"""Pairs are compared that agree in all of one of these."""
SWAPPED: Final = "l.given = r.surname and l.surname = r.given"

LEARN_FROM: Final = (("given", "surname"), ("birth",), ("postal", "surname"), ("street", "number"))
"""m is learned among pairs that agree in these; of each field in the sessions that do not take it for granted."""
SURE: Final = (
    ("national",),
    ("given", "surname", "birth"),
    ("given", "surname", "street", "number"),
    ("email", "given"),
)
"""Agreement in one of these is one person nearly always: how many there are is counted by it."""
SURE_RECALL: Final = 0.8


def settings(known: Collection[str], learned: bool) -> dict[str, Any]:
    """splink's settings for records of which these fields are known."""
    return {
        "link_type": "dedupe_only",
        "unique_id_column_name": "id",
        "probability_two_random_records_match": PRIOR,
        "retain_intermediate_calculation_columns": True,
        "retain_matching_columns": True,
        "additional_columns_to_retain": [],
        "comparisons": [_comparison(field, learned) for field in COMPARISONS if field in known],
        "blocking_rules_to_generate_predictions": [{"blocking_rule": rule} for rule in blocking(known)],
    }


def blocking(known: Collection[str]) -> list[str]:
    """Blocking rules as SQL."""
    rules = [agreeing(fields) for fields in within(BLOCKS, known)]
    return [*rules, SWAPPED] if {"given", "surname"} <= set(known) else rules


def within(rules: Collection[tuple[str, ...]], known: Collection[str]) -> list[tuple[str, ...]]:
    """Those of fields that are known."""
    return [fields for fields in rules if set(fields) <= set(known)]


def agreeing(fields: Collection[str]) -> str:
    """A blocking rule's SQL."""
    return " and ".join(f"l.{each} = r.{each}" for each in fields)


def _comparison(field: str, learned: bool) -> dict[str, Any]:
    levels: list[dict[str, Any]] = [
        {
            "sql_condition": f"{field}_l is null or {field}_r is null",
            "label_for_charts": "unknown",
            "is_null_level": True,
        }
    ]
    levels += [_level(field, each, learned) for each in COMPARISONS[field]]
    return {"output_column_name": field, "comparison_levels": levels}


def _level(field: str, level: Level, learned: bool) -> dict[str, Any]:
    made = {
        "sql_condition": level.condition,
        "label_for_charts": level.name,
        "m_probability": level.m,
        "u_probability": level.u,
    }
    if learned and field in BY_TERM and level.name == "same":
        made |= {"tf_adjustment_column": field, "tf_adjustment_weight": 1.0, "tf_minimum_u_value": SMALLEST_U}
    return made


def level_name(field: str, gamma: int) -> str:
    """The level that splink has numbered so: 0 is the last, -1 is unknown."""
    return "unknown" if gamma < 0 else COMPARISONS[field][len(COMPARISONS[field]) - 1 - gamma].name
