"""The collector's collections: sources, and the quarantine."""

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from bson.binary import Binary
from pymongo import DESCENDING, UpdateOne
from pymongo import collection as mongo
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from contracts.collector import DAYS
from services.collector.domain.agreement import Agreement
from services.collector.domain.intake import Intake, SetAside
from services.collector.domain.naming import is_of, names, own
from services.collector.domain.quarantine import FORM, Kept, identities, kept_of, unpacked
from services.collector.domain.raw import request_of
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source, checked, named
from services.collector.rulebook import AgreementStore, RuleBook, rules_of
from shared.errors import Conflict, NotFound, SamlaError
from shared.keyring import Identifier, Keyring, Sealed, Sealing, new_id

RAW: Final = "raw"
"""The class of data that has no subject yet."""
WRITE_KEY_BYTES: Final = 24
LOOK_SECONDS: Final = 5.0
"""How long an RPC goes through the quarantine, whatever its entries are like."""
LOOKED_AT: Final = 50
"""Entries that are opened at once."""
MOST_FOUND: Final = 4_000_000
"""Characters of messages after which an answer ends."""


class SourceStore:
    """Sources and the hashes of their write keys; the keys themselves are kept nowhere."""

    def __init__(self, db: "Database[Any]") -> None:
        self._sources = db["sources"]
        self.rules = RuleBook(db)
        self.agreements = AgreementStore(db)

    def setup(self) -> None:
        """Makes indexes."""
        self.rules.setup()
        self._lift()
        self._sources.create_index("keys.hash", unique=True, name="keys")
        self._sources.create_index("name", unique=True, name="name")

    def _lift(self) -> None:
        """Sources that were made when each had one key, for ever."""
        if "key" in self._sources.index_information():
            self._sources.drop_index("key")
        lifted = {"keys": [{"hash": "$key", "until": None}]}
        self._sources.update_many({"key": {"$exists": True}}, [{"$set": lifted}, {"$unset": "key"}])

    def create(self, name: str, party: str, now: int) -> tuple[Source, str]:
        """A new source and its write key."""
        key = secrets.token_urlsafe(WRITE_KEY_BYTES)
        made = Source(new_id()[:16], named(name, party), party, True, now)
        document = {"_id": made.id, **made._asdict(), "keys": [_held(key)]}
        del document["id"], document["rules"]
        try:
            self._sources.insert_one(document)
        except DuplicateKeyError as error:
            raise Conflict("there is a source of this name already") from error
        return made, key

    def all(self) -> list[Source]:
        """All, oldest first."""
        rules = self._rules_of()
        return [_source(doc, rules(doc)) for doc in self._sources.find().sort("created", 1)]

    def by_id(self) -> dict[str, Source]:
        """Id -> source."""
        return {each.id: each for each in self.all()}

    def one(self, identity: str) -> Source:
        """One of them. Raises SamlaError."""
        doc = self._sources.find_one({"_id": identity})
        if doc is None:
            raise NotFound(f"there is no source {identity}: see `samla source list`")
        return _source(doc, self._rules_of()(doc))

    def _rules_of(self) -> Callable[[Mapping[str, Any]], Rules]:
        """Gives the rules of a source's document."""
        texts, agreements = self.rules.in_force(), self.agreements.all()
        return lambda doc: rules_of(texts.get(doc["_id"], {}), agreements.get(doc.get("agreement", "")))

    def by_key(self, now: int) -> dict[str, Source]:
        """Hash of a write key that is still good -> source."""
        rules = self._rules_of()
        return {
            key["hash"]: _source(doc, rules(doc))
            for doc in self._sources.find()
            for key in doc["keys"]
            if key["until"] is None or key["until"] > now
        }

    def change(self, identity: str, changes: Mapping[str, object]) -> Source:
        """The source with these fields, see domain.source.checked."""
        fields = checked(changes)
        return self._changed(identity, {"$set": fields} if fields else {"$setOnInsert": {}})

    def sign(self, identity: str, agreement: Agreement) -> Source:
        """The source sends under this agreement from now on. Raises SamlaError where it is of another party."""
        if self.one(identity).party != agreement.party:
            raise SamlaError(f"an agreement for {agreement.party}-party data is for sources of that party")
        return self._changed(identity, {"$set": {"agreement": agreement.id}})

    def rotate(self, identity: str, now: int, until: int) -> str:
        """A new write key; those before it are good until then (ms), and no longer than they were."""
        key = secrets.token_urlsafe(WRITE_KEY_BYTES)
        ends = {"$min": [{"$ifNull": ["$$key.until", until]}, until]}
        living = {"$filter": {"input": "$keys", "as": "key", "cond": _good("$$key.until", now)}}
        ending = {"$map": {"input": living, "as": "key", "in": {"hash": "$$key.hash", "until": ends}}}
        self._changed(identity, [{"$set": {"keys": {"$concatArrays": [ending, [_held(key)]]}}}])
        return key

    def _changed(self, identity: str, step: Any) -> Source:
        found = self._sources.find_one_and_update({"_id": identity}, step, return_document=True)
        if found is None:
            raise NotFound(f"there is no source {identity}: see `samla source list`")
        return _source(found, self._rules_of()(found))


def hashed(write_key: str) -> str:
    """What is kept of a write key. It is long and random, so a fast hash is enough."""
    return hashlib.sha256(write_key.encode(errors="replace")).hexdigest()


def _held(write_key: str) -> dict[str, Any]:
    return {"hash": hashed(write_key), "until": None}


def _good(until: str, now: int) -> dict[str, Any]:
    return {"$or": [{"$eq": [until, None]}, {"$gt": [until, now]}]}


def _source(doc: Mapping[str, Any], rules: Rules) -> Source:
    given = {name: doc[name] for name in Source._fields if name in doc}
    return Source(**{**given, "id": doc["_id"], "created": int(doc["created"]), "rules": rules})


class Chosen(NamedTuple):
    """Which quarantined messages; all where nothing is said."""

    source: str | None = None
    reason: str | None = None
    ids: tuple[str, ...] = ()


class Entry(NamedTuple):
    """A quarantined message, opened; `kept` is None where its key is gone."""

    id: str
    source: str
    received: int
    kept: Kept | None


class Looked(NamedTuple):
    """What was found in the quarantine, and where to go on; None at its end."""

    ids: list[str]
    kept: list[Kept]
    after: str | None


class QuarantineStore:
    """What could not be taken in: the reason in clear, what was sent sealed under a key a source and day."""

    def __init__(self, db: "Database[Any]", keyring: Keyring) -> None:
        self._entries = db["quarantine"]
        self._keyring = keyring

    def setup(self) -> None:
        """Makes indexes."""
        self._entries.create_index([("received", DESCENDING)], name="received")
        self._entries.create_index([("source", 1), ("reason", 1)], name="reason")
        self._entries.create_index([("source", 1), ("received", 1)], name="age")

    def add(self, source: str, received: int, intake: Intake, correlation: str) -> list[SetAside]:
        """Keeps what was set aside of a request, durably, see domain.quarantine.identities; nothing of people who are
        not to be taken in again. What is kept."""
        if not intake.set_aside:
            return []
        request = request_of(intake)
        follows = identities(intake.set_aside, request, intake.agreement, correlation)
        chosen = self._without_suppressed(
            list(zip(intake.set_aside, follows, kept_of(intake.set_aside, request, intake.agreement), strict=True)),
            intake.arrival.region or None,
        )
        if not chosen:
            return []
        holder = held_by(source, received)
        ids = [self._keyring.event_id(source, follows_from, RAW) for _, follows_from, _ in chosen]
        sealed = self._keyring.seal(
            [Sealing(holder, RAW, identity, kept.packed()) for identity, (_, _, kept) in zip(ids, chosen, strict=True)]
        )
        self._entries.bulk_write(
            [
                UpdateOne(
                    {"_id": identity}, {"$setOnInsert": _entry(source, holder, received, each, text)}, upsert=True
                )
                for identity, (each, _, _), text in zip(ids, chosen, sealed, strict=True)
            ],
            ordered=False,
        )
        return [each for each, _, _ in chosen]

    def _without_suppressed(
        self, entries: list[tuple[SetAside, str, Kept]], region: str | None
    ) -> list[tuple[SetAside, str, Kept]]:
        whose = [own(kept, region).union(each.identifiers) for each, _, kept in entries]
        suppressed = self._keyring.suppressed(list(set().union(*whose)))
        return [each for each, of in zip(entries, whose, strict=True) if suppressed.isdisjoint(of)]

    def counts(self) -> list[dict[str, Any]]:
        """How many a source and reason."""
        group = {"_id": {"source": "$source", "reason": "$reason"}, "count": {"$sum": 1}}
        found = self._entries.aggregate([{"$group": group}, {"$sort": {"_id.source": 1, "count": -1}}])
        return [{**doc["_id"], "count": doc["count"]} for doc in found]

    def latest(self, source: str | None, reason: str | None, limit: int) -> list[dict[str, Any]]:
        """Entries, latest first, without what was sent."""
        chosen = {name: value for name, value in (("source", source), ("reason", reason)) if value}
        found = (
            self._entries.find(chosen, {"sealed": 0, "holder": 0, "form": 0}).sort("received", DESCENDING).limit(limit)
        )
        return [{"id": doc.pop("_id"), **doc} for doc in found]

    def show(self, identity: str) -> dict[str, Any]:
        """One entry with what was sent."""
        doc = self._entries.find_one({"_id": identity})
        if doc is None:
            raise NotFound(f"there is no quarantined message {identity}")
        [kept] = self._opened([doc])
        row = {name: doc[name] for name in ("source", "reason", "place", "why", "received")}
        return {"id": identity, **row, "message": kept and kept.raw, "mended": kept and kept.mended}

    def page(self, chosen: Chosen, after: str, limit: int) -> list[Entry]:
        """Entries by id, those behind `after`."""
        query: dict[str, Any] = {"_id": {"$gt": after}}
        if chosen.ids:
            query["_id"]["$in"] = list(chosen.ids)
        query |= {name: value for name, value in (("source", chosen.source), ("reason", chosen.reason)) if value}
        page = list(self._entries.find(query).sort("_id", 1).limit(limit))
        return [
            Entry(doc["_id"], doc["source"], int(doc["received"]), kept)
            for doc, kept in zip(page, self._opened(page), strict=True)
        ]

    def count(self, chosen: Chosen) -> int:
        """How many there are."""
        query: dict[str, Any] = {"_id": {"$in": list(chosen.ids)}} if chosen.ids else {}
        query |= {name: value for name, value in (("source", chosen.source), ("reason", chosen.reason)) if value}
        return self._entries.count_documents(query)

    def mend(self, identity: str, mend: Callable[[Kept], Kept]) -> None:
        """Puts something in an entry's place, beside what was sent."""
        doc = self._entries.find_one({"_id": identity})
        kept = self._opened([doc])[0] if doc else None
        if doc is None or kept is None:
            raise NotFound(f"there is no quarantined message {identity}")
        [sealed] = self._keyring.seal([Sealing(doc["holder"], RAW, identity, mend(kept).packed())])
        self._entries.update_one({"_id": identity}, {"$set": {"sealed": Binary(sealed), "form": FORM}})

    def explain(self, failed: Mapping[str, SetAside]) -> None:
        """Why entries still cannot be taken in."""
        steps: list[Any] = [
            UpdateOne({"_id": identity}, {"$set": {"reason": each.code, "place": each.place, "why": each.why}})
            for identity, each in failed.items()
        ]
        if steps:
            self._entries.bulk_write(steps, ordered=False)

    def of(
        self,
        wanted: Collection[Identifier],
        sources: Mapping[str, Source],
        after: str = "",
        seconds: float = LOOK_SECONDS,
    ) -> Looked:
        """What is somebody's own who is known by one of these, see domain.naming: of the entries behind `after`, as
        many as can be looked at in so many seconds, one at least."""
        return self._looked_at(lambda each, kept: is_of(kept, sources.get(each.source), wanted), after, seconds)

    def forget(
        self,
        wanted: Collection[Identifier],
        sources: Mapping[str, Source],
        after: str = "",
        seconds: float = LOOK_SECONDS,
    ) -> tuple[int, str | None]:
        """Removes what names somebody who is known by one of these, see domain.naming, of as many entries as `of`
        looks at; how many, and where to go on."""
        found = self._looked_at(lambda each, kept: names(kept, sources.get(each.source), wanted), after, seconds)
        return self.remove(found.ids), found.after

    def _looked_at(self, is_wanted: Callable[[Entry, Kept], bool], after: str, seconds: float) -> Looked:
        """Entries whose key is there and that are wanted, by id; until the time is over or enough is found."""
        ids, found, size, end = list[str](), list[Kept](), 0, time.monotonic() + seconds
        while page := self.page(Chosen(), after, LOOKED_AT):
            for each in page:
                after = each.id
                if each.kept is not None and is_wanted(each, each.kept):
                    ids.append(each.id)
                    found.append(each.kept)
                    size += len(each.kept.raw)
                if size >= MOST_FOUND or time.monotonic() >= end:
                    return Looked(ids, found, after)
        return Looked(ids, found, None)

    def remove(self, identities: Sequence[str]) -> int:
        """How many are gone."""
        if not identities:
            return 0
        return self._entries.delete_many({"_id": {"$in": list(identities)}}).deleted_count

    def expire(self, source: str, before: int) -> int:
        """Removes a source's entries that were received before an instant (ms); how many."""
        return self._entries.delete_many({"source": source, "received": {"$lt": before}}).deleted_count

    def holds(self, day: "SealedDay") -> bool:
        """Whether anything that a source sent on a day is left."""
        return day.is_in(self._entries)

    def since(self, source: str, instant: int) -> int:
        """How many of a source's have come since then."""
        return self._entries.count_documents({"source": source, "received": {"$gte": instant}})

    def _opened(self, page: Sequence[dict[str, Any]]) -> list[Kept | None]:
        texts = self._keyring.open([Sealed(doc["holder"], RAW, doc["_id"], bytes(doc["sealed"])) for doc in page])
        return [
            None if text is None else unpacked(text, doc.get("form", 1)) for doc, text in zip(page, texts, strict=True)
        ]


DAY_MS: Final = 86_400_000


class SealedDay(NamedTuple):
    """What a pseudo-subject's key seals: what a source sent in a day (ms since 1970)."""

    source: str
    begins: int

    @property
    def ends(self) -> int:
        """The first instant of the next day."""
        return self.begins + DAY_MS

    def is_in(self, collection: "mongo.Collection[Any]") -> bool:
        """Whether a collection of what sources sent holds anything of it."""
        between = {"$gte": self.begins, "$lt": self.ends}
        return collection.find_one({"source": self.source, "received": between}, {"_id": 1}) is not None


def day_of(holder: str) -> SealedDay | None:
    """The day of a pseudo-subject; None where it is none."""
    kind, _, rest = holder.partition(":")
    source, _, day = rest.rpartition(":")
    try:
        begins = datetime.fromisoformat(day).replace(tzinfo=UTC)
    except ValueError:
        return None
    return SealedDay(source, int(begins.timestamp() * 1000)) if f"{kind}:" == DAYS and source else None


def held_by(source: str, received: int) -> str:
    """The pseudo-subject whose key seals a source's quarantine of one day."""
    return f"{DAYS}{source}:{datetime.fromtimestamp(received / 1000, UTC):%Y-%m-%d}"


def _entry(source: str, holder: str, received: int, each: SetAside, sealed: bytes) -> dict[str, Any]:
    return {
        "source": source,
        "holder": holder,
        "reason": each.code,
        "place": each.place,
        "why": each.why,
        "received": received,
        "sealed": Binary(sealed),
        "form": FORM,
    }
