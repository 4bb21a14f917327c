"""Where look-alikes are proposed, accepted and refused: both are facts of identity's, in its stream.

Accepted by a person or by a source's threshold, two become one as by an event that names both, and under the same
rules: what those do not let be one person stays two, whoever says otherwise.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from contracts.privacy import SUBJECTS_ERASED
from contracts.streams import IDENTITY
from services.identity.domain.graph import Fact, Graph, Person, Verdict
from services.identity.domain.rules import Rules
from services.identity.domain.uniting import BY_PERSON, BY_THRESHOLD, Alike, hindrance, known_by, refusal, unite
from services.identity.history import said_by
from services.identity.likeness.store import ACCEPTED, PROPOSED, REFUSED, STATUSES, CandidateStore, Row
from services.identity.resolver import SERVICE
from services.identity.store import IdentityStore
from shared.checkpoints import MongoCheckpoints
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from shared.eventlog import Event, EventLog, NewEvent, derive_id
from shared.keyring import Keyring
from shared.transaction import Transaction, Transactor, tried

MOST_PAIRS: Final = 1_000
MOST_ROWS: Final = 1_000
ATTEMPTS: Final = 20
LEAST_THRESHOLD: Final = 0.9
"""A threshold below that would merge people for being of one family name."""


class Saying(NamedTuple):
    """What is about to be said of two, and the ground that it is said on."""

    version: int
    """Of the graph: if it has moved on, all is looked at again."""
    rules: Rules
    alike: Alike
    people: tuple[Person, Person]
    graph: Graph


class Pairs:
    """Pairs of profiles: who they are by now, and what was said of them."""

    def __init__(self, graph: IdentityStore, pairs: Sequence[Mapping[str, Any]]) -> None:
        self._people = graph.people_by_id({each for pair in pairs for each in pair["profiles"]})
        members = {subject for person in self._people.values() for subject in person.members}
        self._said: dict[str, list[Verdict]] = {}
        for verdict in graph.verdicts(members).values():
            for subject in verdict.subjects:
                self._said.setdefault(subject, []).append(verdict)

    def known(self, pair: Mapping[str, Any]) -> bool:
        """Whether both are somebody still."""
        return self._people.keys() >= set(pair["profiles"])

    def two(self, pair: Mapping[str, Any]) -> tuple[Person, Person] | None:
        """Who they are; None where they are nobody, or one."""
        if not self.known(pair):
            return None
        mine, theirs = (self._people[each] for each in pair["profiles"])
        return None if mine.id == theirs.id else (mine, theirs)

    def said(self, mine: Person, theirs: Person) -> bool:
        """Whether something was said of these two, by an identifier of each. Who was accepted and is two again was
        split: that is a refusal too."""
        return any(each.is_of(mine, theirs) for subject in mine.members for each in self._said.get(subject, ()))


class Desk:
    """See the module's text."""

    def __init__(
        self,
        graph: IdentityStore,
        candidates: CandidateStore,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        now_ms: Callable[[], int],
        checkpoints: MongoCheckpoints,
    ) -> None:
        self._graph = graph
        self._store = candidates
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._now_ms = now_ms
        self._checkpoints = checkpoints

    # Sources

    def sources(self) -> list[Row]:
        """What was set for sources."""
        return self._store.sources()

    def set_source(self, source: str, threshold: float | None, repeats: bool, compare: bool = False) -> Row:
        """From which probability on a source's people are merged by themselves (None: never), whether it holds a
        person more than once, and whether it is compared though others supply it. Raises SamlaError."""
        if threshold is not None and not LEAST_THRESHOLD <= threshold <= 1:
            raise SamlaError(f"a threshold is between {LEAST_THRESHOLD} and 1")
        row = {"source": source, "threshold": threshold, "repeats": repeats, "compare": compare}
        self._store.put_source(row)
        return row

    # Pairs

    def rows(self, status: str, limit: int) -> list[Row]:
        """Pairs of a status, the likeliest first. Raises SamlaError where there is no such status."""
        limit = max(1, min(limit, MOST_ROWS))
        if status == PROPOSED:
            return self._proposed(limit)
        if status not in STATUSES:
            raise SamlaError(f"there is no status {status}: {', '.join(STATUSES)}")
        said = self._graph.likeliest(status == ACCEPTED, limit)
        found = self._store.found(said)
        return [
            {
                **_UNKNOWN,
                **found.get(name, {}),
                "candidate": name,
                "profiles": list(each.profiles),
                "probability": each.probability,
                "status": status,
                "decided": each.time,
            }
            for name, each in said.items()
        ]

    def _proposed(self, limit: int) -> list[Row]:
        """With what is in the way of their being one. Pairs of people who are no more, or are one by now, or of whom
        something was said under another pair's name, are forgotten."""
        while True:
            found = self._store.open(limit)
            pairs = Pairs(self._graph, found)
            two = {row["candidate"]: people for row in found if (people := pairs.two(row)) and not pairs.said(*people)}
            if len(two) == len(found):
                return [self._with_obstacle(row, two[row["candidate"]]) for row in found]
            self._store.drop({row["candidate"] for row in found} - two.keys())

    def _with_obstacle(self, row: Row, people: tuple[Person, Person]) -> Row:
        _, number = self._graph.version()
        obstacle = hindrance(*people, self._graph.rules(number), self._now_ms()) or None
        return {**row, "status": PROPOSED, "decided": None, "obstacle": obstacle}

    def propose(self, found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Takes in what a run of the job found: {proposed, decided_before, merged, not_merged}. Pairs that somebody has
        decided about are not proposed again. Not merged: whom a threshold would make one and identity's rules do not;
        they are proposed."""
        found = found[:MOST_PAIRS]
        limits = {each["source"]: each["threshold"] for each in self._store.sources()}
        counts = {"proposed": 0, "decided_before": 0, "merged": 0, "not_merged": 0}
        pairs, moved = Pairs(self._graph, found), set[str]()
        for each in found:
            if not moved.isdisjoint(each["profiles"]):
                pairs, moved = Pairs(self._graph, found), set()
            people = pairs.two(each)
            if people is None:
                continue
            outcome = "decided_before" if pairs.said(*people) else self._proposed_or_merged(each, people, limits)
            counts[outcome] += 1
            if outcome == "merged":
                moved |= {part for one in people for part in (one.id, *one.merged)}
        return counts

    def _proposed_or_merged(
        self, pair: Mapping[str, Any], people: tuple[Person, Person], limits: Mapping[str, float | None]
    ) -> str:
        row = self._put(pair, *people)
        if not _by_itself(row, limits):
            return "proposed"
        try:
            self._accept(row["candidate"], BY_THRESHOLD)
        except (Conflict, NotFound):
            return "not_merged"
        return "merged"

    def _put(self, pair: Mapping[str, Any], mine: Person, theirs: Person) -> Row:
        profiles = sorted((mine.id, theirs.id))
        row = {
            "candidate": derive_id("candidate", *profiles),
            "profiles": profiles,
            "probability": float(pair["probability"]),
            "for": list(pair["for"]),
            "against": list(pair["against"]),
            "sources": sorted(set(pair["sources"])),
            "found": self._now_ms(),
        }
        self._store.put(row)
        return row

    def forget(self, events: Sequence[Event]) -> None:
        """Proposals of erased people are dropped; what was said of them is in the graph, and goes with them there."""
        erased = [each for event in events if event.type == SUBJECTS_ERASED for each in event.texts("profiles")]
        if erased:
            self._store.forget(erased)

    # What is said of them

    def accept(self, candidate: str) -> Row:
        """They are one: merged, into the profile that was known first. Raises Conflict, which says what in identity's
        rules is against it, and NotFound."""
        return self._accept(candidate, BY_PERSON)

    def _accept(self, candidate: str, reason: str) -> Row:
        return self._attempt(lambda: self._accept_once(candidate, reason))

    def refuse(self, candidate: str) -> Row:
        """They are two, and it is not asked again. Raises Conflict and NotFound."""
        return self._attempt(lambda: self._refuse_once(candidate))

    def _attempt(self, once: Callable[[], Row]) -> Row:
        # Something else may be decided in between: what was read of the graph is old then.
        otherwise = "others are being decided about without a pause; nothing was changed, try again"
        return tried(once, ATTEMPTS, otherwise)

    def _accept_once(self, candidate: str, reason: str) -> Row:
        row, saying = self._saying(candidate, reason)
        if obstacle := hindrance(*saying.people, saying.rules, saying.alike.received):
            raise Conflict(f"they cannot be one person by identity's rules: {obstacle}")
        facts = unite(saying.graph, saying.alike, saying.rules)
        self._happens(saying, facts, [said_by(candidate, number) for number in range(len(facts))])
        return {**row, "status": ACCEPTED, "decided": saying.alike.received, "obstacle": None}

    def _refuse_once(self, candidate: str) -> Row:
        row, saying = self._saying(candidate, "")
        fact = refusal(saying.alike, row["profiles"])
        saying.graph.evolve(fact.type, fact.data, saying.alike.received)
        self._happens(saying, [fact], [derive_id(SERVICE, candidate, REFUSED)])
        return {**row, "status": REFUSED, "decided": saying.alike.received, "obstacle": None}

    def _saying(self, candidate: str, reason: str) -> tuple[Row, Saying]:
        version, number = self._graph.version()
        rules = self._graph.rules(number)
        row = self._store.find(candidate)
        if row is None:
            raise NotFound(f"there is no candidate {candidate}: see `samla identity candidates`")
        pairs = Pairs(self._graph, [row])
        if not pairs.known(row):
            raise NotFound("one of the two is not known any more")
        people = pairs.two(row)
        if people is None:
            raise Conflict("they are one person already")
        if pairs.said(*people):
            raise Conflict("it was accepted or refused before")
        mine, theirs = people
        if self._keyring.fenced({mine.id, theirs.id, *mine.members, *theirs.members}):
            raise Conflict("one of the two is being erased")
        subjects = (known_by(mine, rules), known_by(theirs, rules))
        alike = Alike(candidate, self._now_ms(), subjects, row["probability"], reason)
        graph = self._graph.load({*mine.members, *theirs.members}, {mine.id, theirs.id})
        return row, Saying(version, rules, alike, people, graph)

    def _happens(self, saying: Saying, facts: Sequence[Fact], ids: Collection[str]) -> None:
        """In one transaction, like identity's own decisions; not during a rebuild, which would lose it.

        Batches of events that are under way need not be void (`Checkpoints.turn`), as with a split: a merge only joins
        people. What was all one person's is so still; what was set aside before, or is given to one of the two already,
        needs no fact of the one that they become. A batch from which a fact follows is guarded by the graph's version.
        """
        events = [
            NewEvent(
                id=identity,
                type=fact.type,
                source=SERVICE,
                subject=fact.subject,
                time=saying.alike.received,
                data=fact.data,
                correlation=saying.alike.candidate,
            )
            for identity, fact in zip(ids, facts, strict=True)
        ]

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            if self._keyring.fenced({name for each in saying.people for name in (each.id, *each.members)}, within):
                raise CheckpointMoved("one of the two is being erased since this was read")
            self._graph.save(saying.graph, saying.version, within)
            self._log.append(IDENTITY, events, within)
            self._store.close(saying.alike.candidate, within)

        self._transactor.run(work)


_UNKNOWN: Final[Row] = {"sources": [], "for": [], "against": [], "found": 0, "obstacle": None}
"""Of a proposal that is lost: what was said of it is in the log, what spoke for it is not."""


def _by_itself(row: Row, limits: Mapping[str, float | None]) -> bool:
    """Only where all of its sources have a threshold, and it is reached."""
    found = [limits.get(each) for each in row["sources"]]
    return bool(found) and all(each is not None and row["probability"] >= each for each in found)
