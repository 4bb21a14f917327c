"""Newer rules for older messages: what they make of it is appended as corrections; what stands in the log stays.

A correction has the id that follows from its event and the version of the rules, so doing it again, or twice
at once, changes nothing. Where the rules now say that a message is somebody else's, its event is taken back
and stands anew under its right subject.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.collector.domain.cleaning import Change, Cleaning, cleaned, cleaning_of
from services.collector.domain.intake import Accepted, SetAside
from services.collector.domain.raw import Received, again, message_of
from services.collector.domain.source import Source
from services.collector.raw import Entry, Place, RawStore
from services.collector.rulebook import CLEANING
from services.collector.store import SourceStore
from services.collector.writer import classes
from shared.errors import SamlaError
from shared.eventlog import Event, EventLog, NewEvent
from shared.eventlog.sealed import Body, open_events
from shared.keyring import SENSITIVE, Identifier, Keyring, Sealing
from shared.policy import Policy
from shared.transaction import Transaction, Transactor

EXAMPLES: Final = 20


class Found(NamedTuple):
    """A raw message with what stands of it in the log."""

    entry: Entry
    at: int
    event: Event
    """The event that it became, or the last correction of that."""
    body: Body
    sensitive: Body | None

    @property
    def subject(self) -> str:
        """Whose it is as of now."""
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
    """See the module's text."""

    def __init__(
        self,
        raw: RawStore,
        sources: SourceStore,
        log: EventLog,
        transactor: Transactor,
        keyring: Keyring,
        policy: Policy,
        now_ms: Callable[[], int],
    ) -> None:
        self._raw = raw
        self._sources = sources
        self._log = log
        self._transactor = transactor
        self._keyring = keyring
        self._policy = policy
        self._now_ms = now_ms

    # Correcting what is there

    def page(self, source: str, after: Place, messages: int, dry: bool) -> dict[str, Any]:
        """Uses the rules of now on a page of a source's requests, those behind `after`."""
        at = self._sources.one(source)
        version, _ = self._sources.rules.latest(source, CLEANING)
        entries, further = self._raw.page(source, after, messages)
        counts: Counter[str] = Counter()
        examples: list[dict[str, Any]] = []
        chosen: list[tuple[Found, Accepted]] = []
        for found in self._found(entries, version):
            made = self._again(found, at)
            outcome = _outcome(found, made)
            counts[outcome] += 1
            if outcome == "corrected" and isinstance(made, Accepted):
                chosen.append((found, made))
                examples += [{"event": found.original, **each} for each in _differences(found, made)]
        if chosen and not dry:
            self._correct(chosen, source, version)
        return {
            "requests": len(entries),
            **{name: counts[name] for name in ("corrected", "unchanged", "set_aside", "other_agreement")},
            "examples": examples[:EXAMPLES],
            "after": list(further) if further else None,
        }

    def _found(self, entries: Iterable[Entry], version: int) -> list[Found]:
        """Every message with its event as of now; those that were erased are left out."""
        slots = [(entry, at) for entry in entries for at in range(len(entry.request.messages))]
        originals = [entry.request.messages[at][0] for entry, at in slots]
        corrections = {
            identity: [self._correction_id(identity, each) for each in range(version, 0, -1)] for identity in originals
        }
        known = self._log.find(TRACKING, [*originals, *(each for ids in corrections.values() for each in ids)])
        current = [
            next((known[each] for each in (*corrections[identity], identity) if each in known), None)
            for identity in originals
        ]
        events = [event for event in current if event is not None]
        bodies = dict(zip((event.id for event in events), open_events(self._keyring, events), strict=True))
        special = dict(zip((event.id for event in events), open_events(self._keyring, events, SENSITIVE), strict=True))
        return [
            Found(entry, at, event, body, special[event.id])
            for (entry, at), event in zip(slots, current, strict=True)
            if event is not None and (body := bodies[event.id]) is not None
        ]

    def _again(self, found: Found, source: Source) -> Accepted | SetAside:
        message_id = str(found.body["message_id"])
        return again(found.message, found.request, found.entry.received, source, self._policy, message_id)

    def _correction_id(self, event: str, version: int) -> str:
        return self._keyring.event_id("correction", str(version), event)

    def _correct(self, chosen: Sequence[tuple[Found, Accepted]], source: str, version: int) -> None:
        # Some may be said to be about somebody now who is not to be taken in again.
        suppressed = self._keyring.suppressed(list({each for _, made in chosen for each in made.identifiers}))
        chosen = [(found, made) for found, made in chosen if suppressed.isdisjoint(made.identifiers)]
        primaries: list[Identifier] = [made.identifiers[0] for _, made in chosen if made.identifiers]
        subjects = self._keyring.subjects_of(list(set(primaries)), create=True)
        fenced = self._keyring.fenced({found.subject for found, _ in chosen})
        events: list[NewEvent] = []
        moved: list[tuple[Found, str, str]] = []
        for found, made in chosen:
            if found.subject in fenced:
                continue
            whose = (subjects[made.identifiers[0]] if made.identifiers else None) or found.subject
            if whose == found.subject:
                events.append(self._corrected(found, made, version))
                continue
            anew = self._anew(found, made, whose, source)
            events += [self._corrected(found, None, version), anew]
            moved.append((found, whose, anew.id))

        def work(within: Transaction) -> None:
            self._log.append(TRACKING, events, within)
            for found, whose, identity in moved:
                self._raw.moved(found.entry, found.original, whose, identity, within)

        self._transactor.run(work)

    def _corrected(self, found: Found, made: Accepted | None, version: int) -> NewEvent:
        identity = self._correction_id(found.original, version)
        return NewEvent(
            id=identity,
            type=CORRECTED,
            source=found.entry.source,
            subject=found.subject,
            time=self._now_ms(),
            data={"corrects": found.original, "cleaning": version},
            sealed=self._sealed(made, found.subject, identity) if made else {},
            correlation=found.entry.id,
        )

    def _anew(self, found: Found, made: Accepted, subject: str, source: str) -> NewEvent:
        identity = self._keyring.event_id(source, made.message_id, subject)
        return NewEvent(
            id=identity,
            type=made.type,
            source=source,
            subject=subject,
            time=found.entry.received,
            sealed=self._sealed(made, subject, identity),
            correlation=found.entry.id,
        )

    def _sealed(self, made: Accepted, subject: str, identity: str) -> dict[str, bytes]:
        ordinary, sensitive = classes(made)
        texts = {ordinary: made.ordinary} | ({sensitive: made.sensitive} if made.sensitive is not None else {})
        sealed = self._keyring.seal([Sealing(subject, cls, identity, text) for cls, text in texts.items()])
        return dict(zip(texts, sealed, strict=True))

    # Looking at one

    def received(self, request: str) -> dict[str, Any] | None:
        """{source, received, beside, messages: [{event, message}]} of a request."""
        entry = self._raw.find(request)
        if entry is None:
            return None
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
        version, _ = self._sources.rules.latest(entry.source, CLEANING)
        found = next((each for each in self._found([entry], version) if each.original == wanted), None)
        if found is None:
            raise SamlaError("nothing is kept of how this event was received: its request is without it")
        return _traced(found, self._rules_of(found))

    def _rules_of(self, found: Found) -> Cleaning | None:
        version = found.body.get("cleaned")
        if not isinstance(version, int):
            return None
        return cleaning_of(version, self._sources.rules.version(found.entry.source, CLEANING, version))


_VERSION: Final = "cleaned"


def _outcome(found: Found, made: Accepted | SetAside) -> str:
    if isinstance(made, SetAside):
        return "set_aside"
    if str(found.body.get("agreement", "")) != made.agreement:
        return "other_agreement"
    return "unchanged" if _says(found.body, made.ordinary) and _says(found.sensitive, made.sensitive) else "corrected"


def _says(body: Body | None, made: bytes | None) -> bool:
    """Whether a body already says so, whatever version of the rules it was made by."""
    if body is None or made is None:
        return body is None and made is None
    return _without_version(body) == _without_version(orjson.loads(made))


def _without_version(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != _VERSION}


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
