"""From rows to messages, by a mapping that is data.

    {"type": "track", "event": "Order Completed",
     "time": {"column": "Datum", "format": "%Y-%m-%d", "zone": "Europe/Stockholm"},
     "columns": {"Kundnr": "userId", "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","}},
     "id": ["Ordernr"]}

The message id follows from the columns under `id`, else from all of the row and where it stands: so the same
file, imported twice, changes nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from shared.errors import SamlaError

Row = Mapping[str, Any]
Message = dict[str, Any]

KINDS: Final = ("track", "identify", "page", "screen", "group", "alias")
EMPTY: Final = frozenset({"", "null", "none", "nan", "n/a", "#n/a", "-"})
"""Cells that say nothing. Compared in lower case."""
YES: Final = frozenset({"1", "true", "yes", "y", "ja", "j", "sant", "x"})
NO: Final = frozenset({"0", "false", "no", "n", "nej", "falskt"})


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a column goes, and as what."""

    to: str
    as_: str = msgspec.field(name="as", default="text")
    decimal: str = "."


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When what a row tells of happened."""

    column: str
    format: str = "iso"
    """As strptime has it, or `iso`."""
    zone: str = "UTC"


class Mapping_(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "type"}):
    """A mapping, checked."""

    kind: str
    columns: dict[str, str | Column]
    event: str = ""
    time: Time | None = None
    id: tuple[str, ...] = ()
    consent: dict[str, bool] | None = None
    """What everybody in the file has agreed to or refused."""


def mapping_of(value: object) -> Mapping_:
    """A mapping from its JSON. Raises SamlaError that says what is wrong."""
    try:
        made = msgspec.convert(value, Mapping_)
    except msgspec.ValidationError as error:
        raise SamlaError(f"the mapping: {error}") from error
    if made.kind not in KINDS:
        raise SamlaError(f"the mapping: type is one of {', '.join(KINDS)}")
    if made.kind == "track" and not made.event and "event" not in map(_target, made.columns.values()):
        raise SamlaError("the mapping: track needs an event, or a column that goes to it")
    for each in made.columns.values():
        if isinstance(each, Column) and each.as_ not in _READERS:
            raise SamlaError(f"the mapping: as is one of {', '.join(_READERS)}")
    if made.time is not None:
        try:
            ZoneInfo(made.time.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise SamlaError(f"the mapping: there is no time zone {made.time.zone}") from error
    return made


def _target(column: str | Column) -> str:
    return column if isinstance(column, str) else column.to


def message_of(mapping: Mapping_, row: Row, number: int) -> Message:
    """The message of a row, the `number`th. What cannot be read stays as it is written: the door says so."""
    message: Message = {"type": mapping.kind, "messageId": _id(mapping, row, number)}
    if mapping.event:
        message["event"] = mapping.event
    for name, column in mapping.columns.items():
        value = _read(row.get(name), column)
        if value is not None:
            _put(message, _target(column), value)
    if mapping.time is not None and (written := _cell(row.get(mapping.time.column))) is not None:
        message["timestamp"] = _instant(written, mapping.time)
    if mapping.consent is not None:
        _put(message, "context.consent.categoryPreferences", mapping.consent)
    return message


def _id(mapping: Mapping_, row: Row, number: int) -> str:
    chosen = {name: row.get(name) for name in mapping.id} if mapping.id else {"": number, **row}
    text = msgspec.json.encode([mapping.kind, mapping.event, sorted(chosen.items())], order="sorted")
    return f"import-{hashlib.sha256(text).hexdigest()[:40]}"


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        return None if value.lower() in EMPTY else value
    return value


def _read(value: Any, column: str | Column) -> Any:
    value = _cell(value)
    if value is None or isinstance(column, str):
        return value
    return _READERS[column.as_](value, column) if isinstance(value, str) else value


def _number(text: str, column: Column) -> Any:
    """Digits in groups, with the decimal point that the column has: `1 234,50`."""
    plain = re.sub(r"[\s'\u00a0\u202f]", "", text).replace("." if column.decimal == "," else ",", "")
    plain = plain.replace(column.decimal, ".").replace("\u2212", "-")
    try:
        found = Decimal(plain)
    except InvalidOperation:
        return text
    if not found.is_finite():
        return text
    return int(found) if found == found.to_integral_value() and "." not in plain else float(found)


def _boolean(text: str, column: Column) -> Any:
    lower = text.lower()
    return True if lower in YES else False if lower in NO else text


_READERS: Final[dict[str, Any]] = {
    "text": lambda text, column: text,
    "number": _number,
    "boolean": _boolean,
}


def _instant(written: Any, time: Time) -> Any:
    if not isinstance(written, str):
        return written
    try:
        found = datetime.fromisoformat(written) if time.format == "iso" else datetime.strptime(written, time.format)
    except ValueError:
        return written
    return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(time.zone))).isoformat()


def _put(message: Message, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        inner = message.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        message = inner
    message[last] = value
