"""The nameko service `activation`."""

from collections.abc import Sequence
from typing import Any, Final

from nameko.rpc import RpcProxy, rpc

from contracts.activation import CHANGES, STATUSES
from contracts.streams import ACTIVATION, PRIVACY, PROFILE, SEGMENTATION
from services.activation.adapters.webhook import Webhook
from services.activation.courier import Courier, in_a_thread
from services.activation.desk import Desk
from services.activation.house import Segments
from services.activation.ledger import Ledger
from services.activation.planner import Planner
from services.activation.store import ActivationStore
from services.activation.vault import Vault
from shared.consumer import Finish
from shared.errors import SamlaError
from shared.eventlog import Event
from shared.keyring import new_id
from shared.policy import POLICY
from shared.rpc import time_limit
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe as consume
from shared.subscription import ticker

RUN_SECONDS: Final = 1.0
"""How long one call of the ticker works at most, so that stopping does not take longer."""
ASK_SECONDS: Final = 5.0
"""How long the gate may take to answer; then it is closed."""


class Parts:
    """What the service is made of, once a process."""

    def __init__(self, runtime: Runtime) -> None:
        owner = f"{runtime.instances.name}/{new_id()[:8]}"
        clock = runtime.clock
        self.store = ActivationStore(runtime.db)
        self.store.setup()
        self.vault = Vault(runtime.keyring)
        self.segments = Segments(self.store.remembered_segment, POLICY.trait, POLICY.event)
        self.ledger = Ledger(self.store, runtime.log, runtime.keyring, runtime.transactor, clock, in_a_thread)
        sender = Webhook(runtime.settings.allow_local_webhooks)
        self.courier = Courier(self.store, self.ledger, self.segments, self.vault, sender, clock, owner)
        self.planner = Planner(self.store, self.courier, runtime.keyring, clock)
        self.desk = Desk(self.store, self.vault, self.segments, clock, runtime.settings.allow_local_webhooks)


class OverRpc:
    """The other services, over nameko's RPC with a time limit; see house.House."""

    def __init__(self, service: "ActivationService") -> None:
        self._privacy = service.privacy
        self._profile = service.profile
        self._segmentation = service.segmentation

    def judge(
        self, requests: Sequence[dict[str, Any]], profiles: Sequence[str]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Both at the same time: the slower of the two is what a delivery waits for."""
        with time_limit("privacy or profile", ASK_SECONDS):
            decisions = self._privacy.decide.call_async(list(requests))
            facts = self._profile.facts.call_async(list(profiles))
            return decisions.result(), facts.result()

    def facts(self, profiles: Sequence[str]) -> dict[str, Any]:
        """profile.facts."""
        with time_limit("profile", ASK_SECONDS):
            found: dict[str, Any] = self._profile.facts(list(profiles))
        return found

    def segments(self) -> list[dict[str, Any]]:
        """segmentation.segments."""
        with time_limit("segmentation", ASK_SECONDS):
            rows: list[dict[str, Any]] = self._segmentation.segments()
        return rows


class ActivationService(Service):
    """What goes out, to whom, when; and what must not."""

    name = "activation"
    privacy = RpcProxy("privacy")
    profile = RpcProxy("profile")
    segmentation = RpcProxy("segmentation")
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Collections and tools, made before anything starts."""
        return Parts(runtime)

    # What makes deliveries, and what drops them

    @consume("activation.plan", stream=SEGMENTATION)
    def on_segmentation(self, events: list[Event]) -> Finish | None:
        """Entered and left become deliveries."""
        return self.store.planner.plan(events, OverRpc(self))

    @consume("activation.merges", stream=PROFILE, spacing=0.5)
    def on_profile(self, events: list[Event]) -> Finish | None:
        """Merges are remembered, so that erasing a person reaches deliveries under earlier profiles."""
        return self.store.planner.follow(events)

    @consume("activation.erasures", stream=PRIVACY)
    def on_privacy(self, events: list[Event]) -> Finish | None:
        """Deliveries of erased people are dropped."""
        return self.store.planner.forget(events)

    @ticker("activation.deliver", seconds=1.0, wakes_on=(ACTIVATION,), spacing=0.2)
    def deliver_due(self) -> None:
        """Sends what is due."""
        if self.store.courier.run(OverRpc(self), RUN_SECONDS):
            self.runtime.nudge(ACTIVATION)

    # RPC: destinations and subscriptions

    @rpc(expected_exceptions=SamlaError)
    def create_destination(
        self,
        name: str,
        kind: str = "webhook",
        url: str = "",
        secret: str | None = None,
        identifiers: list[str] | None = None,
        form: str = "samla",
    ) -> dict[str, Any]:
        """A new destination and its secret, shown this once."""
        return self.store.desk.create(name, kind, url, secret, identifiers, form)

    @rpc(expected_exceptions=SamlaError)
    def rotate_secret(self, destination: str, overlap_hours: float | None = None) -> dict[str, Any]:
        """A new secret; the old one signs beside it for a while."""
        return self.store.desk.rotate(destination, overlap_hours)

    @rpc(expected_exceptions=SamlaError)
    def enable_destination(self, destination: str) -> dict[str, Any]:
        """Takes messages (again). What died meanwhile can be redriven."""
        return self.store.desk.enable(destination, True, "")

    @rpc(expected_exceptions=SamlaError)
    def disable_destination(self, destination: str) -> dict[str, Any]:
        """From now on what is due for it dies, and can be redriven later."""
        return self.store.desk.enable(destination, False, "by_hand")

    @rpc
    def destinations(self) -> list[dict[str, Any]]:
        """All destinations with their subscriptions, oldest first."""
        return self.store.desk.rows()

    @rpc(expected_exceptions=SamlaError)
    def subscribe(
        self, destination: str, segment: str, on: Sequence[str] = CHANGES, purpose: str = ""
    ) -> dict[str, Any]:
        """Sends the destination what happens in a segment (its id or key), for one purpose."""
        return self.store.desk.subscribe(OverRpc(self), destination, segment, on, purpose)

    @rpc
    def unsubscribe(self, subscription: str) -> bool:
        """Whether there was such a subscription. What it has scheduled is still delivered."""
        return self.store.store.remove_subscription(subscription)

    # RPC: deliveries

    @rpc(expected_exceptions=SamlaError)
    def deliveries(
        self, status: str | None = None, limit: int = 50, destination: str | None = None
    ) -> list[dict[str, Any]]:
        """The deliveries scheduled last."""
        if status and status not in STATUSES:
            raise SamlaError(f"there is no status {status}: {', '.join(STATUSES)}")
        return self.store.desk.deliveries(status, destination, limit)

    @rpc(expected_exceptions=SamlaError)
    def redrive(self, delivery: str) -> int:
        """Sends a dead or held delivery again, if the gate lets it; 1, or 0 where it is neither."""
        self.store.desk.check_redrive(delivery)
        return self.store.ledger.redrive([delivery])

    @rpc(expected_exceptions=SamlaError)
    def redrive_all(self, destination: str) -> int:
        """Sends all dead deliveries of a destination again; how many."""
        return sum(map(self.store.ledger.redrive, self.store.desk.dead_pages(destination)))

    @rpc
    def stats(self) -> dict[str, Any]:
        """Deliveries by status, held and dead ones by reason."""
        return self.store.desk.stats()


SERVICE = ActivationService
