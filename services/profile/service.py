"""The nameko service `profile`."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import eventlet
from nameko.exceptions import MethodNotFound, RemoteError, UnknownService
from nameko.rpc import RpcProxy, rpc

from contracts.profile import Known, Signal, signal_id
from contracts.streams import IDENTITY, PRIVACY, TRACKING
from services.profile.filling import Filling
from services.profile.folding import ERASURES, PEOPLE, STATES, Folding
from services.profile.policy import PolicyStore, Telling
from services.profile.reading import At, Reading, check_batch
from services.profile.renewing import Renewing
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.consumer import Finish
from shared.errors import SamlaError, Unavailable
from shared.eventlog import Event
from shared.rpc import time_limit
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe, ticker

MOST_LINES = 10_000
MOST_PROFILES = 1_000
ASK_SECONDS: Final = 5

Who = str | list[str]
"""A profile's id, or [kind, value]."""


class Identified(NamedTuple):
    """Who was asked about."""

    profile: str | None
    """None where nobody is known by it."""
    subject: str | None
    """Of the identifier, if it was one."""


AT_A_STRETCH = 2.0
"""Seconds of work in the background."""


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.states = ProfileStore(runtime.db, runtime.keyring)
        self.states.setup()
        self.traits = TraitStore(runtime.db, runtime.transactor)
        self.traits.setup()
        self.traits.refresh()
        self.policies = PolicyStore(runtime.db, runtime.transactor)
        self.policies.setup()
        self.folding = Folding(self.states, runtime.log, runtime.keyring, runtime.checkpoints, self.traits)
        self.filling = Filling(
            self.states, self.traits, self.folding, runtime.transactor, runtime.checkpoints, runtime.clock
        )
        self.renewing = Renewing(runtime.db, self.states, runtime.checkpoints, runtime.transactor)
        self.renewing.start()
        self.reading = Reading(self.states, runtime.log, runtime.keyring, self.traits, runtime.clock, self.policies)
        self.telling = Telling(
            self.policies,
            self.states,
            runtime.log,
            runtime.keyring,
            runtime.transactor,
            runtime.checkpoints,
            runtime.clock,
        )


class ProfileService(Service):
    """What is known of a person now, or was known at any instant."""

    name = "profile"
    identity = RpcProxy("identity")
    segmentation = RpcProxy("segmentation")
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Made before anything starts."""
        return Parts(runtime)

    @subscribe(STATES, stream=TRACKING)
    def on_tracking(self, events: list[Event]) -> Finish | None:
        """Events become states."""
        return self.store.folding.fold(events)

    @subscribe(PEOPLE, stream=IDENTITY)
    def on_identity(self, events: list[Event]) -> Finish | None:
        """States become people's."""
        return self.store.folding.follow(events)

    @subscribe(ERASURES, stream=PRIVACY)
    def on_privacy(self, events: list[Event]) -> Finish | None:
        """Erased people's states are dropped."""
        return self.store.folding.forget(events)

    @ticker("profile.traits", seconds=0.5)
    def fill(self) -> None:
        """States that lack a computed trait get it."""
        if self.runtime.instances.takes("profile.traits"):
            _for_a_while(self.store.filling.step)

    @ticker("profile.policy", seconds=0.5)
    def tell(self) -> None:
        """Of whom something else is believed by a new policy, that is told."""
        if self.runtime.instances.takes("profile.policy"):
            _for_a_while(self.store.telling.step)

    @ticker("profile.renewing", seconds=2)
    def renew(self) -> None:
        """States by an older fold are made anew."""
        self.store.renewing.step()

    @rpc(expected_exceptions=SamlaError)
    def add_trait(self, key: str, definition: dict[str, Any]) -> dict[str, Any]:
        """Defines a computed trait; it is filled from the log in the background."""
        self.store.traits.add(key, definition, self.runtime.clock.now_ms())
        return next(row for row in self.store.filling.rows() if row["key"] == key)

    @rpc
    def traits(self) -> list[dict[str, Any]]:
        """The computed traits, oldest first, each with how many states still lack it."""
        return self.store.filling.rows()

    @rpc(expected_exceptions=SamlaError)
    def remove_trait(self, key: str) -> None:
        """It is computed no longer; refused while a segment uses it."""
        self.store.traits.remove(key, self._uses)

    @rpc
    def policy(self) -> dict[str, Any]:
        """Whom to believe: the policy in force, and those before it."""
        return self.store.policies.shown()

    @rpc(expected_exceptions=SamlaError)
    def set_policy(self, policy: dict[str, Any]) -> dict[str, Any]:
        """Puts a policy in force; of whom something else is believed by it is told in the background."""
        return self.store.policies.set(policy, self.runtime.clock.now_ms())

    @rpc(expected_exceptions=SamlaError)
    def watch(self, owner: str, signals: list[Signal]) -> dict[str, bool]:
        """All signals that an owner needs from now on; which of them are filled."""
        wanted: dict[str, Any] = {signal_id(each): each for each in signals}
        return self.store.traits.watch(owner, wanted, self.runtime.clock.now_ms())

    @rpc
    def watched(self, owner: str) -> dict[str, bool]:
        """An owner's signals, and which of them are filled."""
        return self.store.traits.watched(owner)

    @rpc
    def facts(self, profiles: list[str], signals: list[str] | None = None) -> dict[str, Known | None]:
        """What is known of these profiles; ordinary data only."""
        return self.store.reading.facts(profiles, signals or ())

    @rpc(expected_exceptions=SamlaError)
    def scan(
        self,
        after: str | None = None,
        limit: int = 200,
        signals: list[Signal] | None = None,
        said: bool = False,
    ) -> dict[str, Any]:
        """A page of all profiles with their facts."""
        return self.store.reading.scan(after or "", max(1, min(limit, MOST_PROFILES)), signals or (), said)

    @rpc(expected_exceptions=SamlaError)
    def show(
        self, profile: Who, as_of: int | None = None, sensitive: bool = False, known_at: int | None = None
    ) -> dict[str, Any] | None:
        """A profile's four parts, each value with its provenance, as of now or of an instant."""
        at = At(as_of, known_at)
        who = self._identified([profile], then=known_at is not None)[0]
        return self.store.reading.show(who.profile, at, sensitive, who.subject) if who.profile else None

    @rpc(expected_exceptions=SamlaError)
    def batch(self, profiles: list[Who], sensitive: bool = False) -> list[dict[str, Any] | None]:
        """Several at once, in their order."""
        check_batch(profiles)
        return self.store.reading.batch([each.profile for each in self._identified(profiles)], sensitive)

    @rpc(expected_exceptions=SamlaError)
    def compare(self, profile: Who, start: int, end: int, by: str = "event") -> dict[str, Any] | None:
        """What is different between two instants: of what had happened, or of what was known."""
        who = self._identified([profile], then=by == "known")[0]
        return self.store.reading.compare(who.profile, start, end, by, who.subject) if who.profile else None

    @rpc(expected_exceptions=SamlaError)
    def timeline(
        self, profile: Who, limit: int = 20, before: str | None = None, events: list[str] | None = None
    ) -> dict[str, Any]:
        """What the person did, latest first, a page at a time."""
        who = self._identified([profile])[0]
        return self.store.reading.timeline(who.profile or "", max(1, min(limit, MOST_LINES)), before, events)

    @rpc(expected_exceptions=SamlaError)
    def search(self, where: Any, after: str | None = None, limit: int = 100) -> dict[str, Any]:
        """The profiles of whom conditions hold, a page at a time."""
        return self.store.reading.search(where, after or "", max(1, min(limit, MOST_PROFILES)))

    def _uses(self, name: str) -> Sequence[str]:
        """traits.Uses."""
        try:
            with time_limit("segmentation", ASK_SECONDS):
                found: Sequence[str] = self.segmentation.uses(name)
        except (Unavailable, UnknownService, MethodNotFound, RemoteError) as error:
            raise Unavailable(
                f"segmentation does not say which segments use {name}: try again when it is up"
            ) from error
        return found

    def _identified(self, asked: list[Who], then: bool = False) -> list[Identified]:
        """Who is asked about, where by an identifier, as identity compares it. One that others use, too, is nobody's;
        but of `then`, it may have been somebody's."""
        pairs = [[str(part) for part in each] for each in asked if isinstance(each, list)]
        if any(len(pair) != 2 for pair in pairs):
            raise SamlaError("say who: a profile's id, or [kind, value]")
        if not pairs:
            return [Identified(str(each), None) for each in asked]
        with time_limit("identity", ASK_SECONDS):
            found = iter(self.identity.identified(pairs))
        return [_owner(next(found), then) if isinstance(each, list) else Identified(each, None) for each in asked]

    @rpc
    def everything(self, profile: str) -> dict[str, Any]:
        """All that is held of a person, for an export."""
        return self.store.reading.everything(profile)

    @rpc
    def stats(self) -> dict[str, int]:
        """Profiles, subjects, merges."""
        return self.store.states.counts()


def _owner(row: dict[str, Any] | None, then: bool) -> Identified:
    if row is None or (row["shared"] and not then):
        return Identified(None, None)
    return Identified(row["profile"], row["subject"])


def _for_a_while(step: Callable[[], bool]) -> None:
    """Steps until there is no more, or others are to have their turn: whoever ends the service waits for this."""
    end = time.monotonic() + AT_A_STRETCH
    while step() and time.monotonic() < end:
        eventlet.sleep(0)


SERVICE = ProfileService
