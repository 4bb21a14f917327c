"""The command line under clumsy and hostile hands: an error is a line that says what to do, and never a traceback."""

import json
import sys

import openpyxl
import pytest

from services.console.cli import main
from services.console.given import BIGGEST, json_of
from tests.unit.console.test_sending import TAKEN, nobody, serving

PEOPLE = json.dumps({"type": "identify", "columns": {"id": "userId"}})
BIG = "9" * 25


@pytest.fixture
def samla(monkeypatch, tmp_path, capsys):
    """Runs the command; gives (exit code, what it printed, what it said of errors)."""
    monkeypatch.setenv("SAMLA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1//")
    monkeypatch.setenv("COLLECTOR_URL", nobody())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["samla", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("id,name\n1,Ada\n2,Bo\n")
    return str(path)


@pytest.mark.parametrize(
    ("code", "says", "arguments"),
    [
        (1, "more than 64 bits", ["source", "set", "s", "--rate", BIG]),
        (2, "say what is to be different", ["source", "set", "s"]),
        (1, "nan is no number", ["source", "rotate", "s", "--overlap-hours", "nan"]),
        (1, "inf is no number", ["source", "rotate", "s", "--overlap-hours", "inf"]),
        (2, "'warn', 'drop', 'quarantine'", ["source", "learn", "s", "--mode", "nosuch"]),
        (2, "greater than or equal to 1", ["source", "learn", "s", "--messages", "0"]),
        (2, "more than 64 bits", ["source", "clean", "s", f'{{"set": {{"a": {BIG}}}}}']),
        (2, "not JSON", ["source", "clean", "s", "[" * 5_000 + "]" * 5_000]),
        (2, "nested 100 deep", ["source", "clean", "s", "[" * 200 + "]" * 200]),
        (2, "not JSON", ["source", "clean", "s", '{"a": NaN}']),
        (2, "not JSON", ["source", "clean", "s", '{"a": "\\ud800"}']),
        (2, "cannot read nosuch", ["source", "clean", "s", "@nosuch"]),
        (2, "cannot read nosuch", ["source", "connect", "s", "shopify", "--secret", "@nosuch"]),
        (2, "more than 64 bits", ["quarantine", "mend", "q", "--rule", f'{{"set": {{"a": {BIG}}}}}']),
        (2, "less than or equal to 1000", ["quarantine", "list", "--limit", BIG]),
        (2, "greater than or equal to 1", ["delivery", "list", "--limit", "-1"]),
        (2, "less than or equal to 1000", ["segment", "members", "s", "--limit", BIG]),
        (2, "less than or equal to", ["log", "read", "tracking", "--after", BIG]),
        (2, "greater than or equal to 0", ["log", "read", "tracking", "--partition", "-1"]),
        (1, "no character of Unicode", ["source", "create", "\udcff"]),
        (1, "RabbitMQ does not answer", ["source", "list"]),
        (1, "RabbitMQ does not answer", ["log", "lag"]),
        (1, "not an instant", ["profile", "show", "p", "--as-of", "yesterday"]),
    ],
)
def test_what_cannot_be_is_said_in_a_line(samla, code, says, arguments):
    ended, _, errors = samla(*arguments)
    assert ended == code and says in errors.splitlines()[-1], errors


@pytest.mark.parametrize(
    ("code", "says", "options"),
    [
        (2, "--mapping", []),
        (2, "--write-key", ["--mapping", PEOPLE]),
        (2, "greater than or equal to 0", ["--propose", "--rows", "-5"]),
        (1, "--separator is one character", ["--propose", "--separator", "ab"]),
        (1, "no encoding", ["--propose", "--encoding", "rot13"]),
        (2, "cannot read nosuch", ["--mapping", "@nosuch", "--dry-run"]),
        (2, "cannot read nosuch", ["--mapping", PEOPLE, "--write-key", "@nosuch"]),
        (1, "a write key is", ["--mapping", PEOPLE, "--write-key", "a b"]),
        (1, "no address of a collector", ["--mapping", PEOPLE, "--write-key", "k", "--url", "ftp://x"]),
        (1, "nobody listens there", ["--mapping", PEOPLE, "--write-key", "k", "--patience", "0"]),
        (2, "less than or equal to", ["--mapping", PEOPLE, "--write-key", "k", "--patience", "inf"]),
        (2, "more than 64 bits", ["--mapping", f'{{"set": {{"traits.x": {BIG}}}}}', "--dry-run"]),
        (1, "the file has not: nosuch", ["--dry-run", "--mapping", PEOPLE.replace('"id"', '"nosuch"')]),
        (1, "the file has not: nosuch", ["--write-key", "k", "--mapping", PEOPLE.replace('"id"', '"nosuch"')]),
    ],
)
def test_an_import_that_cannot_be_says_why_before_anything_is_sent(samla, people, code, says, options):
    """With no way to a collector, nothing of this is waited for."""
    ended, _, errors = samla("import", people, *options)
    assert ended == code and says in errors.splitlines()[-1], errors


def test_imports_go_to_where_the_settings_say(samla, people, monkeypatch):
    with serving(TAKEN) as (url, got):
        monkeypatch.setenv("COLLECTOR_URL", url)
        ended, printed, _ = samla("import", people, "--mapping", PEOPLE, "--write-key", "k", "--json")
    assert ended == 0 and len(got[0]["batch"]) == 2
    report = json.loads(printed)
    assert (report["rows"], report["messages"]) == (2, 2)
    assert report["notes"] == ["read as utf-8 (all of it is), with ',' between cells"]


def test_a_file_of_which_nothing_comes_is_no_success(samla, people, tmp_path):
    """No row that gives a message, and all of them set aside."""
    needy = json.dumps({**json.loads(PEOPLE), "needs": ["name"]})
    empty = tmp_path / "empty.csv"
    empty.write_text("id,name\n1,\n2,\n")
    ended, _, errors = samla("import", str(empty), "--mapping", needy, "--write-key", "k")
    assert ended == 1 and "no row of the file gives a message" in errors
    assert samla("import", str(empty), "--mapping", needy, "--dry-run")[0] == 1
    aside = {"success": True, "set_aside": [{"code": "no_identifier"}] * 2}
    with serving((200, aside)) as (url, _):
        ended, printed, errors = samla("import", people, "--mapping", PEOPLE, "--write-key", "k", "--url", url)
    assert ended == 1 and "samla quarantine list" in errors and "no_identifier" in printed


def test_done_twice_it_is_a_success_twice(samla, people):
    with serving(TAKEN) as (url, _):
        command = ["import", people, "--mapping", PEOPLE, "--write-key", "k", "--url", url, "--json"]
        assert samla(*command)[0] == 0
        ended, printed, _ = samla(*command)
    assert ended == 0 and json.loads(printed)["skipped"] == 2


def test_an_error_in_the_middle_of_a_file_says_how_many_rows_are_in(samla, tmp_path):
    """Those of whole batches; mended and sent again, the file counts once."""
    path = tmp_path / "long.csv"
    path.write_text("id,name\n" + "1,a\n" * 1_200 + '1,"b\n1,c\n')
    with serving(TAKEN) as (url, got):
        ended, _, errors = samla("import", str(path), "--mapping", PEOPLE, "--write-key", "k", "--url", url)
    assert ended == 1 and sum(len(each["batch"]) for each in got) == 1_000
    assert errors.splitlines()[-2:] == [
        "samla: 1,000 rows before that are in; sent again, they count once",
        "samla: the quote that opens in line 1202 is not closed",
    ]


def test_formulas_are_told_once_when_all_rows_are_read(samla, tmp_path):
    book = openpyxl.Workbook()
    for row in (("id", "sum"), ("1", "=1+1"), ("2", "=1+1")):
        book.active.append(row)
    book.save(path := tmp_path / "x.xlsx")
    _, _, errors = samla("import", str(path), "--mapping", PEOPLE, "--dry-run")
    assert [line.rpartition("(")[2] for line in errors.splitlines()] == ["sum: 2)"]


def test_what_is_noticed_of_a_file_is_said_beside_the_answer(samla, people):
    """On standard error, so that a mapping can be written to a file."""
    ended, printed, errors = samla("import", people, "--propose")
    assert ended == 0 and json.loads(printed)["type"] == "identify" and "read as utf-8" in errors


def test_no_more_json_is_taken_than_is_sent(tmp_path):
    """A text of 17 MB, say."""
    path = tmp_path / "big.json"
    path.write_text(json.dumps({"x": "y" * BIGGEST}))
    with pytest.raises(Exception, match="no more than 8,388,608 bytes"):
        json_of(f"@{path}")


def test_json_is_what_it_was():
    assert json_of('{"a": [1, 2.5, null, true, "å"], "b": 9223372036854775807}') == {
        "a": [1, 2.5, None, True, "å"], "b": 2**63 - 1,
    }  # fmt: skip
