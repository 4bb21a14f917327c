"""Erasing: a saga over all services that can be resumed at any step (DESIGN law 8)."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
import orjson
import structlog
from prometheus_client import Counter

from contracts.identity import ERASED
from contracts.privacy import ERASURE_COMPLETED, ERASURE_REQUESTED, MODES, SUBJECTS_ERASED, SUPPRESS
from contracts.streams import IDENTITY, PRIVACY
from services.privacy.consenting import Consenting
from services.privacy.domain.belonging import belonging_of
from services.privacy.domain.erasure import TRANSACTION_SECONDS, Request, Step, next_step, wait_after
from services.privacy.store import RequestStore
from shared.clock import Clock
from shared.errors import NotFound, SamlaError
from shared.eventlog import EventLog, NewEvent, derive_id
from shared.keyring import ORDINARY, Keyring, Sealed, Sealing, new_id
from shared.transaction import Transaction, Transactor

PLACE: Final = "identifiers"
SERVICE: Final = "privacy"
MOST_TOLD: Final = 100
"""Identity tells once of an erasure."""
ERRORS: Final = Counter("samla_erasure_errors_total", "Attempts at a step of an erasure that failed", ["step"])

logger = structlog.get_logger(__name__)


class Others(Protocol):
    """The services that a saga asks."""

    def members(self, profile: str) -> dict[str, Any] | None:
        """identity.members."""

    def identifiers(self, profile: str) -> list[list[str]]:
        """[kind, value] of a profile, by the profile service."""

    def forget_quarantined(self, identifiers: list[list[str]], after: str) -> dict[str, Any]:
        """collector.forget_quarantined: {removed, after}."""

    def forget_received(self, subjects: list[str]) -> int:
        """collector.forget_received."""


class Erasing:
    """See the module's text."""

    def __init__(
        self,
        store: RequestStore,
        consenting: Consenting,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        clock: Clock,
        evict: Callable[[Sequence[str]], None],
    ) -> None:
        self._store = store
        self._consenting = consenting
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._clock = clock
        self._evict = evict

    def request(self, others: Others, profile: str, mode: str) -> str:
        """Starts an erasure; its id. Raises SamlaError where there is nobody to erase."""
        if mode not in MODES:
            raise SamlaError(f"mode is one of {', '.join(MODES)}")
        person = others.members(profile)
        if not person or not person.get("profile"):
            raise NotFound(f"there is no profile {profile}")
        now = self._clock.now_ms()
        request = Request(
            id=new_id(),
            profile=person["profile"],
            mode=mode,
            step=Step.COLLECT,
            profiles=person["profiles"],
            subjects=_places(person),
            created=now,
            changed=now,
            due=now,
        )

        def work(within: Transaction) -> None:
            self._store.add(request, within)
            self._append(ERASURE_REQUESTED, request, within)

        self._transactor.run(work)
        return request.id

    def go_on(self, others: Others) -> bool:
        """One step of each request that is due, or a part of it; whether there may be more at once."""
        due = self._store.due(self._clock.now_ms())
        for request in due:
            logger.info("erasure", request=request.id, step=request.step.value)
            try:
                _STEPS[request.step](self, others, request)
            except Exception as error:
                # Whatever keeps one person from being forgotten keeps nobody else.
                self._failed(request, error)
        return bool(due)

    def _failed(self, request: Request, error: Exception) -> None:
        """Notes it without its text, which might quote a person; the step is tried again after a while."""
        kind = str(getattr(error, "exc_type", "") or type(error).__name__)
        failures = request.failures + 1
        logger.error("an erasure waits", request=request.id, step=request.step.value, error=kind, failures=failures)
        ERRORS.labels(request.step.value).inc()
        waiting = msgspec.structs.replace(request, failures=failures, error=kind)
        self._save(waiting, wait=wait_after(failures))

    def _collect(self, others: Others, request: Request) -> None:
        identifiers = orjson.dumps(others.identifiers(request.profile))
        [sealed] = self._keyring.seal([Sealing(request.id, ORDINARY, PLACE, identifiers)])
        self._moved(request, identifiers=sealed)

    def _fence(self, others: Others, request: Request) -> None:
        if request.mode == SUPPRESS:
            self._keyring.suppress([(kind, value) for kind, value in self._identifiers(request)])
        self._keyring.fence(request.profiles)
        request = self._known_now(others, request)
        self._keyring.fence([*request.profiles, *request.subjects])
        self._moved(request)

    def _known_now(self, others: Others, request: Request) -> Request:
        """With the identifiers and merged profiles that came while it was on its way."""
        person = others.members(request.profile) or {"profiles": [], "subjects": []}
        return msgspec.structs.replace(
            request,
            profiles=sorted({*request.profiles, *person["profiles"]}),
            subjects=sorted({*request.subjects, *_places(person)}),
        )

    def _quarantine(self, others: Others, request: Request) -> None:
        if self._forget_messages(others, request):
            self._moved(request)

    def _forget_messages(self, others: Others, request: Request) -> bool:
        """Goes on with the quarantine, which may be large; whether it has come to its end. It keeps its place."""
        after = others.forget_quarantined(self._identifiers(request), request.place)["after"]
        if after is not None:
            self._save(msgspec.structs.replace(request, place=after, failures=0, error=""))
            return False
        others.forget_received(request.subjects)
        return True

    def _identifiers(self, request: Request) -> list[list[str]]:
        kept = self._store.kept(request.id)
        [text] = self._keyring.open([Sealed(request.id, ORDINARY, PLACE, kept)]) if kept else [None]
        found: list[list[str]] = orjson.loads(text) if text else []
        return found

    def _destroy(self, others: Others, request: Request) -> None:
        self._destroy_keys(request)
        self._moved(request)

    def _destroy_keys(self, request: Request) -> None:
        everything = [*request.subjects, *request.profiles]
        self._keyring.destroy(everything)
        self._evict(everything)
        self._consenting.forget(request.subjects)

    def _tell(self, others: Others, request: Request) -> None:
        self._moved(request, tells=SUBJECTS_ERASED, wait=self._keyring.seconds + TRANSACTION_SECONDS)

    def _wait(self, others: Others, request: Request) -> None:
        self._moved(request)

    def _known_in_the_end(self, others: Others, request: Request) -> Request:
        """With those that became the person's by what was under way when the fence went up: identity has told, if it
        does not know the person any more."""
        request = self._known_now(others, request)
        told = [each for each in self._log.read_subject(IDENTITY, request.id, 0, MOST_TOLD) if each.type == ERASED]
        return msgspec.structs.replace(
            request,
            profiles=sorted({*request.profiles, *(each for event in told for each in event.texts("profiles"))}),
            subjects=sorted({*request.subjects, *(each for event in told for each in event.texts("subjects"))}),
        )

    def _again(self, others: Others, request: Request) -> None:
        request = self._known_in_the_end(others, request)
        self._keyring.fence([*request.profiles, *request.subjects])
        if not self._forget_messages(others, request):
            return
        self._destroy_keys(request)
        self._moved(request, tells=ERASURE_COMPLETED, identifiers=None)
        # Whom it was about is forgotten with it.
        self._keyring.destroy([request.id])

    def _moved(self, request: Request, tells: str = "", wait: float = 0.0, **sealed: bytes | None) -> None:
        after = msgspec.structs.replace(request, step=next_step(request.step), place="", failures=0, error="")
        self._save(after, tells, wait, **sealed)

    def _save(self, request: Request, tells: str = "", wait: float = 0.0, **sealed: bytes | None) -> None:
        now = self._clock.now_ms()
        moved = msgspec.structs.replace(request, changed=now, due=now + round(wait * 1000))

        def work(within: Transaction) -> None:
            # Where another instance was faster, its step stands.
            if self._store.move(moved, within, **sealed) and tells:
                self._append(tells, moved, within)

        self._transactor.run(work)

    def _append(self, kind: str, request: Request, within: Transaction) -> None:
        data: dict[str, Any] = {"request": request.id, "profile": request.profile, "mode": request.mode}
        if kind != ERASURE_REQUESTED:
            data |= {"profiles": request.profiles, "subjects": request.subjects}
        event = NewEvent(
            id=derive_id(kind, request.id),
            type=kind,
            source=SERVICE,
            subject=request.id,
            time=request.changed,
            data=data,
            correlation=request.id,
        )
        self._log.append(PRIVACY, [event], within)


def _places(person: dict[str, Any]) -> list[str]:
    """Subjects under which something of the person's lies: also of a device that is somebody else's. There is one key a
    subject, so what others did on it is forgotten with it."""
    return sorted(belonging_of(person).places)


_STEPS: Final[dict[Step, Callable[[Erasing, Others, Request], None]]] = {
    Step.COLLECT: Erasing._collect,
    Step.FENCE: Erasing._fence,
    Step.QUARANTINE: Erasing._quarantine,
    Step.DESTROY: Erasing._destroy,
    Step.TELL: Erasing._tell,
    Step.WAIT: Erasing._wait,
    Step.AGAIN: Erasing._again,
}
