"""How far a job is, for whoever waits for it: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS: Final = 5.0


class Told(Protocol):
    """Who is told of a job's progress, in events."""

    def expect(self, events: int) -> None:
        """So many more are to be done."""

    def advance(self, events: int) -> None:
        """So many more are done."""

    def phase(self, what: str) -> None:
        """What is done now."""


class Silent:
    """Nobody."""

    def expect(self, events: int) -> None:
        """Nothing."""

    def advance(self, events: int) -> None:
        """Nothing."""

    def phase(self, what: str) -> None:
        """Nothing."""


SILENT: Final = Silent()


class Lines:
    """On standard error, every few seconds."""

    def __init__(self, title: str, now: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._now = now
        self._what = ""
        self._done = self._expected = 0
        self._started = self._said = now()

    def expect(self, events: int) -> None:
        """More to do."""
        self._expected += events

    def advance(self, events: int) -> None:
        """Says how far it is, if it has not for a while."""
        self._done += events
        if self._now() - self._said >= LINE_SECONDS:
            self._say()

    def phase(self, what: str) -> None:
        """Something else begins."""
        self._what = what

    def _say(self) -> None:
        self._said = self._now()
        rate = self._done / max(1e-9, self._said - self._started)
        print(
            f"{self._title}: {self._what}, {self._done:,} of {self._expected:,} events, {rate:,.0f} events/s",
            file=sys.stderr,
            flush=True,
        )


class Bar:
    """On a terminal, with the rate."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._title = title
        self._progress = progress
        self._task = progress.add_task(title, total=0, rate="")
        self._done = self._expected = 0
        self._started = time.monotonic()

    def expect(self, events: int) -> None:
        """More to do."""
        self._expected += events
        self._progress.update(self._task, total=self._expected)

    def advance(self, events: int) -> None:
        """More is done."""
        self._done += events
        rate = self._done / max(1e-9, time.monotonic() - self._started)
        self._progress.update(self._task, completed=self._done, rate=f"{rate:,.0f} events/s")

    def phase(self, what: str) -> None:
        """Something else begins."""
        self._progress.update(self._task, description=f"{self._title}: {what}")


@contextmanager
def told(title: str, quiet: bool) -> Iterator[Told]:
    """Who is told of a job called `title`: nobody where it is to be `quiet`, for what programs read."""
    if quiet:
        yield SILENT
    elif not sys.stderr.isatty():
        yield Lines(title)
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
            yield Bar(title, progress)
