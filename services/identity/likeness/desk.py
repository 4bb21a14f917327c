"""Where look-alikes are proposed, accepted and refused. What is accepted is a fact of identity's like any other."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.identity import MERGED
from contracts.streams import IDENTITY
from services.identity.domain.graph import Fact, Graph, Person
from services.identity.likeness.store import ACCEPTED, PROPOSED, REFUSED, STATUSES, CandidateStore, Row
from services.identity.store import IdentityStore
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from shared.eventlog import NewEvent, derive_id
from shared.runtime import Runtime
from shared.transaction import Transaction

SERVICE: Final = "identity"
MOST_PAIRS: Final = 1_000
MOST_ROWS: Final = 1_000
ATTEMPTS: Final = 5
LEAST_THRESHOLD: Final = 0.9
"""A threshold below that would merge people for being of one family name."""
BY_PERSON: Final = "accepted"
BY_THRESHOLD: Final = "threshold"


class Desk:
    """See the module's text."""

    def __init__(self, runtime: Runtime, graph: IdentityStore) -> None:
        self._runtime = runtime
        self._graph = graph
        self._store = CandidateStore(runtime.db)
        self._store.setup()

    # Sources

    def sources(self) -> list[Row]:
        """What was set for sources."""
        return self._store.sources()

    def set_source(self, source: str, threshold: float | None, repeats: bool) -> Row:
        """From which probability on a source's people are merged by themselves (None: never), and whether it holds a
        person more than once."""
        if threshold is not None and not LEAST_THRESHOLD <= threshold <= 1:
            raise SamlaError(f"a threshold is between {LEAST_THRESHOLD} and 1")
        row = {"source": source, "threshold": threshold, "repeats": repeats}
        self._store.put_source(row)
        return row

    # Pairs

    def rows(self, status: str, limit: int) -> list[Row]:
        """Pairs of a status, the likeliest first; those of erased people are forgotten."""
        if status and status not in STATUSES:
            raise SamlaError(f"there is no status {status}: {', '.join(STATUSES)}")
        found = self._store.rows(status, max(1, min(limit, MOST_ROWS)))
        people = self._graph.people_by_id({each for row in found for each in row["profiles"]})
        gone = [row["candidate"] for row in found if not people.keys() >= set(row["profiles"])]
        self._store.drop(gone)
        living = [row for row in found if row["candidate"] not in gone]
        # Who has become one by identifiers meanwhile is no question any more.
        return [row for row in living if row["status"] != PROPOSED or _two(row, people)]

    def propose(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Takes in what a run of the job found. Pairs that somebody has decided about are not proposed again."""
        people = self._graph.people_by_id({each for pair in pairs[:MOST_PAIRS] for each in pair["profiles"]})
        limits = {each["source"]: each["threshold"] for each in self._store.sources()}
        counts = {"proposed": 0, "decided_before": 0, "merged": 0}
        for pair in pairs[:MOST_PAIRS]:
            if not people.keys() >= set(pair["profiles"]) or not _two(pair, people):
                continue
            mine, theirs = (people[each] for each in pair["profiles"])
            if self._decided(mine, theirs):
                counts["decided_before"] += 1
                continue
            row = self._put(pair, mine, theirs)
            if _by_itself(row, limits):
                self._merge(row, BY_THRESHOLD)
                people = self._graph.people_by_id({each for one in pairs[:MOST_PAIRS] for each in one["profiles"]})
                counts["merged"] += 1
            else:
                counts["proposed"] += 1
        return counts

    def _put(self, pair: Mapping[str, Any], mine: Person, theirs: Person) -> Row:
        profiles = sorted((mine.id, theirs.id))
        row = {
            "candidate": derive_id("candidate", *profiles),
            "profiles": profiles,
            "status": PROPOSED,
            "decided": None,
            "probability": float(pair["probability"]),
            "for": list(pair["for"]),
            "against": list(pair["against"]),
            "sources": sorted(set(pair["sources"])),
            "found": self._runtime.clock.now_ms(),
        }
        self._store.put(row)
        return row

    def _decided(self, mine: Person, theirs: Person) -> bool:
        """Whether a person said something of these two, under any profile that is a part of them by now. Who was
        accepted and is two again was split: that is a refusal too."""
        one, other = {mine.id, *mine.merged}, {theirs.id, *theirs.merged}
        return any(
            row["status"] != PROPOSED and one & set(row["profiles"]) and other & set(row["profiles"])
            for row in self._store.about(one | other)
        )

    def refuse(self, candidate: str) -> Row:
        """They are two, and it is not asked again."""
        row = self._open(candidate)
        now = self._runtime.clock.now_ms()
        self._store.decide(candidate, REFUSED, now)
        return {**row, "status": REFUSED, "decided": now}

    def accept(self, candidate: str) -> Row:
        """They are one: merged, into the profile that was known first."""
        return self._merge(self._open(candidate), BY_PERSON)

    def _open(self, candidate: str) -> Row:
        row = self._store.find(candidate)
        if row is None:
            raise NotFound("there is no such candidate")
        if row["status"] != PROPOSED:
            raise Conflict(f"it was {row['status']} before")
        return row

    def _merge(self, row: Row, reason: str) -> Row:
        for attempt in range(ATTEMPTS):
            try:
                return self._merge_once(row, reason)
            except CheckpointMoved:
                # Somebody else was decided about in between; what was read of the graph may be old.
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("not reached")

    def _merge_once(self, row: Row, reason: str) -> Row:
        version = self._graph.version()
        people = self._graph.people_by_id(row["profiles"])
        if not people.keys() >= set(row["profiles"]):
            raise NotFound("one of the two is not known any more")
        if not _two(row, people):
            raise Conflict("they are one person already")
        mine, theirs = (people[each] for each in row["profiles"])
        if self._runtime.keyring.fenced({mine.id, theirs.id, *mine.members, *theirs.members}):
            raise Conflict("one of the two is being erased")
        now = self._runtime.clock.now_ms()
        fact = merging(mine, theirs, row, reason)
        graph = self._graph.load({*mine.members, *theirs.members}, {mine.id, theirs.id})
        graph.evolve(fact.type, fact.data, now)
        self._runtime.transactor.run(lambda within: self._write(graph, version, fact, row, now, within))
        return {**row, "status": ACCEPTED, "decided": now}

    def _write(self, graph: Graph, version: int, fact: Fact, row: Row, now: int, within: Transaction) -> None:
        """In one transaction, like identity's own decisions."""
        self._graph.save(graph, version, within)
        event = NewEvent(
            # Of this version of the graph: who was split may be merged again one day.
            id=derive_id(SERVICE, row["candidate"], version),
            type=fact.type,
            source=SERVICE,
            subject=fact.subject,
            time=now,
            data=fact.data,
            correlation=row["candidate"],
        )
        self._runtime.log.append(IDENTITY, [event], within)
        self._store.decide(row["candidate"], ACCEPTED, now, within)


def merging(mine: Person, theirs: Person, row: Mapping[str, Any], reason: str) -> Fact:
    """The fact that two are one: the older stays."""
    into, old = sorted((mine, theirs), key=lambda each: each.age)
    data = {
        "into": into.id,
        "profile": old.id,
        "reason": reason,
        "candidate": row["candidate"],
        "probability": row["probability"],
    }
    return Fact(MERGED, into.id, data)


def _two(pair: Mapping[str, Any], people: Mapping[str, Person]) -> bool:
    return len({people[each].id for each in pair["profiles"]}) == 2


def _by_itself(row: Row, limits: Mapping[str, float | None]) -> bool:
    """Only where all of its sources have a threshold, and it is reached."""
    found = [limits.get(each) for each in row["sources"]]
    return bool(found) and all(each is not None and row["probability"] >= each for each in found)
