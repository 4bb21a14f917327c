"""Conditions on values, as people write them: in segments, in computed traits, in searches.

A condition is an operator with what it compares with: `{"is": "pro"}`, `{"gte": 3}`, `{"in": ["SE", "NO"]}`.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any, Final

from shared.errors import SamlaError

COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gte": operator.ge, "gt": operator.gt, "lte": operator.le, "lt": operator.lt, "eq": operator.eq,
}  # fmt: skip
TEXTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "starts_with": str.startswith, "ends_with": str.endswith, "matches": fnmatchcase,
}  # fmt: skip
"""Of texts, and of lists that hold one; `matches` takes a pattern with * and ?."""
OPERATORS: Final = ("is", "is_not", "in", "not_in", "contains", *TEXTS, "gt", "gte", "lt", "lte", "exists")
LONGEST_TEXT: Final = 200
"""Characters that a text is compared with."""
UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
WITHIN: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


MOST_WHERE: Final = 20
"""Conditions on properties, in one list."""


def check_condition(condition: Mapping[str, Any], place: str, what: str) -> None:
    """Raises SamlaError, saying where and what, for what is not just one operator with a value that it takes.
    `what`: such as `a trait`."""
    ops = list(condition)
    if len(ops) != 1 or ops[0] not in OPERATORS:
        raise SamlaError(f"{place}: {what} has just one of {', '.join(OPERATORS)}")
    [op] = ops
    value = condition[op]
    if op in ("in", "not_in") and not isinstance(value, list):
        raise SamlaError(f"{place}.{op}: must be a list")
    if op in ("gt", "gte", "lt", "lte") and not is_number(value):
        raise SamlaError(f"{place}.{op}: must be a number")
    if op in TEXTS and not (isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT):
        raise SamlaError(f"{place}.{op}: must be a text of up to {LONGEST_TEXT} characters")
    if op == "exists" and not isinstance(value, bool):
        raise SamlaError(f"{place}.exists: must be true or false")


def checked_where(given: object, place: str, what: str, example: str) -> Iterator[tuple[str, str, Any]]:
    """(property, operator, what it compares with) of a list of conditions on properties, `where`, in their order.
    `what` and `example` say in errors what one is, and what it looks like. Raises SamlaError, saying where and what."""
    if not isinstance(given, list) or len(given) > MOST_WHERE:
        raise SamlaError(f"{place}: a list of {MOST_WHERE} conditions at most")
    for number, each in enumerate(given):
        at = f"{place}[{number}]"
        if not isinstance(each, dict) or not isinstance(each.get("property"), str) or not each["property"]:
            raise SamlaError(f"{at}: such as {example}")
        condition = {op: wanted for op, wanted in each.items() if op != "property"}
        check_condition(condition, at, what)
        [(op, wanted)] = condition.items()
        yield each["property"], op, wanted


def holds(op: str, wanted: Any, found: list[Any]) -> bool:
    """Whether a condition holds of what was found: no value where there is nothing, several where it is many."""
    if op == "exists":
        return bool(found) == bool(wanted)
    if op in ("is_not", "not_in"):
        return not any(compares("is" if op == "is_not" else "in", each, wanted) for each in found)
    return any(compares(op, each, wanted) for each in found)


def compares(op: str, value: Any, wanted: Any) -> bool:
    """Whether one value is as the (checked) condition says; `exists` is not asked of a value."""
    if op in ("is", "is_not"):
        return same(value, wanted) == (op == "is")
    if op in ("in", "not_in"):
        return any(same(value, each) for each in wanted) == (op == "in")
    if op == "contains":
        return bool(wanted in value) if isinstance(value, (list, str)) and _may_hold(value, wanted) else False
    if op in TEXTS:
        return any(isinstance(each, str) and TEXTS[op](each, wanted) for each in _each(value))
    return is_number(value) and bool(COMPARE[op](value, wanted))


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _may_hold(value: Any, wanted: Any) -> bool:
    return isinstance(value, list) or isinstance(wanted, str)


def same(value: Any, wanted: Any) -> bool:
    """1 is 1.0, but true is not 1."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def is_number(value: object) -> bool:
    """A number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def exact(value: object) -> Decimal | None:
    """A finite number, also as a text, exactly as it was written; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    written = str(value).strip()
    if NUMBER.fullmatch(written) is None:
        return None
    try:
        number = Decimal(written)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def milliseconds(within: object, place: str = "within") -> int:
    """`30d` as milliseconds. Raises SamlaError where it is no span."""
    found = WITHIN.fullmatch(within) if isinstance(within, str) else None
    if found is None:
        raise SamlaError(f"{place}: a number and one of {', '.join(UNITS)}, such as 30d")
    return int(found[1]) * UNITS[found[2]]


def values_at(document: object, path: str) -> Iterator[Any]:
    """What stands at a dotted path; through lists, all that stands there. Nulls are nothing."""
    return _values(document, path.split("."))


def _values(value: object, names: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _values(each, names)
    elif not names:
        if value is not None:
            yield value
    elif isinstance(value, Mapping):
        # A name may hold dots itself.
        whole = ".".join(names)
        if len(names) > 1 and whole in value:
            yield from _values(value[whole], [])
        else:
            yield from _values(value.get(names[0]), names[1:])
