"""The nameko service `identity`."""

from typing import Any

from nameko.rpc import rpc

from contracts.streams import PRIVACY, TRACKING
from services.identity.domain.graph import Person
from services.identity.resolver import Resolver
from services.identity.store import IdentityStore
from shared.checkpoints import handled_by, is_behind
from shared.consumer import Finish
from shared.eventlog import Event
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe

RESOLVE = "identity.resolve"


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.graph = IdentityStore(runtime.db)
        self.graph.setup()
        self.resolver = Resolver(self.graph, runtime.keyring)


class IdentityService(Service):
    """Which identifiers are one person: create, attach, merge."""

    name = "identity"
    store: Parts

    @classmethod
    def make_store(cls, runtime: Runtime) -> Parts:
        """Made before anything starts."""
        return Parts(runtime)

    @subscribe(RESOLVE, stream=TRACKING, alone=True, spacing=0.08)
    def on_tracking(self, events: list[Event]) -> Finish | None:
        """Identifiers become people."""
        return self.store.resolver.resolve(events)

    @subscribe("identity.erasures", stream=PRIVACY)
    def on_privacy(self, events: list[Event]) -> Finish | None:
        """Erased people are dropped."""
        return self.store.resolver.forget(events)

    @rpc
    def resolve(self, identifiers: list[list[str]]) -> str | None:
        """The profile of the first of the identifiers that is known."""
        pairs = [(kind, value) for kind, value in identifiers]
        subjects = self.runtime.keyring.subjects_of(pairs, create=False)
        profiles = self.store.graph.profile_of([each for each in subjects.values() if each])
        return next((profiles[s] for pair in pairs if (s := subjects[pair]) and s in profiles), None)

    @rpc
    def members(self, profile: str, passed: dict[str, int] | None = None) -> dict[str, Any] | None:
        """A person's subjects, by any profile id that is a part of it."""
        return self.members_of([{"profile": profile, "causes": passed or {}}])[0]

    @rpc
    def members_of(self, requests: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Several at once; `behind` where identity has not come to the causes yet."""
        # Read before the graph is: what it says is then at least that new.
        handled = handled_by(RESOLVE, self.runtime.checkpoints)
        people = self.store.graph.people_by_id({each["profile"] for each in requests})
        return [
            _members(people.get(each["profile"]), is_behind(handled, each.get("causes") or {}, TRACKING))
            for each in requests
        ]

    @rpc
    def stats(self) -> dict[str, int]:
        """People, identifiers, merges."""
        return self.store.graph.counts()


def _members(person: Person | None, behind: bool) -> dict[str, Any] | None:
    if person is None:
        return {"profile": None, "subjects": [], "profiles": [], "behind": True} if behind else None
    return {
        "profile": person.id,
        "subjects": sorted(person.members),
        "profiles": [person.id, *person.merged],
        "behind": behind,
    }


SERVICE = IdentityService
