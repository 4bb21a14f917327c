"""The desk: what people ask of activation, over RPC."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import asdict

from contracts.activation import CHANGES, FORMS
from services.activation.domain.body import DEFAULT_IDENTIFIERS, SAMLA
from services.activation.domain.delivery import DEAD, Delivery
from services.activation.domain.plan import Subscription
from services.activation.domain.ssrf import checked_url
from services.activation.house import House, Segments
from services.activation.store import ActivationStore
from services.activation.vault import OVERLAP_HOURS, Vault, rotated
from shared.clock import Clock
from shared.errors import Conflict, NotFound, SamlaError
from shared.keyring import new_id

MOST_ROWS: Final = 1_000
REDRIVE_PAGE: Final = 200
ROW: Final = (
    "destination",
    "subscription",
    "profile",
    "segment",
    "change",
    "status",
    "attempts",
    "reason",
    "next",
    "created",
)
PURPOSE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
KIND: Final = re.compile(r"[A-Za-z0-9_]{1,32}")
LONGEST_OVERLAP_HOURS: Final = 24 * 30


class Desk:
    """Destinations, subscriptions and lists. Errors say what is wrong and what would be right."""

    def __init__(
        self, store: ActivationStore, vault: Vault, segments: Segments, clock: Clock, allow_local: bool
    ) -> None:
        self._store = store
        self._vault = vault
        self._segments = segments
        self._clock = clock
        self._allow_local = allow_local

    def create(
        self,
        name: str,
        kind: str,
        url: str,
        secret: str | None,
        identifiers: Sequence[str] | None,
        form: str = SAMLA,
    ) -> dict[str, Any]:
        """A new destination: `{"destination", "secret"}`."""
        if kind != "webhook":
            raise SamlaError(f"there is no kind of destination {kind}: webhook")
        if not name or len(name) > 200:
            raise SamlaError("a destination has a name of up to 200 characters")
        if form not in FORMS:
            raise SamlaError(f"there is no form {form}: {', '.join(FORMS)}")
        checked_url(url, self._allow_local)
        kinds = _kinds(DEFAULT_IDENTIFIERS if identifiers is None else identifiers)
        identity = new_id()
        shown, kept = self._vault.sealed(identity, secret)
        self._store.add_destination(
            {
                "_id": identity,
                "name": name,
                "kind": kind,
                "url": url,
                "secrets": [kept],
                "identifiers": kinds,
                "form": form,
                "enabled": True,
                "reason": "",
                "slow_until": 0,
                "slow_times": 0,
                "created": self._clock.now_ms(),
            }
        )
        return {"destination": identity, "secret": shown}

    def rotate(self, destination: str, overlap_hours: float | None) -> dict[str, Any]:
        """A new secret for the destination: `{"destination", "secret"}`."""
        hours = OVERLAP_HOURS if overlap_hours is None else overlap_hours
        if not 0 <= hours <= LONGEST_OVERLAP_HOURS:
            raise SamlaError(f"two secrets overlap for 0 to {LONGEST_OVERLAP_HOURS} hours")
        found = self._found(destination)
        shown, kept = self._vault.sealed(destination)
        secrets = rotated(found["secrets"], kept, self._clock.now_ms(), hours)
        self._store.change_destination(destination, {"secrets": secrets})
        return {"destination": destination, "secret": shown}

    def enable(self, destination: str, enabled: bool, reason: str) -> dict[str, Any]:
        """The destination, enabled or disabled."""
        fields = {"enabled": enabled, "reason": reason, "slow_until": 0, "slow_times": 0}
        if self._store.change_destination(destination, fields) is None:
            raise _no_destination(destination)
        return next(row for row in self.rows() if row["destination"] == destination)

    def rows(self) -> list[dict[str, Any]]:
        """All destinations with their subscriptions; their secrets are not among it."""
        subscriptions = self._store.all_subscriptions()
        return [
            {
                "destination": each["_id"],
                **{name: each[name] for name in ("name", "kind", "url", "enabled", "reason", "identifiers")},
                "form": each.get("form", SAMLA),
                "subscriptions": [_row(one) for one in subscriptions if one.destination == each["_id"]],
            }
            for each in self._store.all_destinations()
        ]

    def subscribe(
        self, house: House, destination: str, segment: str, on: Sequence[str], purpose: str
    ) -> dict[str, Any]:
        """A new subscription."""
        self._found(destination)
        if not on or set(on) - set(CHANGES):
            raise SamlaError(f"a subscription is on {' or '.join(CHANGES)}, or both")
        if not PURPOSE.fullmatch(purpose):
            raise SamlaError("a subscription names its purpose, what people must have agreed to: marketing, say")
        found = next((each for each in self._segments.all(house) if segment in (each.id, each.key)), None)
        if found is None:
            raise NotFound(f"there is no segment {segment}: see `samla segment list`")
        made = Subscription(
            id=new_id(),
            destination=destination,
            segment=found.id,
            on=tuple(each for each in CHANGES if each in on),
            purpose=purpose,
        )
        self._store.add_subscription(made, found, self._clock.now_ms())
        return _row(made)

    def deliveries(self, status: str | None, destination: str | None, limit: int) -> list[dict[str, Any]]:
        """The latest deliveries."""
        found = self._store.latest(status, destination, max(1, min(limit, MOST_ROWS)))
        return [delivery_row(each) for each in found]

    def check_redrive(self, delivery: str) -> None:
        """Raises SamlaError where there is no such delivery, or its destination would refuse it."""
        found = self._store.current([delivery]).get(delivery)
        if found is None:
            raise NotFound(f"there is no delivery {delivery}")
        self._enabled(found.destination)

    def dead_pages(self, destination: str) -> Iterator[list[str]]:
        """The dead deliveries of an enabled destination as of now, a page at a time."""
        self._enabled(destination)
        dead = self._store.ids_of(destination, DEAD)
        for start in range(0, len(dead), REDRIVE_PAGE):
            yield dead[start : start + REDRIVE_PAGE]

    def stats(self) -> dict[str, Any]:
        """Counts by status; of held and dead ones by reason."""
        counts = self._store.counts()
        statuses: dict[str, int] = {}
        reasons: dict[str, dict[str, int]] = {"held": {}, "dead": {}}
        for (status, reason), count in sorted(counts.items()):
            statuses[status] = statuses.get(status, 0) + count
            if status in reasons:
                reasons[status][reason] = count
        return {"statuses": statuses, **reasons, "destinations": len(self._store.all_destinations())}

    def _found(self, destination: str) -> dict[str, Any]:
        found = self._store.destination(destination)
        if found is None:
            raise _no_destination(destination)
        return found

    def _enabled(self, destination: str) -> None:
        if not self._found(destination)["enabled"]:
            raise Conflict(f"destination {destination} is disabled: enable it first")


def _no_destination(destination: str) -> SamlaError:
    return NotFound(f"there is no destination {destination}: see `samla destination list`")


def _kinds(identifiers: Sequence[str]) -> list[str]:
    if any(not KIND.fullmatch(each) for each in identifiers):
        raise SamlaError("kinds of identifiers are words such as user, email, phone")
    return sorted(set(identifiers))


def _row(subscription: Subscription) -> dict[str, Any]:
    fields = asdict(subscription)
    return {"subscription": fields.pop("id"), **fields, "on": list(subscription.on)}


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    """A delivery as `deliveries()` shows it."""
    return {"delivery": delivery.id, **{name: getattr(delivery, name) for name in ROW}}
