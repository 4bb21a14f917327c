"""Newer rules for older messages: what they make of it is appended as corrections; what stands in the log stays.

The corrections of an event are numbered, and its number is what a correction's id follows from: so of two
processes that correct an event at once one is second, and looks again. Whom a message is about is not corrected
(docs/decisions/0015-whom-a-message-is-about-stays.md).
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.collector.domain.cleaning import Change, Cleaning, cleaned, cleaning_of
from services.collector.domain.intake import PIECE, Accepted, SetAside
from services.collector.domain.raw import Received, again, message_of
from services.collector.domain.source import Source
from services.collector.raw import Entry, Place, RawStore
from services.collector.rulebook import CLEANING
from services.collector.store import SourceStore
from services.collector.writer import classes
from shared.errors import Conflict, NotFound, SamlaError, SubjectsFenced
from shared.eventlog import Event, EventLog, NewEvent
from shared.eventlog.sealed import Body, open_events
from shared.keyring import SENSITIVE, Keyring, Sealing
from shared.policy import Policy

EXAMPLES: Final = 20
OUTCOMES: Final = ("corrected", "unchanged", "set_aside", "other_agreement", "moved", "suppressed")

Slot = tuple[Entry, int]
"""A request, and which of its messages."""


class Found(NamedTuple):
    """A raw message with what stands of it in the log."""

    entry: Entry
    at: int
    corrections: int
    """How many there are of the event that it became."""
    body: Body
    sensitive: Body | None

    @property
    def subject(self) -> str:
        """Whose it is."""
        return self.entry.subjects[self.at]

    @property
    def request(self) -> Received:
        """Its request."""
        return self.entry.request

    @property
    def original(self) -> str:
        """The id of the event that it became."""
        return self.request.messages[self.at][0]

    @property
    def message(self) -> Any:
        """As it was received."""
        return message_of(self.request.messages[self.at][1])


class Recleaning:
    """See the module's text. `pause` gives others their turn, the broker's heartbeats among them."""

    def __init__(
        self,
        raw: RawStore,
        sources: SourceStore,
        log: EventLog,
        keyring: Keyring,
        policy: Policy,
        now_ms: Callable[[], int],
        pause: Callable[[], None] | None = None,
    ) -> None:
        self._raw = raw
        self._sources = sources
        self._log = log
        self._keyring = keyring
        self._policy = policy
        self._now_ms = now_ms
        self._pause = pause or partial(time.sleep, 0)

    # Correcting what is there

    def page(self, source: str, after: Place, messages: int, dry: bool) -> dict[str, Any]:
        """Uses the rules of now on a page of a source's requests, those behind `after`. With `dry` it only says what
        would come of it. Raises Conflict where the source's agreement does not hold."""
        at = self._sources.one(source)
        if not at.may_send(self._now_ms()):
            raise Conflict("this source has no agreement or licence that holds: what it has sent stays as it is")
        entries, further = self._raw.page(source, after, messages)
        counts: Counter[str] = Counter()
        examples: list[dict[str, Any]] = []
        slots = _slots(entries)
        while slots:
            chosen = self._judged(slots, at, counts)
            done, slots = (chosen, []) if dry else self._corrected(chosen, at, counts)
            counts["corrected"] += len(done)
            for found, made in done[:EXAMPLES]:
                examples += [{"event": found.original, **each} for each in _differences(found, made)]
        return {
            "requests": len(entries),
            **{name: counts[name] for name in OUTCOMES},
            "examples": examples[:EXAMPLES],
            "after": list(further) if further else None,
        }

    def _judged(self, slots: Sequence[Slot], source: Source, counts: Counter[str]) -> list[tuple[Found, Accepted]]:
        """The messages to be corrected, with what the rules make of them; of the others, what came is counted."""
        chosen: list[tuple[Found, Accepted]] = []
        for count, found in enumerate(self._found(slots), 1):
            made = self._again(found, source)
            outcome = _outcome(found, made)
            if outcome == "corrected" and isinstance(made, Accepted):
                chosen.append((found, made))
            else:
                counts[outcome] += 1
            if count % PIECE == 0:
                self._pause()
        # Some may be said to be about somebody now who is not to be taken in again.
        suppressed = self._keyring.suppressed(list({each for _, made in chosen for each in made.identifiers}))
        fenced = self._keyring.fenced({found.subject for found, _ in chosen})
        allowed = [
            (found, made)
            for found, made in chosen
            if found.subject not in fenced and suppressed.isdisjoint(made.identifiers)
        ]
        counts["suppressed"] += len(chosen) - len(allowed)
        return allowed

    def _found(self, slots: Sequence[Slot]) -> list[Found]:
        """Every message with its event as it stands; those that were erased are left out."""
        standing = self._standing([_original(each) for each in slots])
        events = [event for event, _ in standing.values()]
        bodies = dict(zip((event.id for event in events), open_events(self._keyring, events), strict=True))
        special = dict(zip((event.id for event in events), open_events(self._keyring, events, SENSITIVE), strict=True))
        found = []
        for entry, at in slots:
            event, number = standing.get(_original((entry, at)), (None, 0))
            if event is not None and (body := bodies[event.id]) is not None:
                found.append(Found(entry, at, number, body, special[event.id]))
        return found

    def _standing(self, originals: Sequence[str]) -> dict[str, tuple[Event, int]]:
        """Event -> (its last correction, or itself; that one's number, or 0), of those that are in the log. Numbers
        have no gaps: the last is looked for by doubling, then by halving, for all of them at once."""
        standing = {event: (found, 0) for event, found in self._log.find(TRACKING, originals).items()}
        none = dict.fromkeys(standing, 0)
        """Event -> a number that it has no correction of; 0: not known yet."""
        while asked := {
            event: (number + none[event]) // 2 if none[event] else 2 * number or 1
            for event, (_, number) in standing.items()
            if none[event] != number + 1
        }:
            ids = {event: self._correction_id(event, number) for event, number in asked.items()}
            known = self._log.find(TRACKING, list(ids.values()))
            for event, number in asked.items():
                if found := known.get(ids[event]):
                    standing[event] = (found, number)
                else:
                    none[event] = number
        return standing

    def _again(self, found: Found, source: Source) -> Accepted | SetAside:
        message_id = str(found.body["message_id"])
        # Where its user agent was left unread nobody has asked whether it is a bot's; and it is in the log.
        keeping = source._replace(bots="keep")
        return again(found.message, found.request, found.entry.received, keeping, self._policy, message_id)

    def _correction_id(self, event: str, number: int) -> str:
        return self._keyring.event_id("correction", str(number), event)

    def _corrected(
        self, chosen: list[tuple[Found, Accepted]], source: Source, counts: Counter[str]
    ) -> tuple[list[tuple[Found, Accepted]], list[Slot]]:
        """(what was corrected, the messages at which another process was faster)."""
        while chosen:
            try:
                places = self._log.append(TRACKING, self._corrections(chosen, source))
            except SubjectsFenced as error:
                # They are being erased just now.
                living = [each for each in chosen if each[0].subject not in error.subjects]
                counts["suppressed"] += len(chosen) - len(living)
                chosen = living
                continue
            judged = list(zip(chosen, places, strict=True))
            done = [each for each, place in judged if not place.duplicate]
            return done, [(found.entry, found.at) for (found, _), place in judged if place.duplicate]
        return [], []

    def _corrections(self, chosen: Sequence[tuple[Found, Accepted]], source: Source) -> list[NewEvent]:
        """Raises SubjectsFenced, as an append does."""
        version = source.rules.cleaning.version if source.rules.cleaning else 0
        ids = [self._correction_id(found.original, found.corrections + 1) for found, _ in chosen]
        texts = [_texts(made) for _, made in chosen]
        sealed = iter(
            self._keyring.seal(
                [
                    Sealing(found.subject, cls, identity, text)
                    for (found, _), identity, parts in zip(chosen, ids, texts, strict=True)
                    for cls, text in parts.items()
                ]
            )
        )
        return [
            NewEvent(
                id=identity,
                type=CORRECTED,
                source=found.entry.source,
                subject=found.subject,
                time=self._now_ms(),
                data={"corrects": found.original, "number": found.corrections + 1, "cleaning": version},
                sealed={cls: next(sealed) for cls in parts},
                correlation=found.entry.id,
            )
            for (found, _), identity, parts in zip(chosen, ids, texts, strict=True)
        ]

    # Looking at one

    def received(self, request: str) -> dict[str, Any]:
        """{source, received, beside, messages: [{event, message}]} of a request. Raises NotFound."""
        entry = self._raw.find(request)
        if entry is None:
            raise NotFound(
                f"nothing is kept as it was received of a request {request}: too old, erased, or no such one"
            )
        messages = [{"event": event, "message": message_of(text)} for event, text in entry.request.messages]
        shown = {"request": entry.id, "source": entry.source, "received": entry.received}
        return {**shown, "beside": entry.request.shared, "messages": messages}

    def trace(self, event: str) -> dict[str, Any]:
        """From a clean event to what was received: every value that the rules looked at, raw and clean."""
        known = self._log.find(TRACKING, [event]).get(event)
        entry = self._raw.find(known.correlation) if known else None
        if known is None or entry is None:
            raise SamlaError("nothing is kept of how this event was received: too old, erased, or no such event")
        wanted = str(known.data.get("corrects", event))
        found = next((each for each in self._found(_slots([entry])) if each.original == wanted), None)
        if found is None:
            raise SamlaError("nothing is kept of how this event was received: its request is without it")
        return _traced(found, self._rules_of(found))

    def _rules_of(self, found: Found) -> Cleaning | None:
        version = found.body.get("cleaned")
        if not isinstance(version, int):
            return None
        return cleaning_of(version, self._sources.rules.version(found.entry.source, CLEANING, version))


_VERSION: Final = "cleaned"
_CLIENT: Final = "client"


def _slots(entries: Iterable[Entry]) -> list[Slot]:
    return [(entry, at) for entry in entries for at in range(len(entry.request.messages))]


def _original(slot: Slot) -> str:
    entry, at = slot
    return entry.request.messages[at][0]


def _texts(made: Accepted) -> dict[str, bytes]:
    """Class of data -> what is to be sealed under its key."""
    ordinary, sensitive = classes(made)
    return {ordinary: made.ordinary} | ({sensitive: made.sensitive} if made.sensitive is not None else {})


def _outcome(found: Found, made: Accepted | SetAside) -> str:
    if isinstance(made, SetAside):
        return "set_aside"
    if str(found.body.get("agreement", "")) != made.agreement:
        return "other_agreement"
    if _says(found.body, made.ordinary) and _says(found.sensitive, made.sensitive):
        return "unchanged"
    return "corrected" if _is_about(found.body, made) else "moved"


def _is_about(body: Body, made: Accepted) -> bool:
    """Whether a message is about whom its event is about: known by the same identifier first."""
    identifiers: Any = body.get("identifiers") or ()
    return [tuple(each) for each in identifiers[:1]] == list(made.identifiers[:1])


def _says(body: Body | None, made: bytes | None) -> bool:
    """Whether a body already says so, whatever version of the rules it was made by; and whether or not there was time
    for its user agent."""
    if body is None or made is None:
        return body is None and made is None
    apart = {_VERSION} if _CLIENT in body else {_VERSION, _CLIENT}
    return _without(body, apart) == _without(orjson.loads(made), apart)


def _without(body: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def _differences(found: Found, made: Accepted) -> list[dict[str, Any]]:
    new = orjson.loads(made.ordinary)
    return [
        {"part": part, "from": found.body.get(part), "to": new.get(part)}
        for part in sorted({*found.body, *new} - {_VERSION})
        if found.body.get(part) != new.get(part)
    ]


def changes(message: Mapping[str, Any], cleaning: Cleaning) -> list[dict[str, Any]]:
    """Every value that the rules looked at, raw and clean."""
    seen: list[Change] = []
    cleaned(dict(message), cleaning, seen.append)
    return [each._asdict() for each in seen]


def _traced(found: Found, cleaning: Cleaning | None) -> dict[str, Any]:
    renamed = dict(cleaning.before.get("rename", {})) if cleaning else {}
    return {
        "event": found.original,
        "request": found.entry.id,
        "source": found.entry.source,
        "received": found.entry.received,
        "subject": found.subject,
        "cleaning": cleaning.version if cleaning else 0,
        "message": found.message,
        "beside": found.request.shared,
        "renamed": renamed,
        "changes": changes(found.message, cleaning) if cleaning else [],
        "body": found.body,
    }
