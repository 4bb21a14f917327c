"""The clock: the only place that the time of day comes from."""

import time


class Clock:
    """The wall clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000


class FakeClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """The time it was set to."""
        return self._now_ms

    def move(self, *, seconds: float = 0, days: float = 0) -> None:
        """Lets time pass."""
        self._now_ms += round((seconds + days * 86_400) * 1000)
