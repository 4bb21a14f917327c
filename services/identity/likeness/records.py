"""A profile's facts as a record that can be compared: names, birth date, address, phone, e-mail, national id.

Traits are found by their names in Swedish and English, as CRMs, shops and SDKs write them; values are brought to one
form (case, accents, punctuation, order of a date), and to nothing where they say nothing.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from contracts.profile import Origin
from services.identity.domain.rules import SHIPPED
from services.identity.likeness.names import NOBODY, ROOTS

TRAITS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name", "fullname", "namn", "heltnamn"),
    "given": ("firstname", "givenname", "forename", "fornamn", "tilltalsnamn"),
    "middle": ("middlename", "middleinitial", "mellannamn"),
    "surname": ("lastname", "surname", "familyname", "efternamn"),
    "birth": ("birthday", "birthdate", "dateofbirth", "dob", "fodelsedatum", "fodelsedag", "fodd"),
    "street": ("address.street", "address.line1", "address.address1", "street", "streetaddress", "address", "adress",
               "gatuadress", "gata", "utdelningsadress", "address1"),
    "number": ("address.number", "streetnumber", "housenumber", "gatunummer", "husnummer"),
    "extra": ("address.line2", "address.address2", "address.unit", "address2", "co", "careof", "lagenhet",
              "lagenhetsnummer", "unit", "apartment"),
    "city": ("address.city", "city", "town", "suburb", "ort", "postort", "stad"),
    "postal": ("address.postalcode", "address.postcode", "address.zip", "postalcode", "postcode", "zipcode", "zip",
               "postnummer", "postnr"),
    "region": ("address.state", "address.region", "state", "region", "lan"),
    "phone": ("phone", "phonenumber", "telephone", "mobile", "mobil", "telefon", "mobiltelefon", "telefonnummer"),
    "email": ("email", "emailaddress", "epost", "mejl", "epostadress"),
    "national": ("nationalid", "personalid", "personalnumber", "personnummer", "personnr", "ssn", "socsecid",
                 "socialsecuritynumber", "samordningsnummer"),
}  # fmt: skip
"""Field -> the names of traits that it may have, without case, accents and punctuation; a dot for what is nested."""

FIRST: Final = "first"
PARTIES: Final = (FIRST, "second", "third")
"""What a customer has said goes before what a partner or supplier has."""


class Use(NamedTuple):
    """Whose data may be compared: one's own, and of what others supply that of sources of which it is said."""

    others: frozenset[str] = frozenset()
    """Sources of partners and suppliers."""
    compared: frozenset[str] = frozenset()
    """Those of them whose data may be."""

    def may(self, source: str, party: str = FIRST) -> bool:
        """Whether what a source has said may be compared."""
        return source in self.compared or (party == FIRST and source not in self.others)


OWN: Final = Use()

_LETTERS: Final = str.maketrans({"ø": "o", "æ": "ae", "ß": "ss", "đ": "d", "ł": "l", "þ": "th", "ð": "d"})
_NOTHING: Final = frozenset({"", "na", "n a", "nan", "none", "null", "unknown", "okand", "saknas", "test", "xxx"})
_SUFFIXES: Final = frozenset({"jr", "sr", "junior", "senior", "ii", "iii", "dy", "da"})
_MONTHS: Final = 12
_THIS_CENTURY: Final = 30
"""Years of two digits up to this one are of the century that has begun."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody, as far as likeness goes; a field is empty where nothing is known."""

    id: str
    source: str = ""
    """Of what is known: the source that said most of it."""
    said_by: tuple[str, ...] = ()
    """All sources of what is compared."""
    given: str = ""
    middle: str = ""
    surname: str = ""
    suffix: str = ""
    birth: str = ""
    """Eight digits, the year first."""
    street: str = ""
    number: str = ""
    extra: str = ""
    city: str = ""
    postal: str = ""
    region: str = ""
    phone: str = ""
    email: str = ""
    national: str = ""

    @property
    def root(self) -> str:
        """The name that the given one is short for."""
        return ROOTS.get(self.given, self.given)

    def says(self) -> int:
        """How much is known."""
        return sum(bool(getattr(self, name)) for name in FIELDS)


FIELDS: Final = (
    "given", "middle", "surname", "birth", "street", "number", "extra", "city", "postal", "region", "phone", "email",
    "national",
)  # fmt: skip


def record_of(profile: str, facts: Mapping[str, Any], use: Use = OWN) -> Record:
    """A profile's facts (contracts/profile.py, with what was said) as a record, of what may be compared."""
    said = {name: each for name, origins in facts.get("said", {}).items() if (each := _said(origins, use))}
    identified: list[str] = []
    values = dict(_flat({name: value for name, (value, _) in said.items()}))
    for kind in ("email", "phone"):
        seen = facts.get("ids", {}).get(kind, {})
        known = {value: each for value, each in seen.items() if use.may(Origin.read(each[3]).source)}
        if known:
            # A person's own, by identity's decisions, goes before a trait; the one seen last is in use.
            values[kind] = max(known, key=lambda each: (known[each][1], each))
            identified.append(Origin.read(known[values[kind]][3]).source)
    sources = [source for name, (_, source) in said.items() if _flat_name(name) in _FIELD_OF]
    source = max(sorted(set(sources)), key=sources.count) if sources else ""
    return replace(record(profile, source, _fields(values)), said_by=tuple(sorted({*sources, *identified})))


def _said(origins: Mapping[str, Sequence[Any]], use: Use) -> tuple[Any, str] | None:
    """(value, source) of the party that counts, of several sources the one that has spoken last."""
    able = [
        (-PARTIES.index(origin.party), time, event, origin.source, value)
        for origin, (time, event, value) in ((Origin.read(text), said) for text, said in origins.items())
        if origin.party in PARTIES and use.may(origin.source, origin.party)
    ]
    if not able:
        return None
    *_, source, value = max(able, key=lambda each: each[:4])
    return value, source


def _flat(traits: Mapping[str, Any], under: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in traits.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{_flat_name(name)}.")
        else:
            yield under + _flat_name(name), value


def _flat_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", plain(name, keep="."))


_FIELD_OF: Final = {name.partition(".")[0]: field for field, names in TRAITS.items() for name in names}


def _fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Field -> the first of its traits that says something."""
    found = {}
    for field, names in TRAITS.items():
        value = next((values[name] for name in names if isinstance(values.get(name), (str, int)) and values[name]), "")
        if value:
            found[field] = str(value)
    return found


def record(identity: str, source: str, written: Mapping[str, str]) -> Record:
    """Fields as they were written, in one form."""
    given, surname = plain(written.get("given", "")), plain(written.get("surname", ""))
    if not given and not surname:
        given, surname = _halves(written.get("name", ""))
    surname, suffix = _without_suffix(surname)
    street, number = _street(written.get("street", ""), plain(written.get("number", "")))
    national = _national(written.get("national", ""))
    return Record(
        id=identity,
        source=source,
        given=_named(given),
        middle=_some(plain(written.get("middle", "")))[:1],
        surname=_named(surname) if " " in surname else _some(surname),  # Young, Child, Friend
        suffix=suffix,
        birth=born(written.get("birth", "")) or _birth_in(national),
        street=_some(street),
        number=number,
        extra=_some(plain(written.get("extra", ""))),
        city=_some(plain(written.get("city", ""))),
        postal=plain(written.get("postal", "")).replace(" ", ""),
        region=_some(plain(written.get("region", ""))),
        phone=re.sub(r"\D", "", _somebodys("phone", written.get("phone", "")))[-9:].lstrip("0"),
        email=_somebodys("email", written.get("email", "")),
        national=national,
    )


def plain(text: str, keep: str = "") -> str:
    """Lower case, without accents and punctuation; single spaces."""
    apart = unicodedata.normalize("NFKD", text.strip().lower().translate(_LETTERS))
    bare = "".join(each for each in apart if not unicodedata.combining(each))
    return " ".join(re.sub(rf"[^\w{re.escape(keep)}]+|_", " ", bare.replace("'", "")).split())


def _some(text: str) -> str:
    return "" if text in _NOTHING else text


def _somebodys(kind: str, written: str) -> str:
    """Unless it is nobody's (`noreply@`, 000000), as identity's shipped rules say."""
    return SHIPPED.of(kind).value(written.strip()) or ""


def _named(text: str) -> str:
    """A name, unless each of its words only says what somebody is."""
    return "" if all(each in NOBODY for each in text.split()) else _some(text)


def _halves(name: str) -> tuple[str, str]:
    """A name in one piece: `Ada Lovelace`, `Lovelace, Ada`."""
    last, comma, first = name.partition(",")
    if comma:
        return plain(first), plain(last)
    words = plain(name).split()
    return (words[0], " ".join(words[1:])) if words else ("", "")


def _without_suffix(surname: str) -> tuple[str, str]:
    words = surname.split()
    if len(words) > 1 and words[-1] in _SUFFIXES:
        return " ".join(words[:-1]), words[-1]
    return surname, ""


def _street(written: str, number: str) -> tuple[str, str]:
    """(street, number): a number within the street's line is taken out of it; it stands first in English, last in
    Swedish, and may have a letter and a floor behind it."""
    line = plain(written)
    if number:
        return line, number
    if first := re.fullmatch(r"(\d+ ?[a-z]?) (\D.*)", line):
        return first[2], first[1].replace(" ", "")
    if last := re.fullmatch(r"(\D+?) (\d+) ?([a-z]?)( .*)?", line):
        return last[1], last[2] + last[3]
    return line, ""


def born(written: str) -> str:
    """Eight digits of a date in any usual order; what is no date stays as it is written, if it has eight digits."""
    text = written.strip()[:10]
    parts = re.split(r"\D+", text)
    if len(parts) == 3 and all(parts):
        text = _ordered(parts)
    digits = re.sub(r"\D", "", text)
    return digits if len(digits) == 8 else ""


def _ordered(parts: list[str]) -> str:
    """Year first; of day and month the one that cannot be a month is the day, and slashes are American."""
    if len(parts[0]) == 4:
        year, month, day = parts
    else:
        month, day, year = parts
        if int(month) > _MONTHS:
            month, day = day, month
    return f"{year:0>4}{month:0>2}{day:0>2}"


def _national(written: str) -> str:
    """Digits; a Swedish number without its century, as it is most often written."""
    digits = re.sub(r"\D", "", _somebodys("phone", written))  # 000000-0000, 111111-1111
    return digits[2:] if len(digits) == 12 else digits


def _birth_in(national: str) -> str:
    """The birth date that a Swedish number begins with (of a co-ordination number, with 60 in its day)."""
    if len(national) != 10:
        return ""
    year, month, day = int(national[:2]), int(national[2:4]), int(national[4:6])
    day -= 60 if day > 60 else 0
    century = 2000 if year <= _THIS_CENTURY else 1900
    try:
        return date(century + year, month, day).strftime("%Y%m%d")
    except ValueError:
        return ""
