"""Values that a dialect takes from a webhook: what they look like as data, and what they come to.

| expression | what it gives |
| --- | --- |
| `"customer.email"` | what stands at a path of the body; a number is a place in a list |
| `"@header.X-Shopify-Topic"` | a header, in any case of letters |
| `"@item.sku"` | within `each`: what stands at a path of the list's item |
| `["contact_email", "email"]` | the first of several expressions that gives something |
| `{"from": EXPRESSION}` | the same as the expression, to be followed by what is said below |
| `{"value": "web"}` | always the same |
| `{"text": "shopify:{customer.id}"}` | a text with paths in it; nothing, where one of them gives nothing |
| `{"each": "line_items", "item": {"sku": "@item.sku"}}` | a list of objects, one an item |
| `{"lookup": "answers", "where": {"type": {"value": "email"}}, "give": "email"}` | a path of the first item that fits |
| `{"minor": "amount", "currency": "currency"}` | an amount in minor units as one in the currency; `less` is taken off |

An object may also say, done in this order:

| | |
| --- | --- |
| `"when": {PATH: [VALUE, ...]}` | only where it has one of the values; or `"present"`, `"absent"`, `{"not": [...]}` |
| `"steps": [...]` | steps of shared.values; a value that they cannot read stays as it is |
| `"choose": {"subscribed": true}` | another value for each of these; nothing for any other |

What is absent, null or an empty text gives nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, NamedTuple

from services.collector.domain.mending import mended
from shared.checking import only
from shared.errors import SamlaError
from shared.facts import minor_digits
from shared.values import Clean, compiled

DEEPEST: Final = 10
MOST_FIELDS: Final = 200
LONGEST_PATH: Final = 500
MOST_MINOR: Final = 10**15
ANY: Final = "*"
"""In a table of digits: every currency that it does not name."""


class View(NamedTuple):
    """A webhook as expressions see it."""

    body: Any
    headers: Mapping[str, str]
    """By name in lower case."""
    digits: Mapping[str, int]
    """Digits of a currency's minor unit where they are not as ISO 4217 has them."""
    item: Any = None
    """Within a list: the item."""


Expression = Callable[[View], Any]
Condition = Callable[[View], bool]


def expression(spec: object, place: str, depth: int = 0) -> Expression:
    """The function of an expression; None is nothing. Raises SamlaError that names the place."""
    if depth > DEEPEST:
        raise SamlaError(f"{place}: expressions may be nested {DEEPEST} deep")
    if isinstance(spec, str):
        return path(spec, place)
    if isinstance(spec, list) and spec:
        return partial(_first, [expression(each, f"{place}.{n}", depth + 1) for n, each in enumerate(spec)])
    kinds = [kind for kind in _MAKERS if isinstance(spec, dict) and kind in spec]
    if not isinstance(spec, dict) or len(kinds) != 1:
        raise SamlaError(f"{place}: an expression is a path, a list, or an object with one of {', '.join(_MAKERS)}")
    needed, optional, make = _MAKERS[kinds[0]]
    only(spec, (kinds[0], *needed, *optional, *AFTERWARDS), place)
    if (missing := next((name for name in needed if name not in spec), None)) is not None:
        raise SamlaError(f"{place}: {kinds[0]} needs {missing}")
    return _followed(make(spec, place, depth + 1), spec, place)


AFTERWARDS: Final = ("when", "steps", "choose")


def _followed(made: Expression, spec: Mapping[str, Any], place: str) -> Expression:
    if "choose" in spec:
        choices = table(spec["choose"], f"{place}.choose")
        after: Expression = partial(_chosen, made if "steps" not in spec else _stepped(made, spec, place), choices)
    else:
        after = _stepped(made, spec, place) if "steps" in spec else made
    return partial(_where, condition(spec["when"], f"{place}.when"), after) if "when" in spec else after


def _stepped(made: Expression, spec: Mapping[str, Any], place: str) -> Expression:
    try:
        return partial(_cleaned, made, compiled(spec["steps"]))
    except SamlaError as error:
        raise SamlaError(f"{place}.steps: {error}") from error


def _cleaned(made: Expression, clean: Clean, view: View) -> Any:
    value = made(view)
    if value is None or isinstance(value, (dict, list)):
        return value
    try:
        return clean(value)
    except (ValueError, ArithmeticError, TypeError):
        return value


def _chosen(made: Expression, choices: Mapping[str, Any], view: View) -> Any:
    value = made(view)
    return None if value is None or isinstance(value, (dict, list)) else choices.get(written(value))


def _where(holds: Condition, made: Expression, view: View) -> Any:
    return made(view) if holds(view) else None


def _first(made: Iterable[Expression], view: View) -> Any:
    return next((value for each in made if (value := each(view)) is not None), None)


def written(value: Any) -> str:
    """A value as a text, as JSON writes it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def table(given: object, place: str) -> Mapping[str, Any]:
    """An object of at most MOST_FIELDS names. Raises SamlaError."""
    if not isinstance(given, dict) or len(given) > MOST_FIELDS:
        raise SamlaError(f"{place}: must be an object of {MOST_FIELDS} names at most")
    return given


# Paths and conditions


def path(text: object, place: str) -> Expression:
    """The function of a path. Raises SamlaError."""
    names = text.split(".") if isinstance(text, str) and len(text) <= LONGEST_PATH else []
    if not names or not all(names):
        raise SamlaError(f"{place}: a path is like customer.email, @item.sku or @header.X-Topic")
    root, rest = names[0], names[1:]
    if root == "@header" and rest:
        name = ".".join(rest).lower()
        return lambda view: view.headers.get(name) or None
    if root == "@item":
        return lambda view: _at(view.item, rest)
    if root.startswith("@"):
        raise SamlaError(f"{place}: there is no {root}; only @item and @header.NAME")
    return lambda view: _at(view.body, names)


def _at(value: Any, names: Iterable[str]) -> Any:
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 5 and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return None if value == "" else value


def condition(given: object, place: str) -> Condition:
    """Whether all of `{path: values}` hold. Raises SamlaError."""
    tests = [_test(path(name, place), wanted, f"{place}.{name}") for name, wanted in table(given, place).items()]
    return lambda view: all(test(view) for test in tests)


def _test(at: Expression, wanted: object, place: str) -> Condition:
    if wanted in ("present", "absent"):
        return lambda view: (at(view) is not None) == (wanted == "present")
    refused = isinstance(wanted, dict) and list(wanted) == ["not"]
    values = wanted["not"] if refused and isinstance(wanted, dict) else wanted
    if not isinstance(values, list) or not values:
        raise SamlaError(f'{place}: must be "present", "absent", a list of values, or {{"not": [values]}}')
    texts = {written(each) for each in values}

    def holds(view: View) -> bool:
        value = at(view)
        return (value is not None and written(value) in texts) != refused

    return holds


# Kinds


def _from(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    return expression(spec["from"], f"{place}.from", depth)


def _value(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    value = spec["value"]
    return lambda view: value


_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")


def _text(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    return template(spec["text"], f"{place}.text")


def template(text: object, place: str) -> Expression:
    """The function of a text with `{path}`s in it. Raises SamlaError."""
    if not isinstance(text, str) or not text:
        raise SamlaError(f"{place}: must be a text such as shopify:{{customer.id}}")
    pieces = _PLACEHOLDER.split(text)
    paths = [path(each, place) for each in pieces[1::2]]

    def made(view: View) -> Any:
        values = [each(view) for each in paths]
        if any(value is None or isinstance(value, (dict, list)) for value in values):
            return None
        return "".join(
            each for pair in zip(pieces[::2], [*map(written, values), ""], strict=True) for each in pair
        )  # fmt: skip

    return made


def _each(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    listed = expression(spec["each"], f"{place}.each", depth)
    fields = fields_of(spec["item"], f"{place}.item", depth)

    def made(view: View) -> Any:
        items = listed(view)
        if not isinstance(items, list):
            return None
        return [row for each in items if (row := built(fields, view._replace(item=each)))]

    return made


Fields = tuple[tuple[str, Expression], ...]


def fields_of(given: object, place: str, depth: int = 0) -> Fields:
    """Where each expression's value is to be put. Raises SamlaError."""
    rows = table(given, place)
    for name in rows:
        path(name, place)
    return tuple((name, expression(spec, f"{place}.{name}", depth)) for name, spec in rows.items())


def built(fields: Fields, view: View) -> dict[str, Any]:
    """An object with what the expressions give."""
    values = {name: value for name, make in fields if (value := make(view)) is not None}
    return mended({}, {"set": values})


def _lookup(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    listed = expression(spec["lookup"], f"{place}.lookup", depth)
    wanted = fields_of(spec["where"], f"{place}.where", depth)
    path(spec["give"], f"{place}.give")
    tests = [(name.split("."), make) for name, make in wanted]
    given = spec["give"].split(".")

    def made(view: View) -> Any:
        items, values = listed(view), [(names, make(view)) for names, make in tests]
        if not isinstance(items, list) or any(value is None for _, value in values):
            return None
        found = (each for each in items if all(_at(each, names) == value for names, value in values))
        return _at(next(found, None), given)

    return made


def _minor(spec: Mapping[str, Any], place: str, depth: int) -> Expression:
    amount, currency, less = (
        expression(spec.get(name, {"value": 0}), f"{place}.{name}", depth) for name in ("minor", "currency", "less")
    )
    return lambda view: major_units(amount(view), less(view), currency(view), view.digits)


def major_units(amount: Any, less: Any, currency: Any, digits: Mapping[str, int]) -> int | float | None:
    """An amount in a currency's minor units as one in the currency; None where it is none."""
    if not isinstance(currency, str) or isinstance(amount, bool):
        return None
    code = currency.upper()
    places = digits.get(code, digits.get(ANY, minor_digits(code)))
    try:
        whole = Decimal(str(amount)) - Decimal(str(less or 0))
    except InvalidOperation:
        return None
    if not whole.is_finite() or abs(whole) > MOST_MINOR:
        return None
    exact = whole.scaleb(-places)
    return int(exact) if exact == exact.to_integral_value() else float(exact)


_MAKERS: Final[
    dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Mapping[str, Any], str, int], Expression]]]
] = {
    "from": ((), (), _from),
    "value": ((), (), _value),
    "text": ((), (), _text),
    "each": (("item",), (), _each),
    "lookup": (("where", "give"), (), _lookup),
    "minor": (("currency",), ("less",), _minor),
}
"""Kind -> what it needs beside, what it may have, and what makes it."""
