"""Sequences: something happened, then something else did, or did not.

A chain is one choice of events, one a step, each later than the one before. For every event that a chain may end with
the chain that began last is enough to know: it is in the window longest, and its span is the shortest. As what an event
may be followed by ends the later, the later the event is, that chain is found by looking at the latest event before.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from services.segmentation.domain.answer import Answer

MOST_LOOKS: Final = 50
"""At instants to come, until one is told at which the answer merely may change."""


class Step(NamedTuple):
    """One of a sequence, with when it happened."""

    times: Sequence[int]
    """Ascending (ms)."""
    within: int
    """After the event before, in ms; 0: ever."""
    absent: bool
    """Whether it must not have happened."""


class Chain(NamedTuple):
    """One choice of events: when it began, and when it ended."""

    began: int
    ended: int


def followed(steps: Sequence[Step], window: int, span: int, now: int) -> Answer:
    """Whether there is a chain at `now`; all in ms. `window`: how long ago it may have begun, `span`: how long it may
    take; 0: ever."""
    found = chain(steps, window, span, now)
    inside, at = found is not None, now
    for _ in range(MOST_LOOKS):
        leaves = found.began + window if found and window else None
        coming = _comings(steps, inside, at)
        instant = min((each for each in (leaves, coming) if each is not None and each > at), default=None)
        if instant is None:
            return Answer(inside, None)
        at, found = instant, chain(steps, window, span, instant)
        if (found is not None) != inside:
            break
    return Answer(inside, at)


def _comings(steps: Sequence[Step], inside: bool, now: int) -> int | None:
    """When a step comes to be known after `now`."""
    instants = [step.times[place] for step in steps if (place := bisect_right(step.times, now)) < len(step.times)]
    if not inside:
        for before, step in _anchored(steps):
            place = bisect_right(before.times, now - step.within)
            if step.within and place < len(before.times):
                instants.append(before.times[place] + step.within)
    return min(instants, default=None)


def _anchored(steps: Sequence[Step]) -> Iterable[tuple[Step, Step]]:
    """(event, what must not follow it)."""
    event = steps[0]
    for step in steps[1:]:
        if step.absent:
            yield event, step
        else:
            event = step


def chain(steps: Sequence[Step], window: int, span: int, now: int) -> Chain | None:
    """The chain that began last, at `now`; None where there is none."""
    chains = [Chain(each, each) for each in _until(steps[0].times, now) if not window or each + window > now]
    absent: list[Step] = []
    for step in steps[1:]:
        if step.absent:
            absent.append(step)
        else:
            chains = _next(_kept(chains, absent, now), step, [each for each in absent if not each.within], now)
            absent = []
    ends = [
        each
        for each in _kept(chains, absent, now)
        if (not span or each.ended - each.began < span)
        and not any(_happened(step, each.ended, now + 1) for step in absent if not step.within)
    ]
    return ends[-1] if ends else None


def _until(times: Sequence[int], now: int) -> Sequence[int]:
    return times[: bisect_right(times, now)]


def _kept(chains: Sequence[Chain], absent: Sequence[Step], now: int) -> list[Chain]:
    """Those after whose last event the time has passed in which something must not happen, and it has not."""
    spans = [step for step in absent if step.within]
    return [
        each
        for each in chains
        if all(
            each.ended + step.within <= now and not _happened(step, each.ended, each.ended + step.within)
            for step in spans
        )
    ]


def _next(chains: Sequence[Chain], step: Step, absent: Sequence[Step], now: int) -> list[Chain]:
    """Longer by one event."""
    found = []
    ends = [each.ended for each in chains]
    for time in _until(step.times, now):
        place = bisect_left(ends, time) - 1
        if place < 0 or (step.within and time >= ends[place] + step.within):
            continue
        if not any(_happened(each, ends[place], time) for each in absent):
            found.append(Chain(chains[place].began, time))
    return found


def _happened(step: Step, after: int, before: int) -> bool:
    """Between two instants, neither of which counts."""
    place = bisect_right(step.times, after)
    return place < len(step.times) and step.times[place] < before
