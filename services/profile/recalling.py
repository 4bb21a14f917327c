"""Who somebody was at an instant, from identity's stream: its decisions about a person and about all who were ever one
with them, replayed up to then (domain/past.py).

Profile reads the stream itself, as it does to follow it: what it shows of the past is then what it would have held, and
an answer takes no second service. Whoever an identifier went to and from, did so by a merge, which stands under the one
that stayed, or by a decision that regrouped people, which is found by any of those whom it names.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from contracts.identity import REGROUPINGS
from contracts.streams import IDENTITY
from services.profile.domain.past import Past, Person
from services.profile.store import ProfileStore
from shared.errors import SamlaError
from shared.eventlog import Event, EventLog
from shared.eventlog.log import FOUND_BY
from shared.keyring import Keyring

MOST_PEOPLE: Final = 5_000
"""Profiles that were ever one with somebody, which are read."""
PAGE: Final = 500


class Then(NamedTuple):
    """Somebody, as of then."""

    past: Past
    person: Person
    others: list[str]
    """Who else some of today's identifiers belonged to (profiles)."""


class Recalling:
    """See the module's text."""

    def __init__(self, store: ProfileStore, log: EventLog, keyring: Keyring) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring

    def then(self, profile: str, known_at: int, subject: str | None = None) -> Then | None:
        """Who a profile was at an instant (ms); the one that had an identifier (its subject), where that is asked for.
        None where nobody was known then, or who it was has been forgotten. Raises SamlaError where too many were ever
        one with them."""
        today = self._store.merged_into([profile]).get(profile, profile)
        decisions = self._decisions({profile, today})
        gone = self._keyring.fenced({profile, today, *_subjects(decisions)})
        if not gone.isdisjoint((profile, today)):
            return None
        past = Past(gone).replay(((each.type, each.data, each.time) for each in decisions), known_at)
        owned = sorted(self._store.owned_by([today]))
        owners = [owner for each in owned if (owner := past.owner(each))]
        was = past.profile(profile)
        if subject is not None:
            chosen = None if past.is_shared(subject) else past.owner(subject)
        else:
            # Of several, the one with most of today's identifiers.
            chosen = was or max(sorted(set(owners)), key=owners.count, default=None)
        if chosen is None:
            return None
        others = {*owners, *([was] if was else [])} - {chosen}
        return Then(past, past.person(chosen), sorted(others))

    def _decisions(self, profiles: set[str]) -> list[Event]:
        """About these and all who were ever one with them, in order."""
        found: dict[int, Event] = {}
        seen: set[str] = set()
        fresh = profiles
        while fresh:
            seen |= fresh
            if len(seen) > MOST_PEOPLE:
                raise SamlaError(f"more than {MOST_PEOPLE} profiles were ever one with this one: too many to look back")
            read = {each.position: each for each in self._about(fresh)}
            found |= read
            fresh = {name for each in read.values() for name in _profiles(each)} - seen
        return [found[position] for position in sorted(found)]

    def _about(self, profiles: Collection[str]) -> Iterator[Event]:
        for field in FOUND_BY[IDENTITY]:
            yield from self._log.find_by(IDENTITY, field, profiles)
        for profile in sorted(profiles):
            at = 0
            while page := self._log.read_subject(IDENTITY, profile, at, PAGE):
                yield from page
                at = page[-1].position
                if len(page) < PAGE:
                    break


def _facts(event: Event) -> list[dict[str, object]]:
    facts: object = event.data.get("facts") if event.type in REGROUPINGS else [event.data]
    return list(facts) if isinstance(facts, list) else []


def _profiles(event: Event) -> set[str]:
    named = {str(fact[name]) for fact in _facts(event) for name in ("profile", "into") if name in fact}
    return named | set(event.texts("dissolved"))


def _subjects(decisions: Collection[Event]) -> set[str]:
    return {
        str(fact[name]) for each in decisions for fact in _facts(each) for name in ("subject", "to") if name in fact
    }
