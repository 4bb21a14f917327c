"""The page about imports cannot lie: its files give its messages by its mappings."""

import json
import re
from datetime import datetime
from pathlib import Path

import msgspec
import openpyxl
import pytest
from typer.testing import CliRunner

from services.console.cli import app
from services.console.importing.files import dialect_of, rows_of
from services.console.importing.mapping import Column, Mapping_, Time, mapped, mappings_of
from services.console.importing.proposal import proposed
from services.console.importing.trying import trial

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/imports.md").read_text()
FOLDER = ROOT / "docs/examples/imports"
EXAMPLES = {"people": "people.ndjson", "crm": "crm.xlsx", "orders": "orders.csv", "survey": "survey.csv"}
DIALECTS = {"orders": ("csv", "cp1252", ";"), "survey": ("csv", "utf-8-sig", ",")}


def shown(name):
    """The blocks of an example: {what they are written in: text}."""
    section = PAGE.split(f"(examples/imports/{name}.json)")[1].split("\n## ")[0]
    return dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)), section


def table_of(section):
    """A page's table as rows of cells, as Excel holds them: dates as dates."""
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [
        [datetime.fromisoformat(cell) if re.fullmatch(r"\d{4}-\d\d-\d\d", cell) else cell for cell in line]
        for line in lines
        if not line[0].startswith("-")
    ]


def file_of(name, folder):
    """An example's file; the Excel one is made of the page's table, since it is no text."""
    if name != "crm":
        return FOLDER / EXAMPLES[name]
    book = openpyxl.Workbook()
    for cells in table_of(shown(name)[1]):
        book.active.append(cells)
    book.save(path := folder / EXAMPLES[name])
    return path


def read(path):
    return list(rows_of(path, dialect_of(path)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_exactly_the_messages_of_the_page(name, tmp_path):
    """File, mapping and messages are as they are shown; the door would take all of them."""
    path, (blocks, _) = file_of(name, tmp_path), shown(name)
    if name in DIALECTS:
        assert dialect_of(path)[:3] == DIALECTS[name]
        assert blocks["csv"] == path.read_bytes().decode(DIALECTS[name][1]).replace("\r\n", "\n")
    if name == "people":
        assert blocks["text"] == path.read_text()
    mapping = json.loads((FOLDER / f"{name}.json").read_text())
    assert json.loads(blocks["json"]) == mapping
    written = [json.loads(line) for line in blocks["ndjson"].splitlines()]
    made = [message for _, message, _ in mapped(mappings_of(mapping), read(path)) if message]
    assert made == written
    found = trial(mappings_of(mapping), read(path))
    assert (found.accepted, found.unread, found.absent) == (len(written), {}, [])


@pytest.mark.parametrize("name", ["orders", "survey"])
def test_what_the_page_says_is_proposed_is(name):
    """To the letter."""
    rows = [row for row, _ in read(FOLDER / EXAMPLES[name])]
    assert proposed(list(rows[0]), rows) == json.loads((FOLDER / f"{name}.json").read_text())


def test_the_page_tells_every_key_of_a_mapping():
    """And no other."""
    keys = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    of_structs = {field.encode_name for kind in (Mapping_, Column, Time) for field in msgspec.structs.fields(kind)}
    assert keys == of_structs - {"nth"}


def test_the_command_shows_and_counts_what_would_come_of_it(tmp_path, monkeypatch):
    """On a terminal side by side, as JSON with the messages; of so many rows as one likes."""
    monkeypatch.setenv("SAMLA_HOME", str(tmp_path))
    command = ["import", str(FOLDER / "survey.csv"), "--mapping", f"@{FOLDER / 'survey.json'}", "--dry-run"]
    shown_ = CliRunner().invoke(app, command).output
    assert "properties.question" in shown_ and re.search(r"accepted +4", shown_)
    counted = json.loads(CliRunner().invoke(app, [*command, "--json", "--rows", "1"]).output)
    assert (counted["rows"], counted["messages"], counted["accepted"], len(counted["sample"])) == (1, 3, 3, 3)
    assert not list(tmp_path.iterdir())
