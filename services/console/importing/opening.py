"""A file and the mappings that it is read by, held together before anything is sent."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.console.importing.files import Dialect, dialect_of, opened
from services.console.importing.mapping import Mapping_, columns_of
from shared.errors import SamlaError

VALUE: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|0\d+|[1-9]\d{0,2}|\d{5,}|\d{4}-\d\d-\d\d.*")
"""What is no name of a column; a year is."""


class Opening(NamedTuple):
    """What is known of a file before its rows are read, and its rows."""

    columns: list[str]
    rows: Iterator[tuple[dict[str, Any], int]]
    """As files.rows_of has them."""
    absent: list[str]
    """Columns of the mappings that the file has not."""
    wrong: str
    """Why nothing good can come of it; empty where it can."""
    dialect: Dialect
    formulas: Counter[str]
    """Column -> formulas without a value in the rows read so far."""

    @property
    def notes(self) -> list[str]:
        """What was noticed of all of it, for people. To be asked once the rows are read."""
        return [*self.first_notes, *self.last_notes]

    @property
    def first_notes(self) -> list[str]:
        """What can be told before the rows are read."""
        columns = self.columns if self.dialect.kind == "csv" else []
        return [*_of_dialect(self.dialect), *_of_columns(columns), *_of_absent(self.absent, self.wrong)]

    @property
    def last_notes(self) -> list[str]:
        """What only the rows tell."""
        return _of_formulas(self.formulas)

    def checked(self) -> "Opening":
        """Itself. Raises SamlaError where nothing good can come of it."""
        if self.wrong:
            raise SamlaError(self.wrong)
        return self


def open_file(path: Path, encoding: str, separator: str, mappings: Sequence[Mapping_] = ()) -> Opening:
    """Opens a file for these mappings. Raises SamlaError where it cannot be read, or has no rows."""
    dialect, formulas = dialect_of(path, encoding, separator), Counter[str]()
    columns, rows = opened(path, dialect, lambda column: formulas.update([column]))
    wanted = dict.fromkeys(columns_of(mappings))
    absent = [name for name in wanted if name not in columns]
    # An object without a name is not a mistake; a file in which none of them stands is.
    wrong = bool(absent) and (dialect.kind != "ndjson" or len(absent) == len(wanted))
    return Opening(columns, rows, absent, _missing(absent) if wrong else "", dialect, formulas)


def _missing(absent: Sequence[str]) -> str:
    return f"the mapping names columns that the file has not: {', '.join(absent)}. Mend it; --propose shows what it has"


def _of_dialect(dialect: Dialect) -> list[str]:
    if not dialect.encoding:
        return []
    between = f", with {dialect.separator!r} between cells" if dialect.separator else ""
    return [f"read as {dialect.encoding} ({dialect.why}){between}"]


def _of_columns(columns: Sequence[str]) -> list[str]:
    # Not which of them: it may be somebody's.
    return ["the first line looks like a row: it must name the columns"] if any(map(VALUE.fullmatch, columns)) else []


def _of_absent(absent: Sequence[str], wrong: str) -> list[str]:
    # What is wrong is an error, told as such.
    return [f"none of the first rows has: {', '.join(absent)}"] if absent and not wrong else []


def _of_formulas(formulas: Counter[str]) -> list[str]:
    if not formulas:
        return []
    where = ", ".join(f"{name}: {number}" for name, number in formulas.items())
    return [f"formulas whose values the file does not hold count as empty: open it in Excel and save it ({where})"]
