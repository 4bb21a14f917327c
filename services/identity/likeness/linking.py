"""splink at work. Imported by the job alone: splink and DuckDB are heavy, and an extra of their own (`likeness`)."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any, Final

from services.identity.likeness.assign import Pair
from services.identity.likeness.model import (
    COMPARISONS,
    FEW,
    LEARN_FROM,
    SURE,
    SURE_RECALL,
    agreeing,
    blocking,
    level_name,
    settings,
    within,
)
from services.identity.likeness.records import FIELDS, Record
from shared.errors import SamlaError

Fields = tuple[str, ...]

LEAST_WEIGHT: Final = -4.0
"""Pairs less alike than that are not told at all."""
PAIRS_SAMPLED: Final = 5e6
LEAST_KNOWN: Final = 2
"""A field that fewer records have says nothing."""


def pairs_of(records: Sequence[Record]) -> list[Pair]:
    """All pairs that are somewhat alike, with their weights by field."""
    known = [name for name in FIELDS if sum(bool(getattr(each, name)) for each in records) >= LEAST_KNOWN]
    if len(records) < 2 or not set(COMPARISONS) & set(known) or not blocking(known):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linker = _linker(records, known)
        found = linker.inference.predict(threshold_match_weight=LEAST_WEIGHT, warning_mode="never")
        rows = found.as_record_list()
    return sorted((_pair(row, known) for row in rows), key=lambda each: (-each.weight, each.left, each.right))


def _linker(records: Sequence[Record], known: Sequence[str]) -> Any:
    """A model that has learned what there is to learn."""
    try:
        import duckdb  # noqa: PLC0415
        import pyarrow  # noqa: PLC0415
        from splink import DuckDBAPI, Linker  # noqa: PLC0415
    except ImportError as error:
        raise SamlaError(f"{error.name} is missing: pip install 'samla[likeness]'") from error
    logging.getLogger("splink").setLevel(logging.ERROR)
    columns = ["id", "root", *FIELDS]
    # What is empty is unknown.
    table = pyarrow.table(
        {name: pyarrow.array([getattr(each, name) or None for each in records], pyarrow.string()) for name in columns}
    )
    database = DuckDBAPI(connection=duckdb.connect(":memory:"))
    made = settings(known, learned=len(records) >= FEW)
    if len(records) < FEW:
        return Linker(database.register(table), made, log_level=None)
    rules = within(LEARN_FROM, known)
    while True:
        linker = Linker(database.register(table), made, log_level=None)
        failed = _learn(linker, known, rules)
        if failed is None:
            return linker
        rules.remove(failed)


def _learn(linker: Any, known: Sequence[str], rules: Sequence[Fields]) -> Fields | None:
    """u by sampling, m by expectation maximisation. Gives the rule whose pairs are too few, or too much of one kind,
    to learn from: splink gives up then, and leaves its model half changed."""
    training = linker.training
    if sure := [agreeing(fields) for fields in within(SURE, known)]:
        training.estimate_probability_two_random_records_match(sure, recall=SURE_RECALL)
    training.estimate_u_using_random_sampling(max_pairs=PAIRS_SAMPLED, seed=1)
    for fields in rules:
        try:
            training.estimate_parameters_using_expectation_maximisation(
                agreeing(fields), estimate_without_term_frequencies=True
            )
        except ValueError:
            return fields
    return None


def _pair(row: dict[str, Any], known: Sequence[str]) -> Pair:
    fields = [name for name in COMPARISONS if name in known]
    weights = {name: float(row[f"mw_{name}"] or 0.0) + float(row.get(f"mw_tf_adj_{name}") or 0.0) for name in fields}
    left, right = sorted((str(row["id_l"]), str(row["id_r"])))
    return Pair(
        left=left,
        right=right,
        weight=float(row["match_weight"]),
        weights=weights,
        levels={name: level_name(name, int(row[f"gamma_{name}"])) for name in fields},
    )
