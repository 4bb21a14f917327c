"""Why a profile is one person: each decision with what was said, where, when, and by which rules."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from contracts.streams import TRACKING
from services.identity.history import History
from services.identity.resolver import Resolver
from services.identity.store import IdentityStore
from shared.eventlog import Event, EventLog
from shared.eventlog.sealed import open_events
from shared.keyring import Keyring


class Explaining:
    """See the module's text."""

    def __init__(self, store: IdentityStore, resolver: Resolver, log: EventLog, keyring: Keyring) -> None:
        self._store = store
        self._resolver = resolver
        self._log = log
        self._keyring = keyring
        self._history = History(store, log)

    def explain(self, profile: str) -> dict[str, Any] | None:
        """{profile, profiles, identifiers, chain}; None where there is no such profile. What was erased since is
        told without its value."""
        person = self._store.people_by_id([profile]).get(profile)
        if person is None:
            return None
        facts = self._history.of([person])
        causes = self._log.find(TRACKING, {fact["event"] for fact in facts if fact.get("event")})
        values = self._values(causes.values(), facts)
        return {
            "profile": person.id,
            "profiles": [person.id, *person.merged],
            "identifiers": [
                {
                    "kind": member.kind,
                    "value": values.get(subject),
                    "subject": subject,
                    "since": member.since,
                    "shared_since": person.shared[subject].since if subject in person.shared else None,
                }
                for subject, member in person.members.items()
            ],
            "chain": [_link(fact, values, causes.get(fact.get("event", ""))) for fact in facts],
        }

    def _values(self, causes: Iterable[Event], facts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Subject -> the value that it stands for, as the causes say it."""
        events = list(causes)
        by_rules: dict[int, set[str]] = {}
        for fact in facts:
            if fact.get("event"):
                by_rules.setdefault(int(fact.get("rules", 0)), set()).add(fact["event"])
        values: dict[str, str] = {}
        for version, ids in by_rules.items():
            chosen = [event for event in events if event.id in ids]
            named = self._resolver.named(chosen, open_events(self._keyring, chosen), self._store.rules(version))
            values |= {subject: value for subject, (_, value) in named.items()}
        return values


_TOLD: Final = ("profile", "into", "kind", "reason", "since", "rules", "event", "candidate", "probability")


def _link(fact: Mapping[str, Any], values: Mapping[str, str], cause: Event | None) -> dict[str, Any]:
    shown = {"id": fact["id"], "decided": fact["type"].split(".")[1], "time": fact["time"]}
    told = {name: fact[name] for name in _TOLD if name in fact}
    return {
        **shown,
        **told,
        "value": values.get(fact.get("subject", "")),
        "source": cause.source if cause else None,
        "received": cause.time if cause else None,
    }
