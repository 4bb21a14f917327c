"""A subject's events as they stand corrected: each with what should have been said in place of what was."""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED, REPLAYED
from shared.eventlog import Event, EventLog
from shared.keyring import Keyring

PAGE: Final = 500

Said = tuple[Event, str]
"""(the event that holds the body, the id of the event that it is the body of)."""


class Backwards(NamedTuple):
    """A page that was read from the end."""

    said: list[Said]
    """The last one first."""
    appended: int
    """By when all that stands before the page had been appended, and so received (ms); as far as clocks agree."""


def said_by(event: Event) -> Said:
    """What one event says: a correction, that of the event that it corrects. Raises Poison where it names none."""
    return event, event.text("corrects") if event.type == CORRECTED else event.id


def correction_id(keyring: Keyring, event: str, number: int) -> str:
    """The id of an event's nth correction, as the collector makes it."""
    return keyring.event_id("correction", str(number), event)


def as_they_stand(
    log: EventLog, subject: str, upto: int | None = None, without: Collection[str] = ()
) -> Iterator[list[Said]]:
    """Pages of a subject's events, up to a position, each as its last correction says and where that one stands.
    Events and corrections with the ids of `without` are left out."""
    last, pages = _last(log, subject, upto, without)
    for page in pages:
        yield [(event, identity) for event, identity in page if last.get(identity) == event.position]


def backwards(log: EventLog, subject: str, known_at: int | None = None, size: int = PAGE) -> Iterator[Backwards]:
    """Pages of all of a subject's events, each as its last correction says, from the end: read once, as a correction is
    met before what it corrects. What was received after `known_at` (ms) is left out."""
    corrected: set[str] = set()
    at: int | None = None
    while page := log.read_subject_back(TRACKING, subject, at, size):
        at = page[-1].position
        known = [each for each in page if known_at is None or each.time <= known_at]
        yield Backwards(list(_standing(known, corrected)), max(map(_appended, page)))
        if len(page) < size:
            return


def _appended(event: Event) -> int:
    """When (ms). One that was replayed may have been received long before what stands before it; where it does not say
    so, others of its page have the later time."""
    replayed = event.data.get(REPLAYED)
    return replayed if isinstance(replayed, int) else event.time


def _standing(events: Iterable[Event], corrected: set[str]) -> Iterator[Said]:
    """Of events in backward order those that stand; `corrected`: whose correction has been met, and not yet itself."""
    for event in events:
        identity = str(event.data.get("corrects")) if event.type == CORRECTED else event.id
        stands = identity not in corrected
        if event.type == CORRECTED:
            corrected.add(identity)
        else:
            corrected.discard(identity)
        if stands:
            yield event, identity


def as_they_were(log: EventLog, subject: str) -> Iterator[list[Said]]:
    """Pages of what corrections stand in place of, and still is in the log."""
    last, pages = _last(log, subject, None, ())
    for page in pages:
        yield [(event, identity) for event, identity in page if last.get(identity, event.position) != event.position]


def _last(
    log: EventLog, subject: str, upto: int | None, without: Collection[str]
) -> tuple[dict[str, int], Iterable[list[Said]]]:
    """Event -> where its body stands; and the pages, which are read a second time where they are many."""
    last: dict[str, int] = {}
    pages = _pages(log, subject, upto, without)
    kept = next(pages, [])
    more = next(pages, None)
    for page in chain([kept], [] if more is None else chain([more], pages)):
        for event, identity in page:
            # A correction of what is left out corrects nothing.
            if event.type != CORRECTED or identity in last:
                last[identity] = event.position
    return last, [kept] if more is None else _pages(log, subject, upto, without)


def _pages(log: EventLog, subject: str, upto: int | None, without: Collection[str]) -> Iterator[list[Said]]:
    at = 0
    while page := log.read_subject(TRACKING, subject, at, PAGE):
        at = page[-1].position
        held = [each for each in page if each.id not in without and (upto is None or each.position <= upto)]
        yield [(each, str(each.data.get("corrects")) if each.type == CORRECTED else each.id) for each in held]
        if len(page) < PAGE or (upto is not None and at >= upto):
            return
