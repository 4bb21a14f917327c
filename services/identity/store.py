"""Identity's collections: people, and whose each subject is. Both follow from the stream `identity`."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from bson.binary import Binary
from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, DeleteOne, ReplaceOne, UpdateOne
from pymongo.database import Database

from services.identity.domain.graph import Graph, Member, Person, Shared, Verdict
from services.identity.domain.rules import SHIPPED, Rules, rules_of
from shared.errors import CheckpointMoved, SamlaError
from shared.keyring import ORDINARY, Keyring, Sealed
from shared.mongo import make_collection
from shared.transaction import Transaction

PAGE: Final = 2_000
LONGEST_CALM: Final = 30.0
"""Seconds."""


class GivenEvent(NamedTuple):
    """An event that is somebody's although its own identifier is not."""

    event: str
    subject: str
    to: str
    """The subject of the person's whose it is."""


class Change(NamedTuple):
    """Of the rules."""

    decision: str
    time: int
    past: bool
    """Whether what had been decided was decided again."""


class IdentityStore:
    """The graph. With `beside`, another one beside the live one: a rebuild's."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, beside: bool = False) -> None:
        end = "_rebuilt" if beside else ""
        self.people = db[f"people{end}"]
        self.links = db[f"links{end}"]
        self._apart = db[f"apart{end}"]
        self._given = db[f"given{end}"]
        self._verdicts = db[f"verdicts{end}"]
        self._rules = db[f"rules{end}"]
        self._guard = db[f"guard{end}"]
        self._keyring = keyring
        self._compiled: dict[int, Rules] = {0: SHIPPED}
        self._calm_until = 0
        self._has_split = True
        """Whether anything was ever split: mostly nothing was, and nothing has to be looked up."""

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.people.create_index([("into", ASCENDING)], name="into", sparse=True)
        self.people.create_index([("aside", ASCENDING)], name="aside")
        self.links.create_index([("profile", ASCENDING)], name="profile")
        self._given.create_index([("subject", ASCENDING)], name="subject")
        self._given.create_index([("to", ASCENDING)], name="to")
        self._verdicts.create_index([("subjects", ASCENDING)], name="subjects")
        self._verdicts.create_index([("accepted", ASCENDING), ("probability", DESCENDING)], name="likeliest")
        make_collection(self._apart)
        self._guard.update_one({"_id": "graph"}, {"$setOnInsert": {"version": 0}}, upsert=True)
        make_collection(self._rules)

    def drop(self) -> None:
        """Removes all of it."""
        for each in (*self._collections(), self._guard):
            each.drop()

    def _collections(self) -> tuple[Any, ...]:
        return self.people, self.links, self._apart, self._given, self._verdicts, self._rules

    def version(self) -> tuple[int, int]:
        """(of the graph, of the rules). The first moves on with every change: what was decided on an older one is
        void."""
        found = self._guard.find_one({"_id": "graph"}) or {}
        self._has_split = bool(found.get("split"))
        self._calm_until = int(found.get("calm", 0))
        return int(found.get("version", 0)), int(found.get("rules", 0))

    def calm(self, seconds: float) -> None:
        """Asks whoever decides about events to wait for so long, LONGEST_CALM at most; 0: no longer."""
        until = _now_ms() + round(min(seconds, LONGEST_CALM) * 1000)
        self._guard.update_one({"_id": "graph"}, {"$set": {"calm": Int64(until)}})

    def calm_left(self) -> float:
        """Seconds for which that is asked still, as of when the version was read."""
        return min((self._calm_until - _now_ms()) / 1000, LONGEST_CALM)

    def rules(self, version: int) -> Rules:
        """Rules of a version; 0 are those that are shipped."""
        if version not in self._compiled:
            found = self._rules.find_one({"_id": version})
            if found is None:
                raise SamlaError(f"identity has no rules of version {version}")
            self._compiled[version] = rules_of(version, orjson.loads(self._text(found)))
        return self._compiled[version]

    def _text(self, doc: Mapping[str, Any]) -> bytes:
        """A document of rules as JSON. Raises SamlaError where its key is gone."""
        if isinstance(doc["rules"], str):
            # As they were kept before they were sealed.
            return str(doc["rules"]).encode()
        decision = str(doc["decision"])
        [text] = self._keyring.open([Sealed(decision, ORDINARY, decision, bytes(doc["rules"]))])
        if text is None:
            raise SamlaError(f"the rules of version {doc['_id']} cannot be opened: their key is gone")
        return text

    def rules_by_time(self) -> Callable[[int], Rules]:
        """Gives the rules by which what was received at an instant (ms) is decided."""
        found = self._rules.find({}, {"time": 1, "past": 1}).sort("_id", ASCENDING)
        changes = [(0 if doc["past"] else int(doc["time"]), int(doc["_id"])) for doc in found]
        return lambda time: self.rules(max((version for since, version in changes if since <= time), default=0))

    def rules_since(self) -> Callable[[int], Rules]:
        """Gives the rules by which what was decided by those of a version is decided now: newer ones, where those were
        applied to the past."""
        past = [int(doc["_id"]) for doc in self._rules.find({"past": True}, {"_id": 1})]
        return lambda version: self.rules(max([version, *past]))

    def rules_before(self, newest: int) -> Callable[[int, int | None], list[Rules]]:
        """Gives the rules by which an event, received at an instant (ms) and first decided by those of a version (None
        where nothing followed), was ever decided before those of version `newest` were in force."""
        found = self._rules.find({"_id": {"$lt": newest}}, {"time": 1, "past": 1}).sort("_id", ASCENDING)
        changes = [(int(doc["_id"]), int(doc["time"]), bool(doc["past"])) for doc in found]

        def before(time: int, version: int | None) -> list[Rules]:
            if version is None:
                version = max((number for number, since, _ in changes if since <= time), default=0)
            later = [number for number, _, past in changes if past and number > version]
            return [self.rules(each) for each in (version, *later)]

        return before

    def documents(self) -> list[dict[str, Any]]:
        """{version, decision, time, past, rules} of all that were ever in force, oldest first."""
        found = self._rules.find().sort("_id", ASCENDING)
        return [
            {
                "version": int(doc["_id"]),
                "decision": doc["decision"],
                "time": int(doc["time"]),
                "past": doc["past"],
                "rules": orjson.loads(self._text(doc)),
            }
            for doc in found
        ]

    def put_rules(self, number: int, sealed: bytes, change: Change, version: int, within: Transaction) -> None:
        """Those of this number are in force; their document sealed as the change's event holds it. Raises
        CheckpointMoved where the graph is no longer of that version."""
        self._moved(version, {"$inc": {"version": 1}, "$set": {"rules": number}}, within)
        kept = {**change._asdict(), "rules": Binary(sealed), "time": Int64(change.time)}
        self._rules.replace_one({"_id": number}, kept, upsert=True, session=within.session)

    def _moved(self, version: int, step: Mapping[str, Any], within: Transaction) -> None:
        moved = self._guard.update_one({"_id": "graph", "version": version}, step, session=within.session)
        if moved.matched_count != 1:
            raise CheckpointMoved("the graph has changed meanwhile")

    def load(self, subjects: Collection[str], profiles: Collection[str] = ()) -> Graph:
        """The part of the graph around these subjects and profiles."""
        links = self.profile_of(subjects)
        wanted = {*links.values(), *profiles}
        people = [_person(doc) for doc in self.people.find({"_id": {"$in": list(wanted)}})] if wanted else []
        return Graph(people, links, self._sides(subjects))

    def _sides(self, subjects: Collection[str]) -> dict[str, dict[str, int]]:
        """Subject -> the splits that it was a part of, and on which side."""
        if not subjects or not self._has_split:
            return {}
        found = self._apart.find({"_id": {"$in": list(subjects)}})
        return {doc["_id"]: {split: int(side) for split, side in doc["sides"].items()} for doc in found}

    def all_apart(self) -> dict[str, dict[str, int]]:
        """Of every subject that was ever a part of a split."""
        return {doc["_id"]: doc["sides"] for doc in self._apart.find({}, batch_size=PAGE)}

    def groups(self) -> dict[str, frozenset[str]]:
        """Profile -> its identifiers (subjects)."""
        found = self.people.find({"into": None}, {"members": 1}, batch_size=PAGE)
        return {doc["_id"]: frozenset(each[0] for each in doc["members"]) for doc in found}

    def given(self, subjects: Collection[str]) -> Iterator[GivenEvent]:
        """Events that are somebody's although their own identifier is not: those of these subjects, and those that
        were given to them. A device that many share has very many."""
        either = {"$in": list(subjects)}
        return self.all_given({"$or": [{"subject": either}, {"to": either}]}) if subjects else iter(())

    def given_around(self, subjects: Collection[str]) -> set[str]:
        """The subjects to whom events of these were given, and those whose events were given to these."""
        these = {"$in": list(subjects)}
        if not subjects:
            return set()
        return {*self._given.distinct("to", {"subject": these}), *self._given.distinct("subject", {"to": these})}

    def all_given(self, where: Mapping[str, Any] | None = None) -> Iterator[GivenEvent]:
        """Every event that is somebody's although its own identifier is not; of those that a query chooses."""
        for doc in self._given.find(where or {}, batch_size=PAGE).sort("_id", ASCENDING):
            yield GivenEvent(doc["_id"], doc["subject"], doc["to"])

    def shared_since(self) -> dict[str, int]:
        """Every device (subject) that is shared -> since when (ms)."""
        found = self.people.find({"shared": {"$exists": True, "$ne": []}}, {"shared": 1}, batch_size=PAGE)
        return {subject: int(since) for doc in found for subject, since, _ in doc["shared"]}

    def given_of(self, people: Collection[Person]) -> list[GivenEvent]:
        """Events that were given to these people; and those of their own identifiers that were given to others, but for
        what on a shared device is not theirs by its time already."""
        to = [subject for each in people for subject in each.members]
        own = [subject for each in people for subject in each.members if subject not in each.shared]
        if not to:
            return []
        before = [
            {"subject": subject, "at": {"$lt": shared.since}}
            for each in people
            for subject, shared in each.shared.items()
        ]
        either = [{"to": {"$in": to}}, {"subject": {"$in": own}}, *before]
        return list(self.all_given({"$or": either}))

    def verdicts(self, subjects: Collection[str]) -> dict[str, Verdict]:
        """Candidate -> what was said of them, of those who look alike and are known by one of these subjects."""
        found = self._verdicts.find({"subjects": {"$in": list(subjects)}}).sort("_id", ASCENDING) if subjects else ()
        return {doc["_id"]: _verdict(doc) for doc in found}

    def likeliest(self, accepted: bool, limit: int) -> dict[str, Verdict]:
        """Those of whom that was said, the likeliest first."""
        found = self._verdicts.find({"accepted": accepted}).sort([("probability", DESCENDING), ("_id", ASCENDING)])
        return {doc["_id"]: _verdict(doc) for doc in found.limit(limit)}

    def accepted(self) -> Iterator[tuple[str, Verdict]]:
        """All who are said to be one person, as it was said."""
        found = self._verdicts.find({"accepted": True}, batch_size=PAGE).sort([("time", ASCENDING), ("_id", ASCENDING)])
        return ((doc["_id"], _verdict(doc)) for doc in found)

    def shared(self, profiles: Iterable[str]) -> set[str]:
        """Devices (subjects) of these people that others use, too."""
        found = self.people.find(
            {"_id": {"$in": list(profiles)}, "shared": {"$exists": True, "$ne": []}}, {"shared": 1}
        )
        return {each[0] for doc in found for each in doc["shared"]}

    def beside(self, subjects: Collection[str]) -> list[str]:
        """People (profiles) who have set one of these identifiers aside."""
        return [doc["_id"] for doc in self.people.find({"aside": {"$in": list(subjects)}}, {"_id": 1})]

    def save(self, graph: Graph, version: int, within: Transaction) -> None:
        """Writes what changed. Raises CheckpointMoved where the graph is no longer of that version."""
        self._moved(version, {"$inc": {"version": 1}}, within)
        people: list[Any] = [
            ReplaceOne({"_id": each}, _document(graph.people[each]), upsert=True)
            if each in graph.people
            else DeleteOne({"_id": each})
            for each in graph.touched
        ]
        links: list[Any] = [
            ReplaceOne({"_id": each}, {"profile": graph.links[each]}, upsert=True)
            for each in graph.relinked
            if each in graph.links
        ]
        links += [DeleteOne({"_id": each}) for each in graph.unlinked if each not in graph.links]
        if people:
            self.people.bulk_write(people, ordered=False, session=within.session)
        if links:
            self.links.bulk_write(links, ordered=False, session=within.session)
        self._save_apart(graph, within)
        self._save_given(graph, within)
        self._save_verdicts(graph, within)

    def _save_apart(self, graph: Graph, within: Transaction) -> None:
        steps: list[Any] = [
            ReplaceOne({"_id": each}, {"sides": graph.apart[each]}, upsert=True)
            if each in graph.apart
            else DeleteOne({"_id": each})
            for each in graph.set_apart
        ]
        if steps:
            self._apart.bulk_write(steps, ordered=False, session=within.session)
            self._guard.update_one({"_id": "graph"}, {"$set": {"split": True}}, session=within.session)

    def _save_given(self, graph: Graph, within: Transaction) -> None:
        if graph.ungiven:
            gone = {"$in": list(graph.ungiven)}
            self._given.delete_many({"$or": [{"subject": gone}, {"to": gone}]}, session=within.session)
        if graph.given:
            steps = [
                ReplaceOne({"_id": event}, {**given._asdict(), "at": Int64(given.at)}, upsert=True)
                for event, given in graph.given.items()
            ]
            self._given.bulk_write(steps, ordered=False, session=within.session)

    def _save_verdicts(self, graph: Graph, within: Transaction) -> None:
        """What was said first stands."""
        if graph.unsaid:
            self._verdicts.delete_many({"subjects": {"$in": list(graph.unsaid)}}, session=within.session)
        if graph.verdicts:
            steps = [
                UpdateOne({"_id": name}, {"$setOnInsert": {**each._asdict(), "time": Int64(each.time)}}, upsert=True)
                for name, each in graph.verdicts.items()
            ]
            self._verdicts.bulk_write(steps, ordered=False, session=within.session)

    def people_by_id(self, profiles: Collection[str]) -> dict[str, Person]:
        """Profile id asked for -> the person it is (a part of) by now."""
        found = {doc["_id"]: _person(doc) for doc in self.people.find({"_id": {"$in": list(profiles)}})}
        moved = {each.into for each in found.values() if each.into}
        if moved:
            # A merged profile points straight at the one that it is a part of.
            into = {doc["_id"]: _person(doc) for doc in self.people.find({"_id": {"$in": list(moved)}})}
            found = {name: into.get(each.into, each) if each.into else each for name, each in found.items()}
        return {name: each for name, each in found.items() if each.into is None}

    def profile_of(self, subjects: Collection[str]) -> dict[str, str]:
        """Subject -> profile."""
        if not subjects:
            return {}
        return {doc["_id"]: doc["profile"] for doc in self.links.find({"_id": {"$in": list(subjects)}})}

    def counts(self) -> dict[str, int]:
        """People, their identifiers, merges."""
        return {
            "people": self.people.count_documents({"into": None}),
            "identifiers": self.links.estimated_document_count(),
            "merges": self.people.count_documents({"into": {"$ne": None}}),
        }

    def rows(self, session: Any = None) -> Iterator[tuple[str, bytes]]:
        """(id, content) of every document, in a fixed order: what a digest is made of."""
        for doc in self.people.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"person {doc['_id']}", msgspec.json.encode(_person(doc), order="deterministic")
        for doc in self.links.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"link {doc['_id']}", str(doc["profile"]).encode()
        for doc in self._apart.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"apart {doc['_id']}", orjson.dumps(doc["sides"], option=orjson.OPT_SORT_KEYS)
        for doc in self._given.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"given {doc['_id']}", f"{doc['subject']} {doc['to']} {doc['at']}".encode()
        for doc in self._verdicts.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"verdict {doc['_id']}", msgspec.json.encode(_verdict(doc))
        for doc in self._rules.find({}, session=session).sort("_id", ASCENDING):
            kept = f"{doc['decision']} {doc['time']} {doc['past']} ".encode()
            yield f"rules {doc['_id']}", kept + self._text(doc)

    def replace_with(self, other: "IdentityStore") -> None:
        """Puts another graph in this one's place."""
        version, _ = self.version()
        _, rules = other.version()
        split = other._has_split
        for mine, theirs in zip(self._collections(), other._collections(), strict=True):
            theirs.rename(mine.name, dropTarget=True)
        self._guard.update_one({"_id": "graph"}, {"$set": {"version": version + 1, "rules": rules, "split": split}})
        other.drop()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _document(person: Person) -> dict[str, Any]:
    return {
        "since": person.since,
        "members": [[subject, *member] for subject, member in person.members.items()],
        "aside": list(person.aside),
        "merged": list(person.merged),
        "shared": [[subject, *shared] for subject, shared in person.shared.items()],
        "apart": person.apart,
        "regrouped": person.regrouped,
        "into": person.into,
    }


def _member(row: list[Any], person_since: int) -> Member:
    """[subject, kind, since]; in rows of the first form there is no `since`."""
    return Member(row[1], int(row[2]) if len(row) > 2 else person_since)


def _verdict(doc: dict[str, Any]) -> Verdict:
    one, other = doc["subjects"]
    first, second = doc["profiles"]
    return Verdict(
        doc["accepted"], (one, other), (first, second), float(doc["probability"]), doc["reason"], int(doc["time"])
    )


def _person(doc: dict[str, Any]) -> Person:
    return Person(
        id=doc["_id"],
        since=int(doc["since"]),
        members={each[0]: _member(each, int(doc["since"])) for each in doc["members"]},
        aside=tuple(doc["aside"]),
        merged=tuple(doc["merged"]),
        shared={subject: Shared(int(since), other) for subject, since, other in doc.get("shared", ())},
        apart={split: int(side) for split, side in doc.get("apart", {}).items()},
        regrouped=doc.get("regrouped"),
        into=doc["into"],
    )
