"""Dates: what a value says, and conditions on it that may be relative to now.

A date is a text of ISO 8601, a day or a moment: `2026-01-31`, `2026-01-31T12:00:00Z`. Without a zone it is UTC.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

from services.segmentation.domain.answer import Answer
from shared.conditions import UNITS, milliseconds
from shared.errors import SamlaError

DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
RELATIVE: Final = re.compile(r"([+-]?)([1-9][0-9]{0,5}[smhdw])")
NOW: Final = "now"
POINTS: Final = ("before", "after")
SPANS: Final = ("within_last", "within_next")
DATES: Final = (*POINTS, *SPANS)
"""Operators on dates."""


def check_date(op: str, wanted: object, place: str) -> None:
    """Raises SamlaError, saying where and what, for what a date is not compared with."""
    if op in SPANS:
        milliseconds(wanted, f"{place}.{op}")
    elif not isinstance(wanted, str) or (offset_of(wanted) is None and date_ms(wanted) is None):
        raise SamlaError(f"{place}.{op}: a date such as 2026-01-31, now, or one relative to it such as -30d or 7d")


def date_ms(value: object) -> int | None:
    """A date as ms since 1970 UTC; None where it is none."""
    if not isinstance(value, str) or not DATE.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def offset_of(wanted: str) -> int | None:
    """`-30d` as milliseconds from now; None where it is not relative."""
    if wanted == NOW:
        return 0
    found = RELATIVE.fullmatch(wanted)
    if found is None:
        return None
    span = int(found[2][:-1]) * UNITS[found[2][-1]]
    return -span if found[1] == "-" else span


def dated(op: str, wanted: str, value: Any, now: int) -> Answer:
    """Whether a value is a date as the (checked) condition says at `now` (ms)."""
    at = date_ms(value)
    if at is None:
        return Answer(False, None)
    if op in SPANS:
        span = milliseconds(wanted)
        begins = at if op == "within_last" else at - span
        return _during(begins, begins + span, now)
    offset = offset_of(wanted)
    if offset is None:
        point: Any = date_ms(wanted)
        return Answer(at < point if op == "before" else at > point, None)
    # It is before now + offset from the first millisecond after at - offset on.
    turns = at - offset + (1 if op == "before" else 0)
    return Answer((now >= turns) == (op == "before"), turns if now < turns else None)


def _during(begins: int, ends: int, now: int) -> Answer:
    if now < begins:
        return Answer(False, begins)
    return Answer(True, ends) if now < ends else Answer(False, None)
