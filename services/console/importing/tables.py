"""Parquet and Excel: what needs libraries of its own (the extra `files`)."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException
from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from services.console.importing.files import Row, check_names, named
from shared.errors import SamlaError

PAGE: Final = 1_000
"""Rows of a Parquet file that are read at once."""


def parquet(path: Path) -> Iterator[tuple[Row, int]]:
    """(row, about how many bytes in). Raises SamlaError."""
    try:
        with ParquetFile(path) as file:
            size, total, done = path.stat().st_size, max(1, file.metadata.num_rows), 0
            for page in file.iter_batches(PAGE):
                for row in page.to_pylist():
                    done += 1
                    yield {name: _plain(value) for name, value in row.items()}, size * done // total
    except ArrowException as error:
        raise SamlaError(f"{path.name} is no Parquet file that can be read") from error


def excel(path: Path) -> Iterator[tuple[Row, int]]:
    """(row, 0) of the first sheet, its first row being the columns' names. Raises SamlaError."""
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, BadZipFile, KeyError) as error:
        raise SamlaError(f"{path.name} is no Excel file that can be read") from error
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        names = ["" if each is None else str(each).strip() for each in next(rows, ())]
        while names and not names[-1]:
            names.pop()
        check_names(names)
        for number, cells in enumerate(rows, 2):
            if any(each is not None for each in cells):
                yield named(names, [_plain(each) for each in cells], number), 0
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
