"""A dry run: what the door would say of a file's messages, without asking it.

The checks are the door's, as far as they need nothing but the message; a test compares them with it. What a
source's own rules would refuse (its plan, its agreement), or a message that was sent before, is not told.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts.tracking import BIGGEST_EVENT
from services.console.importing.mapping import Mapping_, Message, Row, columns_of, messages_of
from services.console.importing.repeats import Repeats
from shared.shape import Problem, is_nobodys, milliseconds, preferences_of, shape_problem

SHOWN: Final = 5


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
    """Messages with the id of an earlier one of the same person, which are its duplicates: `id` does not tell rows
    apart. See importing.repeats."""
    sample: list[Message]


def trial(mappings: Sequence[Mapping_], rows: Iterable[tuple[Row, int]]) -> Trial:
    """Tries the mappings on rows."""
    unread, reasons, names, known = Counter[str](), Counter[str](), set[str](), Repeats()
    number = count = repeated = 0
    sample: list[Message] = []
    for number, (row, _) in enumerate(rows, 1):
        names.update(row)
        made = messages_of(mappings, row, number, lambda name: unread.update([name]))
        count += len(made)
        reasons.update(why for why in map(problem_of, made) if why)
        repeated += sum(map(known.again, made))
        sample += made[: SHOWN - len(sample)]
    aside = sum(reasons.values())
    absent = sorted(set(columns_of(mappings)) - names) if number else []
    return Trial(number, count, count - aside, aside, dict(reasons), dict(unread), absent, repeated, sample)


def problem_of(message: Message) -> str | None:
    """The code with which the door would set a message aside."""
    if len(orjson.dumps(message)) > BIGGEST_EVENT:
        return "too_large"
    if shape := shape_problem(message):
        return shape.code
    if is_nobodys(message):
        return "no_identifier"
    if wrong := _time_problem(message.get("timestamp")):
        return wrong
    said = preferences_of((message.get("context") or {}).get("consent"))
    return said.code if isinstance(said, Problem) else None


def _time_problem(written: Any) -> str | None:
    if written is None:
        return None
    at = milliseconds(written)
    if at is None:
        return "bad_time"
    return "absurd_time" if at < 0 else None
