"""Identity's collections: people, and whose each subject is. Both follow from the stream `identity`."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson
from pymongo import ASCENDING, DeleteOne, ReplaceOne
from pymongo.database import Database

from services.identity.domain.graph import Graph, Member, Person
from services.identity.domain.rules import SHIPPED, Rules, rules_of
from shared.errors import CheckpointMoved, SamlaError
from shared.mongo import make_collection
from shared.transaction import Transaction

PAGE: Final = 2_000


class IdentityStore:
    """The graph. With `beside`, another one beside the live one: a rebuild's."""

    def __init__(self, db: "Database[Any]", beside: bool = False) -> None:
        end = "_rebuilt" if beside else ""
        self.people = db[f"people{end}"]
        self.links = db[f"links{end}"]
        self._rules = db[f"rules{end}"]
        self._guard = db[f"guard{end}"]
        self._compiled: dict[int, Rules] = {0: SHIPPED}

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.people.create_index([("into", ASCENDING)], name="into", sparse=True)
        self.links.create_index([("profile", ASCENDING)], name="profile")
        self._guard.update_one({"_id": "graph"}, {"$setOnInsert": {"version": 0}}, upsert=True)
        make_collection(self._rules)

    def drop(self) -> None:
        """Removes all of it."""
        for each in (self.people, self.links, self._rules, self._guard):
            each.drop()

    def version(self) -> tuple[int, int]:
        """(of the graph, of the rules). The first moves on with every change: what was decided on an older one is
        void."""
        found = self._guard.find_one({"_id": "graph"}) or {}
        return int(found.get("version", 0)), int(found.get("rules", 0))

    def rules(self, version: int) -> Rules:
        """Rules of a version; 0 are those that are shipped."""
        if version not in self._compiled:
            found = self._rules.find_one({"_id": version})
            if found is None:
                raise SamlaError(f"identity has no rules of version {version}")
            self._compiled[version] = rules_of(version, orjson.loads(found["rules"]))
        return self._compiled[version]

    def documents(self) -> list[dict[str, Any]]:
        """{version, rules} of all that were ever in force, oldest first."""
        found = self._rules.find().sort("_id", ASCENDING)
        return [{"version": int(doc["_id"]), "rules": orjson.loads(doc["rules"])} for doc in found]

    def put_rules(self, rules: Rules, document: Mapping[str, Any], version: int, within: Transaction) -> None:
        """These are in force. Raises CheckpointMoved where the graph is no longer of that version."""
        self._moved(version, {"$inc": {"version": 1}, "$set": {"rules": rules.version}}, within)
        # As text: names of kinds may hold dots, which MongoDB would read as its own.
        text = orjson.dumps(dict(document)).decode()
        self._rules.replace_one({"_id": rules.version}, {"rules": text}, upsert=True, session=within.session)

    def _moved(self, version: int, step: Mapping[str, Any], within: Transaction) -> None:
        moved = self._guard.update_one({"_id": "graph", "version": version}, step, session=within.session)
        if moved.matched_count != 1:
            raise CheckpointMoved("the graph has changed meanwhile")

    def load(self, subjects: Collection[str], profiles: Collection[str] = ()) -> Graph:
        """The part of the graph around these subjects and profiles."""
        links = self.profile_of(subjects)
        wanted = {*links.values(), *profiles}
        people = [_person(doc) for doc in self.people.find({"_id": {"$in": list(wanted)}})] if wanted else []
        return Graph(people, links)

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
        links += [DeleteOne({"_id": each}) for each in graph.unlinked]
        if people:
            self.people.bulk_write(people, ordered=False, session=within.session)
        if links:
            self.links.bulk_write(links, ordered=False, session=within.session)

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
        for doc in self._rules.find({}, session=session).sort("_id", ASCENDING):
            yield f"rules {doc['_id']}", str(doc["rules"]).encode()

    def replace_with(self, other: "IdentityStore") -> None:
        """Puts another graph in this one's place."""
        version, _ = self.version()
        _, rules = other.version()
        for mine, theirs in ((self.people, other.people), (self.links, other.links), (self._rules, other._rules)):
            theirs.rename(mine.name, dropTarget=True)
        self._guard.update_one({"_id": "graph"}, {"$set": {"version": version + 1, "rules": rules}})
        other.drop()


def _document(person: Person) -> dict[str, Any]:
    return {
        "since": person.since,
        "members": [[subject, *member] for subject, member in person.members.items()],
        "aside": list(person.aside),
        "merged": list(person.merged),
        "shared": [[subject, since] for subject, since in person.shared.items()],
        "into": person.into,
    }


def _member(row: list[Any], person_since: int) -> Member:
    """[subject, kind, since]; in rows of the first form there is no `since`."""
    return Member(row[1], int(row[2]) if len(row) > 2 else person_since)


def _person(doc: dict[str, Any]) -> Person:
    return Person(
        id=doc["_id"],
        since=int(doc["since"]),
        members={each[0]: _member(each, int(doc["since"])) for each in doc["members"]},
        aside=tuple(doc["aside"]),
        merged=tuple(doc["merged"]),
        shared={subject: int(since) for subject, since in doc.get("shared", ())},
        into=doc["into"],
    )
