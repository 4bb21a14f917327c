"""What RPCs are asked with: held to what they say they take, before anything is done with it.

Values come from command lines and other programs. A wrong one is an error of ours, which names it, and never a
failure deep within; and no text may be an object, which MongoDB would read as a question of its own.
"""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from shared.checking import MOST_BYTES, bounded
from shared.errors import SamlaError

LONGEST: Final = 10_000
"""Characters of a text."""
MOST_ITEMS: Final = 100_000
"""Of a list: what another service asks about, such as the subjects of somebody."""


def asked(method: Callable[..., Any]) -> Callable[..., Any]:
    """The RPC, which raises SamlaError where an argument is none of the type that its signature says."""
    hints = get_type_hints(method)
    signature = inspect.signature(method)

    @wraps(method)
    def held(*arguments: Any, **named: Any) -> Any:
        for name, value in signature.bind(*arguments, **named).arguments.items():
            if name in hints and (wrong := _wrong(name, value, hints[name])):
                raise SamlaError(wrong)
        return method(*arguments, **named)

    # nameko looks at it to tell who asks with arguments that there are none of.
    held.__signature__ = signature  # type: ignore[attr-defined]
    return held


def within(name: str, value: int, most: int, least: int = 1) -> int:
    """The number. Raises SamlaError where it is not from `least` to `most`."""
    if not least <= value <= most:
        raise SamlaError(f"{name} is a whole number from {least} to {most}")
    return value


def _wrong(name: str, value: Any, hint: Any) -> str:
    """What is wrong with an argument; empty where nothing is."""
    if get_origin(hint) in (Union, UnionType):
        said = [_wrong(name, value, each) for each in get_args(hint) if each is not NoneType]
        return "" if value is None and NoneType in get_args(hint) else min(said, key=len)
    kind = get_origin(hint) or hint
    if kind is list:
        [inner] = get_args(hint)
        if not isinstance(value, list) or len(value) > MOST_ITEMS:
            return f"{name} is a list of {MOST_ITEMS} at most"
        return next((wrong for n, each in enumerate(value) if (wrong := _wrong(f"{name}.{n}", each, inner))), "")
    what, fits = _KINDS.get(kind, _ANYTHING)
    return "" if fits(value) else f"{name} is {what}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and "\0" not in value and not _has_half(value)


def _has_half(value: str) -> bool:
    return any("\ud800" <= each <= "\udfff" for each in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_object(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    try:
        bounded(value, "it", deepest=100)
    except SamlaError:
        return False
    return True


_ANYTHING: Final[tuple[str, Callable[[Any], bool]]] = ("anything", lambda value: True)
_KINDS: Final[dict[Any, tuple[str, Callable[[Any], bool]]]] = {
    str: (f"a text of {LONGEST} characters at most", _is_text),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number of 64 bits", _is_whole),
    float: ("a number", _is_number),
    dict: (f"a JSON object of {MOST_BYTES} bytes at most, whose numbers have 64 bits", _is_object),
}
