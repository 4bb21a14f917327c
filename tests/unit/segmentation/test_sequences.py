"""Sequences: what followed what, and the bounds of it, to the millisecond."""

import pytest

from services.segmentation.domain.answer import Answer
from services.segmentation.domain.sequences import Step, followed


def event(*times, within=0):
    return Step(times, within, False)


def absent(*times, within=0):
    return Step(times, within, True)


@pytest.mark.parametrize(
    ("steps", "window", "span", "now", "answer"),
    [
        ([event(10), event(19, within=10)], 0, 0, 50, Answer(True, None)),
        ([event(10), event(20, within=10)], 0, 0, 50, Answer(False, None)),
        ([event(10), event(10)], 0, 0, 50, Answer(False, None)),
        ([event(10), event(20), event(29)], 0, 20, 50, Answer(True, None)),
        ([event(10), event(20), event(30)], 0, 20, 50, Answer(False, None)),
        ([event(10, 12), event(20), event(30)], 0, 20, 50, Answer(True, None)),
        # What did not happen is known when its time has passed; what happens just then is too late.
        ([event(10), absent(within=7)], 0, 0, 16, Answer(False, 17)),
        ([event(10), absent(within=7)], 0, 0, 17, Answer(True, None)),
        ([event(10), absent(17, within=7)], 0, 0, 17, Answer(True, None)),
        ([event(10), absent(16, within=7)], 0, 0, 17, Answer(False, None)),
        ([event(10), absent(10, within=7)], 0, 0, 17, Answer(True, None)),
        # Without a span: not before the next, not until now.
        ([event(10), absent(15), event(20)], 0, 0, 50, Answer(False, None)),
        ([event(10, 16), absent(15), event(20)], 0, 0, 50, Answer(True, None)),
        ([event(10), absent(20), event(20)], 0, 0, 50, Answer(True, None)),
        ([event(10), absent()], 0, 0, 50, Answer(True, None)),
        ([event(10), absent(50)], 0, 0, 50, Answer(False, None)),
        # It began in the window; of several chains the one that began last counts.
        ([event(10), event(20)], 30, 0, 39, Answer(True, 40)),
        ([event(10), event(20)], 30, 0, 40, Answer(False, None)),
        ([event(10, 15), event(20)], 30, 0, 39, Answer(True, 45)),
        ([event(10, 30), absent(within=15)], 30, 0, 39, Answer(True, 40)),
        ([event(10, 24), absent(within=15)], 30, 0, 39, Answer(True, 54)),
        # What comes later is not known yet.
        ([event(10), event(45)], 0, 0, 39, Answer(False, 45)),
        ([event(10), absent(45)], 0, 0, 39, Answer(True, 45)),
    ],
)
def test_a_sequence_holds_just_as_long_as_its_chain_does(steps, window, span, now, answer):
    assert followed(steps, window, span, now) == answer


def test_a_sequence_of_very_many_events_is_found_in_one_pass():
    """In one pass over the times of each step: 20,000 events, ten steps."""
    times = tuple(range(0, 200_000, 10))
    assert followed([Step(times, 1_000 if number else 0, False) for number in range(10)], 50_000, 0, 200_000).inside
