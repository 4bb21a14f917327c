"""What the terminal is given: ids whole at 80 columns, and nothing of what others have sent that it would obey."""

import io
import json
import re

import pytest
from rich.console import Console

from services.console import show

ID, SOURCE = "0123456789abcdef0123456789abcdef", "0123456789abcdef"
EVIL = "a\x1b[31mb\x9b2J\u202egnp\x07\r\n[bold]c[/] :smile: \x7f\u200e"
DIFFERENCE = {"added": {EVIL: EVIL}, "removed": {EVIL: [EVIL]}, "changed": {EVIL: {"from": EVIL, "to": EVIL}}}


@pytest.fixture
def drawn(monkeypatch):
    """What was printed, at 80 columns."""
    kept = io.StringIO()
    monkeypatch.setattr(
        show, "console", Console(file=kept, width=80, markup=False, emoji=False, highlight=False, color_system=None)
    )
    return kept.getvalue


def obeyed(text):
    """Characters that a terminal does not just show."""
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


TABLES = [
    (
        ["source", "name", "party", "enabled", "events", "errors", "last_seen", "refused", "rate", "ip", "bots"],
        ["bots", "ip", "rate", "refused", "party"],
        {"source": SOURCE, "name": "a rather long name of a source, in words", "party": "second", "enabled": True,
         "events": 12_345_678, "errors": 12_345, "last_seen": 1_780_000_000_000, "refused": 3, "rate": 500,
         "ip": "truncate", "bots": "set_aside"},
    ),
    (
        ["delivery", "destination", "status", "attempts", "reason"], ["destination"],
        {"delivery": ID, "destination": ID, "status": "delivered", "attempts": 12, "reason": "no consent " * 9},
    ),
    (
        ["id", "source", "reason", "place", "received"], [],
        {"id": ID, "source": SOURCE, "reason": "missing_field", "place": "context.externalIds.0.type",
         "received": 1_780_000_000_000},
    ),
    (
        ["agreement", "kind", "partner", "purposes", "fields", "from", "until", "ended"], ["kind", "from", "ended"],
        {"agreement": SOURCE, "kind": "agreement", "partner": "x" * 90, "purposes": ["a", "b"] * 20,
         "fields": ["traits.email"] * 30, "from": 1, "until": 2**42, "ended": None},
    ),
    (["segment", "key", "name"], [], {"segment": ID, "key": "k" * 64, "name": "of a name"}),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "least", "row"), TABLES, ids=[each[0][0] for each in TABLES])
def test_ids_are_whole_in_a_narrow_terminal(drawn, columns, least, row):
    """Each in one line, and what is left out is said."""
    show.table([row], columns, least=least)
    lines = drawn().splitlines()
    assert any(row[columns[0]] in line for line in lines)
    left_out = [line for line in lines if line.startswith("not shown here: ")]
    shown = [name for name in columns if not left_out or name not in left_out[0]]
    assert all(any(str(row[name]) in line for line in lines) for name in shown if name in show.IDS)
    assert len(shown) == len(columns) or "--json has all" in left_out[0]
    if columns[0] != "segment":
        assert max(map(len, lines)) <= 80
    assert all(name in lines[0] for name in shown)


def test_a_table_that_fits_has_all_its_columns(drawn):
    show.table([{"source": SOURCE, "name": "web", "since": 1_780_000_000_000}], ["source", "name", "since"])
    assert f"{SOURCE}  web   2026-05-28 20:26:40" in drawn() and "not shown" not in drawn()


def test_as_json_a_record_has_all_its_fields(drawn):
    show.table([{"a": 1, "b": 2}], ["a"], json=True)
    assert json.loads(drawn()) == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: show.table([{"name": EVIL, "more": [EVIL], EVIL: 1}], ["name", "more"]),
        lambda: show.record({"name": EVIL, EVIL: {"x": [EVIL]}}),
        lambda: show.as_json({"name": EVIL, EVIL: [EVIL]}),
        lambda: show.messages([{"traits": {EVIL: EVIL}}]),
        lambda: show.timeline({"lines": [{"time": 1, "what": EVIL, "details": EVIL, "source": EVIL}], "next": None}),
        lambda: show.card(
            {"profile": EVIL, "identity": {EVIL: [{"value": EVIL, "source": EVIL}]},
             "descriptive": {EVIL: {"value": EVIL, "party": EVIL}}, "quantitative": {EVIL: {EVIL: EVIL}},
             "people_then": [EVIL], "computed": {"most": {"value": EVIL}}}
        ),
        lambda: show.comparison(
            {"profile": EVIL, "from": 1, "to": 2, "by": "known",
             **dict.fromkeys((*show.PARTS, "computed"), DIFFERENCE)}
        ),
    ],
)  # fmt: skip
def test_nothing_that_others_have_sent_is_obeyed(drawn, draw):
    """Neither by the terminal, nor as markup; and it can be seen that it is there."""
    draw()
    assert not obeyed(drawn())
    assert "\\x1b" in drawn().replace("\\u001b", "\\x1b") and "[bold]c" in drawn() and ":smile:" in drawn()


def test_json_says_the_same_with_escapes(drawn):
    show.as_json({"name": EVIL, "ordinary": "å 👩‍👧"})
    assert json.loads(drawn()) == {"name": EVIL, "ordinary": "å 👩‍👧"} and "å 👩‍👧" in drawn()


def test_errors_say_what_was_given_without_its_control_characters(capsys):
    show.note(EVIL)
    assert not obeyed(capsys.readouterr().err)


def test_an_instant_beyond_the_calendar_is_a_number():
    assert show.moment(2**60) == str(2**60)
