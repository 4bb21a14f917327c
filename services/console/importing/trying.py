"""A dry run: what the door would say of a file's messages, without asking it.

The checks are the door's, as far as they need nothing but the message; a test compares them with it. What a
source's own rules would refuse (its plan, its agreement), or a message that was sent before, is not told.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from services.console.importing.mapping import Mapping_, Message, Row, messages_of
from shared.shape import shape_problem

BIGGEST_EVENT: Final = 32_768
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN: Final = 5
MOST_IDS: Final = 1_000_000
"""Message ids that are remembered."""


class Trial(NamedTuple):
    """What would come of it."""

    rows: int
    """Rows that were looked at."""
    messages: int
    accepted: int
    set_aside: int
    reasons: dict[str, int]
    """Why messages would be set aside, by the door's codes."""
    unread: dict[str, int]
    """Column -> cells that could not be cleaned, and stay as they are written."""
    absent: list[str]
    """Columns of the mapping that no row has."""
    repeated: int
    """Messages with the id of an earlier one, which are its duplicates: `id` does not tell rows apart."""
    sample: list[Message]


def trial(mappings: Sequence[Mapping_], rows: Iterable[tuple[Row, int]]) -> Trial:
    """Tries the mappings on rows."""
    unread, reasons, names, ids = Counter[str](), Counter[str](), set[str](), set[str]()
    number = count = repeated = 0
    sample: list[Message] = []
    for number, (row, _) in enumerate(rows, 1):
        names.update(row)
        made = messages_of(mappings, row, number, lambda name: unread.update([name]))
        count += len(made)
        reasons.update(why for why in map(problem_of, made) if why)
        repeated += sum(each["messageId"] in ids for each in made)
        if len(ids) < MOST_IDS:
            ids.update(each["messageId"] for each in made)
        sample += made[: SHOWN - len(sample)]
    aside = sum(reasons.values())
    absent = sorted(set(_columns(mappings)) - names) if number else []
    return Trial(number, count, count - aside, aside, dict(reasons), dict(unread), absent, repeated, sample)


def _columns(mappings: Sequence[Mapping_]) -> Iterable[str]:
    for each in mappings:
        yield from each.columns
        yield from (*each.id, *each.needs, *each.known_by)
        if each.time is not None:
            yield each.time.column


def problem_of(message: Message) -> str | None:
    """The code with which the door would set a message aside."""
    if len(orjson.dumps(message)) > BIGGEST_EVENT:
        return "too_large"
    if wrong := shape_problem(message):
        return wrong.code
    if message.get("userId") in (None, "") and message.get("anonymousId") in (None, ""):
        return "no_identifier"
    return _time_problem(message.get("timestamp")) or _consent_problem((message.get("context") or {}).get("consent"))


def _time_problem(written: Any) -> str | None:
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    except (ValueError, OverflowError, TypeError):
        return "bad_time"
    return "absurd_time" if since.days < 0 else None


def _consent_problem(consent: Any) -> str | None:
    preferences = consent.get("categoryPreferences") if isinstance(consent, dict) else consent
    if preferences is None:
        return None
    fine = isinstance(preferences, dict) and all(isinstance(each, bool) for each in preferences.values())
    return None if fine else "bad_consent"
