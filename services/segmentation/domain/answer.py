"""Answers: whether somebody is in, and when that may change by itself."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from shared.conditions import COMPARE


class Answer(NamedTuple):
    """Whether a profile is in, and the first instant at which that may change by itself (ms; None: never)."""

    inside: bool
    changes_at: int | None


Bounds = Mapping[Callable[[Any, Any], bool], Decimal]
"""Comparison -> with what."""
NOBODY: Final = Answer(False, None)


def joined(every: bool, answers: Iterable[Answer]) -> Answer:
    """Of all (or any of) several conditions. What is false of `all` stays so until all that are false have changed;
    so does what is true of `any`."""
    parts = list(answers)
    holding = [each.changes_at for each in parts if each.inside != every]
    if not holding:
        return Answer(every, earliest(each.changes_at for each in parts))
    return Answer(not every, None if None in holding else max(each for each in holding if each is not None))


def earliest(instants: Iterable[int | None]) -> int | None:
    """The first of them; None where there is none."""
    return min((each for each in instants if each is not None), default=None)


def bounds_of(comparisons: Mapping[str, int | float], digits: int = 0) -> Bounds:
    """`{"gte": 12.5}`, in units of so many digits behind the point; exact."""
    return {COMPARE[name]: Decimal(str(number)).scaleb(digits) for name, number in comparisons.items()}


def within_bounds(bounds: Bounds, number: int) -> bool:
    """Whether a number is as all of them say."""
    return all(compare(number, bound) for compare, bound in bounds.items())


def total(numbers: Mapping[str, int], scale: int, window: int, now: int) -> int:
    """What is in a window (ms; 0: all time) at `now` of numbers by the beginning of their buckets (in `scale` ms)."""
    starts = ((int(bucket) * scale, number) for bucket, number in numbers.items())
    return sum(number for start, number in starts if start <= now and (not window or start + window > now))


def summed(numbers: Mapping[str, int], scale: int, window: int, bounds: Bounds, now: int) -> Answer:
    """Whether `total` is as the bounds say. A bucket enters when it begins, and leaves when its beginning does."""
    at_now = 0
    steps: list[tuple[int, int]] = []
    for bucket, number in numbers.items():
        start = int(bucket) * scale
        if window and start + window <= now:
            continue
        if start <= now:
            at_now += number
        else:
            steps.append((start, number))
        if window:
            steps.append((start + window, -number))
    inside = within_bounds(bounds, at_now)
    return Answer(inside, _turns(sorted(steps), bounds, at_now, inside))


def _turns(steps: list[tuple[int, int]], bounds: Bounds, number: int, inside: bool) -> int | None:
    for index, (at, change) in enumerate(steps):
        number += change
        last = index + 1 == len(steps) or steps[index + 1][0] != at
        if last and within_bounds(bounds, number) != inside:
            return at
    return None
