"""Where in the states an event belongs: most to their subject's, those of a shared device to whom identity gave them.

A slot is a subject, or `SUBJECT>TO`: what of a subject's events is that person's who has the identifier (subject) `TO`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

ARROW: Final = ">"


def slot(subject: str, to: str | None = None) -> str:
    """A subject's own, or that of what was given to somebody."""
    return subject if to is None else f"{subject}{ARROW}{to}"


def subject_of(slot_: str) -> str:
    """Under whose subject the slot's events lie."""
    return slot_.partition(ARROW)[0]


def receiver_of(slot_: str) -> str | None:
    """To whom (subject) the slot's events were given; None where they are the subject's own."""
    return slot_.partition(ARROW)[2] or None


class Marks(NamedTuple):
    """What identity has said of a subject whose events are not all one person's."""

    since: int | None
    """From then on (ms) what happens there is nobody's, unless it was given to somebody; None: it is the subject's."""
    turn: int
    """Moves on with everything that is said."""


class Placing(NamedTuple):
    """Of some events."""

    marks: Mapping[str, Marks]
    """By subject, of those that have any."""
    given: Mapping[str, str]
    """Event -> to whom (subject), of those subjects."""

    def slot_of(self, subject: str, event: str, time: int) -> str | None:
        """Where an event of that time (ms) belongs; None: it is nobody's."""
        marks = self.marks.get(subject)
        if marks is None:
            return subject
        if (to := self.given.get(event)) is not None:
            return slot(subject, to)
        return subject if marks.since is None or time < marks.since else None


PLAIN: Final = Placing({}, {})
"""All events are their subjects'."""
