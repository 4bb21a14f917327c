"""Which tools send webhooks for which source: dialect and secret, sealed."""

import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from services.collector import dialects
from services.collector.domain.dialect import Dialect
from services.collector.domain.source import Source
from services.collector.store import SourceStore
from shared.checking import bounded
from shared.errors import Conflict, NotFound, SamlaError
from shared.keyring import Keyring, new_id
from shared.secrets import SealedSecrets

SHORTEST: Final = 8
SHORTEST_IN_ADDRESS: Final = 16
"""A secret that is all there is must be hard to guess."""
LONGEST: Final = 500
NEW_BYTES: Final = 24
INBOUND: Final = "/v1/inbound/"


MOST_BEFORE: Final = 5
"""Secrets that were replaced and are still good; older ones end early."""


class Before(NamedTuple):
    """A secret that was replaced."""

    secret: str
    until: int
    """ms since 1970; it is good until then."""


class Connection(NamedTuple):
    """A source, and how one tool speaks to it."""

    source: Source
    dialect: Dialect
    secret: str
    before: tuple[Before, ...] = ()

    def good(self, now: int) -> list[str]:
        """The secrets that are good at an instant (ms), the newest first."""
        return [self.secret, *(each.secret for each in self.before if each.until > now)]


class ConnectionStore:
    """A tool may be connected with many sources, and a source with many tools: once each."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, sources: SourceStore) -> None:
        self._connections = db["connections"]
        self._secrets = SealedSecrets(keyring, "connection")
        self._sources = sources

    def connect(
        self,
        source: str,
        name: str,
        secret: str,
        document: Mapping[str, Any] | None,
        now: int,
        overlap: int = 0,
    ) -> dict[str, Any]:
        """The tool may send from now on; {source, dialect, path, secret, old_until}. A secret that was there before is
        good for `overlap` ms more, and no longer than it was."""
        self._sources.one(source)
        # A dialect of one's own is kept as text: its names hold dots and dollars, which MongoDB reads as its own.
        if document is not None:
            bounded(document, "a dialect")
        text = orjson.dumps(document) if document is not None else b""
        dialect = dialects.own(text) if text else dialects.dialect(name)
        if dialect.name != name:
            raise SamlaError(f"the dialect's name is {dialect.name}, not {name}")
        secret = _checked(secret or secrets.token_urlsafe(NEW_BYTES), dialect)
        old = self._connections.find_one({"_id": _id(source, name)})
        before = _before(old, now, now + overlap) if old else []
        # The owner is new each time: no process can hold an older key for it.
        owner = new_id()
        kept = self._secrets.sealed(owner, secret.encode())
        doc = {"source": source, "dialect": name, "document": text.decode(), "owner": owner, "secret": kept}
        if not self._put(_id(source, name), {**doc, "before": before, "since": now}, old):
            self._secrets.forget(owner)
            raise Conflict("somebody else has just changed this connection: look at it again")
        self._forget(old, {each["owner"] for each in before})
        until = max((each["until"] for each in before), default=None)
        path = _path(source, dialect, secret)
        return {"source": source, "dialect": name, "path": path, "secret": secret, "old_until": until}

    def _put(self, identity: str, doc: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        """Whether it could be put in the place of what was there."""
        if old is None:
            try:
                self._connections.insert_one({"_id": identity, **doc})
            except DuplicateKeyError:
                return False
            return True
        return bool(self._connections.replace_one({"_id": identity, "owner": old["owner"]}, doc).matched_count)

    def disconnect(self, source: str, name: str) -> None:
        """The tool is refused from now on. Raises NotFound where it is not connected."""
        old = self._connections.find_one_and_delete({"_id": _id(source, name)})
        if old is None:
            raise NotFound(f"source {source} is not connected with {name}: see `samla source connections`")
        self._forget(old)

    def expire(self, now: int) -> int:
        """Destroys secrets whose time is over; how many."""
        gone = 0
        for doc in list(self._connections.find({"before.until": {"$lte": now}})):
            over = [each["owner"] for each in doc["before"] if each["until"] <= now]
            self._connections.update_one({"_id": doc["_id"]}, {"$pull": {"before": {"owner": {"$in": over}}}})
            for owner in over:
                self._secrets.forget(owner)
            gone += len(over)
        return gone

    def _forget(self, old: Mapping[str, Any] | None, but: Collection[str] = ()) -> None:
        """Destroys the keys of all secrets of a connection, but of those that stay."""
        held = (old["owner"], *(each["owner"] for each in old.get("before", ()))) if old else ()
        for owner in held:
            if owner not in but:
                self._secrets.forget(owner)

    def all(self) -> list[dict[str, Any]]:
        """{source, dialect, own, since, old_until}, oldest first."""
        return [
            {
                "source": doc["source"],
                "dialect": doc["dialect"],
                "own": bool(doc["document"]),
                "since": int(doc["since"]),
                "old_until": max((int(each["until"]) for each in doc.get("before", ())), default=None),
            }
            for doc in self._connections.find().sort("since", 1)
        ]

    def find(self, source: str, name: str) -> Connection | None:
        """The connection, where there is one. Raises SamlaError where its secret cannot be opened just now."""
        doc = self._connections.find_one({"_id": _id(source, name)})
        if doc is None:
            return None
        [secret] = self._secrets.opened(doc["owner"], [doc["secret"]])
        dialect = dialects.own(doc["document"].encode()) if doc["document"] else dialects.dialect(name)
        if secret is None:
            return None
        return Connection(self._sources.one(source), dialect, secret.decode(), tuple(self._opened(doc)))

    def _opened(self, doc: Mapping[str, Any]) -> Iterator[Before]:
        for each in doc.get("before", ()):
            [secret] = self._secrets.opened(each["owner"], [each["secret"]])
            if secret is not None:
                yield Before(secret.decode(), int(each["until"]))


def _before(old: Mapping[str, Any], now: int, until: int) -> list[dict[str, Any]]:
    """The secrets of a connection that are good for a while more when it gets a new one, the newest first."""
    held = [{"owner": old["owner"], "secret": old["secret"], "until": until}]
    held += [{**each, "until": min(int(each["until"]), until)} for each in old.get("before", ())]
    return [each for each in held if each["until"] > now][:MOST_BEFORE]


def _id(source: str, name: str) -> str:
    return f"{source}/{name}"


def _path(source: str, dialect: Dialect, secret: str) -> str:
    """What to put behind the collector's address."""
    path = f"{INBOUND}{dialect.name}/{source}"
    return f"{path}?{dialect.scheme.query}={quote(secret, safe='')}" if dialect.scheme.query else path


def _checked(secret: str, dialect: Dialect) -> str:
    shortest = SHORTEST_IN_ADDRESS if dialect.scheme.query else SHORTEST
    if not shortest <= len(secret) <= LONGEST or not secret.isprintable() or secret != secret.strip():
        raise SamlaError(f"the secret has {shortest} to {LONGEST} characters, without space around it")
    return secret
