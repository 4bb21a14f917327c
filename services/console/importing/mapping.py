"""From rows to messages, by a mapping that is data.

    {"type": "track", "event": "Order Completed",
     "time": {"column": "Datum", "format": "%Y-%m-%d", "zone": "Europe/Stockholm"},
     "columns": {"Kundnr": "userId", "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","},
                 "Mobil": {"to": "traits.phone", "clean": [{"phone": {"region": "SE"}}]},
                 "CRM-id": {"to": "context.externalIds", "kind": "crm_id"}},
     "set": {"properties.currency": "SEK"},
     "id": ["Ordernr"]}

`clean` has steps of shared.values; `as`, `decimal`, `format`, `zone` are short for the usual ones. The message id
follows from the columns under `id`, else from all of the row and where it stands: so the same file, imported
twice, changes nothing.

A file may have several mappings, in a list; each row gives one message for each of them. `mappings_of` and
`messages_of` take one or many; `mapping_of` and `message_of` take one.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec

from contracts.tracking import KINDS
from shared.errors import SamlaError
from shared.values import Clean, compiled

Row = Mapping[str, Any]
Message = dict[str, Any]
Mapped = tuple[int, Message | None, int]
"""(row, message, bytes of the file read so far); no message where a row gives none."""
Told = Callable[[str], None]
"""Takes the name of a column that could not be read."""

ROOTS: Final = frozenset(
    {"userId", "anonymousId", "previousId", "groupId", "event", "name", "timestamp", "properties", "traits", "context"}
)
"""Where a column may go; the door would drop anything else without a word."""
EXTERNAL: Final = "context.externalIds"
PREFERENCES: Final = "context.consent.categoryPreferences"
EMPTY: Final = frozenset({"", "null", "none", "nan", "n/a", "#n/a", "-"})
"""Cells that say nothing. Compared in lower case."""
AS: Final = ("text", "number", "boolean")
MOST_MAPPINGS: Final = 100
REMEMBERED: Final = 4_096
"""Texts of a column whose clean values are kept: dates and codes come again and again."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a column goes, and as what."""

    to: str
    clean: Any = None
    """Steps of shared.values."""
    as_: str = msgspec.field(name="as", default="text")
    decimal: str = "."
    kind: str = ""
    """Of an id in another system, which goes to context.externalIds."""


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When what a row tells of happened."""

    column: str
    format: str = "iso"
    """As strptime has it, or `iso`."""
    zone: str = "UTC"
    language: str = ""
    """Of the months' names, where they are written out."""
    clean: Any = None
    """Steps of shared.values, in place of all that."""


class Mapping_(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, rename={"kind": "type", "set_": "set"}
):
    """A mapping, checked."""

    kind: str
    columns: dict[str, str | Column | list[str | Column]]
    event: str = ""
    time: Time | None = None
    id: tuple[str, ...] = ()
    consent: dict[str, bool] | None = None
    """What everybody in the file has agreed to or refused."""
    set_: dict[str, Any] = {}
    """What every message says: its place -> its value."""
    needs: tuple[str, ...] = ()
    """Columns without which a row gives no message: who has not answered has said nothing."""
    known_by: tuple[str, ...] = ()
    """Columns that tell who it is, where no column goes to userId or anonymousId; the door wants one of them."""
    notes: tuple[str, ...] = ()
    """For people."""
    nth: int = 0
    """How many mappings before it in its list make messages that would have the same ids."""

    @cached_property
    def writers(self) -> list[tuple[str, Clean | None, "Write"]]:
        """(column, how it is cleaned, how it is written), compiled once."""
        return [
            (name, _cleaner(each), _writer(each))
            for name, places in self.columns.items()
            for each in (places if isinstance(places, list) else [places])
        ]

    @cached_property
    def instant(self) -> Clean | None:
        """How its time is read."""
        if self.time is None:
            return None
        time = self.time
        options = {"language": time.language} if time.language else {"format": time.format}
        return _remembering(compiled(time.clean or [{"time": {**options, "zone": time.zone}}]))


Write = Callable[[Message, Any], None]


def mappings_of(value: object) -> tuple[Mapping_, ...]:
    """One mapping or a list of them, from JSON. Raises SamlaError that says what is wrong."""
    if not isinstance(value, list):
        return (mapping_of(value),)
    if not 0 < len(value) <= MOST_MAPPINGS:
        raise SamlaError(f"the mapping: a list has 1 to {MOST_MAPPINGS} mappings")
    made: list[Mapping_] = []
    for each in map(mapping_of, value):
        same = sum(_kinship(each) == _kinship(other) for other in made)
        made.append(msgspec.structs.replace(each, nth=same))
    return tuple(made)


def _kinship(mapping: Mapping_) -> bytes:
    return msgspec.json.encode([mapping.kind, mapping.event, mapping.set_, mapping.id], order="sorted")


def mapping_of(value: object) -> Mapping_:
    """One mapping from its JSON. Raises SamlaError that says what is wrong."""
    try:
        made = msgspec.convert(value, Mapping_)
    except msgspec.ValidationError as error:
        raise SamlaError(f"the mapping: {error}") from error
    try:
        _check(made)
    except SamlaError as error:
        raise SamlaError(f"the mapping: {error}") from error
    return made


def _check(made: Mapping_) -> None:
    if made.kind not in KINDS:
        raise SamlaError(f"type is one of {', '.join(KINDS)}")
    columns = [each for places in made.columns.values() for each in (places if isinstance(places, list) else [places])]
    targets = [_target(each) for each in columns]
    if made.kind == "track" and not made.event and "event" not in [*targets, *made.set_]:
        raise SamlaError("track needs an event, or a column that goes to it")
    for target in [*targets, *made.set_]:
        if target.partition(".")[0] not in ROOTS or not all(target.split(".")):
            raise SamlaError(f"nothing can go to {target!r}: places begin with {', '.join(sorted(ROOTS))}")
    for each in columns:
        if isinstance(each, Column) and each.as_ not in AS:
            raise SamlaError(f"as is one of {', '.join(AS)}")
        if (_target(each) == EXTERNAL) != bool(isinstance(each, Column) and each.kind):
            raise SamlaError(f'an id of another system is {{"to": "{EXTERNAL}", "kind": "crm_id"}}')
    # Compiled here, so that a step that is none is told at once.
    _ = made.writers, made.instant


def _target(column: str | Column) -> str:
    return column if isinstance(column, str) else column.to


def message_of(mapping: Mapping_, row: Row, number: int) -> Message:
    """The message of a row, the `number`th. What cannot be read stays as it is written: the door says so."""
    return _message(mapping, row, number, _nobody_listens)


def messages_of(
    mappings: Sequence[Mapping_], row: Row, number: int, unread: Told = lambda column: None
) -> list[Message]:
    """The messages of a row: one for each mapping whose `needs` it has."""
    return [
        _message(each, row, number, unread)
        for each in mappings
        if all(_cell(row.get(name)) is not None for name in each.needs)
    ]


def columns_of(mappings: Iterable[Mapping_]) -> Iterator[str]:
    """The names of columns that they read, some more than once."""
    for each in mappings:
        yield from each.columns
        yield from (*each.id, *each.needs, *each.known_by)
        if each.time is not None:
            yield each.time.column


def mapped(mappings: Sequence[Mapping_], rows: Iterable[tuple[Row, int]]) -> Iterator[Mapped]:
    """What a file's rows (files.rows_of) become, for sending.send."""
    for number, (row, at) in enumerate(rows, 1):
        made: Sequence[Message | None] = messages_of(mappings, row, number) or [None]
        yield from ((number, message, at) for message in made)


def _nobody_listens(column: str) -> None:
    pass


def _message(mapping: Mapping_, row: Row, number: int, unread: Told) -> Message:
    message: Message = {"type": mapping.kind, "messageId": _id(mapping, row, number)}
    if mapping.event:
        message["event"] = mapping.event
    for place, value in mapping.set_.items():
        _put(message, place.split("."), value)
    if mapping.consent is not None:
        _put(message, PREFERENCES.split("."), {**mapping.consent})
    for name, clean, write in mapping.writers:
        value = _cell(row.get(name))
        if value is not None:
            write(message, _clean(value, clean, name, unread))
    if mapping.time is not None and (written := _cell(row.get(mapping.time.column))) is not None:
        message["timestamp"] = _clean(written, mapping.instant, mapping.time.column, unread)
    if mapping.known_by and "userId" not in message and "anonymousId" not in message:
        _known_by(message, [_cell(row.get(name)) for name in mapping.known_by])
    return message


def _id(mapping: Mapping_, row: Row, number: int) -> str:
    chosen = {name: row.get(name) for name in mapping.id}
    if all(_cell(value) is None for value in chosen.values()):
        # Rows without a number of their own are not one and the same.
        chosen = {"": number, **row}
    parts: list[Any] = [mapping.kind, mapping.event, sorted(chosen.items())]
    if mapping.set_ or mapping.nth:
        parts += [mapping.set_, mapping.nth]
    return f"import-{_digest(parts)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:40]


def _known_by(message: Message, cells: list[Any]) -> None:
    """An id that is the same in every file that knows the person by the same."""
    if any(cell is not None for cell in cells):
        message["anonymousId"] = f"import-{_digest(['' if each is None else str(each).lower() for each in cells])}"


# Values


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        return None if value.lower() in EMPTY else value
    return _whole(value)


def _whole(value: Any) -> Any:
    """JSON has no integers beyond 64 bits: they are codes."""
    fits = not isinstance(value, int) or -(2**63) <= value < 2**63
    return value if fits else str(value)


def _clean(value: Any, clean: Clean | None, name: str, unread: Told) -> Any:
    if clean is None:
        return value
    try:
        found = _whole(clean(value))
    except (ValueError, ArithmeticError, TypeError):
        unread(name)
        return value
    return value if found is None else found


def _cleaner(column: str | Column) -> Clean | None:
    if isinstance(column, str):
        return None
    short: dict[str, list[Any]] = {"number": [{"number": {"decimal": column.decimal}}], "boolean": ["boolean"]}
    more: list[Any] = column.clean if isinstance(column.clean, list) else [column.clean]
    steps = [*short.get(column.as_, []), *(each for each in more if each is not None)]
    return _remembering(compiled(steps)) if steps else None


def _remembering(clean: Clean) -> Clean:
    remembered = lru_cache(REMEMBERED)(clean)
    # 1, 1.0 and True are one key, and what is no text is quickly read.
    return lambda value: remembered(value) if isinstance(value, str) else clean(value)


# Places


def _writer(column: str | Column) -> Write:
    path = _target(column).split(".")
    if isinstance(column, Column) and column.kind:
        return lambda message, value: _add_external(message, column.kind, value)
    return lambda message, value: _put(message, path, value)


def _put(message: Message, path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        inner = message.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        message = inner
    message[last] = value


def _add_external(message: Message, kind: str, value: Any) -> None:
    """All four fields, as the door wants them."""
    ids = message.setdefault("context", {}).setdefault("externalIds", [])
    ids.append({"id": str(value), "type": kind, "collection": "users", "encoding": "none"})
