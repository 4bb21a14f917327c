"""What was decided about people, read from identity's stream: facts in order, also those within a regrouping."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from contracts.identity import REGROUPINGS
from contracts.streams import IDENTITY
from services.identity.domain.graph import Person
from services.identity.resolver import SERVICE
from services.identity.store import IdentityStore
from shared.eventlog import Event, EventLog, derive_id

PAGE: Final = 500


def said_by(candidate: str, number: int = 0) -> str:
    """The id of the nth event that followed when two who look alike were said to be one."""
    return derive_id(SERVICE, candidate, number)


def unfolded(event: Event) -> Iterator[dict[str, Any]]:
    """A decision as facts: {id, order, time, type, ...its data}. Within a regrouping each has the id `EVENT.NUMBER`."""
    facts: Any = event.data.get("facts", ())
    if event.type in REGROUPINGS:
        for number, fact in enumerate(facts):
            yield {**fact, "id": f"{event.id}.{number}", "order": (event.position, number)}
    else:
        yield {**event.data, "type": event.type, "time": event.time, "id": event.id, "order": (event.position, 0)}


def _is_later(fact: Mapping[str, Any], founded: Mapping[str, Event]) -> bool:
    """Whether a fact was decided after all whom it is about were last regrouped."""
    return all(
        fact["order"][0] > founded[part].position for part in (fact.get("profile"), fact.get("into")) if part in founded
    )


class History:
    """See the module's text."""

    def __init__(self, store: IdentityStore, log: EventLog) -> None:
        self._store = store
        self._log = log

    def fact(self, identity: str) -> dict[str, Any] | None:
        """A fact by its id."""
        event, _, _ = identity.partition(".")
        found = self._log.find(IDENTITY, [event]).get(event)
        return next((each for each in unfolded(found) if each["id"] == identity), None) if found else None

    def of(self, people: Collection[Person]) -> list[dict[str, Any]]:
        """What holds of what was decided about these people and all that they were merged from, in order."""
        parts = {part for person in people for part in (person.id, *person.merged)}
        founded = self._founded(parts)
        of_regroupings = (
            fact
            for event in {each.id: each for each in founded.values()}.values()
            for fact in unfolded(event)
            if (part := fact.get("profile")) in founded and founded[part].id == event.id
        )
        later = (fact for fact in self._about(parts) if _is_later(fact, founded))
        return sorted([*of_regroupings, *later], key=lambda each: each["order"])

    def events(self, people: Collection[Person]) -> set[str]:
        """The tracking events by which anything was decided about these people and all that they were merged from,
        since they were last put together; also what a part was that has been regrouped by itself later: the events
        that say nothing any more do no harm where all is decided again."""
        founded = self._log.find(IDENTITY, {each.regrouped for each in people if each.regrouped})
        found: set[str] = set()
        for person in people:
            parts = {person.id, *person.merged}
            since = founded.get(person.regrouped or "")
            facts = [each for each in unfolded(since) if each.get("profile") in parts] if since is not None else []
            after = since.position if since is not None else 0
            facts += [each for each in self._about(parts) if each["order"][0] > after]
            found |= {str(fact["event"]) for fact in facts if fact.get("event")}
        return found

    def before(self, person: Person, fact: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """What had been decided about a person, in order, when this was; None where it holds no longer."""
        facts = self.of([person])
        at = next((number for number, each in enumerate(facts) if each["id"] == fact["id"]), None)
        return None if at is None else facts[:at]

    def first_facts(self, people: Collection[Person]) -> dict[str, tuple[int, int]]:
        """Event -> (where the first of what followed from it stands, by rules of which version), as it was decided when
        it came."""
        first: dict[str, tuple[int, int]] = {}
        for person in people:
            for event in self._events({person.id, *person.merged}):
                if event.type not in REGROUPINGS and isinstance(cause := event.data.get("event"), str):
                    decided = (event.position, int(str(event.data.get("rules", 0))))
                    first[cause] = min(decided, first.get(cause, decided))
        return first

    def _founded(self, parts: Collection[str]) -> dict[str, Event]:
        """Part -> the last regrouping that it was taken apart or put together in: what had been decided of it before
        holds no longer."""
        founded: dict[str, Event] = {}
        for field in ("dissolved", "facts.profile"):
            for event in self._log.find_by(IDENTITY, field, parts):
                facts: Any = event.data.get("facts", ())
                for part in {*event.texts("dissolved"), *(str(fact["profile"]) for fact in facts)} & set(parts):
                    if part not in founded or founded[part].position < event.position:
                        founded[part] = event
        return founded

    def _about(self, profiles: Collection[str]) -> Iterator[dict[str, Any]]:
        for event in self._events(profiles):
            if event.type not in REGROUPINGS:
                yield from unfolded(event)

    def _events(self, profiles: Collection[str]) -> Iterator[Event]:
        for profile in profiles:
            at = 0
            while page := self._log.read_subject(IDENTITY, profile, at, PAGE):
                yield from page
                at = page[-1].position
