"""Identity's collections: people, and whose each subject is. Both follow from the stream `identity`."""

from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec
from pymongo import ASCENDING, DeleteOne, ReplaceOne
from pymongo.database import Database

from services.identity.domain.graph import Graph, Person
from shared.errors import CheckpointMoved
from shared.transaction import Transaction

PAGE: Final = 2_000


class IdentityStore:
    """The graph. With `beside`, another one beside the live one: a rebuild's."""

    def __init__(self, db: "Database[Any]", beside: bool = False) -> None:
        end = "_rebuilt" if beside else ""
        self.people = db[f"people{end}"]
        self.links = db[f"links{end}"]
        self._guard = db[f"guard{end}"]

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.people.create_index([("into", ASCENDING)], name="into", sparse=True)
        self.links.create_index([("profile", ASCENDING)], name="profile")
        self._guard.update_one({"_id": "graph"}, {"$setOnInsert": {"version": 0}}, upsert=True)

    def drop(self) -> None:
        """Removes all of it."""
        for each in (self.people, self.links, self._guard):
            each.drop()

    def version(self) -> int:
        """Moves on with every change: what was decided on an older one is void."""
        found = self._guard.find_one({"_id": "graph"}) or {}
        return int(found.get("version", 0))

    def load(self, subjects: Collection[str], profiles: Collection[str] = ()) -> Graph:
        """The part of the graph around these subjects and profiles."""
        links = self.profile_of(subjects)
        wanted = {*links.values(), *profiles}
        people = [_person(doc) for doc in self.people.find({"_id": {"$in": list(wanted)}})] if wanted else []
        return Graph(people, links)

    def save(self, graph: Graph, version: int, within: Transaction) -> None:
        """Writes what changed. Raises CheckpointMoved where the graph is no longer of that version."""
        step = {"$inc": {"version": 1}}
        moved = self._guard.update_one({"_id": "graph", "version": version}, step, session=within.session)
        if moved.matched_count != 1:
            raise CheckpointMoved("the graph has changed meanwhile")
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

    def replace_with(self, other: "IdentityStore") -> None:
        """Puts another graph in this one's place."""
        version = self.version()
        for mine, theirs in ((self.people, other.people), (self.links, other.links)):
            theirs.rename(mine.name, dropTarget=True)
        self._guard.update_one({"_id": "graph"}, {"$set": {"version": version + 1}})
        other.drop()


def _document(person: Person) -> dict[str, Any]:
    return {
        "since": person.since,
        "members": [[subject, kind] for subject, kind in person.members.items()],
        "aside": list(person.aside),
        "merged": list(person.merged),
        "into": person.into,
    }


def _person(doc: dict[str, Any]) -> Person:
    return Person(
        id=doc["_id"],
        since=int(doc["since"]),
        members=dict(doc["members"]),
        aside=tuple(doc["aside"]),
        merged=tuple(doc["merged"]),
        into=doc["into"],
    )
