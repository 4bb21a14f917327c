"""Reading files as they really come: rows of named texts (CSV) or values (NDJSON, Parquet, Excel), one at a time.

A dialect is told by looking, and may be said instead: encodings with and without a byte order mark, separators,
quoted newlines. Nothing is held but the rows at hand.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from shared.errors import SamlaError

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS: Final = ";,\t|"
LOOKED_AT: Final = 64 * 1024
"""Characters from which the separator is told."""
CHUNK: Final = 1 << 20
LONGEST_CELL: Final = 1 << 20
KINDS: Final = {".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".xlsx": "excel"}
"""A file's ending -> its kind; everything else is CSV."""

Row = dict[str, Any]


class Dialect(NamedTuple):
    """How a file is written."""

    kind: str
    """`csv`, `ndjson`, `parquet` or `excel`."""
    encoding: str
    separator: str


def dialect_of(path: Path, encoding: str = "", separator: str = "") -> Dialect:
    """The file's dialect; what is given is believed. Raises SamlaError."""
    kind = KINDS.get(path.suffix.lower(), "csv")
    if kind in ("parquet", "excel"):
        return Dialect(kind, "", "")
    try:
        encoding = codecs.lookup(encoding).name if encoding else _encoding_of(path)
    except LookupError as error:
        raise SamlaError(f"there is no encoding {encoding}; utf-8, utf-16 and cp1252 are the usual ones") from error
    return Dialect(kind, encoding, separator or (_separator_of(path, encoding) if kind == "csv" else ""))


def _encoding_of(path: Path) -> str:
    """By its mark; else UTF-8 if all of it is that, else what Windows writes in the west."""
    with path.open("rb") as file:
        head = file.read(4)
        for mark, encoding in MARKS:
            if head.startswith(mark):
                return encoding
        if b"\0" in head:
            return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _separator_of(path: Path, encoding: str) -> str:
    """The one that cuts the most lines into the same number (more than one) of cells as the first."""
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        sample = file.read(LOOKED_AT)
    return max(SEPARATORS, key=lambda each: _evenness(sample, each))


def _evenness(sample: str, separator: str) -> tuple[int, int]:
    try:
        widths = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator) if row]
    except csv.Error:
        return (0, 0)
    first = widths[0] if widths else 0
    # The last line of a sample may be cut off.
    even = sum(width == first for width in widths[:-1] or widths)
    return (even, first) if first > 1 else (0, 0)


def rows_of(path: Path, dialect: Dialect) -> Iterator[tuple[Row, int]]:
    """(row, bytes read so far). Raises SamlaError with the line where the file cannot be read."""
    if dialect.kind in ("csv", "ndjson"):
        return _text_rows(path, dialect)
    try:
        tables = import_module("services.console.importing.tables")
    except ImportError as error:
        raise SamlaError("Parquet and Excel files need more libraries: pip install 'samla[files]'") from error
    found: Iterator[tuple[Row, int]] = getattr(tables, dialect.kind)(path)
    return found


def _text_rows(path: Path, dialect: Dialect) -> Iterator[tuple[Row, int]]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open("rb") as raw:
        text = io.TextIOWrapper(raw, encoding=dialect.encoding, newline="")
        try:
            rows = _csv(text, dialect.separator) if dialect.kind == "csv" else _ndjson(text)
            for row in rows:
                yield row, raw.tell()
        except UnicodeDecodeError as error:
            raise SamlaError(f"{path.name} is not {dialect.encoding}: give --encoding") from error


def _csv(text: io.TextIOWrapper, separator: str) -> Iterator[Row]:
    reader = csv.reader(text, delimiter=separator)
    try:
        names = [name.strip() for name in next(reader, [])]
        check_names(names)
        for cells in reader:
            if any(cells):
                yield named(names, cells, reader.line_num)
    except csv.Error as error:
        raise SamlaError(f"line {reader.line_num} is no CSV: {error}") from error


def check_names(names: list[str]) -> None:
    """Raises SamlaError where they cannot name columns."""
    if len(set(names)) != len(names) or not all(names):
        raise SamlaError("the first line must name the columns, each differently")


def named(names: list[str], cells: list[Any], line: int) -> Row:
    """The cells by name. Raises SamlaError where there are more of them than columns."""
    if len(cells) > len(names) and any(cells[len(names) :]):
        raise SamlaError(f"line {line} has {len(cells)} cells, but there are {len(names)} columns: see --separator")
    return dict(zip(names, cells, strict=False))


def _ndjson(text: io.TextIOWrapper) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise SamlaError(f"line {number} is no JSON") from error
            if not isinstance(value, dict):
                raise SamlaError(f"line {number} is no JSON object")
            yield value
