"""A subject's events as they stand corrected: each with what should have been said in place of what was."""

from collections.abc import Iterator
from typing import Final

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from shared.eventlog import Event, EventLog

PAGE: Final = 500

Said = tuple[Event, str]
"""(the event that holds the body, the id of the event that it is the body of)."""


def as_they_stand(log: EventLog, subject: str, upto: int | None = None) -> Iterator[list[Said]]:
    """Pages of a subject's events, up to a position, in order; without those that were taken back."""
    corrections: dict[str, Event] = {}
    for page in _pages(log, subject, upto):
        corrections |= {each.text("corrects"): each for each in page if each.type == CORRECTED}
    for page in _pages(log, subject, upto):
        said = [(corrections.get(each.id, each), each.id) for each in page if each.type != CORRECTED]
        yield [(holder, identity) for holder, identity in said if holder.sealed]


def _pages(log: EventLog, subject: str, upto: int | None) -> Iterator[list[Event]]:
    at = 0
    while page := log.read_subject(TRACKING, subject, at, PAGE):
        at = page[-1].position
        yield [each for each in page if upto is None or each.position <= upto]
        if upto is not None and at >= upto:
            return
