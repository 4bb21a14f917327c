"""The nameko service `identity`."""

from collections.abc import Sequence
from typing import Any, Final

from nameko.rpc import rpc

from contracts.streams import PRIVACY, TRACKING
from services.identity.domain.graph import Person
from services.identity.explaining import Explaining
from services.identity.likeness.desk import Desk
from services.identity.likeness.store import PROPOSED, CandidateStore
from services.identity.regrouping import RESOLVE, Regrouping
from services.identity.resolver import Resolver
from services.identity.store import Change, GivenEvent, IdentityStore
from shared.checkpoints import handled_by, is_behind
from shared.consumer import Finish
from shared.errors import NotFound, SamlaError
from shared.eventlog import Event
from shared.keyring import new_id
from shared.runtime import Runtime
from shared.service import Service
from shared.subscription import subscribe


class Parts:
    """What the service is made of."""

    def __init__(self, runtime: Runtime) -> None:
        self.graph = IdentityStore(runtime.db, runtime.keyring)
        self.graph.setup()
        self.resolver = Resolver(self.graph, runtime.keyring)
        self.explaining = Explaining(self.graph, self.resolver, runtime.log, runtime.keyring)
        self.regrouping = Regrouping(
            self.graph,
            self.resolver,
            runtime.log,
            runtime.keyring,
            runtime.transactor,
            runtime.checkpoints,
            runtime.clock.now_ms,
        )
        candidates = CandidateStore(runtime.db)
        candidates.setup()
        self.desk = Desk(
            self.graph,
            candidates,
            runtime.log,
            runtime.keyring,
            runtime.transactor,
            runtime.clock.now_ms,
            runtime.checkpoints,
        )


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
        self.store.desk.forget(events)
        return self.store.resolver.forget(events)

    @rpc
    def resolve(self, identifiers: list[list[str]]) -> str | None:
        """The profile of the first of the identifiers that is known, and is nobody else's."""
        owners = self._owners([(kind, value) for kind, value in identifiers])
        shared = self.store.graph.shared({profile for _, profile in owners})
        return next((profile for subject, profile in owners if subject not in shared), None)

    @rpc
    def identified(self, identifiers: list[list[str]]) -> list[dict[str, Any] | None]:
        """Each by itself: what stands for it, and whose it is."""
        rows = []
        for kind, value in identifiers:
            [owner] = self._owners([(kind, value)]) or [None]
            shared = owner is not None and owner[0] in self.store.graph.shared({owner[1]})
            rows.append({"subject": owner[0], "profile": owner[1], "shared": shared} if owner else None)
        return rows

    def _owners(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """[(subject, profile)] of those that are somebody's, in their order; compared as the rules say."""
        _, number = self.store.graph.version()
        rules = self.store.graph.rules(number)
        values = [(kind, value) for kind, written in pairs if (value := rules.of(kind).value(written)) is not None]
        subjects = self.runtime.keyring.subjects_of(values, create=False)
        profiles = self.store.graph.profile_of([each for each in subjects.values() if each])
        return [(s, profiles[s]) for pair in values if (s := subjects[pair]) and s in profiles]

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
        given = self.store.graph.given_of(people.values())
        return [
            _members(people.get(each["profile"]), given, is_behind(handled, each.get("causes") or {}, TRACKING))
            for each in requests
        ]

    # Look-alikes: found by a job of its own, decided here.

    @rpc(expected_exceptions=SamlaError)
    def candidates(self, status: str = PROPOSED, limit: int = 100) -> list[dict[str, Any]]:
        """Pairs that look like one person, the likeliest first."""
        return self.store.desk.rows(status, limit)

    @rpc(expected_exceptions=SamlaError)
    def propose(self, pairs: list[dict[str, Any]]) -> dict[str, int]:
        """What a run of the job found."""
        return self.store.desk.propose(pairs)

    @rpc(expected_exceptions=SamlaError)
    def accept_candidate(self, candidate: str) -> dict[str, Any]:
        """The two are one from now on."""
        return self.store.desk.accept(candidate)

    @rpc(expected_exceptions=SamlaError)
    def refuse_candidate(self, candidate: str) -> dict[str, Any]:
        """They are two, and are not proposed again."""
        return self.store.desk.refuse(candidate)

    @rpc
    def likeness_sources(self) -> list[dict[str, Any]]:
        """What was set for sources."""
        return self.store.desk.sources()

    @rpc(expected_exceptions=SamlaError)
    def set_likeness(
        self, source: str, threshold: float | None = None, repeats: bool = False, compare: bool = False
    ) -> dict[str, Any]:
        """From when on a source's look-alikes merge by themselves, whether it holds a person more than once, and
        whether it is compared though others supply it."""
        return self.store.desk.set_source(source, threshold, repeats, compare)

    @rpc
    def explain(self, profile: str) -> dict[str, Any] | None:
        """Why it is one person: each decision with what was said, where, when, and by which rules."""
        return self.store.explaining.explain(profile)

    @rpc(expected_exceptions=SamlaError)
    def split(self, identifier: list[str] | None = None, merge: str | None = None) -> dict[str, Any]:
        """Takes an identifier out of its person, or takes one merge (by its id, see `explain`) back."""
        if merge:
            return self.store.regrouping.split_merge(merge)
        if not isinstance(identifier, list) or not len(identifier) == 2:
            raise SamlaError("say which identifier, as [kind, value], or which merge")
        owners = self._owners([(str(identifier[0]), str(identifier[1]))])
        if not owners:
            raise NotFound(f"nobody is known by this {identifier[0]}")
        subject, profile = owners[0]
        return self.store.regrouping.split_identifier(profile, subject)

    @rpc
    def rules(self) -> dict[str, Any]:
        """The rules in force, in full, and every change of them."""
        _, number = self.store.graph.version()
        return {"rules": self.store.graph.rules(number).row(), "changes": self.store.graph.documents()}

    @rpc(expected_exceptions=SamlaError)
    def change_rules(self, rules: dict[str, Any]) -> dict[str, Any]:
        """Puts rules in force for what is decided from now on."""
        runtime = self.runtime
        change = Change(new_id(), runtime.clock.now_ms(), past=False)
        made = self.store.resolver.change_rules(rules, change, runtime.transactor, runtime.log, runtime.checkpoints)
        return made.row()

    @rpc
    def stats(self) -> dict[str, int]:
        """People, identifiers, merges."""
        return self.store.graph.counts()


NOBODY: Final[dict[str, Any]] = {"subjects": [], "profiles": [], "shared": {}, "given": {}, "elsewhere": {}}


def _members(person: Person | None, given: Sequence[GivenEvent], behind: bool) -> dict[str, Any] | None:
    if person is None:
        return {"profile": None, **NOBODY, "behind": True} if behind else None
    theirs: dict[str, list[str]] = {}
    elsewhere: dict[str, list[str]] = {}
    for each in given:
        if each.to in person.members:
            theirs.setdefault(each.subject, []).append(each.event)
        elif each.subject in person.members:
            elsewhere.setdefault(each.subject, []).append(each.event)
    return {
        "profile": person.id,
        "subjects": sorted(person.members),
        "profiles": [person.id, *person.merged],
        "shared": {subject: each.since for subject, each in person.shared.items()},
        "given": theirs,
        "elsewhere": elsewhere,
        "behind": behind,
    }


SERVICE = IdentityService
