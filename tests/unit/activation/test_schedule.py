"""When an attempt is made again, and what an answer means."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from services.activation.domain import schedule
from services.activation.domain.schedule import HOUR, MINUTE, SECOND, Meaning

NOON = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, Meaning.DELIVERED),
        (204, Meaning.DELIVERED),
        (299, Meaning.DELIVERED),
        (301, Meaning.FAILED),
        (307, Meaning.FAILED),
        (400, Meaning.FAILED),
        (404, Meaning.FAILED),
        (410, Meaning.GONE),
        (429, Meaning.SLOW_DOWN),
        (500, Meaning.FAILED),
        (502, Meaning.SLOW_DOWN),
        (503, Meaning.FAILED),
        (504, Meaning.SLOW_DOWN),
        (101, Meaning.FAILED),
    ],
)
def test_only_2xx_is_success(status, meaning):
    """A redirect is a failure, 410 ends it, 429, 502 and 504 ask for a pause."""
    assert schedule.meaning_of(status) is meaning


def test_the_waits_grow_from_five_seconds_to_a_day():
    waits = [schedule.wait_after(attempt, 0.0) for attempt in range(1, schedule.ATTEMPTS)]
    assert waits[:4] == [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR]
    assert waits == sorted(waits)
    assert waits[-1] == 24 * HOUR


def test_after_the_last_attempt_there_is_no_other():
    assert schedule.wait_after(schedule.ATTEMPTS, 0.5) is None
    assert schedule.wait_after(schedule.ATTEMPTS, 0.5, 60 * SECOND) is None


def test_jitter_adds_up_to_a_fifth():
    assert schedule.wait_after(1, 0.5) == 5_500
    assert schedule.wait_after(1, 0.999999) == 6_000


@pytest.mark.parametrize(
    ("asked", "wait"), [(1 * SECOND, 5 * SECOND), (60 * SECOND, 60 * SECOND), (48 * HOUR, 24 * HOUR)]
)
def test_retry_after_makes_a_wait_longer_never_shorter(asked, wait):
    """It is honoured up to a day."""
    assert schedule.wait_after(1, 0.0, asked) == wait


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120 * SECOND),
        (" 0 ", 0),
        (format_datetime(datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC), usegmt=True), 30 * SECOND),
        (format_datetime(datetime(2026, 5, 1, 11, tzinfo=UTC), usegmt=True), 0),
        ("9" * 5_000, 24 * HOUR),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("Fri, 99 Foo 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, wait):
    """What cannot be read says nothing; what is past says now."""
    assert schedule.retry_after_ms(header, NOON) == wait


def test_a_destination_that_asks_again_and_again_gets_longer_pauses():
    pauses = [schedule.pause_after(times) for times in range(1, 7)]
    assert pauses == [5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE]
    assert schedule.pause_after(1, 90 * SECOND) == 90 * SECOND
