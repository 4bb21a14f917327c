"""What a file's columns are, told by their names (English, Swedish) and by what is in them."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import phonenumbers

from shared.errors import SamlaError
from shared.values import NO, YES, compiled

Row = dict[str, Any]
Cells = Sequence[str]

ID: Final = "(id|no|nr|number|nummer)"
NAMES: Final[tuple[tuple[str, str, str], ...]] = (
    (rf"(user|customer|member|client|kund|medlem)s? ?{ID}", "who", "userId"),
    (r"(device|visitor|anonymous|cookie) ?id", "who", "anonymousId"),
    (r"e ?(mail|post)( ?adress| ?address)?|mail", "who", "traits.email"),
    (r"(tele)?(phone|fon)( ?number| ?nummer)?|(mobil|cell)(e|nummer|telefon| ?phone)?|tel", "phone", "traits.phone"),
    (r"(crm|contact|lead|account|record|salesforce|hubspot|kontakt) ?(id|nr|nummer|no)", "external", ""),
    (r"(response|respondent|submission|svars?) ?(id|nr|nummer|no)", "response", "properties.response_id"),
    (r"(first|given) ?name|förnamn", "trait", "traits.firstName"),
    (r"(last|sur|family) ?name|efternamn", "trait", "traits.lastName"),
    (r"(full )?name|namn", "trait", "traits.name"),
    (r"birth ?(day|date)|date of birth|dob|born|född|födelse ?(dag|datum)", "born", "traits.birthday"),
    (r"country( ?code)?|land(skod)?", "country", "traits.country"),
    (r"(preferred )?language|språk", "language", "traits.language"),
    (r"city|town|stad|ort|postort", "trait", "traits.city"),
    (r"(amount|total|revenue|sum|belopp|summa|pris)", "money", "properties.revenue"),
    (r"currency( ?code)?|valuta", "currency", "properties.currency"),
    (rf"(order|invoice|receipt|faktura|kvitto)s? ?{ID}", "order", "properties.order_id"),
    (rf"(order )?(line|rad) ?{ID}?", "line", "properties.line"),
    (rf"sku|(product|article|item|produkt|artikel) ?{ID}", "line", "properties.product_id"),
    (r"(product|article|item)( ?name)?|produkt|artikel(namn)?|benämning", "other", "properties.product"),
    (r"quantity|qty|antal", "other", "properties.quantity"),
    (r"event( ?name)?|händelse|activity|aktivitet", "event", "event"),
    (r"(last )?(updated|modified|changed)( ?(at|on|date))?|uppdaterad|ändrad|export(ed)?( ?(at|date))?", "updated", ""),
    (r"created?( ?(at|on|date))?|registered|sign ?up( ?date)?|skapad|registrerad|medlem sedan", "created", ""),
    (r"(.* )?(date|time|datum|tid|timestamp|when)( .*)?|(order|svars|köp|faktura)(datum|tid)", "time", ""),
    (r"(answered|submitted|completed|occurred|besvarad|inskickad)( ?(at|on))?", "time", ""),
    (r".*(opt ?out|unsubscribe|avregistrera|avanmäl).*", "refusal", ""),
    (r".*(newsletter|nyhetsbrev|opt ?in|samtycke|consent|accepts .*|marketing ok|utskick|permission).*", "consent", ""),
    (r"(how|what|why|which|would|do you|are you|hur|vad|varför|vilke[nt]|skulle|är du) .+", "rating", ""),
    (r"(?!.*(member|lead|credit|seller)).*(\bnps\b|csat|\brating|\bbetyg|nöjd|satisf|\bstars?\b).*", "rating", ""),
    (r".*(recommend|rekommendera).*", "rating", ""),
    (r".*(feedback|synpunkt|\bsvar\b|\banswer\b).*", "answer", ""),
    (r".*(comment|kommentar|review|omdöme).*", "said", ""),
)  # fmt: skip
"""What a column is called -> what it is, and where it goes."""
ZONE: Final = "Europe/Stockholm"
"""Of a file in Swedish."""
SWEDISH: Final = re.compile(r"[åäö]|kund|datum|belopp|valuta|namn|nummer|samtycke|nyhetsbrev|betyg|svar|e-?post\b")
FORMATS: Final = (
    "iso",
    *(
        f"{day}{time}"
        for day in (
            "%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y",
            "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d %B %Y",
        )
        for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S %z", " %H.%M", " %I:%M %p", " %I:%M:%S %p")
    ),
    "%Y%m%d", "%y%m%d",
)  # fmt: skip
"""Day before month, where nothing in the file says otherwise."""
LANGUAGES: Final = ("sv", "en", "de", "nb", "da", "fi", "fr", "es", "nl")
SPOKEN: Final = re.compile(r"(\w+ )?\d{1,2}\.? (de )?[^\W\d]{3,}\.?,? (de )?\d{4}.*|[^\W\d]{3,}\.? \d{1,2},? \d{4}.*")
DATED: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
MOST_SPOKEN: Final = 20
NEARLY_ALL: Final = 0.9
"""Real columns have a date or two that nobody can read."""
SOME: Final = 5
EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PHONE: Final = re.compile(r"(\+|0)[\d\s()/\u00a0.-]{6,18}\d")
REGIONS: Final = ("SE", "GB", "US", "DE", "FR", "NL", "NO", "DK", "FI")
NUMBER: Final = re.compile(r"[-\u2212]?[\d\s\u00a0\u202f'.,]*\d")
PREFERENCES: Final = "context.consent.categoryPreferences"
SIGN: Final = re.compile(r"(SEK|NOK|DKK|EUR|USD|GBP|€|\$|£|\bkr\b\.?|:-)")
CURRENCIES: Final = {"€": "EUR", "$": "USD", "£": "GBP", "kr": "SEK", "kr.": "SEK", ":-": "SEK"}
COMMA: Final = re.compile(r",\d{1,2}$")
POINT: Final = re.compile(r"\.(\d{1,2}|\d{4,})$")
SCALE: Final = re.compile(r"\(?\b(\d{1,2}) ?[-\u2013] ?(\d{1,2})\b\)?")
WORDS: Final = 3
CHARACTERS: Final = 25
"""A text of so many words and characters, on the average, is somebody's own."""


class Found(NamedTuple):
    """A column: what it is, and where it goes."""

    name: str
    role: str
    place: Any
    """As a mapping has it. `?` stands for where the rest of the message goes."""
    scale: str = ""
    """Of an answer."""
    note: str = ""
    when: dict[str, Any] | None = None
    """Options of the steps `time` and `date`, where its values are dates."""


class Columns(NamedTuple):
    """A file's columns, and what is true of all of it."""

    found: list[Found]
    swedish: bool
    currency: str
    """Told by signs beside the amounts."""


def looked_at(names: Sequence[str], sample: Sequence[Row]) -> Columns:
    """What the columns are."""
    table = {name: [cell for row in sample if (cell := str(_or_empty(row.get(name))).strip())] for name in names}
    swedish = any(SWEDISH.search(name.lower()) for name in names) or any(
        cell.endswith(".se") or cell == "Sverige" for cells in table.values() for cell in cells
    )
    comma = any(NUMBER.fullmatch(cell) and COMMA.search(cell) for cells in table.values() for cell in cells)
    look = partial(_column, swedish=swedish, decimal="," if comma else ".")
    found = list(_each_once([look(name, cells) for name, cells in table.items()]))
    money = [name for name, each in zip(names, found, strict=True) if each.role == "money"]
    return Columns(found, swedish, next((sign for name in money if (sign := _currency(name, table[name]))), ""))


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def _plain(name: str) -> str:
    """`firstName`, `first_name` and `First-Name (*)` as `first name`."""
    apart = re.sub(r"(?<=[a-zåäö])(?=[A-ZÅÄÖ])", " ", name)
    bare = re.sub(r"(?<=.)\([^)]*\)\s*$", "", apart.lower())
    return " ".join(re.split(r"[\s_\-.:]+", bare)).strip()


def slug(name: str) -> str:
    """A name of a field."""
    return re.sub(r"[^0-9a-zA-ZåäöÅÄÖ]+", "_", name).strip("_") or "column"


def _each_once(found: Sequence[Found]) -> Iterator[Found]:
    """Two columns do not go to one place: the second is something else of its own."""
    taken = set[str]()
    for each in found:
        place = each.place if isinstance(each.place, str) else each.place.get("to", "")
        if place in taken and "?" not in place and each.role not in ("external", "rating"):
            role, own = (
                ("consent", _category(each.name)) if each.role == "consent" else ("other", f"?.{slug(each.name)}")
            )
            yield each._replace(role=role, place=own if isinstance(each.place, str) else {**each.place, "to": own})
        else:
            taken.add(place)
            yield each


def _category(name: str) -> str:
    """Of a consent beside the one for marketing: `SMS opt-in` is for sms."""
    own = slug(re.sub(r"opt ?(in|out)|consent|samtycke|permission|unsubscribed?|avregistrera[dt]?", "", _plain(name)))
    return f"{PREFERENCES}.{own if own != 'column' else slug(name).lower()}"


def _column(name: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    plain = _plain(name)
    role, place = next(((role, place) for pattern, role, place in NAMES if re.fullmatch(pattern, plain)), ("", ""))
    if role not in ("rating", "answer") and "?" in name:
        role = "rating"
    if role in _BY_ROLE:
        return _BY_ROLE[role](name, place, cells, swedish, decimal) or _by_content(name, cells, swedish, decimal)
    return Found(name, role, place) if role else _by_content(name, cells, swedish, decimal)


# By its name


def _phone(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    region = _region(cells, swedish)
    if not region:
        return Found(name, "who", place)
    clean = {"to": place, "clean": [{"phone": {"region": region}}]}
    national = any(not cell.startswith("+") for cell in cells)
    return Found(name, "who", clean, note=f"{name}: numbers without a country code are read as of {region}" * national)


def _external(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    return Found(name, "external", {"to": "context.externalIds", "kind": slug(name).lower()})


def _born(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found | None:
    return _dated("trait", name, place, cells, swedish)


def _country(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    named = _like_country(name, place, cells, swedish)
    return Found(name, "trait", named.place if named else _if_read(place, {"country": {}}, cells))


def _language(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    return Found(name, "trait", _if_read(place, {"language": {"language": "sv"} if swedish else {}}, cells))


def _money(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    return Found(name, "money", _typed(place, cells, decimal))


def _numbered(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    return Found(name, "other", _typed(place, cells, decimal))


def _currency_column(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    signs = {cell: CURRENCIES[cell.lower()] for cell in cells if cell.lower() in CURRENCIES}
    rest = [cell for cell in cells if cell not in signs]
    steps: list[Any] = [{"map": signs}] if signs else []
    steps += ["currency"] if rest and _read("currency", rest) else []
    return Found(name, "currency", {"to": place, "clean": steps} if steps else place)


def _time(role: str, name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found | None:
    return _dated(role, name, f"?.{slug(name)}", cells, swedish)


def _consent(refused: bool, name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found | None:
    if not cells or not _read("boolean", cells):
        return None
    to, turned = f"{PREFERENCES}.marketing", {"map": {"true": False, "false": True}}
    step = {"to": to, "clean": ["boolean", turned]} if refused else {"to": to, "as": "boolean"}
    return Found(name, "consent", step, note=f"{name}: is taken for what somebody has agreed to")


def _rating(name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    typed = _typed("properties.answer", cells, decimal)
    if isinstance(typed, dict):
        return Found(name, "rating", typed, _scale(name, cells))
    if cells and _read("boolean", cells):
        return Found(name, "rating", {"to": "properties.answer", "as": "boolean"}, "yes/no")
    return Found(name, "rating", "properties.answer")


def _scale(name: str, cells: Cells) -> str:
    if named := SCALE.search(name):
        return f"{named[1]}-{named[2]}"
    numbers = [
        float(re.sub(r"\s", "", cell).replace(",", ".")) for cell in cells if re.fullmatch(r"\d+([.,]\d+)?", cell)
    ]
    nps = re.search(r"nps|recommend|rekommendera", name.lower())
    most = max(numbers, default=0)
    if most > 10:
        return "0-100"
    low = 0 if nps or min(numbers, default=1) < 1 else 1
    return f"{low}-{10 if nps or most > 5 else 5}"


def _said(role: str, name: str, place: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    # Elsewhere than in a survey it goes with the rest.
    return Found(name, role, f"?.{slug(name)}")


_BY_ROLE: Final[dict[str, Any]] = {
    "phone": _phone, "external": _external, "born": _born, "country": _country, "language": _language,
    "money": _money, "other": _numbered, "currency": _currency_column, "rating": _rating,
    "consent": partial(_consent, False), "refusal": partial(_consent, True),
    **{role: partial(_time, role) for role in ("time", "created", "updated")},
    **{role: partial(_said, role) for role in ("answer", "said")},
}  # fmt: skip


# By what is in it


def _by_content(name: str, cells: Cells, swedish: bool, decimal: str) -> Found:
    place = f"?.{slug(name)}"
    for look in (_like_email, _like_phone, _like_date, _like_country, _like_yes_and_no, _like_own_words):
        if cells and (found := look(name, place, cells, swedish)):
            return found
    return Found(name, "other", _typed(place, cells, decimal))


def _like_email(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    return Found(name, "who", "traits.email") if all(EMAIL.fullmatch(each) for each in cells) else None


def _like_phone(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    shaped = all(PHONE.fullmatch(each) for each in cells) and any(re.search(r"[+\s()-]|^07", each) for each in cells)
    region = _region(cells, swedish) if shaped else ""
    return _phone(name, "traits.phone", cells, swedish, ".") if region and _valid(cells, region) == len(cells) else None


def _like_date(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    shaped = all(DATED.fullmatch(each) or SPOKEN.fullmatch(each) for each in cells)
    return _dated("other", name, place, cells, swedish) if shaped else None


def _like_country(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    """Names of countries only: two letters may mean anything."""
    named = all(len(each) > 3 and not any(letter.isdigit() for letter in each) for each in cells)
    for options in ({}, {"language": "sv"}) if named else ():
        if _read(step := {"country": options}, cells):
            return Found(name, "other", {"to": place, "clean": [step]})
    return None


def _like_yes_and_no(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    words = {each.lower() for each in cells}
    if words <= YES | NO and not all(each.isdigit() for each in words):
        return Found(name, "other", {"to": place, "as": "boolean"})
    return None


def _like_own_words(name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    long = sum(map(len, cells)) >= CHARACTERS * len(cells) and len(set(cells)) * 2 > len(cells)
    wordy = sum(len(each.split()) for each in cells) >= WORDS * len(cells)
    return Found(name, "said", place) if long and wordy else None


# Values


def _read(step: object, cells: Cells) -> bool:
    """Whether a step of shared.values can read them all."""
    clean = compiled(step)
    try:
        for each in set(cells):
            clean(each)
    except ValueError:
        return False
    return True


def _if_read(place: str, step: object, cells: Cells) -> Any:
    return {"to": place, "clean": [step]} if cells and _read(step, cells) else place


def _typed(place: str, cells: Cells, decimal: str) -> Any:
    bare = [SIGN.sub("", each).strip() for each in cells]
    # What begins with a nought is a code: a number would lose it.
    coded = any(re.match(r"0\d", each) or len(each) > 15 for each in bare)
    if not bare or coded or not all(NUMBER.fullmatch(each) for each in bare):
        return place
    if any(COMMA.search(each) for each in bare):
        decimal = ","
    elif any(POINT.search(each) for each in bare):
        decimal = "."
    return {"to": place, "as": "number", "decimal": decimal} if _read({"number": decimal_of(decimal)}, cells) else place


def decimal_of(decimal: str) -> dict[str, str]:
    """Options of the step `number`."""
    return {"decimal": decimal}


def _currency(name: str, cells: Cells) -> str:
    signs = {sign[1] for each in (name, *cells) if (sign := SIGN.search(each))}
    codes = {CURRENCIES.get(each.lower(), each) for each in signs}
    return codes.pop() if len(codes) == 1 else ""


def _region(cells: Cells, swedish: bool) -> str:
    """Where the most numbers are valid. Of several, where those with a country code are. Empty: nowhere."""
    coded = [each for each in REGIONS if any(cell.startswith("+") and _is_of(cell, each) for cell in cells)]
    regions = [*coded, *(REGIONS if swedish else (*REGIONS[1:], REGIONS[0]))]
    best = max(regions, key=lambda each: _valid(cells, each))
    return best if _valid(cells, best) * 2 > len(cells) else ""


def _is_of(text: str, region: str) -> bool:
    return bool(_is_number(text, None) and phonenumbers.region_code_for_number(phonenumbers.parse(text)) == region)


def _valid(cells: Cells, region: str) -> int:
    return sum(_is_number(each, region) for each in cells)


def _is_number(text: str, region: str | None) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(text, region)))
    except phonenumbers.NumberParseException:
        return False


# Dates


def _dated(role: str, name: str, place: str, cells: Cells, swedish: bool) -> Found | None:
    """A column of dates; None where no form fits nearly all of them. The one that fits the most does."""
    fitting = {each: sum(_fits(cell, each) for cell in cells) for each in FORMATS if _fits_some(cells, each)}
    most = max(fitting.values(), default=0)
    if most and most >= NEARLY_ALL * len(cells):
        forms = [each for each, count in fitting.items() if count == most]
        form, note = _day_or_month_first(name, forms)
        options = {} if form == "iso" else {"format": form}
    elif language := _spoken(cells):
        options, note = {"language": language}, ""
    else:
        return None
    clocked = any(":" in cell for cell in cells)
    step = {"time": {**options, **({"zone": ZONE} if swedish else {})}} if clocked else {"date": options}
    # ISO dates are what they should be, but for the clock that Excel gives to all of them.
    written = {"to": place, "clean": [step]} if options else place
    if not options and all(cell.endswith("T00:00:00") for cell in cells):
        written = {"to": place, "clean": ["date"]}
    return Found(name, role, written, note=note, when=options)


def _day_or_month_first(name: str, forms: Sequence[str]) -> tuple[str, str]:
    """What the contents say (a value above 12 has excluded the other); else as it is usual with such a clock."""
    first = forms[0]
    turned = first.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
    if turned == first or turned not in forms:
        return first, ""
    form, which = (turned, "month") if "%p" in first else (first, "day")
    return form, f"{name}: day or month first? Nothing in it says; {which} first is assumed"


def _fits_some(cells: Cells, form: str) -> bool:
    return any(_fits(cell, form) for cell in cells[:SOME])


def _fits(cell: str, form: str) -> bool:
    try:
        datetime.fromisoformat(cell) if form == "iso" else datetime.strptime(cell, form)
    except ValueError:
        return False
    return True


def _spoken(cells: Cells) -> str:
    """The language of the months' names."""
    if not cells or not all(SPOKEN.fullmatch(each) for each in cells):
        return ""
    some = list(dict.fromkeys(cells))[:MOST_SPOKEN]
    for language in LANGUAGES:
        try:
            if _read({"date": {"language": language}}, some):
                return language
        except SamlaError:
            continue
    return ""
