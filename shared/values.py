"""Values as people write them, made into values as machines compare them.

A step is data: a name, or `{name: options}`. `compiled` gives the function of a list of steps; it takes a value
and gives it clean, or raises ValueError where it cannot be read (without saying what it was).

| step | what it makes |
| --- | --- |
| `trim` `collapse` `lower` `upper` | a text without space around it, with single spaces, in one case |
| `text` | a number as a text |
| `{"unicode": "NFC"}` | one Unicode form: NFC, NFD, NFKC or NFKD |
| `email` | an address with its domain in lower case, as RFC 5321 has it |
| `{"phone": {"region": "SE"}}` | E.164 |
| `{"country": {"language": "sv"}}` | ISO 3166 alpha-2, of a code or of a name in English or that language |
| `{"language": {"language": "sv"}}` | ISO 639, the shortest code |
| `currency` | ISO 4217 |
| `{"number": {"locale": "sv_SE"}}` | an integer or a decimal number, currency signs left out |
| `boolean` | true or false |
| `{"date": {"language": "sv"}}` `{"date": {"format": "%d/%m %Y"}}` | ISO 8601 date |
| `{"time": {"format": ..., "language": ..., "zone": "Europe/Stockholm"}}` | ISO 8601 instant |
| `{"unit": {"from": "lb", "to": "kg"}}` | a number in another unit |
| `{"map": {"gold": "premium"}}` | another value for a value; others stay |
"""

import gettext
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
import pycountry
from babel import Locale, UnknownLocaleError
from babel.numbers import NumberFormatError, parse_decimal
from email_validator import EmailNotValidError, validate_email

from shared.checking import only, told
from shared.errors import SamlaError

Clean = Callable[[Any], Any]
Options = Mapping[str, Any]
Names = Mapping[str, str]

YES: Final = frozenset({"1", "true", "yes", "y", "ja", "j", "sant", "x", "on"})
NO: Final = frozenset({"0", "false", "no", "n", "nej", "falskt", "off"})
FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD")
LONGEST: Final = 320
"""Characters of a text that is read as an address, a number, a date or a name."""
LONGEST_SPOKEN: Final = 60
"""Of a date in a language's words."""
WEIGHT: Final = 20
"""As many other values are read in the time that a date in a language's words takes."""
MOST_STEPS: Final = 20
LONGEST_OPTION: Final = 100
MOST_DIGITS: Final = 18
"""Behind the first one of a number."""


def compiled(steps: object) -> Clean:
    """The function of a list of steps, or of one. Raises SamlaError where a step is none."""
    listed = steps if isinstance(steps, list) else [steps]
    if not 0 < len(listed) <= MOST_STEPS:
        raise SamlaError(f"1 to {MOST_STEPS} steps")
    made = [_step(each) for each in listed]
    return made[0] if len(made) == 1 else partial(_in_turn, made)


def weight(steps: object) -> int:
    """For how many values one counts that these steps clean, where it matters how long that takes."""
    listed = steps if isinstance(steps, list) else [steps]
    return sum(WEIGHT for each in listed if isinstance(each, dict) and _is_spoken(each)) or 1


def _is_spoken(step: Mapping[str, Any]) -> bool:
    return any(name in _SPOKEN and isinstance(each, dict) and "language" in each for name, each in step.items())


_SPOKEN: Final = ("date", "time")


def _in_turn(steps: Sequence[Clean], value: Any) -> Any:
    for step in steps:
        value = step(value)
    return value


def _step(step: object) -> Clean:
    name: object = step
    options: Any = {}
    if isinstance(step, dict):
        if len(step) != 1:
            names = ", ".join(map(told, list(step)[:5])) or "none"
            around = '{"steps": [...], "else": "drop"}'
            raise SamlaError(f"a step is an object of one name, not of {names}; what else to do is said as {around}")
        [(name, options)] = step.items()
    if not isinstance(name, str) or name not in _MAKERS:
        raise SamlaError(f"there is no step {told(name)}: steps are {', '.join(_MAKERS)}")
    allowed, make = _MAKERS[name]
    if isinstance(options, str) and len(allowed) == 1:
        options = {allowed[0]: options}
    if not isinstance(options, dict):
        raise SamlaError(f"{name} may have {', '.join(allowed) or 'no options'}, in an object")
    if name != "map":
        only(options, allowed, name)
        for option, value in options.items():
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST_OPTION:
                raise SamlaError(f"{name}: {option} is a text of {LONGEST_OPTION} characters at most")
    return make(options)


# Texts


def _on_text(change: Callable[[str], Any]) -> Callable[[Options], Clean]:
    """A step that changes texts and lets everything else be."""
    return lambda options: lambda value: change(value) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return str(value)


def _unicode(options: Options) -> Clean:
    form = options.get("form", "NFC")
    if form not in FORMS:
        raise SamlaError(f"unicode is one of {', '.join(FORMS)}")
    return _on_text(partial(unicodedata.normalize, form))(options)


def _email(text: str) -> str:
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError("no e-mail address")
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise ValueError("no e-mail address") from error


def _phone(options: Options) -> Clean:
    region = options.get("region")
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise SamlaError("region is an ISO 3166 alpha-2 code such as SE")
    return lambda value: e164(str(value), region) if isinstance(value, (str, int)) else value


def e164(text: str, region: str | None) -> str:
    """A telephone number with its country code. Raises ValueError where it is none."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException as error:
        raise ValueError("no telephone number") from error
    if not phonenumbers.is_possible_number(number):
        raise ValueError("no telephone number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


# Codes


def _country(options: Options) -> Clean:
    return _code(_named(pycountry.countries, "iso3166-1", options.get("language")), _codes(*_COUNTRIES))


def _language(options: Options) -> Clean:
    return _code(_named(pycountry.languages, "iso639-3", options.get("language")), _codes(*_LANGUAGES))


def _currency(options: Options) -> Clean:
    return _code({}, _codes(*_CURRENCIES))


def _code(named: Names, codes: Names) -> Clean:
    def clean(value: Any) -> Any:
        if not isinstance(value, str) or len(value) > LONGEST:
            raise ValueError("no code")
        text = " ".join(value.split()).casefold()
        found = named.get(text) or codes.get(text)
        if found is None:
            raise ValueError("no such name or code")
        return found

    return clean


_COUNTRIES: Final = (
    pycountry.countries,
    ("alpha_2", "alpha_3", "numeric", "name", "official_name", "common_name", "flag"),
)
_LANGUAGES: Final = (
    pycountry.languages,
    ("alpha_3", "name", "alpha_2", "bibliographic", "common_name", "inverted_name"),
)
_CURRENCIES: Final = (pycountry.currencies, ("alpha_3", "name", "numeric"))


@cache
def _codes(table: Any, fields: tuple[str, ...]) -> Names:
    """Codes and names of a table -> code, so that one that is in none costs no walk through thousands."""
    found: dict[str, str] = {}
    for field in reversed(fields):
        found |= {value.casefold(): _short(each) for each in table if (value := getattr(each, field, None))}
    return found


def _short(each: Any) -> str:
    """Its code of two letters, where it has one."""
    return str(getattr(each, "alpha_2", None) or each.alpha_3)


def _named(table: Any, domain: str, language: object) -> Names:
    """Names in a language -> code."""
    if language is None:
        return {}
    # It becomes part of a file's name.
    if not _LANGUAGE.fullmatch(str(language)):
        raise SamlaError(f"language is a code such as sv, not {told(language)}")
    try:
        return _translated(table, domain, str(language))
    except FileNotFoundError as error:
        raise SamlaError(f"language: names in {told(language)} are not known") from error


_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:[_@-][A-Za-z]{2,10})*")


@cache
def _translated(table: Any, domain: str, language: str) -> Names:
    translated = gettext.translation(domain, pycountry.LOCALES_DIR, languages=[language]).gettext
    return {translated(each.name).casefold(): _short(each) for each in table}


# Numbers


_SIGNS: Final = re.compile(r"(?<![^\W\d_])(?:[A-Z]{3}|kr\.?|:-)(?![^\W\d_])")
"""What stands beside an amount: a currency's code, `kr`, `:-`."""


def _number(options: Options) -> Clean:
    written = str(options.get("locale", "en_US"))
    try:
        locale = Locale.parse(written, sep="-" if "-" in written else "_")
    except (UnknownLocaleError, ValueError) as error:
        raise SamlaError(f"there is no locale {told(written)}; they are like sv_SE") from error
    decimal = options.get("decimal")
    if decimal not in (None, ".", ","):
        raise SamlaError("decimal is . or ,")

    def clean(value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        if not isinstance(value, str) or len(value) > LONGEST:
            raise ValueError("no number")
        text = _bare(value)
        return _plain(_grouped(text, decimal) if decimal else _local(text, locale))

    return clean


def _bare(text: str) -> str:
    """Digits and what separates them."""
    text = "".join(each for each in text if unicodedata.category(each) != "Sc")
    text = _SIGNS.sub("", text).replace("\u2212", "-").strip()
    return re.sub(r"^-\s+", "-", text)


def _local(text: str, locale: Locale) -> Decimal:
    spaced = re.sub(r"[\u00a0\u202f\u2009 ]", "\u00a0", text).replace("'", "\u2019")
    for each in (text, spaced, spaced.replace("\u00a0", "\u202f")):
        try:
            return parse_decimal(each, locale, strict=True)
        except (NumberFormatError, ArithmeticError):
            continue
    raise ValueError("no number in this locale")


def _grouped(text: str, decimal: str) -> Decimal:
    plain = re.sub(r"[\s'\u00a0\u202f]", "", text).replace("." if decimal == "," else ",", "")
    try:
        return Decimal(plain.replace(decimal, "."))
    except ArithmeticError as error:
        raise ValueError("no number") from error


def _plain(number: Decimal) -> int | float:
    # Nine characters can say a number of a million digits: what 64 bits do not hold is none for us.
    if not number.is_finite() or number.adjusted() > MOST_DIGITS or abs(number) >= 2**63:
        raise ValueError("no number of ours")
    whole = number == number.to_integral_value() and int(number.as_tuple().exponent) >= 0
    return int(number) if whole else float(number)


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    lower = str(value).strip().lower()
    if lower not in YES | NO:
        raise ValueError("neither yes nor no")
    return lower in YES


def _unit(options: Options) -> Clean:
    # Its registry takes a quarter of a second and some megabytes: only who converts pays for it.
    import pint  # noqa: PLC0415

    for name in ("from", "to"):
        # Its reader would work out whatever sum is written there.
        if not _UNIT.fullmatch(options.get(name, "")):
            raise SamlaError(f"unit: {name} is a unit such as lb, degC or km/hour")
    registry = _registry()
    try:
        zero, one = (float(registry.Quantity(n, options["from"]).to(options["to"]).magnitude) for n in (0.0, 1.0))
    except (pint.errors.PintError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SamlaError("unit needs from and to, two units of one dimension such as lb and kg") from error
    if not (math.isfinite(zero) and math.isfinite(one)):
        raise SamlaError("unit: what is 0 in one of them has no value in the other")

    def clean(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("no number")
        found = zero + value * (one - zero)
        if not math.isfinite(found):
            raise ValueError("no number of ours")
        return round(found, 9)

    return clean


_UNIT_NAME: Final = r"°?[^\W\d]\w*(?:(?:\*\*|\^)-?\d)?"
_UNIT: Final = re.compile(rf"{_UNIT_NAME}(?:(?: ?[*/] ?| ){_UNIT_NAME})*")


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415

    return pint.UnitRegistry()


# Times


def _date(options: Options) -> Clean:
    read = _reader(options)
    return lambda value: read(value).date().isoformat()


def _time(options: Options) -> Clean:
    read, zone = _reader(options), _zone(options)

    def clean(value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _since_1970(value, zone)
        found = read(value)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).isoformat()

    return clean


def _since_1970(number: float, zone: ZoneInfo) -> str:
    """Seconds, or milliseconds where they would be past the year 5000."""
    try:
        return datetime.fromtimestamp(number / 1000 if abs(number) > 10**11 else number, zone).isoformat()
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError("no instant") from error


def _zone(options: Options) -> ZoneInfo:
    name = str(options.get("zone", "UTC"))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        # A folder of zones, such as America, is no zone.
        raise SamlaError(f"there is no time zone {told(name)}; they are like Europe/Stockholm") from error


def _reader(options: Options) -> Callable[[Any], datetime]:
    language, written = options.get("language"), options.get("format")
    if language is not None:
        return _spoken(str(language), str(options.get("order", "")))
    parse = partial(_as_format, _checked_format(written)) if written not in (None, "iso") else datetime.fromisoformat

    def read(value: Any) -> datetime:
        if not isinstance(value, str) or len(value) > LONGEST:
            raise ValueError("no date")
        try:
            return parse(value.strip())
        except ValueError as error:
            raise ValueError("no date in this form") from error

    return read


_SAMPLE: Final = datetime(2001, 11, 23, 14, 5, 6, tzinfo=UTC)


def _checked_format(form: str) -> str:
    """The form. Raises SamlaError unless a date that is written in it can be read in it."""
    try:
        read = datetime.strptime(_SAMPLE.strftime(form), form).date()
    except (ValueError, re.error) as error:
        raise SamlaError(f"format: {told(form)} is no form of a date, such as %d/%m %Y") from error
    if read != _SAMPLE.date():
        raise SamlaError(f"format: {told(form)} does not say day, month and year, as %d/%m %Y does")
    return form


def _as_format(form: str, text: str) -> datetime:
    return datetime.strptime(text, form)


ORDERS: Final = ("DMY", "DYM", "MDY", "MYD", "YDM", "YMD")


def _spoken(language: str, order: str) -> Callable[[Any], datetime]:
    from dateparser import DateDataParser  # noqa: PLC0415

    settings: dict[str, Any] = {"REQUIRE_PARTS": ["day", "month", "year"]}
    if order not in ("", *ORDERS):
        raise SamlaError(f"order is one of {', '.join(ORDERS)}")
    if order:
        settings["DATE_ORDER"] = order
    try:
        parser = DateDataParser(languages=[language], settings=settings)
        parser.get_date_data("")  # Languages are looked up when the first date is.
    except (ValueError, TypeError) as error:
        raise SamlaError(f"language: dates in {told(language)} cannot be read") from error

    def read(value: Any) -> datetime:
        if not isinstance(value, str) or len(value) > LONGEST_SPOKEN:
            raise ValueError("no date")
        try:
            found: datetime | None = parser.get_date_data(re.sub(r"\bkl\.?\s", "", value)).date_obj
        except Exception as error:
            # It knows two hundred languages, and fails in many ways over texts that are in none.
            raise ValueError("no date in this language") from error
        if found is None:
            raise ValueError("no date in this language")
        return found

    return read


def _map(options: Options) -> Clean:
    values = {str(name): value for name, value in options.items()}
    if not all(value is None or isinstance(value, (str, int, float)) for value in values.values()):
        raise SamlaError("map gives texts, numbers, true, false or null")
    return lambda value: values.get(_key(value), value)


def _key(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


_MAKERS: Final[dict[str, tuple[tuple[str, ...], Callable[[Options], Clean]]]] = {
    "trim": ((), _on_text(str.strip)),
    "collapse": ((), _on_text(lambda text: " ".join(text.split()))),
    "lower": ((), _on_text(str.lower)),
    "upper": ((), _on_text(str.upper)),
    "text": ((), lambda options: _text),
    "unicode": (("form",), _unicode),
    "email": ((), _on_text(_email)),
    "phone": (("region",), _phone),
    "country": (("language",), _country),
    "language": (("language",), _language),
    "currency": ((), _currency),
    "number": (("locale", "decimal"), _number),
    "boolean": ((), lambda options: _boolean),
    "date": (("format", "language", "order"), _date),
    "time": (("format", "language", "order", "zone"), _time),
    "unit": (("from", "to"), _unit),
    "map": ((), _map),
}
