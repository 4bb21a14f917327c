"""A mapping proposed from the columns' names and contents. A person confirms it."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

Row = dict[str, Any]

NAMES: Final[tuple[tuple[str, str], ...]] = (
    (r"e-?(mail|post)(adress)?|mail", "traits.email"),
    (r"(tele)?(phone|fon)(number|nummer)?|mobil(e|nummer)?|tel", "traits.phone"),
    (r"(user|customer|member|client|kund|medlem)s?[ _-]?(id|no|nr|number|nummer)", "userId"),
    (r"(device|visitor|anonymous|cookie)[ _-]?id", "anonymousId"),
    (r"first[ _-]?name|förnamn", "traits.firstName"),
    (r"(last|sur)[ _-]?name|efternamn", "traits.lastName"),
    (r"(amount|total|revenue|sum|belopp|summa|pris)", "properties.revenue"),
    (r"(currency|valuta)", "properties.currency"),
    (r"(order|invoice|receipt|faktura|kvitto)s?[ _-]?(id|no|nr|number|nummer)", "properties.order_id"),
)
"""What a column is called (English, Swedish) -> where it goes."""
TIMES: Final = r"(.*[ _-])?(date|time|datum|tid|timestamp|created|when)([ _-].*)?|order(date|datum)"
FORMATS: Final = ("iso", "%Y-%m-%d %H:%M", "%d/%m/%Y", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%Y%m%d")
EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
NUMBER: Final = re.compile(r"[-\u2212]?[\d\s\u00a0\u202f'.,]*\d")
COMMA: Final = re.compile(r",\d{1,2}$")


def proposed(names: Sequence[str], sample: Sequence[Row]) -> dict[str, Any]:
    """The JSON of a mapping; see mapping.mapping_of."""
    columns: dict[str, Any] = {}
    time: dict[str, Any] | None = None
    for name in names:
        cells = [str(row.get(name) or "").strip() for row in sample]
        cells = [each for each in cells if each]
        if time is None and re.fullmatch(TIMES, name, re.IGNORECASE) and (found := _format(cells)):
            time = {"column": name, "format": found}
        else:
            columns[name] = _column(name, cells)
    targets = {each if isinstance(each, str) else each["to"] for each in columns.values()}
    told = time is not None and "properties.revenue" in targets
    made: dict[str, Any] = {"type": "track", "event": "Order Completed"} if told else {"type": "identify"}
    made["columns"] = {name: _rooted(each, "properties" if told else "traits") for name, each in columns.items()}
    if time is not None:
        made["time"] = time
    if orders := [name for name, each in columns.items() if each == "properties.order_id"]:
        made["id"] = orders[:1]
    return made


def _column(name: str, cells: Sequence[str]) -> Any:
    for pattern, target in NAMES:
        if re.fullmatch(pattern, name.strip(), re.IGNORECASE):
            return _typed(target, cells) if target == "properties.revenue" else target
    if cells and all(EMAIL.fullmatch(each) for each in cells):
        return "traits.email"
    return _typed(f"?.{re.sub(r'[^0-9a-zA-ZåäöÅÄÖ]+', '_', name).strip('_') or 'column'}", cells)


def _typed(target: str, cells: Sequence[str]) -> Any:
    # What begins with a nought is a code: a number would lose it.
    coded = any(re.match(r"0\d", each) or len(each) > 15 for each in cells)
    if not cells or coded or not all(NUMBER.fullmatch(each) for each in cells):
        return target
    commas = any(COMMA.search(each) for each in cells)
    return {"to": target, "as": "number", "decimal": "," if commas else "."}


def _rooted(column: Any, root: str) -> Any:
    if isinstance(column, str):
        return column.replace("?", root, 1)
    return {**column, "to": column["to"].replace("?", root, 1)}


def _format(cells: Sequence[str]) -> str:
    for each in FORMATS:
        if cells and all(_fits(cell, each) for cell in cells):
            return each
    return ""


def _fits(cell: str, format_: str) -> bool:
    try:
        datetime.fromisoformat(cell) if format_ == "iso" else datetime.strptime(cell, format_)
    except ValueError:
        return False
    return True
