"""Files as they really come: dialects, mappings, proposals, and going on where it was cut off."""

import csv
import io
import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from services.console.importing.files import dialect_of, rows_of
from services.console.importing.mapping import mapped, mapping_of, mappings_of, message_of, messages_of
from services.console.importing.proposal import NOTES, SAMPLE, proposed
from services.console.importing.repeats import Repeats
from services.console.importing.sending import Came, Mark, send
from services.console.importing.trying import trial
from shared.errors import SamlaError

ROWS = [
    {
        "Kundnr": "007", "E-post": "åsa@exempel.se", "Belopp": "1 234,50", "Anteckning": 'sa "hej";\noch gick',
        "Datum": "2026-03-29",
    },
    {"Kundnr": "008", "E-post": "bo@exempel.se", "Belopp": "-7,00", "Anteckning": "a,b\tc|d", "Datum": "2026-03-30"},
    {"Kundnr": "009", "E-post": "cilla@exempel.se", "Belopp": "12", "Anteckning": "", "Datum": "2026-03-31"},
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[3]


def written(rows, encoding, separator, line="\r\n", quoting=csv.QUOTE_MINIMAL):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator=line, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def read(path, **given):
    return [row for row, _ in rows_of(path, dialect_of(path, **given))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("line", ["\r\n", "\n"])
def test_every_dialect_of_the_zoo_is_told_by_looking(tmp_path, encoding, separator, line):
    """With quoted newlines, quotes, and the other separators within cells."""
    path = tmp_path / "export.csv"
    path.write_bytes(written(ROWS, encoding, separator, line))
    assert read(path) == ROWS


cells = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\u2028\u2029"), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=3, max_size=6), st.sampled_from(";,\t|"))
def test_what_was_written_is_what_is_read(tmp_path_factory, rows, separator):
    """Whatever is in the cells, once the separator is known."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    named = [dict(zip("abc", each, strict=True)) for each in rows]
    path.write_bytes(written(named, "utf-8-sig", separator, quoting=csv.QUOTE_ALL))
    assert read(path, separator=separator) == [each for each in named if any(each.values())]


def test_ndjson_is_read_line_by_line(tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text('{"a": 1}\n\n{"a": {"b": [true]}}\n')
    assert read(path) == [{"a": 1}, {"a": {"b": [True]}}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", b"a,b\n1,2,3\n", "line 2 has 3 cells"),
        ("x.csv", b"a,a\n1,2\n", "name the columns"),
        ("x.ndjson", b'{"a": 1}\n{bad\n', "line 2 is no JSON"),
        ("x.ndjson", b"[1]\n", "line 1 is no JSON object"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SamlaError, match=says):
        read(path)


def test_parquet_is_read_with_its_types(tmp_path):
    """Dates and exact numbers as JSON has them; what is missing is missing."""
    path = tmp_path / "x.parquet"
    moment = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
    table = {"id": [1, 2], "sum": [Decimal("12.50"), None], "at": [moment, moment], "tags": [["a"], []]}
    parquet.write_table(pyarrow.table(table), path, row_group_size=1)
    first, second = read(path)
    assert first == {"id": 1, "sum": 12.5, "at": "2026-03-29T12:00:00+00:00", "tags": ["a"]}
    assert second["sum"] is None
    assert message_of(mapping_of({"type": "identify", "columns": {"sum": "traits.s"}}), second, 2).get("traits") is None


def test_excel_is_read_from_its_first_sheet(tmp_path):
    """Empty rows and columns without a name at the end are nothing."""
    path = tmp_path / "x.xlsx"
    book = openpyxl.Workbook()
    sheet = book.active
    named = ("Kundnr", "Datum", "Belopp", None)
    one, empty, two = ("007", datetime(2026, 3, 29), 12.5, None), (None,) * 4, ("008", None, 7, None)
    for row in (named, one, empty, two):
        sheet.append(row)
    book.create_sheet("other").append(("x",))
    book.save(path)
    assert read(path) == [
        {"Kundnr": "007", "Datum": "2026-03-29T00:00:00", "Belopp": 12.5},
        {"Kundnr": "008", "Datum": None, "Belopp": 7},
    ]
    times = {"type": "identify", "columns": {"Belopp": {"to": "traits.b", "as": "number"}}, "time": {"column": "Datum"}}
    assert message_of(mapping_of(times), read(path)[0], 1)["timestamp"] == "2026-03-29T00:00:00+00:00"


@pytest.mark.parametrize("name", ["x.parquet", "x.xlsx"])
def test_what_is_no_such_file_says_so(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not at all")
    with pytest.raises(SamlaError, match=name):
        read(path)


def test_an_unknown_encoding_and_a_wrong_one_are_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("å,b\n1,2\n".encode("cp1252"))
    with pytest.raises(SamlaError, match="no encoding"):
        dialect_of(path, "klingon")
    with pytest.raises(SamlaError, match="--encoding"):
        read(path, encoding="utf-8", separator=",")


ORDERS = mapping_of(
    {
        "type": "track", "event": "Order Completed", "id": ["Kundnr", "Datum"],
        "time": {"column": "Datum", "format": "%Y-%m-%d", "zone": "Europe/Stockholm"},
        "columns": {
            "Kundnr": "userId", "E-post": "context.traits.email",
            "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","},
        },
        "consent": {"marketing": False},
    }
)  # fmt: skip


def test_a_row_becomes_a_message():
    """A code keeps its noughts; a Swedish number is a number; midnight is Stockholm's, in summer time or not."""
    first, second, _ = (message_of(ORDERS, row, number) for number, row in enumerate(ROWS, 1))
    assert {name: value for name, value in first.items() if name != "messageId"} == {
        "type": "track", "event": "Order Completed", "userId": "007", "timestamp": "2026-03-29T00:00:00+01:00",
        "properties": {"revenue": 1234.5},
        "context": {"traits": {"email": "åsa@exempel.se"}, "consent": {"categoryPreferences": {"marketing": False}}},
    }  # fmt: skip
    assert second["timestamp"] == "2026-03-30T00:00:00+02:00" and second["properties"]["revenue"] == -7.0


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [("1 234,50", ",", 1234.5), ("1.234,50", ",", 1234.5), ("1,234.50", ".", 1234.5), ("1'234.5", ".", 1234.5),
     ("\u221212", ",", -12), ("1\u00a0000\u00a0000", ",", 1_000_000), ("12", ".", 12), ("12 kr", ",", 12),
     ("NaN1", ".", "NaN1"), ("Infinity", ".", "Infinity"), ("1e5", ".", 100_000)],
)  # fmt: skip
def test_numbers_are_read_as_they_are_written_where_they_come_from(text, decimal, number):
    """What is no number stays what it is: the tracking plan's business, not lost."""
    mapping = mapping_of({"type": "identify", "columns": {"x": {"to": "traits.x", "as": "number", "decimal": decimal}}})
    assert message_of(mapping, {"x": text}, 1)["traits"]["x"] == number


def mapped_to(place, value):
    """What a cell becomes under traits.x."""
    return message_of(mapping_of({"type": "identify", "columns": {"c": place}}), {"c": value}, 1)["traits"]["x"]


@pytest.mark.parametrize(
    ("steps", "text", "value"),
    [
        ([{"phone": {"region": "SE"}}], "070-174 06 05", "+46701740605"),
        ([{"phone": {"region": "SE"}}], "call me", "call me"),
        (["trim", "lower", {"map": {"gold": "premium"}}], "GOLD", "premium"),
        ("boolean", 1, True),
        ([{"number": {"locale": "sv_SE"}}], "12,5", 12.5),
        ([{"date": {"language": "sv"}}], "3 mars 2026", "2026-03-03"),
    ],
)
def test_columns_are_cleaned_as_the_door_cleans(steps, text, value):
    """By the same steps; what they cannot read stays as it is written."""
    assert mapped_to({"to": "traits.x", "clean": steps}, text) == value


def test_integers_that_json_has_not_stay_as_they_are_written():
    assert mapped_to({"to": "traits.x", "as": "number"}, "99999999999999999999") == "99999999999999999999"
    assert mapped_to("traits.x", 2**70) == str(2**70)


@pytest.mark.parametrize(
    ("time", "written", "instant"),
    [
        ({"language": "sv", "zone": "Europe/Stockholm"}, "3 mars 2026 kl. 14:30", "2026-03-03T14:30:00+01:00"),
        ({"clean": ["trim", {"time": {"format": "%d.%m.%Y"}}]}, "3.5.2026", "2026-05-03T00:00:00+00:00"),
        ({"clean": [{"number": {}}, "time"]}, "1767225600", "2026-01-01T00:00:00+00:00"),
        ({"format": "%d.%m.%Y"}, "in May", "in May"),
    ],
)
def test_times_are_read_by_the_same_steps(time, written, instant):
    mapping = mapping_of({"type": "identify", "columns": {}, "time": {"column": "t", **time}})
    assert message_of(mapping, {"t": written}, 1)["timestamp"] == instant


def test_a_column_may_go_to_several_places_and_ids_of_other_systems_are_objects():
    columns = {
        "c": ["userId", {"to": "context.externalIds", "kind": "crm_id"}],
        "d": {"to": "context.externalIds", "kind": "x"},
    }
    message = message_of(mapping_of({"type": "identify", "columns": columns}), {"c": 7, "d": "8"}, 1)
    assert message["userId"] == 7
    assert message["context"]["externalIds"] == [
        {"id": "7", "type": "crm_id", "collection": "users", "encoding": "none"},
        {"id": "8", "type": "x", "collection": "users", "encoding": "none"},
    ]


def test_who_has_no_id_is_known_by_something_else():
    """The same in every file; an id that is there counts."""
    one, other = (
        mapping_of({"type": "identify", "columns": {name: "traits.email", "u": "userId"}, "known_by": [name]})
        for name in ("e", "E-post")
    )
    made = message_of(one, {"e": "Ann@x.se "}, 1)
    assert made["anonymousId"].startswith("import-")
    assert made["anonymousId"] == message_of(other, {"E-post": "ann@x.se"}, 9)["anonymousId"]
    assert "anonymousId" not in message_of(one, {"e": "a@x.se", "u": "7"}, 1)
    assert "anonymousId" not in message_of(one, {"e": "", "u": ""}, 1)


def test_what_is_constant_may_be_overruled_by_a_column():
    mapping = mapping_of(
        {"type": "identify", "set": {"traits.plan": "free"}, "consent": {"marketing": False, "ads": False},
         "columns": {"p": "traits.plan", "m": {"to": "context.consent.categoryPreferences.marketing", "as": "boolean"}}}
    )  # fmt: skip
    plain, own = message_of(mapping, {}, 1), message_of(mapping, {"p": "gold", "m": "ja"}, 1)
    assert plain["traits"]["plan"] == "free" and own["traits"]["plan"] == "gold"
    assert own["context"]["consent"]["categoryPreferences"] == {"marketing": True, "ads": False}
    assert message_of(mapping, {}, 1)["context"]["consent"]["categoryPreferences"] == {"marketing": False, "ads": False}


def test_messages_of_one_row_have_ids_of_their_own():
    """Distinct, also of two mappings that look alike, and the same the next time; a missing answer moves none."""
    answers = [
        {"type": "track", "event": "Survey Answered", "id": ["n"], "needs": [name],
         "columns": {"n": "userId", name: "properties.answer"}}
        for name in ("a", "b", "c")
    ]  # fmt: skip
    mappings = mappings_of([*answers, {"type": "identify", "columns": {"n": "userId"}, "id": ["n"]}])
    ids = [each["messageId"] for each in messages_of(mappings, {"n": "1", "a": "x", "b": "x", "c": "x"}, 1)]
    assert len(set(ids)) == 4
    assert [each["messageId"] for each in messages_of(mappings, {"n": "1", "b": "x", "c": "x"}, 5)] == ids[1:]


def test_rows_without_a_number_of_their_own_are_not_one_and_the_same():
    mapping = mapping_of({"type": "identify", "columns": {"n": "userId"}, "id": ["order"]})
    first, second = (message_of(mapping, {"n": "1", "order": " "}, number) for number in (1, 2))
    assert first["messageId"] != second["messageId"]


def test_empty_cells_say_nothing_and_booleans_are_read():
    mapping = mapping_of({"type": "identify", "columns": {"a": "traits.a", "b": {"to": "traits.b", "as": "boolean"}}})
    assert "traits" not in message_of(mapping, {"a": " ", "b": "N/A"}, 1)
    assert [message_of(mapping, {"b": each}, 1)["traits"]["b"] for each in ("Ja", "nej", "x", "kanske")] == [
        True, False, True, "kanske",
    ]  # fmt: skip


def test_message_ids_follow_from_the_rows():
    """From the chosen columns alone; without any, two equal rows are two."""
    row = ROWS[0]
    assert message_of(ORDERS, row, 1)["messageId"] == message_of(ORDERS, {**row, "Belopp": "9"}, 5)["messageId"]
    assert message_of(ORDERS, row, 1)["messageId"] != message_of(ORDERS, ROWS[1], 1)["messageId"]
    plain = mapping_of({"type": "identify", "columns": {"Kundnr": "userId"}})
    assert message_of(plain, row, 1)["messageId"] == message_of(plain, dict(row), 1)["messageId"]
    assert message_of(plain, row, 1)["messageId"] != message_of(plain, row, 2)["messageId"]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"type": "buy", "columns": {}}, {"type": "track", "columns": {"a": "userId"}}, {"type": "identify"},
     {"type": "identify", "columns": {"a": {"to": "x", "as": "money"}}}, {"type": "identify", "columns": {}, "x": 1},
     {"type": "identify", "columns": {}, "time": {"column": "a", "zone": "Mars/Olympus"}},
     {"type": "identify", "columns": {"a": {"to": "traits.a", "clean": ["polish"]}}}, [],
     {"type": "identify", "columns": {"a": "trait.a"}}, {"type": "identify", "columns": {"a": "traits..a"}},
     {"type": "identify", "columns": {"a": "context.externalIds"}}, [{"type": "buy", "columns": {}}],
     {"type": "identify", "columns": {"a": {"to": "traits.a", "kind": "crm"}}}],
)  # fmt: skip
def test_what_is_no_mapping_is_refused(wrong):
    with pytest.raises(SamlaError, match="mapping"):
        mappings_of(wrong)


def test_a_mapping_is_proposed_from_names_and_contents():
    """Orders have a time and an amount; people have neither. What is proposed can be used."""
    assert proposed(list(ROWS[0]), ROWS) == {
        "type": "track", "event": "Order Completed", "time": {"column": "Datum", "zone": "Europe/Stockholm"},
        "columns": {
            "Kundnr": "userId", "E-post": "traits.email", "Anteckning": "properties.Anteckning",
            "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","},
        },
        "notes": [NOTES["currency"]],
    }  # fmt: skip
    people = [{"customer_id": "12", "contact": "a@b.se", "postal code": "01234", "age": "41"}]
    found = proposed(list(people[0]), people)
    assert found["type"] == "identify"
    assert found["columns"] == {
        "customer_id": "userId", "contact": "traits.email", "postal code": "traits.postal_code",
        "age": {"to": "traits.age", "as": "number", "decimal": "."},
    }  # fmt: skip
    assert message_of(mapping_of(found), people[0], 1)["traits"] == {
        "email": "a@b.se",
        "postal_code": "01234",
        "age": 41,
    }


def proposal_of(text, separator=";"):
    lines = [line.split(separator) for line in text.strip().splitlines()]
    return proposed(lines[0], [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]])


def column_of(name, *cells):
    """What is proposed for a column of people."""
    return proposed(["kundnr", name], [{"kundnr": str(n), name: cell} for n, cell in enumerate(cells)])["columns"][name]


@pytest.mark.parametrize(
    ("name", "cells", "place"),
    [
        ("Mobil", ["070-174 06 05", "08-123 456 78"], {"to": "traits.phone", "clean": [{"phone": {"region": "SE"}}]}),
        ("nås på", ["+46 70 174 06 05"], {"to": "traits.phone", "clean": [{"phone": {"region": "SE"}}]}),
        ("konto", ["0123-4", "0999-5"], "traits.konto"),
        ("Land", ["Sverige", "Norge"], {"to": "traits.country", "clean": [{"country": {"language": "sv"}}]}),
        ("from", ["Germany", "Norway"], {"to": "traits.from", "clean": [{"country": {}}]}),
        ("made", ["NO", "SE"], "traits.made"),
        ("aktiv", ["ja", "nej"], {"to": "traits.aktiv", "as": "boolean"}),
        ("aktiv", ["1", "0"], {"to": "traits.aktiv", "as": "number", "decimal": "."}),
        ("saldo", ["1 234,50 kr", "7,00 kr"], {"to": "traits.saldo", "as": "number", "decimal": ","}),
        ("saldo", ["$1,234", "$2"], {"to": "traits.saldo", "as": "number", "decimal": "."}),
        ("first order", ["3 mars 2026"], {"to": "traits.first_order", "clean": [{"date": {"language": "sv"}}]}),
        ("seen", ["2/13/2026"], {"to": "traits.seen", "clean": [{"date": {"format": "%m/%d/%Y"}}]}),
        ("seen", ["13/2/2026", "1/2/2026"], {"to": "traits.seen", "clean": [{"date": {"format": "%d/%m/%Y"}}]}),
        ("Date of birth", ["13.2.1960"], {"to": "traits.birthday", "clean": [{"date": {"format": "%d.%m.%Y"}}]}),
        ("created_at", ["2020-01-02"], "traits.createdAt"),
        ("Nyhetsbrev", ["ja", "nej"], {"to": "context.consent.categoryPreferences.marketing", "as": "boolean"}),
        (
            "Unsubscribed",
            ["yes", "no"],
            {
                "to": "context.consent.categoryPreferences.marketing",
                "clean": ["boolean", {"map": {"true": False, "false": True}}],
            },
        ),
        ("CRM ID", ["003A"], {"to": "context.externalIds", "kind": "crm_id"}),
        ("comment", ["Would like to be called in the spring"], "traits.comment"),
    ],
)
def test_what_a_column_is_is_told_by_its_name_and_contents(name, cells, place):
    """Codes stay codes, and two letters are no country."""
    assert column_of(name, *cells) == place


def test_a_date_that_can_be_read_in_two_ways_says_so():
    """A value above 12 decides; a clock of twelve hours is American."""
    time = "order id;customer id;total;order date\n1;7;5 EUR;{}\n"
    both, told = proposal_of(time.format("03/04/2026")), proposal_of(time.format("03/14/2026"))
    assert both["time"]["format"] == "%d/%m/%Y" and any("day first is assumed" in note for note in both["notes"])
    assert told["time"]["format"] == "%m/%d/%Y" and not any("first" in note for note in told["notes"])
    assert proposal_of(time.format("03/04/2026 1:15 PM"))["time"]["format"] == "%m/%d/%Y %I:%M %p"
    assert both["set"] == {"properties.currency": "EUR"}


def test_a_few_dates_that_nobody_can_read_do_not_hide_the_others():
    """Nor does one of them turn day and month round."""
    days = [f"{n % 12 + 1:02}/{n % 28 + 1:02}/2026" for n in range(40)]
    time = "order id;customer id;total;order date\n"
    rows = "".join(f"{n};7;5;{day}\n" for n, day in enumerate([*days, "last week"]))
    assert proposal_of(time + rows)["time"]["format"] == "%m/%d/%Y"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Timestamp;How satisfied were you;What should we change;Email Address\n3/14/2026 10:22:11;4;More;a@b.com",
         ["Survey Answered", "Survey Answered"]),
        ("Email Address;First Name;MEMBER_RATING;OPTIN_TIME\na@b.com;Ann;4;2020-01-02 10:00:00", ["identify"]),
        ("Kundnr;Förnamn;Ort;NPS;Bransch;Samtycke\n7;Ann;Lund;9;Handel;Ja", ["Survey Answered", "identify"]),
        ("id;Created (UTC);Amount;Currency;Customer ID\nch_1;2026-03-01 10:22;12,50;sek;cus_1", ["Order Completed"]),
        ("Anonymous ID;Event;Time;url\nx1;Signed Up;2026-01-02 10:00;/a", ["track"]),
        ("customer id;Total;Order date;City\n7;5;2026-01-02;Lund", ["Order Completed", "identify"]),
    ],
)  # fmt: skip
def test_exports_of_well_known_tools_are_told(text, kinds):
    """A form's, a newsletter's, a CRM's with a score, a payment provider's, a tracker's, a shop's."""
    made = proposal_of(text)
    assert [each.get("event", each["type"]) for each in (made if isinstance(made, list) else [made])] == kinds


def test_an_order_of_several_rows_is_not_one_message():
    """Its number alone would make its second row a duplicate of the first."""
    lines = "Ordernr;Artikelnr;Belopp;Kundnr;Datum\n1;A;5;7;2026-01-02\n1;B;6;7;2026-01-02\n"
    made = proposal_of(lines)
    assert (made["event"], made["id"]) == ("Product Purchased", ["Ordernr", "Artikelnr"]) and NOTES["lines"] in made[
        "notes"
    ]
    assert "id" not in proposal_of(lines.replace("Artikelnr", "sak"))


def orders(rows, twice_from):
    """An export whose orders have several rows, the first of them far behind its beginning."""
    numbers = [*range(twice_from), *(n for n in range(twice_from, rows) for _ in range(2))][:rows]
    return "Ordernr;Belopp;Kundnr;Datum\n" + "".join(f"{n};5;7;2026-01-02\n" for n in numbers)


def test_that_rows_behind_the_sample_may_share_an_id_is_said_in_the_proposal_and_counted_in_a_dry_run():
    """Each of the first rows may be an order of its own; the proposal has not seen the others."""
    assert not [each for each in proposal_of(orders(SAMPLE - 1, SAMPLE))["notes"] if "repeated" in each]
    made = proposal_of(orders(SAMPLE, SAMPLE))
    assert made["id"] == ["Ordernr"]
    [note] = [each for each in made["notes"] if "repeated" in each]
    assert "Ordernr" in note and str(SAMPLE) in note and "--dry-run" in note
    rows = [dict(zip(("Ordernr", "Belopp", "Kundnr", "Datum"), line.split(";"), strict=True))
            for line in orders(300, 200).splitlines()[1:]]  # fmt: skip
    found = trial(mappings_of(made), ((row, 0) for row in rows))
    assert (found.messages, found.repeated) == (300, 50)


def test_an_id_is_proposed_for_answers_only_where_it_tells_rows_apart():
    """A row for each answer of a response has its id several times."""
    lines = "Response ID;How satisfied are you? (1-5);Date\n{};4;2026-01-02\n{};5;2026-01-03\n"
    assert proposal_of(lines.format(1, 2))["id"] == ["Response ID"] and "id" not in proposal_of(lines.format(1, 1))


@given(st.lists(st.integers(0, 300), max_size=600), st.integers(1, 400))
def test_ids_that_came_before_are_told_as_a_set_would_tell_them(ids, most):
    """Of the first so many different ones; those beyond are not remembered, and what is held stays the same."""
    known, told = Repeats(most), set()
    for each in map(str, ids):
        message = {"messageId": each, "userId": "ada"}
        assert known.again(message) == (each in told)
        if len(told) < most:
            told.add(each)


SURVEY = """
Kundnr;Svarsdatum;Hur nöjd är du? (1-5);NPS;Vad kan bli bättre?;Samtycke;Butik
7;3 mars 2026;4;9;Öppna tidigare;ja;Lund
8;14 maj 2026;;3;;nej;Lund
"""


def test_a_survey_gives_a_message_an_answer():
    """With question, answer and scale; who has not answered has said nothing; what was agreed to is said apart."""
    lines = [line.split(";") for line in SURVEY.strip().splitlines()]
    rows = [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]
    mappings = mappings_of(proposal_of(SURVEY))
    said = [
        (number, message["type"], message["timestamp"], message.get("properties"))
        for number, row in enumerate(rows, 1)
        for message in messages_of(mappings, row, number)
    ]
    first, second = "2026-03-03T00:00:00+01:00", "2026-05-14T00:00:00+02:00"
    assert said == [
        (1, "track", first, {"question": "Hur nöjd är du?", "scale": "1-5", "answer": 4, "Butik": "Lund"}),
        (1, "track", first, {"question": "NPS", "scale": "0-10", "answer": 9, "Butik": "Lund"}),
        (1, "track", first, {"question": "Vad kan bli bättre?", "answer": "Öppna tidigare", "Butik": "Lund"}),
        (1, "identify", first, None),
        (2, "track", second, {"question": "NPS", "scale": "0-10", "answer": 3, "Butik": "Lund"}),
        (2, "identify", second, None),
    ]


def test_a_file_that_knows_nobody_says_so():
    assert proposal_of("a;b\n1;2\n")["notes"][0] == NOTES["nobody"]
    assert proposal_of("email;b\na@b.se;2\n")["known_by"] == ["email"]


@given(
    st.lists(st.sampled_from(["Datum", "email", "Belopp", "NPS", "Order ID", "Samtycke", "telefon", "Why?", "event"]),
             min_size=1, max_size=6, unique=True),
    st.lists(st.lists(st.one_of(cells, st.sampled_from(["1", "ja", "a@b.se", "2026-01-02", "3,5", "070-174 06 05"])),
                      min_size=6, max_size=6), max_size=3),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whatever_is_proposed_is_a_mapping(names, table):
    """Of any file; and it makes messages."""
    rows = [dict(zip(names, row, strict=False)) for row in table]
    assert trial(mappings_of(proposed(names, rows)), ((row, 0) for row in rows)).rows == len(rows)


def test_a_cell_that_says_a_number_of_a_million_digits_stays_as_it_is_written():
    """It is told of, and ends no import."""
    columns = {"Id": "userId", "Belopp": {"to": "properties.n", "clean": ["number"]}}
    mapping, unread = mapping_of({"type": "track", "event": "E", "columns": columns}), []
    [found] = messages_of([mapping], {"Id": "u", "Belopp": "1,000e1000000"}, 1, unread.append)
    assert found["properties"] == {"n": "1,000e1000000"} and unread == ["Belopp"]


class Cut(Exception):
    """The process was killed."""


class MemoryDoor:
    """Takes batches, until it is cut off before or after one was durable."""

    def __init__(self, cut_at=None, durable=False):
        self.taken, self.calls, self.cut_at, self.durable = {}, 0, cut_at, durable

    def take(self, messages):
        self.calls += 1
        if self.calls == self.cut_at and not self.durable:
            raise Cut
        self.taken |= {each["messageId"]: each for each in messages}
        if self.calls == self.cut_at:
            raise Cut
        return Came([each["bad"] for each in messages if "bad" in each])


@given(count=st.integers(1, 2_300), cut_at=st.integers(1, 6), durable=st.booleans())
@settings(max_examples=30, deadline=None)
def test_cut_off_anywhere_and_run_again_every_row_is_sent_once(tmp_path_factory, count, cut_at, durable):
    """A batch that was durable though nobody was told is sent again, under the same ids."""
    door, mark = MemoryDoor(cut_at, durable), Mark(tmp_path_factory.mktemp("m"), b"file", b"mapping")
    messages = [(n, {"messageId": f"m{n}"}, n * 10) for n in range(1, count + 1)]
    try:
        send(iter(messages), door, mark)
    except Cut:
        before = mark.rows
        assert all(f"m{n}" in door.taken for n in range(1, before + 1))
        report = send(iter(messages), door, mark)
        assert report.skipped == before
    assert len(door.taken) == count and mark.rows == count
    calls = door.calls
    assert send(iter(messages), door, mark).skipped == count and door.calls == calls


@given(rows=st.integers(0, 400), each=st.integers(0, 4), cut_at=st.integers(1, 4), durable=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_row_of_several_messages_is_never_half_sent(tmp_path_factory, rows, each, cut_at, durable):
    """A batch may end within a row: then the mark is before it. Rows without messages are passed too."""
    mappings = mappings_of(
        [{"type": "track", "event": f"e{n}", "columns": {"u": "userId"}, "needs": ["u"]} for n in range(each)]
        or [{"type": "identify", "columns": {}, "needs": ["nothing"]}]
    )
    table = [({"u": str(n)}, n) for n in range(rows)]
    door, mark = MemoryDoor(cut_at, durable), Mark(tmp_path_factory.mktemp("m"), b"file")
    with suppress(Cut):
        send(mapped(mappings, table), door, mark)
    whole = {message["messageId"]: message for _, message, _ in mapped(mappings, table) if message}
    before = {message["messageId"] for n, message, _ in mapped(mappings, table) if message and n <= mark.rows}
    assert before <= set(door.taken)
    report = send(mapped(mappings, table), door, mark)
    assert door.taken == whole and len(whole) == rows * each and report.rows == rows


def test_what_is_set_aside_is_counted_by_reason(tmp_path):
    messages = [
        (n, {"messageId": f"m{n}", **({"bad": "no_identifier"} if n % 3 == 0 else {})}, n) for n in range(1, 10)
    ]
    report = send(iter(messages), MemoryDoor(), Mark(tmp_path, b"x"))
    assert (report.rows, report.set_aside, report.reasons) == (9, 3, {"no_identifier": 3})


def test_batches_are_bounded_in_bytes(tmp_path):
    sizes = []
    door = MemoryDoor()
    take = door.take
    door.take = lambda messages: sizes.append(len(json.dumps(messages))) or take(messages)
    send(((n, {"messageId": f"m{n}", "x": "y" * 30_000}, n) for n in range(1, 60)), door, Mark(tmp_path, b"y"))
    assert len(door.taken) == 59 and max(sizes) < 512_000


SENDER = """
import json, sys
from pathlib import Path
from services.console.importing.files import dialect_of, rows_of
from services.console.importing.mapping import mapped, mappings_of
from services.console.importing.sending import Came, Mark, send

class Door:
    taken = 0

    def take(self, messages):
        self.taken += len(messages)
        return Came()

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10

path, mapping = Path(sys.argv[1]), mappings_of(json.loads(sys.argv[2]))
door, mark, before = Door(), Mark(path.parent, b"x"), peak()
send(mapped(mapping, rows_of(path, dialect_of(path))), door, mark)
print(door.taken, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell the peak of a process")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """200,000 rows are read, mapped and sent; what is held at once stays the same."""
    path = tmp_path / "big.csv"
    with path.open("w", encoding="utf-16") as file:
        file.write("Kundnr;Ordernr;Datum;Belopp;Anteckning\n")
        file.writelines(f"{n % 9_000};{n};2026-01-{n % 28 + 1:02};{n % 900},50;{'ö' * 40}\n" for n in range(200_000))
    mapping = {
        "type": "track", "event": "e", "time": {"column": "Datum"}, "id": ["Ordernr"],
        "columns": {"Kundnr": "userId", "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","}},
    }  # fmt: skip
    arguments = [sys.executable, "-c", SENDER, str(path), json.dumps(mapping)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    taken, grown = map(int, done.stdout.split())
    assert taken == 200_000 and grown < 60 << 20
