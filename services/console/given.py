"""What is given on the command line: JSON and texts, as they are or as @FILE, and numbers that are some."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from shared.errors import SamlaError

BIGGEST: Final = 8 << 20
"""Bytes of JSON that are sent to a service at once."""
DEEPEST: Final = 100
LARGEST: Final = 1 << 63

Limit = Annotated[int, typer.Option(min=1, max=1_000, help="Rows at most.")]


def text_of(given: str) -> str:
    """A text, or what stands in @FILE, without space around it. Raises typer.BadParameter."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {given[1:]}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"cannot read {given[1:]}: it is no text in UTF-8") from error


def json_of(given: str) -> Any:
    """JSON, or what stands in @FILE. Raises typer.BadParameter."""
    text = text_of(given)
    try:
        if len(text.encode()) > BIGGEST:
            raise typer.BadParameter(f"no more than {BIGGEST:,} bytes of JSON are taken")
        # Of all that this one takes, orjson takes less: no NaN, no half characters, nothing that is nested too deep.
        orjson.loads(text)
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}") from error
    try:
        check_sendable(value)
    except SamlaError as error:
        raise typer.BadParameter(str(error)) from error
    return value


def check_sendable(value: Any) -> None:
    """Raises SamlaError for what no message between the services can hold, wherever in it that is."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        if not level:
            return
        for each in level:
            _check(each)
        level = [inner for each in level for inner in _inner(each)]
    raise SamlaError(f"JSON may be nested {DEEPEST} deep")


def _check(value: Any) -> None:
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise SamlaError("an integer has more than 64 bits: write it as a text")
    if isinstance(value, float) and not math.isfinite(value):
        raise SamlaError(f"{value} is no number here")
    for each in (value, *value) if isinstance(value, dict) else (value,):
        if isinstance(each, str) and ("\0" in each or not _is_unicode(each)):
            raise SamlaError("a text holds what is no character of Unicode, or a NUL")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
