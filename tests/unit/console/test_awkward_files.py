"""Files that are damaged, or are something else than they seem: nothing that they hold goes missing without a word."""

import json

import openpyxl
import pytest

from services.console.importing.files import LONGEST_CELL, dialect_of, opened, rows_of
from services.console.importing.mapping import mappings_of
from services.console.importing.opening import open_file
from shared.errors import SamlaError

PEOPLE = {"type": "identify", "columns": {"id": "userId", "name": "traits.name"}}


@pytest.fixture
def file(tmp_path):
    def made(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return made


def read(path, **given):
    return [row for row, _ in rows_of(path, dialect_of(path, **given))]


# Nothing in it


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "", "x.csv is empty"),
        ("x.csv", "\n  \n\n", "x.csv has no rows"),
        ("x.csv", "id,name\n", "x.csv names its columns, and has no rows"),
        ("x.csv", "id,name\n,\n\n", "x.csv names its columns, and has no rows"),
        ("x.ndjson", "\n\n", "x.ndjson has no rows"),
        ("x.json", "[]", "x.json has no rows"),
    ],
)
def test_a_file_without_rows_is_an_error(file, name, content, says):
    with pytest.raises(SamlaError, match=says):
        open_file(file(name, content), "", "")


@pytest.mark.parametrize("rows", [[], [("id", "name")]])
def test_a_sheet_without_rows_is_an_error(tmp_path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path := tmp_path / "x.xlsx")
    with pytest.raises(SamlaError, match="no rows"):
        open_file(path, "", "")


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel"), (b"\x1f\x8b\x08\0\0", "gzip")]
)
def test_what_is_known_and_not_read_says_what_to_do(file, content, says):
    with pytest.raises(SamlaError, match=says):
        dialect_of(file("x.csv", content))


def test_what_it_is_is_told_by_its_beginning(tmp_path, file):
    """Whatever its name says."""
    book = openpyxl.Workbook()
    book.active.append(("id",))
    book.active.append(("1",))
    book.save(tmp_path / "x.xlsx")
    assert read((tmp_path / "x.xlsx").rename(tmp_path / "x.csv")) == [{"id": "1"}]
    assert read(file("x.txt", '{"id": "1"}\n')) == [{"id": "1"}]


# JSON


@pytest.mark.parametrize("name", ["x.json", "x.ndjson", "x.csv"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_of_objects_is_read_as_its_objects(file, name, indent, encoding):
    """In one line or in many, and whatever stands in its texts."""
    rows = [{"id": n, "text": 'a "], [{" ö' * (n % 5), "more": [{"x": [n]}]} for n in range(5_000)]
    assert read(file(name, json.dumps(rows, indent=indent, ensure_ascii=False).encode(encoding))) == rows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"id": 1},\n{"id": 2}', "the array is not closed"),
        ('[{"id": 1},\n{"id": ', "line 2 is no JSON, or the array is not closed"),
        ('[{"id": 1},\n\n{"id": oops}]', "line 3 is no JSON"),
        ('[{"id": 1}\n{"id": 2}]', "line 2 is no JSON: a comma is missing"),
        ('[{"id": 1},\n]', "line 2 is no JSON"),
        ('[{"id": 1}]\n{"id": 2}', "line 2 stands behind the array's end"),
        ('[{"id": 1},\n7]', "line 2 is no JSON object"),
        ("[" * 5_000, "nested too deep"),
        ('{\n  "id": 1\n}', "line 1 is no JSON: write an object a line, or an array of objects"),
    ],
)
def test_json_that_is_damaged_says_where(file, content, says):
    with pytest.raises(SamlaError, match=says):
        read(file("x.json", content))


def test_integers_that_64_bits_do_not_hold_keep_their_digits(file):
    """They are codes; a rounded one is somebody else's."""
    assert read(file("x.ndjson", '{"id": 12345678901234567890123}\n')) == [{"id": 12345678901234567890123}]


# Quotes


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('id,name\n1,a\n2,"b\n3,c\n4,d\n', 3),
        ('id,name\n1,a\n"2\n,b\n', 3),
        ('id,name\n1,"two\nlines"\n"3\n",c\n4,"d\n5,e\n', 6),
        ('id,name,x\n1,"two\nlines","c\n', 3),
    ],
)
def test_a_quote_that_is_not_closed_is_named_by_its_line(file, content, line):
    """What comes behind it is no part of a cell."""
    with pytest.raises(SamlaError, match=f"the quote that opens in line {line} is not closed"):
        read(file("x.csv", content))


def test_a_quote_that_swallows_rows_up_to_another_one_is_named_by_its_line(file):
    with pytest.raises(SamlaError, match="the quote that opens in line 3 is closed in the middle of a cell"):
        read(file("x.csv", 'id,name\n1,a\n2,"b\n3,c\n4,"d"\n5,e\n'))


def test_a_quote_that_is_not_closed_holds_no_more_than_a_cell_may(file):
    with pytest.raises(SamlaError, match="line 2 is not closed within 1,048,576 characters"):
        read(file("x.csv", 'id,name\n1,"b\n' + "3,c\n" * (LONGEST_CELL // 3)))


def test_rows_before_a_damaged_one_are_read(file):
    rows = rows_of(path := file("x.csv", 'id,name\n1,a\n2,"b\n'), dialect_of(path))
    assert next(rows)[0] == {"id": "1", "name": "a"}
    with pytest.raises(SamlaError):
        next(rows)


def test_a_line_without_end_is_not_held(file):
    with pytest.raises(SamlaError, match="line 2 has 16,777,216 characters or more"):
        read(file("x.csv", "id,name\n" + "x" * (1 << 24)), encoding="utf-8", separator=",")


# Encodings


def test_utf_8_with_a_few_bad_bytes_is_damaged_and_says_where(file):
    """It is not in Windows-1252: then all its other letters would be wrong."""
    content = "id,name\n1,Åsa\n2,Örjan\n3,Bj".encode() + b"\xf6" + "rn\n4,Väinö\n".encode()
    with pytest.raises(SamlaError, match="line 4 is not UTF-8, though others are: .*--encoding"):
        dialect_of(file("x.csv", content))
    assert read(file("x.csv", content), encoding="cp1252")[2] == {"id": "3", "name": "Björn"}


def test_a_file_that_was_cut_within_a_letter_says_so(file):
    with pytest.raises(SamlaError, match="line 3 is not UTF-8"):
        dialect_of(file("x.csv", "id,name\n1,Åsa\n2,Å".encode()[:-1]))


def test_why_an_encoding_was_chosen_is_told(file):
    notes = open_file(file("x.csv", "id;name\n1;Bo\n2;Åsa\n".encode("cp1252")), "", "").notes
    assert notes == ["read as cp1252 (Windows-1252, as line 3 is not UTF-8), with ';' between cells"]
    assert "utf-8 (all of it is)" in open_file(file("x.csv", "id\n1\n"), "", "").notes[0]


def test_what_is_in_neither_encoding_is_not_guessed(file):
    """0x81 is no letter of Windows-1252."""
    with pytest.raises(SamlaError, match="line 2 is not UTF-8, and line 3 is not Windows-1252: give --encoding"):
        dialect_of(file("x.csv", b"id,name\n1,\xe5\n2,\x81\n"))


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "base64", "undefined", "a\0b"])
def test_what_is_no_encoding_of_texts_is_refused(file, encoding):
    with pytest.raises(SamlaError):
        read(file("x.csv", "id\n1\n"), encoding=encoding)


# Separators


@pytest.mark.parametrize("line", ["sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_excels_line_about_the_separator_is_no_header(file, line):
    path = file("x.csv", line + 'id;name\n1;"a,b,c"\n')
    assert read(path) == [{"id": "1", "name": "a,b,c"}]
    assert read(path, separator=";") == [{"id": "1", "name": "a,b,c"}]


@pytest.mark.parametrize("separator", ["ab", '"', "\n", "\0"])
def test_what_can_separate_nothing_is_refused(file, separator):
    with pytest.raises(SamlaError, match="--separator is one character"):
        dialect_of(file("x.csv", "id\n1\n"), separator=separator)


def test_a_tab_may_be_said_as_one_types_it(file):
    path = file("x.csv", "id\tname\n1\ta\n")
    assert read(path, separator="tab") == read(path, separator="\\t") == read(path, separator="\t")


def test_columns_without_a_name_at_the_end_are_none_and_in_the_middle_are_an_error(file):
    """And the error does not repeat a name: where a file has none, it is somebody's."""
    assert read(file("x.csv", "id,name,\n1,a,\n")) == [{"id": "1", "name": "a"}]
    with pytest.raises(SamlaError, match="column 2 has no name"):
        read(file("x.csv", "id,,name\n1,2,3\n"))
    with pytest.raises(SamlaError, match="column 3 has the name of another$"):
        read(file("x.csv", "1,ada@example.org,ada@example.org\n"))


@pytest.mark.parametrize("head", ["1,ada@example.org", "anna,2026-01-02", "007,x"])
def test_a_first_line_that_looks_like_a_row_is_told(file, head):
    """Without what stands in it."""
    notes = open_file(file("x.csv", f"{head}\n2,b\n"), "", "").notes
    assert notes[-1] == "the first line looks like a row: it must name the columns"
    assert len(open_file(file("x.csv", "id,e-mail 2,3rd name\n2,b,c\n"), "", "").notes) == 1


# Excel


def test_formulas_without_a_value_are_counted_by_column(tmp_path):
    """A program that is not Excel writes them; the values are nowhere in the file."""
    book = openpyxl.Workbook()
    for row in (("id", "sum", "note"), ("1", "=1+1", "=A1"), ("2", 5, None), ("3", "=2+2", "x")):
        book.active.append(row)
    book.save(path := tmp_path / "x.xlsx")
    found = open_file(path, "", "")
    assert [row for row, _ in found.rows][1] == {"id": "2", "sum": 5, "note": None}
    assert found.formulas == {"sum": 2, "note": 1}
    assert found.notes == [
        "formulas whose values the file does not hold count as empty: open it in Excel and save it (sum: 2, note: 1)"
    ]


def test_a_row_of_nothing_but_formulas_is_a_row(tmp_path):
    book = openpyxl.Workbook()
    for row in (("id",), ("=1+1",)):
        book.active.append(row)
    book.save(path := tmp_path / "x.xlsx")
    assert read(path) == [{"id": None}]


# Columns and mappings


def test_columns_that_the_file_has_not_are_an_error_before_anything_is_sent(file):
    found = open_file(file("x.csv", "id,nom\n1,a\n"), "", "", mappings_of({**PEOPLE, "time": {"column": "at"}}))
    assert found.absent == ["name", "at"]
    with pytest.raises(SamlaError, match="columns that the file has not: name, at"):
        found.checked()


def test_of_objects_some_may_lack_a_name_but_not_all_lack_all(file):
    path = file("x.ndjson", '{"id": "1"}\n')
    assert open_file(path, "", "", mappings_of(PEOPLE)).checked().notes[1] == "none of the first rows has: name"
    with pytest.raises(SamlaError, match="has not: x"):
        open_file(path, "", "", mappings_of({"type": "identify", "columns": {"x": "userId"}})).checked()


def test_the_columns_are_known_before_the_rows(file):
    """And no row is lost by that."""
    path = file("x.csv", "id,name\n1,a\n2\n")
    found = opened(path, dialect_of(path))
    assert found.columns == ["id", "name"]
    assert [row for row, _ in found.rows] == [{"id": "1", "name": "a"}, {"id": "2"}] == read(path)
