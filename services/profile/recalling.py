"""Who somebody was at an instant, from identity's stream: its decisions about a person and about all who were ever one
with them, replayed up to then (domain/past.py).

Profile reads the stream itself, as it does to follow it: what it shows of the past is then what it would have held, and
an answer takes no second service. Somebody is followed through merges and through what was decided again, to all whom
these name; an identifier that was nobody's in between leads no further back.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from contracts.identity import ATTACHED, CREATED, GIVEN, REGROUPINGS
from contracts.streams import IDENTITY
from services.profile.domain.past import Past, Person
from services.profile.store import ProfileStore
from shared.errors import SamlaError
from shared.eventlog import Event, EventLog
from shared.keyring import Keyring

MOST_PEOPLE: Final = 5_000
"""Profiles that were ever one with somebody, or were given events of theirs, which are read."""
LINKS: Final = ("profile", "dissolved", "facts.profile")
"""Fields by which merges and what was decided again are found."""
GIVING: Final = ("subject", "facts.subject")
"""Fields by which it is found what of somebody's events was given to others."""
PAGE: Final = 500


class Then(NamedTuple):
    """Somebody, as of then."""

    past: Past
    person: Person
    others: list[str]
    """Who else some of today's identifiers belonged to (profiles)."""


class Linked(NamedTuple):
    """Profiles that were ever one, and what was decided about them: by position."""

    profiles: set[str]
    decisions: dict[int, Event]


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
        if self._keyring.fenced({profile, today}):
            return None
        linked = self._linked({profile, today})
        past = self._past(linked, known_at)
        whose = [past.owner(each) for each in sorted(self._store.owned_by([today]))]
        owners = [each for each in whose if each in linked.profiles]
        was = past.profile(profile)
        if subject is not None:
            chosen = None if past.is_shared(subject) else past.owner(subject)
        else:
            # Of several, the one with most of today's identifiers.
            chosen = was or max(sorted(set(owners)), key=owners.count, default=None)
        if chosen not in linked.profiles:
            return None
        others = {*owners, *([was] if was else [])} - {chosen}
        return Then(past, past.person(chosen), sorted(others))

    def _past(self, linked: Linked, known_at: int) -> Past:
        """With what of theirs was given to others, and what became of that."""
        owned = {str(fact["subject"]) for each in linked.decisions.values() for fact in _facts(each, _OWNING)}
        given = [event for field in GIVING for event in self._log.find_by(IDENTITY, field, owned)]
        receivers = {
            str(fact["profile"]) for each in given for fact in _facts(each, (GIVEN,)) if fact["subject"] in owned
        }
        others = self._linked(receivers - linked.profiles)
        whole = linked.decisions | others.decisions
        decisions = [whole[position] for position in sorted(whole)]
        gone = self._keyring.fenced(_subjects(decisions))
        return Past(gone).replay(((each.type, each.data, each.time) for each in decisions), known_at)

    def _linked(self, profiles: set[str]) -> Linked:
        """These and all who were ever one with them."""
        linked = Linked(set(), {})
        fresh = profiles
        while fresh:
            linked.profiles.update(fresh)
            if len(linked.profiles) > MOST_PEOPLE:
                raise SamlaError(f"more than {MOST_PEOPLE} people were ever one with this one: too many to look back")
            read = {each.position: each for each in self._about(fresh)}
            linked.decisions.update(read)
            fresh = {name for each in read.values() for name in _profiles(each)} - linked.profiles
        return linked

    def _about(self, profiles: Collection[str]) -> Iterator[Event]:
        for field in LINKS:
            yield from self._log.find_by(IDENTITY, field, profiles)
        for profile in sorted(profiles):
            at = 0
            while page := self._log.read_subject(IDENTITY, profile, at, PAGE):
                yield from page
                at = page[-1].position
                if len(page) < PAGE:
                    break


_OWNING: Final = (CREATED, ATTACHED)


def _facts(event: Event, kinds: Collection[str] = ()) -> list[dict[str, object]]:
    """What a decision says; of these types only, if any are given."""
    facts: object = event.data.get("facts") if event.type in REGROUPINGS else [{**event.data, "type": event.type}]
    return [each for each in facts if not kinds or each["type"] in kinds] if isinstance(facts, list) else []


def _profiles(event: Event) -> set[str]:
    named = {str(fact[name]) for fact in _facts(event) for name in ("profile", "into") if name in fact}
    return named | set(event.texts("dissolved"))


def _subjects(decisions: Collection[Event]) -> set[str]:
    return {
        str(fact[name]) for each in decisions for fact in _facts(each) for name in ("subject", "to") if name in fact
    }
