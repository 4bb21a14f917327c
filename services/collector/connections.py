"""Which tools send webhooks for which source: dialect and secret, sealed."""

import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson
from pymongo.database import Database

from services.collector import dialects
from services.collector.domain.dialect import Dialect
from services.collector.domain.source import Source
from services.collector.store import SourceStore
from shared.checking import bounded
from shared.errors import NotFound, SamlaError
from shared.keyring import Keyring, new_id
from shared.secrets import SealedSecrets

SHORTEST: Final = 8
SHORTEST_IN_ADDRESS: Final = 16
"""A secret that is all there is must be hard to guess."""
LONGEST: Final = 500
NEW_BYTES: Final = 24
INBOUND: Final = "/v1/inbound/"


class Connection(NamedTuple):
    """A source, and how one tool speaks to it."""

    source: Source
    dialect: Dialect
    secret: str


class ConnectionStore:
    """A tool may be connected with many sources, and a source with many tools: once each."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, sources: SourceStore) -> None:
        self._connections = db["connections"]
        self._secrets = SealedSecrets(keyring, "connection")
        self._sources = sources

    def connect(
        self, source: str, name: str, secret: str, document: Mapping[str, Any] | None, now: int
    ) -> dict[str, Any]:
        """The tool may send from now on; {source, dialect, path, secret}. What was there before is no longer good."""
        self._sources.one(source)
        # A dialect of one's own is kept as text: its names hold dots and dollars, which MongoDB reads as its own.
        if document is not None:
            bounded(document, "a dialect")
        text = orjson.dumps(document) if document is not None else b""
        dialect = dialects.own(text) if text else dialects.dialect(name)
        if dialect.name != name:
            raise SamlaError(f"the dialect's name is {dialect.name}, not {name}")
        secret = _checked(secret or secrets.token_urlsafe(NEW_BYTES), dialect)
        # The owner is new each time: no process can hold an older key for it.
        owner = new_id()
        kept = self._secrets.sealed(owner, secret.encode())
        doc = {"source": source, "dialect": name, "document": text.decode(), "owner": owner, "secret": kept}
        old = self._connections.find_one_and_replace({"_id": _id(source, name)}, {**doc, "since": now}, upsert=True)
        self._forget(old)
        return {"source": source, "dialect": name, "path": _path(source, dialect, secret), "secret": secret}

    def disconnect(self, source: str, name: str) -> None:
        """The tool is refused from now on. Raises NotFound where it is not connected."""
        old = self._connections.find_one_and_delete({"_id": _id(source, name)})
        if old is None:
            raise NotFound(f"source {source} is not connected with {name}: see `samla source connections`")
        self._forget(old)

    def _forget(self, old: Mapping[str, Any] | None) -> None:
        if old is not None:
            self._secrets.forget(old["owner"])

    def all(self) -> list[dict[str, Any]]:
        """{source, dialect, own, since}, oldest first."""
        return [
            {
                "source": doc["source"],
                "dialect": doc["dialect"],
                "own": bool(doc["document"]),
                "since": int(doc["since"]),
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
        return None if secret is None else Connection(self._sources.one(source), dialect, secret.decode())


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
