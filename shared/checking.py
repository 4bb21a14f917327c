"""What users give as data (rules, plans, dialects): whether it can be dealt with at all, and words for what is wrong.

Its size, its depth and each of its values are looked at before anything is made of it, without recursion.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from shared.errors import SamlaError

MOST_BYTES: Final = 262_144
"""About, as JSON."""
DEEPEST: Final = 64
LONGEST_TOLD: Final = 60
"""Characters of a name that an error quotes."""


class _Place(NamedTuple):
    value: Any
    depth: int
    name: object
    within: "_Place | None"


def bounded(value: object, what: str, most: int = MOST_BYTES, deepest: int = DEEPEST) -> None:
    """Raises SamlaError that says where, unless it is JSON of `most` bytes, nested `deepest` deep, whose numbers have
    64 bits. `what` it is called in the error."""
    size = 0
    stack = [_Place(value, 0, "", None)]
    while stack:
        place = stack.pop()
        if place.depth > deepest:
            raise SamlaError(f"{_written(place, what)}: nested more than {deepest} deep")
        wrong = _wrong(place.value)
        if wrong:
            raise SamlaError(f"{_written(place, what)}: {wrong}")
        size += len(place.value.encode()) if isinstance(place.value, str) else 1
        for name, each in _inner(place.value):
            size += len(name.encode(errors="replace")) if isinstance(name, str) else 1
            stack.append(_Place(each, place.depth + 1, name, place))
        if size > most:
            raise SamlaError(f"{what}: more than {most} bytes")


def _inner(value: Any) -> Iterator[tuple[object, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _wrong(value: Any) -> str:
    if value is None or isinstance(value, (bool, list)):
        return ""
    if isinstance(value, str):
        return "" if _is_text(value) else "a text holds half of a character"
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**63 else "a number must fit into 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else "a number must be a number"
    if isinstance(value, dict):
        return "" if all(isinstance(each, str) and _is_text(each) for each in value) else "a name is a text"
    return "this is no JSON"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _written(place: _Place, what: str) -> str:
    names: list[str] = []
    at: _Place | None = place
    while at is not None and at.within is not None:
        names.append(told(at.name))
        at = at.within
    path = ".".join(reversed(names))
    return f"{what}: {path if len(path) <= 3 * LONGEST_TOLD else path[: 3 * LONGEST_TOLD] + '...'}" if path else what


def told(name: object) -> str:
    """A name as an error quotes it: short, on one line."""
    if not isinstance(name, (str, int, float)):
        return f"a {type(name).__name__}"
    text = ascii(name)[1:-1] if isinstance(name, str) and not name.isprintable() else str(name)
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}..."


def only(given: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    """Raises SamlaError where a name is given that is not known: it names it, and the known one that is nearest."""
    names = tuple(known)
    for name in given:
        if name not in names:
            near = get_close_matches(str(name)[:LONGEST_TOLD], names, 1)
            hint = f" (is it {near[0]}?)" if near else ""
            raise SamlaError(f"{place}: knows {', '.join(names) or 'nothing'}; not {told(name)}{hint}")
