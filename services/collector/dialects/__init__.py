"""The dialects that come with Samla, each a JSON document; what they may say is in domain/dialect.py."""

from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

import orjson

from services.collector.domain.dialect import Dialect, dialect_of
from shared.errors import SamlaError

BIGGEST: Final = 262_144
"""Bytes of a dialect of somebody's own."""


@cache
def names() -> tuple[str, ...]:
    """Those that there are."""
    return tuple(sorted(each.name.removesuffix(".json") for each in files(__name__).iterdir() if _is_one(each.name)))


def _is_one(name: str) -> bool:
    return name.endswith(".json")


def dialect(name: str) -> Dialect:
    """One of them. Raises SamlaError where there is none."""
    if name not in names():
        raise SamlaError(f"there is no dialect {name}: {', '.join(names())}, or one of your own")
    return own((files(__name__) / f"{name}.json").read_bytes())


@lru_cache(maxsize=1_000)
def own(text: bytes) -> Dialect:
    """A dialect that is given as JSON. Raises SamlaError."""
    if len(text) > BIGGEST:
        raise SamlaError(f"a dialect has {BIGGEST} bytes at most")
    try:
        return dialect_of(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise SamlaError(f"the dialect is not JSON (line {error.lineno}, column {error.colno})") from error
