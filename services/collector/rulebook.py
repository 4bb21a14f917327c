"""Every version of every source's rules, and the agreements that sources send under."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import orjson
import structlog
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from services.collector.domain import cleaning, plan
from services.collector.domain.agreement import Agreement
from services.collector.domain.cleaning import Cleaning, cleaning_of
from services.collector.domain.plan import Plan, plan_of
from services.collector.domain.rules import Rules
from shared.errors import Conflict, NotFound, SamlaError

CLEANING: Final = "cleaning"
PLAN: Final = "plan"
KINDS: Final = (CLEANING, PLAN)

logger = structlog.get_logger(__name__)


class RuleBook:
    """Rules by source, kind and version; what was in force once stays to be looked at."""

    def __init__(self, db: "Database[Any]") -> None:
        self._rules = db["rules"]

    def setup(self) -> None:
        """Makes indexes."""
        self._rules.create_index([("source", 1), ("kind", 1), ("version", -1)], unique=True, name="version")
        self._rules.create_index("latest", partialFilterExpression={"latest": True}, name="latest")
        self._lift()

    def _lift(self) -> None:
        """Rules that were kept before the latest was marked."""
        unmarked = {"latest": {"$exists": False}}
        for doc in self._rules.aggregate(
            [{"$match": unmarked}, {"$group": {"_id": {"s": "$source", "k": "$kind"}, "v": {"$max": "$version"}}}]
        ):
            of, version = {"source": doc["_id"]["s"], "kind": doc["_id"]["k"]}, int(doc["v"])
            self._mark(of["source"], of["kind"], version)
            self._rules.update_many({**of, **unmarked, "version": {"$lt": version}}, {"$set": {"latest": False}})

    def _mark(self, source: str, kind: str, version: int) -> None:
        """Says that a version is the latest; of several that are said to be, as where two are added at once or
        somebody ends in between, the one of the highest number is."""
        of = {"source": source, "kind": kind}
        self._rules.update_one({**of, "version": version}, {"$set": {"latest": True}})
        self._rules.update_many({**of, "version": {"$lt": version}, "latest": True}, {"$set": {"latest": False}})

    def add(self, source: str, kind: str, rule: Mapping[str, Any], now: int) -> int:
        """Keeps the next version; its number."""
        version = self.latest(source, kind)[0] + 1
        # As text: names of properties may hold dots and dollars, which MongoDB would read as its own.
        document = {"source": source, "kind": kind, "version": version, "rule": _text(rule), "created": now}
        document["latest"] = True
        try:
            self._rules.insert_one(document)
        except DuplicateKeyError as error:
            raise Conflict("somebody else has just changed these rules: look at them again") from error
        self._mark(source, kind, version)
        return version

    def latest(self, source: str, kind: str) -> tuple[int, dict[str, Any]]:
        """(version, rules) in force; (0, {}) where there are none."""
        doc = self._rules.find_one({"source": source, "kind": kind}, sort=[("version", -1)])
        return (int(doc["version"]), orjson.loads(doc["rule"])) if doc else (0, {})

    def version(self, source: str, kind: str, version: int) -> dict[str, Any]:
        """The rules of a version. Raises SamlaError where there is none."""
        doc = self._rules.find_one({"source": source, "kind": kind, "version": version})
        if doc is None:
            raise NotFound(f"source {source} has no {kind} of version {version}")
        rule: dict[str, Any] = orjson.loads(doc["rule"])
        return rule

    def in_force(self) -> dict[str, dict[str, tuple[int, bytes]]]:
        """Source -> kind -> (version, rules as JSON)."""
        found: dict[str, dict[str, tuple[int, bytes]]] = {}
        # Only these are read, every few seconds: there may be thousands of versions, of 256 KB each.
        for doc in self._rules.find({"latest": True}, sort=[("version", 1)]):
            found.setdefault(doc["source"], {})[doc["kind"]] = (int(doc["version"]), str(doc["rule"]).encode())
        for kind, compiled in _COMPILED.items():
            compiled.keep({texts[kind] for texts in found.values() if kind in texts})
        return found


class AgreementStore:
    """Agreements with partners, licences of suppliers."""

    def __init__(self, db: "Database[Any]") -> None:
        self._agreements = db["agreements"]

    def add(self, agreement: Agreement) -> None:
        """Keeps it."""
        document = {"_id": agreement.id, **agreement._asdict()}
        del document["id"]
        self._agreements.insert_one(document)

    def all(self) -> dict[str, Agreement]:
        """By id."""
        return {doc["_id"]: _agreement(doc) for doc in self._agreements.find().sort("created", 1)}

    def end(self, identity: str, now: int) -> Agreement:
        """It holds no longer."""
        doc = self._agreements.find_one_and_update(
            {"_id": identity}, [{"$set": {"ended": {"$ifNull": ["$ended", now]}}}], return_document=True
        )
        if doc is None:
            raise NotFound(f"there is no agreement {identity}: see `samla agreement list`")
        return _agreement(doc)


def _agreement(doc: Mapping[str, Any]) -> Agreement:
    given = {name: doc[name] for name in Agreement._fields if name in doc}
    given |= {"id": doc["_id"], "purposes": tuple(doc["purposes"]), "fields": tuple(doc["fields"])}
    given |= {name: int(doc[name]) for name in ("since", "until", "created")}
    return Agreement(**given)


def rules_of(texts: Mapping[str, tuple[int, bytes]], agreement: Agreement | None) -> Rules:
    """A source's rules, compiled; each version once a process, for as long as it is in force."""
    return Rules(
        agreement,
        _COMPILED[CLEANING](*texts[CLEANING]) if CLEANING in texts else None,
        _COMPILED[PLAN](*texts[PLAN]) if PLAN in texts else None,
    )


_NOTHING: Final = object()


class Compiled:
    """Rules of one kind, compiled: as many as are in force, however many that are."""

    def __init__(self, make: Callable[[int, bytes], Any]) -> None:
        self._make = make
        self._made: dict[tuple[int, bytes], Any] = {}

    def __call__(self, version: int, text: bytes) -> Any:
        """What was made of a version."""
        made = self._made.get((version, text), _NOTHING)
        if made is _NOTHING:
            made = self._made[version, text] = self._make(version, text)
        return made

    def keep(self, in_force: Collection[tuple[int, bytes]]) -> None:
        """Forgets all others."""
        self._made = {key: made for key, made in list(self._made.items()) if key in in_force}


def _cleaning(version: int, text: bytes) -> Cleaning | None:
    rule = orjson.loads(text)
    try:
        return cleaning_of(version, rule) if rule else None
    except SamlaError:
        # What was right when it was written may not be so for newer code; other sources must not suffer for it.
        logger.error("cleaning rules cannot be used any more: messages of their source are set aside", version=version)
        return cleaning.unusable(version)


def _plan(version: int, text: bytes) -> Plan | None:
    rule = orjson.loads(text)
    try:
        return plan_of(version, rule) if rule else None
    except SamlaError:
        logger.error("a plan cannot be used any more: messages of its source are set aside", version=version)
        return plan.unusable(version)


_COMPILED: Final = {CLEANING: Compiled(_cleaning), PLAN: Compiled(_plan)}


def _text(rule: Mapping[str, Any]) -> str:
    return orjson.dumps(rule).decode()
