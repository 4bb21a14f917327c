"""Privacy's collections: consents a subject, sealed; and erasure requests."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson
from bson.binary import Binary
from pymongo import ASCENDING, UpdateOne
from pymongo.database import Database

from services.privacy.domain.consents import State
from services.privacy.domain.erasure import Request, Step
from shared.errors import NotFound
from shared.keyring import ORDINARY, Keyring, Sealed, Sealing
from shared.mongo import BESIDE, make_collection, pages
from shared.transaction import Transaction

PLACE: Final = "consents"
"""What consents are bound to besides their subject, where an event has its id."""
PAGE: Final = 2_000


class ConsentStore:
    """Consents. With `beside`, others beside the live ones: a rebuild's."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, beside: bool = False) -> None:
        options = BESIDE if beside else {}
        self.consents = db.get_collection("consents_rebuilt" if beside else "consents", **options)
        self._keyring = keyring

    def setup(self) -> None:
        """Makes the collection."""
        make_collection(self.consents)

    def load(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, State]:
        """Subject -> consents, of those that have said anything."""
        session = within.session if within else None
        return self._opened(list(self.consents.find({"_id": {"$in": list(subjects)}}, session=session)))

    def _opened(self, documents: list[Any]) -> dict[str, State]:
        items = [Sealed(doc["_id"], ORDINARY, PLACE, bytes(doc["s"])) for doc in documents]
        texts = self._keyring.open(items)
        return {doc["_id"]: orjson.loads(text) for doc, text in zip(documents, texts, strict=True) if text is not None}

    def save(self, states: Mapping[str, State], within: Transaction | None = None) -> None:
        """Writes them."""
        sealed = self._keyring.seal([Sealing(s, ORDINARY, PLACE, orjson.dumps(each)) for s, each in states.items()])
        steps: list[Any] = [
            UpdateOne({"_id": subject}, {"$set": {"s": Binary(text)}}, upsert=True)
            for subject, text in zip(states, sealed, strict=True)
        ]
        if steps:
            self.consents.bulk_write(steps, ordered=False, session=within.session if within else None)

    def erase(self, subjects: Collection[str], within: Transaction | None = None) -> None:
        """Drops them."""
        self.consents.delete_many({"_id": {"$in": list(subjects)}}, session=within.session if within else None)

    def count(self) -> int:
        """Subjects that have said anything."""
        return self.consents.estimated_document_count()

    def rows(self, session: Any = None) -> Iterator[tuple[str, bytes]]:
        """(id, content) of every document, opened: what a digest is made of."""
        for page in pages(self.consents.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING), PAGE):
            for subject, state in self._opened(page).items():
                yield subject, orjson.dumps(state, option=orjson.OPT_SORT_KEYS)


class RequestStore:
    """Erasure requests."""

    def __init__(self, db: "Database[Any]") -> None:
        self._requests = db["requests"]

    def setup(self) -> None:
        """Makes indexes."""
        self._requests.create_index([("step", ASCENDING), ("due", ASCENDING)], name="due")

    def add(self, request: Request, within: Transaction) -> None:
        """A new one."""
        self._requests.insert_one(_document(request), session=within.session)

    def due(self, now: int) -> list[Request]:
        """Those whose next step may begin, what has waited longest first."""
        chosen = {"step": {"$ne": Step.DONE.value}, "due": {"$lte": now}}
        return [_request(doc) for doc in self._requests.find(chosen).sort("due", ASCENDING)]

    def find(self, identity: str) -> Request:
        """One. Raises SamlaError."""
        doc = self._requests.find_one({"_id": identity})
        if doc is None:
            raise NotFound(f"there is no request {identity}")
        return _request(doc)

    def move(self, request: Request, within: Transaction, **sealed: bytes | None) -> bool:
        """Replaces a request that still is what it was; whether it was. `sealed`: what is kept with it."""
        fields = {name: value for name, value in _document(request).items() if name not in ("_id", "turn")}
        fields |= {name: Binary(value) if value is not None else None for name, value in sealed.items()}
        chosen = {"_id": request.id, "turn": request.turn}
        done = self._requests.update_one(chosen, {"$set": fields, "$inc": {"turn": 1}}, session=within.session)
        return done.matched_count == 1

    def kept(self, identity: str) -> bytes | None:
        """The sealed identifiers."""
        doc = self._requests.find_one({"_id": identity}, {"identifiers": 1}) or {}
        return bytes(doc["identifiers"]) if doc.get("identifiers") else None

    def counts(self) -> dict[str, int]:
        """How many in which status."""
        found = [_request(doc).status for doc in self._requests.find()]
        return {status: found.count(status) for status in sorted(set(found))}


def _document(request: Request) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(request)
    document["_id"] = document.pop("id")
    return document


def _request(doc: dict[str, Any]) -> Request:
    return msgspec.convert({**doc, "id": doc["_id"]}, Request)
