"""The steps of an erasure, in their order. Each may be done again: a saga that was cut off is resumed."""

from enum import StrEnum
from typing import Final

import msgspec


class Step(StrEnum):
    """What is to be done next."""

    COLLECT = "collect"
    """Who the person is: identifiers (kept sealed under the request's own key until the end)."""
    FENCE = "fence"
    """No key and no event for these subjects, ever, so that nothing new comes meanwhile; where asked, their
    identifiers are suppressed, before anybody could come back under them."""
    DESTROY = "destroy"
    """Keys and tokens; every cache is told. From here on the same identifiers are somebody new."""
    QUARANTINE = "quarantine"
    """What could not be taken in is forgotten too."""
    TELL = "tell"
    """Everybody drops what they have derived."""
    WAIT = "wait"
    """Until no cache holds a key and no transaction is under way that began before."""
    AGAIN = "again"
    """What slipped through meanwhile."""
    DONE = "done"


ORDER: Final = tuple(Step)
TRANSACTION_SECONDS: Final = 11.0
"""Longer than any transaction of ours lasts (shared.transaction)."""
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 300.0
"""Seconds between attempts at a step that fails."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure, as far as it has come."""

    id: str
    profile: str
    mode: str
    step: Step
    profiles: list[str]
    subjects: list[str]
    created: int
    changed: int
    due: int
    """When the next step may begin (ms)."""
    turn: int = 0
    place: str = ""
    """How far the step has come, where it takes more than one go: what the collector gave to go on behind."""
    failures: int = 0
    """How often in a row the step has failed."""
    error: str = ""
    """The type of the last of these errors; its text might quote a person."""

    @property
    def status(self) -> str:
        """For people."""
        if self.step is Step.DONE:
            return "completed"
        return "waiting" if self.failures else "under way"


def wait_after(failures: int) -> float:
    """Seconds until a step that has failed so often in a row is tried again."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 20))


def next_step(step: Step) -> Step:
    """The one after it."""
    return ORDER[ORDER.index(step) + 1]
