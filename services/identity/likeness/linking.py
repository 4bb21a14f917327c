"""splink at work. Imported by the job alone: splink and DuckDB are heavy, and an extra of their own (`likeness`).

Records go into DuckDB as they come and stay there; only of those who look like somebody is anything kept in Python.
Nothing of it is ever written to disk, since it would lie there in the clear: it must fit into memory.
"""

import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from services.identity.likeness.assign import Pair, families_among, plausible
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
PAGE: Final = 5_000
CHUNK: Final = 100_000
"""So many people at a time are compared with all."""
COLUMNS: Final = ("id", "source", "said_by", "suffix", "root", *FIELDS)
SEPARATOR: Final = "\x1f"
"""Between sources, in a column."""


class Alikes(NamedTuple):
    """Pairs against which nothing speaks, the likeliest first; and who they are: ids, sources and suffixes alone."""

    pairs: list[Pair]
    records: dict[str, Record]


def alikes(records: Iterable[Record], least: float) -> Alikes:
    """Pairs of this weight (log2 of odds) and more, and the weaker ones of the same records: a group is alike on the
    whole. Raises SamlaError where splink is not installed."""
    with Linking() as linking:
        for page in _pages(records):
            linking.add(page)
        return linking.alikes(least)


class Linking:
    """Records in a database of their own, gone at the end."""

    def __init__(self, memory: str = "") -> None:
        """`memory`: that DuckDB may take, as `8GB`; most of the machine's where it is empty."""
        try:
            import duckdb  # noqa: PLC0415
            import pyarrow  # noqa: PLC0415
            import splink  # noqa: PLC0415
            from splink.internals.exceptions import SplinkException  # noqa: PLC0415
        except ImportError as error:
            raise SamlaError(f"{error.name} is missing: pip install 'samla[likeness]'") from error
        self._arrow: Any = pyarrow
        self._splink: Any = splink
        logging.getLogger("splink").setLevel(logging.ERROR)
        self._db: Any = duckdb.connect(":memory:")
        self._db.execute("set temp_directory = ''")
        self._db.execute("set preserve_insertion_order = false")
        if memory:
            self._db.execute("set memory_limit = ?", [memory])
        self._errors: tuple[type[Exception], ...] = (duckdb.Error, SplinkException)
        self._db.execute(f"create table people ({', '.join(f'{name} varchar' for name in COLUMNS)})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._db.close()
        if isinstance(error, self._errors):
            # Its text might quote what is compared.
            why = "too little memory" if "Out of Memory" in str(error) else type(error).__name__
            raise SamlaError(f"people could not be compared ({why}): nothing was proposed") from None

    def add(self, records: Sequence[Record]) -> None:
        """Takes some in. What is empty is unknown."""
        text = self._arrow.string()
        columns = {name: self._arrow.array([_cell(each, name) for each in records], text) for name in COLUMNS}
        self._db.register("page", self._arrow.table(columns))
        self._db.execute("insert into people select * from page")
        self._db.unregister("page")

    def alikes(self, least: float) -> Alikes:
        """See the function of that name."""
        [(count, *counts)] = self._db.execute(
            f"select count(*), {', '.join(f'count({name})' for name in FIELDS)} from people"
        ).fetchall()
        known = [name for name, number in zip(FIELDS, counts, strict=True) if number >= LEAST_KNOWN]
        if count < 2 or not set(COMPARISONS) & set(known) or not blocking(known):
            return Alikes([], {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            linker = self._linker(count, known)
            found = linker.inference.predict(
                threshold_match_weight=LEAST_WEIGHT,
                num_chunks_left=-(-count // CHUNK),
                num_chunks_right=1,
                warning_mode="never",
            ).physical_name
        families = families_among(self._pairs(f"select * from {found}", known))
        self._db.execute(
            f"create table strong as select id_l as id from {found} where match_weight >= {float(least)} "
            f"union select id_r from {found} where match_weight >= {float(least)}"
        )
        who = self._db.execute("select id, source, suffix, said_by from people where id in (from strong)").fetchall()
        records = {
            each: Record(id=each, source=source or "", suffix=suffix or "", said_by=tuple((by or "").split(SEPARATOR)))
            for each, source, suffix, by in who
        }
        of_these = self._pairs(
            f"select * from {found} where id_l in (from strong) and id_r in (from strong)", known
        )  # fmt: skip
        pairs = sorted(plausible(of_these, records, families), key=lambda each: (-each.weight, each.left, each.right))
        return Alikes(pairs, records)

    def _pairs(self, query: str, known: Collection[str]) -> Iterator[Pair]:
        rows = self._db.cursor()
        rows.execute(query)
        names = [each[0] for each in rows.description]
        while page := rows.fetchmany(PAGE):
            for row in page:
                yield _pair(dict(zip(names, row, strict=True)), known)

    def _linker(self, count: int, known: Sequence[str]) -> Any:
        """A model that has learned what there is to learn."""
        database = self._splink.DuckDBAPI(connection=self._db)
        made = settings(known, learned=count >= FEW)
        rules = within(LEARN_FROM, known)
        while True:
            linker = self._splink.Linker(database.register(self._db.table("people")), made, log_level=None)
            failed = _learn(linker, known, rules) if count >= FEW else None
            if failed is None:
                return linker
            rules.remove(failed)


def _cell(record: Record, name: str) -> str | None:
    value = SEPARATOR.join(record.said_by) if name == "said_by" else getattr(record, name)
    return value or None


def _pages(records: Iterable[Record]) -> Iterator[list[Record]]:
    page: list[Record] = []
    for each in records:
        page.append(each)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


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


def _pair(row: dict[str, Any], known: Collection[str]) -> Pair:
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
