"""Consents from tracking events, and the gate over them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.privacy.domain.belonging import belonging_of
from services.privacy.domain.consents import empty, merge, merged, of, state_of
from services.privacy.domain.gate import decide
from services.privacy.store import ConsentStore
from shared.checkpoints import Checkpoints, handled_by, is_behind
from shared.consumer import Finish, Output
from shared.errors import Poison
from shared.eventlog import Event
from shared.eventlog.sealed import open_raw
from shared.keyring import Keyring
from shared.transaction import Transaction

CONSENTS: Final = "privacy.consents"

Members = Callable[[list[dict[str, Any]]], Sequence[Mapping[str, Any] | None]]


class Consenting:
    """See the module's text."""

    def __init__(self, store: ConsentStore, keyring: Keyring, checkpoints: Checkpoints) -> None:
        self._store = store
        self._keyring = keyring
        self._checkpoints = checkpoints

    def fold(self, events: Sequence[Event]) -> Finish | None:
        """Folds what tracking events say about consent."""
        deltas = deltas_of(self._keyring, events)

        def finish(within: Transaction) -> list[Output]:
            add(self._store, self._keyring, deltas, within)
            return []

        return finish if deltas else None

    def forget(self, subjects: Sequence[str]) -> None:
        """Drops erased people's consents."""
        self._store.erase(subjects)

    def decide(self, requests: Sequence[Mapping[str, Any]], ask: Members) -> list[dict[str, Any]]:
        """The gate, for several at once: only a plain yes is a yes."""
        handled = handled_by(CONSENTS, self._checkpoints)
        people = ask([{"profile": each["profile"], "causes": each["causes"]} for each in requests])
        known = self._store.load({place for person in people if person for place in belonging_of(person).places})
        fenced = self._keyring.fenced({each["profile"] for each in requests})
        return [
            self._decision(each, person, known, handled, each["profile"] in fenced)
            for each, person in zip(requests, people, strict=True)
        ]

    def _decision(
        self,
        request: Mapping[str, Any],
        person: Mapping[str, Any] | None,
        known: Mapping[str, Any],
        handled: Mapping[str, int],
        fenced: bool,
    ) -> dict[str, Any]:
        if fenced:
            return _answer(False, "erased")
        if is_behind(handled, request["causes"], TRACKING) or (person is not None and person["behind"]):
            return _answer(False, "behind", again=True)
        if person is None:
            return _answer(False, "unknown_profile")
        state = of(known, belonging_of(person))
        return _answer(*decide(state, request["purpose"], bool(request.get("segment_sensitive", True))))


def add(store: ConsentStore, keyring: Keyring, deltas: Mapping[str, Any], within: Transaction | None = None) -> None:
    """Merges what was said into what is held; nothing of who is erased."""
    gone = keyring.fenced(deltas, within)
    living = [subject for subject in deltas if subject not in gone]
    known = store.load(living, within)
    store.save({each: merge(known.get(each) or empty(), deltas[each]) for each in living}, within)


def deltas_of(keyring: Keyring, events: Sequence[Event]) -> dict[str, Any]:
    """Subject -> what these events say about consent. Most say nothing, and are not even parsed."""
    found: dict[str, list[Any]] = {}
    for event, raw in zip(events, open_raw(keyring, events), strict=True):
        # A correction says nothing new of consent: cleaning rules may not touch it.
        if raw is None or event.type == CORRECTED or not (b'"consent"' in raw or b'"gpc"' in raw):
            continue
        if said := _said(raw, event):
            found.setdefault(event.subject, []).append(said)
    return {subject: merged(said) for subject, said in found.items()}


def _said(raw: bytes, event: Event) -> Any:
    try:
        return state_of(orjson.loads(raw), event.id)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Poison(f"the body of event {event.id} is not what {event.type} says") from error


def _answer(allow: bool, reason: str, again: bool = False) -> dict[str, Any]:
    return {"allow": allow, "reason": reason, "again": again}
