"""Reading files as they really come: rows of named texts (CSV) or values (NDJSON, Parquet, Excel), one at a time.

A dialect is told by looking, and may be said instead: encodings with and without a byte order mark, separators,
quoted newlines. Nothing is held but the rows at hand. What cannot be read is an error with its line: nothing that a
file holds is left out without a word.
"""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
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
SEPARATOR_LINE: Final = re.compile(r'"?sep=(.)"?[\r\n]*')
"""What Excel writes and reads above the columns' names."""
LOOKED_AT: Final = 64 * 1024
"""Characters from which the separator is told."""
CHUNK: Final = 1 << 20
FEW: Final = 10
"""Windows-1252 has more than so many times as many bytes that are no UTF-8 as characters that look like it."""
LONGEST_CELL: Final = 1 << 20
LONGEST_LINE: Final = 1 << 24
"""Characters of a line, and of an item of a JSON array."""
KINDS: Final = {
    ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".parquet": "parquet", ".xlsx": "excel",
}  # fmt: skip
"""A file's ending -> its kind; everything else is CSV."""
BEGINNINGS: Final = ((b"PAR1", "parquet"), (b"PK\x03\x04", "excel"))
"""A file's first bytes -> its kind, whatever its ending."""
UNREADABLE: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel file: save it as .xlsx, or as CSV"),
    (b"\x1f\x8b", "packed by gzip: unpack it before"),
)
JSON_LIKE: Final = re.compile(r'\s*(\[\s*)?\{\s*["}]')
PEEKED: Final = 1_000
"""Objects whose names stand for the columns of NDJSON."""
LINE_END: Final = re.compile(r"\r\n|\r|\n")
MANY_DIGITS: Final = re.compile(r"\d{19}")

Row = dict[str, Any]
Told = Callable[[str], None]
"""Takes the name of a column of which a cell has no value, though a formula stands there."""


class Dialect(NamedTuple):
    """How a file is written."""

    kind: str
    """`csv`, `ndjson`, `parquet` or `excel`."""
    encoding: str
    separator: str
    why: str = ""
    """Of the encoding, for people."""


class Opened(NamedTuple):
    """A file that has rows."""

    columns: list[str]
    """Of NDJSON, those of its first objects."""
    rows: Iterator[tuple[Row, int]]
    """As rows_of has them."""


def dialect_of(path: Path, encoding: str = "", separator: str = "") -> Dialect:
    """The file's dialect; what is given is believed. Raises SamlaError."""
    kind = _kind_of(path)
    if kind in ("parquet", "excel"):
        return Dialect(kind, "", "")
    encoding, why = (_known(encoding), "as given") if encoding else _encoding_of(path)
    head = _head(path, encoding)
    if kind == "csv" and JSON_LIKE.match(head):
        kind = "ndjson"
    return Dialect(kind, encoding, _separator(separator, head) if kind == "csv" else "", why)


def _kind_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise SamlaError(f"cannot read {path.name}: {error.strerror}") from error
    if not head:
        raise SamlaError(f"{path.name} is empty")
    for beginning, what in UNREADABLE:
        if head.startswith(beginning):
            raise SamlaError(f"{path.name} is {what}")
    return next((kind for beginning, kind in BEGINNINGS if head.startswith(beginning)), _by_ending(path))


def _by_ending(path: Path) -> str:
    return KINDS.get(path.suffix.lower(), "csv")


def _known(encoding: str) -> str:
    try:
        # Some codecs are known, and make no text.
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise SamlaError(f"there is no encoding {encoding!r}; utf-8, utf-16 and cp1252 are the usual ones") from error


def _encoding_of(path: Path) -> tuple[str, str]:
    """(encoding, why): by its mark; else UTF-8 if all of it is that, else what Windows writes in the west."""
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding, "by its byte order mark"
    if b"\0" in head:
        return ("utf-16-le" if head[1:2] == b"\0" else "utf-16-be"), "every other byte is 0"
    line = _wrong_line(path, "utf-8")
    return ("utf-8", "all of it is") if line is None else _western(path, line)


def _wrong_line(path: Path, encoding: str) -> int | None:
    """The first line that is not in this encoding."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK):
                line += decoder.decode(chunk).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            return line + error.object[: error.start].count(b"\n")
        except UnicodeError:
            return line
    return None


def _western(path: Path, line: int) -> tuple[str, str]:
    """Windows-1252, if that can be: a file that is UTF-8 but for a few bytes is a damaged one."""
    decoder, good, bad = codecs.getincrementaldecoder("utf-8")("surrogateescape"), 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            text = decoder.decode(chunk)
            bad += len(re.findall("[\udc80-\udcff]", text))
            good += len(re.findall("[^\0-\x7f\udc80-\udcff]", text))
    if good * FEW >= bad:
        raise SamlaError(f"line {line} is not UTF-8, though others are: mend it, or give --encoding utf-8 or cp1252")
    other = _wrong_line(path, "cp1252")
    if other is not None:
        raise SamlaError(f"line {line} is not UTF-8, and line {other} is not Windows-1252: give --encoding")
    return "cp1252", f"Windows-1252, as line {line} is not UTF-8"


def _head(path: Path, encoding: str) -> str:
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        try:
            return file.read(LOOKED_AT).removeprefix("\ufeff")
        except UnicodeError as error:
            # What cannot be replaced: a mark that is missing, say.
            raise SamlaError(f"{path.name} is not {encoding}: give --encoding") from error


def _separator(given: str, head: str) -> str:
    """The one that is given, or that the file names, or that cuts the most lines into the same number (more than one)
    of cells as the first."""
    given = "\t" if given in ("\\t", "tab") else given
    if given and (len(given) != 1 or given in '"\r\n\0'):
        raise SamlaError("--separator is one character, such as ; or tab")
    said = SEPARATOR_LINE.match(head)
    return given or (said[1] if said else max(SEPARATORS, key=lambda each: _evenness(head, each)))


def _evenness(sample: str, separator: str) -> tuple[int, int]:
    try:
        widths = [len(row) for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator) if row]
    except csv.Error:
        return (0, 0)
    first = widths[0] if widths else 0
    # The last line of a sample may be cut off.
    even = sum(width == first for width in widths[:-1] or widths)
    return (even, first) if first > 1 else (0, 0)


def nobody_listens(column: str) -> None:
    """A Told."""


def opened(path: Path, dialect: Dialect, told: Told = nobody_listens) -> Opened:
    """Its columns and rows. Raises SamlaError where it has none of either, or as rows_of."""
    read = _read(path, dialect, told)
    if dialect.kind == "ndjson":
        first = list(itertools.islice(read, PEEKED))
        columns = list(dict.fromkeys(name for row, _ in first for name in row))
    else:
        columns = list(next(read)[0])
        first = list(itertools.islice(read, 1))
    if not first:
        raise SamlaError(f"{path.name} names its columns, and has no rows" if columns else f"{path.name} has no rows")
    return Opened(columns, itertools.chain(first, read))


def rows_of(path: Path, dialect: Dialect, told: Told = nobody_listens) -> Iterator[tuple[Row, int]]:
    """(row, bytes read so far). Raises SamlaError with the line where the file cannot be read."""
    return itertools.islice(_read(path, dialect, told), 0 if dialect.kind == "ndjson" else 1, None)


def _read(path: Path, dialect: Dialect, told: Told) -> Iterator[tuple[Row, int]]:
    """As rows_of; but where a file names its columns, a row of them with nothing in it comes before the others."""
    if dialect.kind in ("csv", "ndjson"):
        return _text_rows(path, dialect)
    try:
        tables = import_module("services.console.importing.tables")
    except ImportError as error:
        raise SamlaError("Parquet and Excel files need more libraries: pip install 'samla[files]'") from error
    return _table_rows(path, getattr(tables, dialect.kind)(path, told))


def _table_rows(path: Path, rows: Iterator[tuple[Row, int]]) -> Iterator[tuple[Row, int]]:
    try:
        yield from rows
    except SamlaError:
        raise
    except Exception as error:
        # Only its type: the text may quote the file.
        raise SamlaError(f"{path.name} cannot be read ({type(error).__name__}): is it whole?") from error


def _text_rows(path: Path, dialect: Dialect) -> Iterator[tuple[Row, int]]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open("rb") as raw:
        lines = _Lines(io.TextIOWrapper(raw, encoding=dialect.encoding, newline=""))
        try:
            for row in _csv(lines, dialect.separator) if dialect.kind == "csv" else _json(lines):
                yield row, raw.tell()
        except UnicodeError as error:
            line = _wrong_line(path, dialect.encoding) or lines.number
            raise SamlaError(f"line {line} of {path.name} is not {dialect.encoding}: give --encoding") from error


class _Lines:
    """A text's lines; those of the row at hand are remembered."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.number = 0
        self.of_row: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == LONGEST_LINE:
            raise SamlaError(f"line {self.number} has {LONGEST_LINE:,} characters or more: is this a file of rows?")
        if self.number == 1:
            line = line.removeprefix("\ufeff")
        self.of_row.append(line)
        return line

    def read(self, most: int) -> str:
        """So many characters, whatever lines they are of."""
        return self._text.read(most)

    def begins_with(self, character: str) -> bool:
        """Whether the text does, but for space. To be asked before anything is read."""
        head = self._text.read(LOOKED_AT)
        self._text.seek(0)
        return head.removeprefix("\ufeff").lstrip().startswith(character)


# CSV


def _csv(lines: _Lines, separator: str) -> Iterator[Row]:
    first = next(lines, "")
    # A line that says the separator is above the names.
    reader = csv.reader(
        lines if SEPARATOR_LINE.fullmatch(first) else itertools.chain([first], lines), delimiter=separator, strict=True
    )
    try:
        names = check_names(next(filter(any, reader), []))
        yield dict.fromkeys(names)
        lines.of_row.clear()
        for cells in reader:
            if any(cells):
                yield named(names, cells, lines.number)
            lines.of_row.clear()
    except csv.Error as error:
        raise SamlaError(_no_csv(lines, separator, error)) from error


def _no_csv(lines: _Lines, separator: str, error: csv.Error) -> str:
    """What is wrong, by the line where it begins."""
    before = _before_quote("".join(lines.of_row), separator)
    begins = lines.number - len(lines.of_row) + 1
    if before is None:
        return f"line {begins} is no CSV: {error}"
    quote = f"the quote that opens in line {begins + before}"
    if "expected after" in str(error):
        return f"{quote} is closed in the middle of a cell: is one missing? Within a cell quotes are written twice"
    return f"{quote} is not closed" + (f" within {LONGEST_CELL:,} characters" if "limit" in str(error) else "")


def _before_quote(text: str, separator: str) -> int | None:
    """How many lines of a row stand before the quote that is not closed as it should be; None where there is none."""
    ends, at, opened_at = (separator, "\r", "\n", ""), 0, -1
    begins = True
    while at < len(text):
        if opened_at < 0:
            opened_at = at if begins and text[at] == '"' else -1
            begins = text[at] in ends
        elif text[at] == '"' and text[at + 1 : at + 2] == '"':
            at += 1
        elif text[at] == '"':
            if text[at + 1 : at + 2] not in ends:
                break
            opened_at = -1
        at += 1
    return None if opened_at < 0 else len(LINE_END.findall(text[:opened_at]))


def check_names(names: Sequence[str]) -> list[str]:
    """The columns' names, without empty ones at the end. Raises SamlaError where they cannot name columns."""
    found = [name.strip() for name in names]
    while found and not found[-1]:
        found.pop()
    for place, name in enumerate(found, 1):
        # Not by its name: what stands there may be somebody's, where a file has no names.
        if not name or name in found[: place - 1]:
            what = "has the name of another" if name else "has no name"
            raise SamlaError(f"the first line must name the columns, each differently: column {place} {what}")
    return found


def named(names: list[str], cells: list[Any], line: int) -> Row:
    """The cells by name. Raises SamlaError where there are more of them than columns."""
    if len(cells) > len(names) and any(cells[len(names) :]):
        raise SamlaError(f"line {line} has {len(cells)} cells, but there are {len(names)} columns: see --separator")
    return dict(zip(names, cells, strict=False))


# JSON: an object a line, or an array of objects


def _json(lines: _Lines) -> Iterator[Row]:
    if lines.begins_with("["):
        yield from _array(lines)
        return
    for line in lines:
        lines.of_row.clear()
        if line.strip():
            yield _object(line, lines.number)


def _object(text: str, line: int) -> Row:
    try:
        value = orjson.loads(text)
        if MANY_DIGITS.search(text):
            # An integer of more than 64 bits would be rounded; it is a code.
            value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SamlaError(f"line {line} is no JSON: write an object a line, or an array of objects") from error
    if not isinstance(value, dict):
        raise SamlaError(f"line {line} is no JSON object")
    return value


def _array(lines: _Lines) -> Iterator[Row]:
    """The objects of an array, which may be one line. Held is the one at hand."""
    text, line = _trimmed(lines, lines.read(1).removeprefix("\ufeff"), 1)
    text, found, after = text[1:], False, ""
    while True:
        text, line = _trimmed(lines, text, line)
        if not text:
            raise SamlaError(f"the array is not closed: the file ends in line {line}")
        if text[0] == "]" and after != ",":
            break
        if found and after != ",":
            if text[0] != ",":
                raise SamlaError(f"line {line} is no JSON: a comma is missing")
            text, after = text[1:], ","
            continue
        item, text = _item(lines, text, line)
        yield _object(item, line)
        line += item.count("\n")
        found, after = True, ""
    text, line = _trimmed(lines, text[1:], line)
    if text:
        raise SamlaError(f"line {line} stands behind the array's end")


def _trimmed(lines: _Lines, text: str, line: int) -> tuple[str, int]:
    """(text without space before it, and not empty unless the file ends; its line)."""
    while True:
        bare = text.lstrip()
        line += text[: len(text) - len(bare)].count("\n")
        if bare:
            return bare, line
        text = lines.read(LOOKED_AT)
        if not text:
            return "", line


def _item(lines: _Lines, text: str, line: int) -> tuple[str, str]:
    """(the text of the first item, what follows it)."""
    while True:
        try:
            end = _DECODER.raw_decode(text)[1]
            if end < len(text):
                return text[:end], text[end:]
        except ValueError as error:
            wrong = line + text[: getattr(error, "pos", 0)].count("\n")
        except RecursionError:
            raise SamlaError(f"line {line} is no JSON that can be read: it is nested too deep") from None
        else:
            wrong = line
        if len(text) >= LONGEST_LINE:
            raise SamlaError(f"line {wrong} is no JSON, or an item has {LONGEST_LINE:,} characters or more")
        # Twice as much each time, so that a long item is not tried over and over.
        more = lines.read(max(LOOKED_AT, len(text)))
        if not more:
            raise SamlaError(f"line {wrong} is no JSON, or the array is not closed")
        text += more


_DECODER: Final = json.JSONDecoder()
