"""From the streams to deliveries: what is entered and left schedules them, what is erased drops them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import MERGED, SPLIT, merges_of
from contracts.streams import ACTIVATION
from services.activation.courier import Courier
from services.activation.domain.delivery import Delivery, begin
from services.activation.domain.plan import change_of, planned, scheduled
from services.activation.domain.replay import decided_at
from services.activation.house import House
from services.activation.ledger import scheduling
from services.activation.store import ActivationStore
from shared.clock import Clock
from shared.consumer import Finish, Output
from shared.eventlog import Event, NewEvent, latest_causes
from shared.keyring import Keyring
from shared.transaction import Transaction


class Planned(NamedTuple):
    """A delivery, and the event that schedules it."""

    delivery: Delivery
    event: NewEvent


class _Envelope(NamedTuple):
    time: int
    causes: dict[str, int]
    correlation: str


class Planner:
    """What activation's three subscriptions do; each method gives what runs in the transaction."""

    def __init__(self, store: ActivationStore, courier: Courier, keyring: Keyring, clock: Clock) -> None:
        self._store = store
        self._courier = courier
        self._keyring = keyring
        self._clock = clock

    def plan(self, events: Sequence[Event], house: House) -> Finish | None:
        """Schedules deliveries. Those that there is room for start as soon as they are committed."""
        made = self._planned(events)

        def finish(within: Transaction) -> list[Output]:
            fresh = self._fresh(made, within)
            deliveries = [each.delivery for each in fresh]
            chosen = self._courier.choose(deliveries)
            taken = {each.id for each in chosen}
            self._store.add(deliveries, taken, self._courier.owner, self._courier.lease(), within)
            within.on_commit(partial(self._courier.hand_over, house, chosen))
            return [(ACTIVATION, [each.event for each in fresh])]

        return finish if made else None

    def _planned(self, events: Sequence[Event]) -> list[Planned]:
        changes = [
            (event, change) for event in events if (change := change_of(event.id, event.type, event.data)) is not None
        ]
        if not changes:
            return []
        subscriptions = self._store.all_subscriptions({change.segment for _, change in changes})
        now = self._clock.now_ms()
        return [
            _made(event, scheduled(change, subscription), now)
            for event, change in changes
            for subscription in planned(change, subscriptions)
        ]

    def _fresh(self, made: Sequence[Planned], within: Transaction) -> list[Planned]:
        """Without those that are scheduled already, and without erased people's."""
        profiles = {each.delivery.profile for each in made}
        erased = self._keyring.fenced(profiles, within) | self._store.erased(profiles, within)
        there = self._store.current([each.delivery.id for each in made], within)
        return [each for each in made if each.delivery.profile not in erased and each.delivery.id not in there]

    def follow(self, events: Sequence[Event]) -> Finish | None:
        """Remembers who was merged into whom, and who is somebody of their own again."""
        events = [event for event in events if event.type in (MERGED, SPLIT)]

        def finish(within: Transaction) -> list[Output]:
            for event in events:
                if event.type == SPLIT:
                    self._store.part(event.texts("profiles"), decided_at(event), within)
                self._store.merge(merges_of(event.type, event.data), decided_at(event), within)
            return []

        return finish if events else None

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops the deliveries of erased people; again at the end of an erasure, for what was under way."""
        erasures = [(each.text("request"), each.text("profile")) for each in events if each.type == SUBJECTS_ERASED]
        completed = [each.text("request") for each in events if each.type == ERASURE_COMPLETED]

        def finish(within: Transaction) -> list[Output]:
            for request, profile in erasures:
                self._store.erase([profile], request, within)
            if completed:
                self._store.drop(self._store.erased_by(completed, within), within)
            return []

        return finish if erasures or completed else None


def _made(event: Event, data: dict[str, Any], now: int) -> Planned:
    causes = latest_causes(event.causes, {event.place: event.position})
    delivery = begin(data, _Envelope(now, causes, event.correlation))
    return Planned(delivery, scheduling(delivery, data))
