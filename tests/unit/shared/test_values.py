"""Values as people write them, made into values as machines compare them."""

import re
from datetime import UTC, date, datetime

import pycountry
import pytest
from babel.dates import format_date
from babel.numbers import format_decimal
from hypothesis import given
from hypothesis import strategies as st

from shared import values
from shared.errors import SamlaError
from shared.values import compiled

READ = [
    ("trim", "  a b ", "a b"),
    ("collapse", " a \t b\n", "a b"),
    (["trim", "lower"], " ÅÄÖ ", "åäö"),
    ("upper", "straße", "STRASSE"),
    ("text", 12, "12"),
    ("text", True, True),
    ({"unicode": "NFC"}, "A\u030angstro\u0308m", "Ångström"),
    ({"unicode": "NFKC"}, "ﬁ①", "fi1"),
    ("email", "  Ada.Lovelace@Example.ORG ", "Ada.Lovelace@example.org"),
    ({"phone": {"region": "SE"}}, "070-123 45 67", "+46701234567"),
    ({"phone": "US"}, "(650) 555-1212", "+16505551212"),
    ("phone", "+46 (0)70 123 45 67", "+46701234567"),
    ("country", "Sweden", "SE"),
    ("country", "swe", "SE"),
    ({"country": {"language": "sv"}}, "Tyskland", "DE"),
    ({"country": "sv"}, "  se ", "SE"),
    ("language", "Swedish", "sv"),
    ({"language": {"language": "sv"}}, "engelska", "en"),
    ("currency", "sek", "SEK"),
    ({"number": {"locale": "sv_SE"}}, "1 234,50", 1234.5),
    ({"number": {"locale": "sv_SE"}}, "1\u00a0234,50 kr", 1234.5),
    ({"number": {"locale": "sv_SE"}}, "\u2212 12", -12),
    ({"number": {"locale": "de_DE"}}, "1.234,5 €", 1234.5),
    ({"number": {"locale": "de_CH"}}, "1'234.5", 1234.5),
    ({"number": {"locale": "en_US"}}, "$1,234", 1234),
    ({"number": {"decimal": ","}}, "1.234,5", 1234.5),
    ("number", 7, 7),
    ("boolean", "Ja", True),
    ("boolean", "nej", False),
    ("boolean", 0, False),
    ({"date": {"language": "sv"}}, "den 3 maj 2026", "2026-05-03"),
    ({"date": {"format": "%d/%m/%Y"}}, "03/05/2026", "2026-05-03"),
    ("date", "2026-05-03T23:00:00+02:00", "2026-05-03"),
    ({"time": {"format": "%Y-%m-%d %H:%M", "zone": "Europe/Stockholm"}}, "2026-07-01 12:00",
     "2026-07-01T12:00:00+02:00"),
    ({"time": {}}, 1_767_225_600, "2026-01-01T00:00:00+00:00"),
    ({"time": {}}, 1_767_225_600_000, "2026-01-01T00:00:00+00:00"),
    ({"unit": {"from": "lb", "to": "kg"}}, 10, 4.5359237),
    ({"unit": {"from": "degF", "to": "degC"}}, 212, 100.0),
    ({"map": {"guld": "gold"}}, "guld", "gold"),
    ({"map": {"guld": "gold"}}, "silver", "silver"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "written", "read"), READ, ids=lambda value: str(value)[:40])
def test_a_value_is_read(steps, written, read):
    found = compiled(steps)(written)
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize(
    ("steps", "written"),
    [
        ("email", "a@"), ("email", "nobody"), ({"phone": {"region": "SE"}}, "12"), ("phone", "070-123 45 67"),
        ("country", "Atlantis"), ("country", 5), ("currency", "kronor"), ("number", "twelve"), ("number", ""),
        ({"number": {"locale": "en_US"}}, "1,23,4"), ({"number": {"decimal": ","}}, "NaN"), ("boolean", "perhaps"),
        ("date", "03/05/2026"), ({"date": {"language": "sv"}}, "i maj"),
        ({"date": {"format": "%d/%m/%Y"}}, "31/02/2026"),
        ("time", "yesterday"), ({"unit": {"from": "lb", "to": "kg"}}, "ten"), ("number", "1" * 20_000),
        ({"number": {"decimal": "."}}, "1e3000000"), ({"number": {"decimal": "."}}, "1e20"),
        ("number", "1,000e1000000"), ({"number": {"decimal": ","}}, "1e9999999999999999999"),
        ({"number": {"decimal": "."}}, "99999999999999999999"), ("number", "9223372036854775808"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_without_its_value(steps, written):
    """The caller decides what becomes of it; no error text quotes a person's data."""
    with pytest.raises(ValueError) as raised:
        compiled(steps)(written)
    assert not isinstance(raised.value, SamlaError)
    assert len(str(written)) < 3 or str(written) not in str(raised.value)


@pytest.mark.parametrize(
    "steps",
    [
        "nonsense", [], ["trim"] * 21, 5, {"phone": {"region": "XX"}}, {"phone": {"nation": "SE"}}, {"trim": {"a": 1}},
        {"number": {"locale": "xx_YY"}}, {"number": {"decimal": ";"}}, {"time": {"zone": "Mars/Base"}},
        {"unit": {"from": "lb", "to": "m"}}, {"unit": {"from": "nonsense", "to": "m"}}, {"unit": {}},
        {"date": {"language": "xx"}}, {"country": {"language": "xx"}}, {"unicode": "NFX"}, {"a": 1, "b": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_step_that_is_none_is_refused_when_it_is_written(steps):
    """Not when the first message comes."""
    with pytest.raises(SamlaError):
        compiled(steps)


@given(
    st.decimals(-(10**12), 10**12, places=2), st.sampled_from(["sv_SE", "de_DE", "en_US", "fr_FR", "de_CH", "da_DK"])
)
def test_a_number_as_a_locale_writes_it_is_read_back(number, locale):
    """Groups, decimal signs, spaces that are none."""
    written = format_decimal(number, format="#,##0.00", locale=locale)
    assert compiled({"number": {"locale": locale}})(written) == float(number)


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)))
def test_a_swedish_date_in_words_is_read_back(day):
    written = format_date(day, "d MMMM y", locale="sv_SE")
    assert compiled({"date": {"language": "sv"}})(written) == day.isoformat()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC)))
def test_seconds_and_milliseconds_since_1970_are_told_apart(instant):
    """For all that is written of our days."""
    seconds = int(instant.timestamp())
    if abs(seconds * 1000) > 10**11:
        assert datetime.fromisoformat(compiled("time")(seconds)) == instant
        assert datetime.fromisoformat(compiled("time")(seconds * 1000)) == instant


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists), st.sampled_from(READ))
def test_no_value_breaks_a_step_but_by_saying_that_it_cannot_be_read(value, case):
    try:
        compiled(case[0])(value)
    except (ValueError, ArithmeticError, TypeError) as error:
        assert not re.search(r"Traceback", str(error))


class Walked:
    """A table that tells nothing any more."""

    def __iter__(self):
        raise AssertionError("a table was walked through for one value")

    lookup = get = __iter__


@pytest.mark.parametrize("step", ["country", "language", "currency"])
def test_a_code_or_name_is_looked_up_and_one_that_is_none_costs_no_walk(step, monkeypatch):
    """The table is walked through once, when the step is compiled: whoever sends nonsense makes nobody work."""
    clean, held = compiled(step), {"country": "countries", "language": "languages", "currency": "currencies"}[step]
    monkeypatch.setattr(values.pycountry, held, Walked())
    monkeypatch.setattr(pycountry.db.Database, "lookup", Walked.__iter__)
    with pytest.raises(ValueError, match="no such name"):
        clean("nonsense")


TABLES = [("country", pycountry.countries), ("language", pycountry.languages), ("currency", pycountry.currencies)]


@pytest.mark.parametrize(("step", "table"), TABLES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_code_and_name_of_a_table_is_read(step, table):
    """As the table itself has it, and a code of two letters before one of three."""
    clean = compiled(step)
    for each in table:
        for field in {"alpha_2", "alpha_3", "name", "official_name", "common_name", "numeric"} & set(dict(each)):
            written = getattr(each, field)
            found = table.lookup(written)
            assert clean(f" {written.upper()} ") == (getattr(found, "alpha_2", None) or found.alpha_3)


@pytest.mark.parametrize("written", ["L", "I", "Living"])
def test_what_a_table_says_beside_names_is_no_language(written):
    """It marks the living ones by a letter."""
    with pytest.raises(ValueError, match="no such name"):
        compiled("language")(written)


@pytest.mark.parametrize(
    ("steps", "written"),
    [("email", "a" * 400 + "@example.org"), ("number", "1" * 400), ("country", "x" * 400), ("date", "1" * 400),
     ({"date": {"language": "sv"}}, "1 jan " * 16)],
)  # fmt: skip
def test_a_text_that_is_too_long_to_be_one_is_not_looked_into(steps, written, monkeypatch):
    """Its readers take long over such texts."""
    clean = compiled(steps)
    for name in ("validate_email", "_bare", "parse_decimal", "datetime"):
        monkeypatch.setattr(values, name, None)
    monkeypatch.setattr("dateparser.DateDataParser.get_date_data", None)
    with pytest.raises(ValueError, match="^no "):
        clean(written)
