"""What a running service stands on, made once a process from the settings."""

import contextlib
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.config import Settings
from shared.errors import Unavailable
from shared.eventlog import MongoEventLog
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.lease import process_exists
from shared.messaging import EVICTIONS, Listener, Message, NudgePublisher
from shared.mongo import Document, MongoTransactor, connect

BEAT_SECONDS: Final = 2.0
GONE_SECONDS: Final = 6.0
"""An instance that has not been seen for so long has left its partitions to the others."""
START_PAUSE: Final = 1.0

logger = structlog.get_logger(__name__)


class Instances:
    """Which instances of a service are alive, and which of them takes which partition.

    Rendezvous hashing over the live ones. Exclusion comes from the guarded checkpoints; sharing only
    saves the work of doing a batch twice, so being wrong for some seconds costs nothing else.
    """

    def __init__(self, db: "Database[Any]", name: str) -> None:
        self._instances = db["instances"]
        self.name = name
        self._alive: tuple[str, ...] = (name,)

    def join(self) -> None:
        """Says that this instance is here, and that those of this host whose process is gone are not."""
        host, _, _ = self.name.rpartition(":")
        for doc in self._instances.find({"host": host}):
            if doc["_id"] != self.name and not process_exists(int(doc["_id"].rpartition(":")[2])):
                self._instances.delete_one({"_id": doc["_id"]})
        self.beat()

    def beat(self) -> None:
        """Says again that this instance is here and looks who else is, by the database's clock."""
        host, _, _ = self.name.rpartition(":")
        seen = {"$set": {"host": host}, "$currentDate": {"seen": True}}
        self._instances.update_one({"_id": self.name}, seen, upsert=True)
        recently = {"$subtract": ["$$NOW", int(GONE_SECONDS * 1000)]}
        alive = self._instances.find({"$expr": {"$gt": ["$seen", recently]}}, {"_id": 1})
        self._alive = tuple(doc["_id"] for doc in alive) or (self.name,)

    def leave(self) -> None:
        """Hands this instance's partitions over at once."""
        self._instances.delete_one({"_id": self.name})

    def takes(self, work: str) -> bool:
        """Whether the work (a subscription's partition, or a whole subscription) is this instance's."""
        return max(self._alive, key=lambda each: (zlib.crc32(f"{each}/{work}".encode()), each)) == self.name


def instance_name() -> str:
    """`host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass
class Runtime:
    """Connections and tools of one process of a service; `open` makes it, `close` ends it."""

    service: str
    settings: Settings
    client: "MongoClient[Document]"
    db: "Database[Any]"
    log: MongoEventLog
    keyring: Keyring
    transactor: MongoTransactor
    checkpoints: MongoCheckpoints
    publisher: NudgePublisher
    clock: Clock
    instances: Instances
    logger: Any

    @classmethod
    def open(cls, settings: Settings, service: str, joins: bool = True) -> "Runtime":
        """Connects and makes what must be there; waits for MongoDB as long as it takes.

        With `joins` this process takes its share of the service's partitions.
        """
        client = connect(settings.mongodb_url)
        publisher = NudgePublisher(settings.amqp_url)
        transactor = MongoTransactor(client, publisher.nudge)
        store = MongoKeyStore(client, settings.database("keyring"))
        keyring = Keyring(store, settings.master_key(), settings.key_cache_seconds)
        db = client.get_database(settings.database(service), read_concern=ReadConcern("majority"))
        runtime = cls(
            service=service,
            settings=settings,
            client=client,
            db=db,
            log=MongoEventLog(client, settings.database("log"), transactor, keyring.fenced),
            keyring=keyring,
            transactor=transactor,
            checkpoints=MongoCheckpoints(db),
            publisher=publisher,
            clock=Clock(),
            instances=Instances(db, instance_name()),
            logger=structlog.get_logger(f"samla.{service}"),
        )
        until_available(runtime._make_tables, "MongoDB")
        if joins:
            until_available(runtime.instances.join, "MongoDB")
        publisher.start()
        runtime._listen_for_evictions()
        return runtime

    def _make_tables(self) -> None:
        self.log.setup()
        self.keyring.setup()
        self.checkpoints.setup()

    def _listen_for_evictions(self) -> None:
        queue = f"samla.evictions.{self.service}.{self.instances.name}"
        self._evictions = Listener(self.settings.amqp_url, queue, EVICTIONS, [""], self._evict)
        self._evictions.start()

    def _evict(self, message: Message) -> None:
        self.keyring.evict(message.get("subjects", []))

    def nudge(self, stream: str) -> None:
        """Wakes whoever listens to a stream although nothing was appended (a ticker, say)."""
        self.publisher.nudge(stream, 0, 0)

    def ping(self) -> None:
        """Raises where MongoDB does not answer."""
        self.client.admin.command("ping")

    def close(self) -> None:
        """Leaves and disconnects."""
        with contextlib.suppress(PyMongoError):
            self.instances.leave()
        self._evictions.stop()
        self.publisher.stop()
        self.client.close()


def until_available(make: Callable[[], None], what: str) -> None:
    """Calls `make` until it does not fail for want of a server; each failure is logged."""
    while True:
        try:
            return make()
        except (PyMongoError, Unavailable) as error:
            logger.warning("waiting for a server", server=what, error=type(error).__name__)
            threading.Event().wait(START_PAUSE)
        time.sleep(0)
