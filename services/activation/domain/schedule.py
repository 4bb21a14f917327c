"""When to try again, and what an answer of a webhook's receiver means (Standard Webhooks 1.0)."""

import enum
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

WAITS: Final = (
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""Milliseconds to wait after the first, second ... failed attempt. After one attempt more it is over."""
ATTEMPTS: Final = len(WAITS) + 1
JITTER: Final = 0.2
"""Up to this share is added to a wait, so that what failed together does not come back together."""
LONGEST_RETRY_AFTER: Final = 24 * HOUR

PAUSES: Final = (5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE)
"""Milliseconds without a message to a destination that asked to slow down, once, twice ... in a row."""


class Meaning(enum.Enum):
    """What an answer says."""

    DELIVERED = "delivered"
    FAILED = "failed"
    SLOW_DOWN = "slow down"
    """Failed, and the destination as a whole gets a pause."""
    GONE = "gone"
    """Never again: the destination is disabled."""


def meaning_of(status: int) -> Meaning:
    """What an HTTP status means: only 2xx is success, and a redirect is a failure like any other."""
    if 200 <= status <= 299:
        return Meaning.DELIVERED
    if status == 410:
        return Meaning.GONE
    if status in (429, 502, 504):
        return Meaning.SLOW_DOWN
    return Meaning.FAILED


def wait_after(attempt: int, jitter: float, retry_after: int | None = None) -> int | None:
    """Milliseconds to wait after the failed attempt number `attempt` (1, 2 ...); None: that was the last.

    `jitter` is a random number in [0, 1). `retry_after` is what the receiver asked for, in ms: it may make
    the wait longer (up to a day), never shorter.
    """
    if attempt >= ATTEMPTS:
        return None
    wait = round(WAITS[attempt - 1] * (1 + JITTER * jitter))
    return max(wait, min(retry_after or 0, LONGEST_RETRY_AFTER))


def pause_after(times: int, retry_after: int | None = None) -> int:
    """Milliseconds without any message, after a destination asked to slow down `times` times in a row."""
    pause = PAUSES[min(max(times, 1), len(PAUSES)) - 1]
    return max(pause, min(retry_after or 0, LONGEST_RETRY_AFTER))


def retry_after_ms(header: str | None, now: int) -> int | None:
    """The wait in ms that a Retry-After header asks for, in seconds or as a date; None where it does not."""
    text = (header or "").strip()
    # Not isdigit(): that holds for digits that int() refuses.
    if text.isascii() and text.isdecimal():
        # As many digits as a sender likes; what counts is bounded anyway.
        return min(int(text[:12]) * SECOND, LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0, round(moment.timestamp() * SECOND) - now), LONGEST_RETRY_AFTER)
