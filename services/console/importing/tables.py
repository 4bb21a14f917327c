"""Parquet and Excel: what needs libraries of its own (the extra `files`)."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import BadZipFile, ZipFile

from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException
from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from services.console.importing.files import Row, Told, check_names, named
from shared.errors import SamlaError

PAGE: Final = 1_000
"""Rows of a Parquet file that are read at once."""
PIECE: Final = 1 << 20
FORMULA: Final = re.compile(rb"<f[ >/]")


def parquet(path: Path, told: Told) -> Iterator[tuple[Row, int]]:
    """(row, about how many bytes in); before them all a row that has nothing but names. Raises SamlaError."""
    try:
        with ParquetFile(path) as file:
            size, total, done = path.stat().st_size, max(1, file.metadata.num_rows), 0
            yield dict.fromkeys(file.schema_arrow.names), 0
            for page in file.iter_batches(PAGE):
                for row in page.to_pylist():
                    done += 1
                    yield {name: _plain(value) for name, value in row.items()}, size * done // total
    except ArrowException as error:
        raise SamlaError(f"{path.name} is no Parquet file that can be read") from error


def excel(path: Path, told: Told) -> Iterator[tuple[Row, int]]:
    """(row, 0) of the first sheet; its first row is the columns' names, and comes first with nothing in it.

    Raises SamlaError.
    """
    with path.open("rb") as file:
        book = _book(path, file, values=True)
        try:
            rows = book.worksheets[0].iter_rows(values_only=True)
            names = check_names(["" if each is None else str(each) for each in next(rows, ())])
            yield dict.fromkeys(names), 0
            formulas = _formulas(path, len(names)) if _has_formulas(path) else itertools.repeat(())
            for number, (cells, formula_at) in enumerate(zip(rows, formulas, strict=False), 2):
                for place in formula_at:
                    if cells[place] is None:
                        told(names[place])
                if formula_at or any(each is not None for each in cells):
                    yield named(names, [_plain(each) for each in cells], number), 0
        finally:
            book.close()


def _book(path: Path, file: BinaryIO, values: bool) -> Workbook:
    try:
        book = load_workbook(file, read_only=True, data_only=values)
    except (InvalidFileException, BadZipFile, KeyError) as error:
        raise SamlaError(f"{path.name} is no Excel file that can be read") from error
    if not book.worksheets:
        raise SamlaError(f"{path.name} has no sheet")
    return book


def _has_formulas(path: Path) -> bool:
    """Whether any sheet has one: then the file is read twice."""
    with ZipFile(path) as parts:
        return any(_holds(parts, name) for name in parts.namelist() if name.startswith("xl/worksheets/"))


def _holds(parts: ZipFile, name: str) -> bool:
    before = b""
    with parts.open(name) as part:
        while piece := part.read(PIECE):
            if FORMULA.search(before + piece):
                return True
            before = piece[-2:]
    return False


def _formulas(path: Path, columns: int) -> Iterator[Sequence[int]]:
    """Of each row behind the first: which of its cells are formulas. Their values are not in this reading."""
    with path.open("rb") as file:
        book = _book(path, file, values=False)
        try:
            for row in itertools.islice(book.worksheets[0].iter_rows(), 1, None):
                yield [place for place, cell in enumerate(row[:columns]) if cell.data_type == "f"]
        finally:
            book.close()


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    return value


def _decimal(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


_CONVERSIONS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((datetime, date, time), lambda value: value.isoformat()),
    (Decimal, _decimal),
    (float, lambda value: value if isfinite(value) else None),
    (bytes, lambda value: value.decode(errors="replace")),
    (list, lambda value: [_plain(each) for each in value]),
    (dict, lambda value: {str(name): _plain(each) for name, each in value.items()}),
)
