"""The nameko service `privacy`."""

from collections.abc import Sequence
from typing import Any

import eventlet
from nameko.rpc import RpcProxy, rpc

from contracts.collector import DAYS
from contracts.privacy import FORGET
from contracts.streams import PRIVACY, TRACKING
from services.privacy.consenting import CONSENTS, Consenting
from services.privacy.domain.belonging import belonging_of
from services.privacy.domain.consents import changes, history, of, purposes
from services.privacy.erasing import Erasing
from services.privacy.store import ConsentStore, RequestStore
from shared.consumer import Finish
from shared.errors import NotFound, SamlaError
from shared.eventlog import Event
from shared.policy import POLICY
from shared.rpc import time_limit
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe, ticker

ASK_SECONDS = 5
LONG_SECONDS = 20
RETENTION_SECONDS = 3_600


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.consents = ConsentStore(runtime.db, runtime.keyring)
        self.consents.setup()
        self.requests = RequestStore(runtime.db)
        self.requests.setup()
        self.consenting = Consenting(self.consents, runtime.keyring, runtime.checkpoints)
        self.erasing = Erasing(
            self.requests,
            self.consenting,
            runtime.log,
            runtime.keyring,
            runtime.transactor,
            runtime.clock,
            runtime.publisher.evict,
        )


class OverRpc:
    """The other services, over nameko's RPC with a time limit; see erasing.Others."""

    def __init__(self, service: "PrivacyService") -> None:
        self._service = service

    def members(self, profile: str) -> dict[str, Any] | None:
        """identity.members."""
        with time_limit("identity", ASK_SECONDS):
            found: dict[str, Any] | None = self._service.identity.members(profile)
        return found

    def members_of(self, requests: list[dict[str, Any]]) -> Sequence[dict[str, Any] | None]:
        """identity.members_of."""
        with time_limit("identity", ASK_SECONDS):
            found: Sequence[dict[str, Any] | None] = self._service.identity.members_of(requests)
        return found

    def identifiers(self, profile: str) -> list[list[str]]:
        """What a profile is known by."""
        with time_limit("profile", LONG_SECONDS):
            view = self._service.profile.show(profile) or {"identity": {}}
        return [[kind, each["value"]] for kind, values in view["identity"].items() for each in values]

    def forget_quarantined(self, identifiers: list[list[str]], after: str) -> dict[str, Any]:
        """collector.forget_quarantined."""
        with time_limit("collector", LONG_SECONDS):
            found: dict[str, Any] = self._service.collector.forget_quarantined(identifiers, after)
        return found

    def quarantined_of(self, identifiers: list[list[str]]) -> list[str]:
        """collector.quarantined_of, to its end."""
        messages: list[str] = []
        after: str | None = ""
        while after is not None:
            with time_limit("collector", LONG_SECONDS):
                page = self._service.collector.quarantined_of(identifiers, after)
            messages += page["messages"]
            after = page["after"]
        return messages

    def forget_received(self, subjects: list[str]) -> int:
        """collector.forget_received."""
        with time_limit("collector", LONG_SECONDS):
            return int(self._service.collector.forget_received(subjects))


class PrivacyService(Service):
    """What may be done with which data, and what must be forgotten."""

    name = "privacy"
    identity = RpcProxy("identity")
    profile = RpcProxy("profile")
    collector = RpcProxy("collector")
    segmentation = RpcProxy("segmentation")
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Made before anything starts."""
        return Parts(runtime)

    @subscribe(CONSENTS, stream=TRACKING, spacing=0.08)
    def on_tracking(self, events: list[Event]) -> Finish | None:
        """What events say about consent."""
        return self.store.consenting.fold(events)

    @ticker("privacy.erasures", seconds=0.5, wakes_on=(PRIVACY,))
    def erase_due(self) -> None:
        """Goes on with erasures."""
        while self.store.erasing.go_on(OverRpc(self)):
            eventlet.sleep(0)

    @ticker("privacy.retention", seconds=RETENTION_SECONDS)
    def destroy_unused_days(self) -> None:
        """What had no subject yet and is past its retention goes with its key."""
        days = self.runtime.keyring.holders(DAYS)
        with time_limit("collector", LONG_SECONDS):
            unused = self.collector.unused_days(days)
        if unused:
            self.runtime.keyring.destroy(unused)
            self.runtime.logger.info("keys of days are destroyed", keys=len(unused))

    @rpc
    def decide(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """May this be sent, for each."""
        return self.store.consenting.decide(requests, OverRpc(self).members_of)

    @rpc(expected_exceptions=SamlaError)
    def consents(self, profile: str) -> dict[str, Any]:
        """What a person has agreed to and refused, with history."""
        person = OverRpc(self).members(profile)
        if not person or not person["profile"]:
            raise NotFound(f"there is no profile {profile}")
        belonging = belonging_of(person)
        state = of(self.store.consents.load(belonging.places), belonging)
        shown = {}
        for purpose in purposes(state):
            said = [each._asdict() for each in changes(history(state, purpose))]
            last = said[-1]
            shown[purpose] = {name: last[name] for name in ("agreed", "time", "source")} | {"history": said}
        return shown

    @rpc(expected_exceptions=SamlaError)
    def erase(self, profile: str, mode: str = FORGET) -> str:
        """Starts an erasure; its id."""
        return self.store.erasing.request(OverRpc(self), profile, mode)

    @rpc(expected_exceptions=SamlaError)
    def request(self, request: str) -> dict[str, Any]:
        """How far an erasure has come."""
        found = self.store.requests.find(request)
        return {
            "request": found.id,
            "profile": found.profile,
            "mode": found.mode,
            "status": found.status,
            "step": found.step.value,
            "error": found.error,
            "failures": found.failures,
            "created": found.created,
            "changed": found.changed,
        }

    @rpc(expected_exceptions=SamlaError)
    def export(self, profile: str) -> dict[str, Any]:
        """Everything that is held of a person."""
        others = OverRpc(self)
        person = others.members(profile)
        if not person or not person["profile"]:
            raise NotFound(f"there is no profile {profile}")
        at = person["profile"]
        with time_limit("another service", LONG_SECONDS):
            everything = self.profile.everything(at)
            received = self.collector.received_of(sorted(belonging_of(person).places))
            # Of a device that is shared, not what others did there.
            mine = {each["id"] for each in everything["events"]}
            held = {
                "exported_at": self.runtime.clock.now_ms(),
                **everything,
                "consents": self.consents(at),
                "segments": self.segmentation.of(at),
                "received": [each for each in received if each["event"] in mine],
            }
        # The quarantine may be large: each of its pages has a time limit of its own.
        return {**held, "quarantined": others.quarantined_of(others.identifiers(at))}

    @rpc
    def policy(self) -> dict[str, Any]:
        """The data policy."""
        return POLICY.document

    @rpc
    def stats(self) -> dict[str, Any]:
        """Subjects that have said something about consent, and requests by status."""
        return {"subjects": self.store.consents.count(), "requests": self.store.requests.counts()}


SERVICE = PrivacyService
