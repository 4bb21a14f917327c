"""MongoDB: connections and transactions."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, CollectionInvalid, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shared.errors import Unavailable
from shared.transaction import Again, Transaction

T = TypeVar("T")
Document = dict[str, object]

MAJORITY = WriteConcern(w="majority", j=True, wtimeout=20_000)
BESIDE: Final[dict[str, Any]] = {"write_concern": WriteConcern(w=1), "read_concern": ReadConcern("local")}
"""Options of collections that are made beside the live ones: nothing is durable before it is put in their place,
so it must be read as it was written."""
DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48
LONGEST_PAUSE = 0.25
"""Seconds between two attempts at a transaction, at most."""


def connect(url: str, *, seconds: float = 5.0, pool: int = 50) -> "MongoClient[Document]":
    """A client that writes with majority and journal, reads majority, and gives up after `seconds`."""
    milliseconds = int(seconds * 1000)
    return MongoClient(
        url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        socketTimeoutMS=30_000,
        maxPoolSize=pool,
        retryWrites=True,
        appname="samla",
    )


def make_collection(collection: "Collection[Any]") -> None:
    """Makes it, where it is not there: a transaction must not have to (DESIGN law 3)."""
    try:
        collection.database.create_collection(collection.name)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise
    except CollectionInvalid:
        return


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, `size` at a time."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page


class MongoTransaction:
    """One attempt at a transaction on a MongoDB session."""

    def __init__(self, session: ClientSession, attempt: int) -> None:
        self.session = session
        self.attempt = attempt
        self.unfenced: set[str] = set()
        self.reached: dict[tuple[str, int], int] = {}
        self._actions: list[Callable[[], None]] = []

    def appended(self, stream: str, partition: int, position: int) -> None:
        """Remembers what to nudge for once it is committed."""
        place = (stream, partition)
        self.reached[place] = max(position, self.reached.get(place, 0))

    def on_commit(self, action: Callable[[], None]) -> None:
        """Runs `action` once the transaction is committed."""
        self._actions.append(action)

    def committed(self) -> None:
        """Runs what was to be run after the commit."""
        for action in self._actions:
            action()


class MongoTransactor:
    """Runs work in MongoDB transactions.

    PyMongo's own `with_transaction` tries for up to 120 s; this one has a deadline, jitter between
    attempts, and tells a nudge publisher what was appended once it is committed. One at a time a process:
    they append to the same stream and write the same projections, so side by side they would only conflict.
    """

    def __init__(
        self,
        client: "MongoClient[Document]",
        nudge: Callable[[str, int, int], None] = lambda stream, partition, position: None,
    ) -> None:
        self._client = client
        self._nudge = nudge
        self._turn = threading.Lock()

    def run(self, work: Callable[[Transaction], T], seconds: float = 10.0) -> T:
        """The work's result, committed; a conflict starts a new attempt until `seconds` are over."""
        deadline = time.monotonic() + seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                result, transaction = self._in_turn(work, deadline, attempt)
            except (PyMongoError, Again) as error:
                if not _worth_another(error):
                    raise Unavailable(f"MongoDB refused a transaction: {_named(error)}") from error
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"no commit within {seconds:g} s and {attempt} attempts: {_named(error)}"
                    ) from error
                if not isinstance(error, Again):
                    time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.002 * 2**attempt)))
                continue
            for (stream, partition), position in transaction.reached.items():
                self._nudge(stream, partition, position)
            return result

    def _in_turn(self, work: Callable[[Transaction], T], deadline: float, attempt: int) -> tuple[T, MongoTransaction]:
        if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise Unavailable(f"another transaction of this process has not ended in time (attempt {attempt})")
        try:
            result, transaction = self._attempt(work, deadline, attempt)
            transaction.committed()
            return result, transaction
        finally:
            self._turn.release()

    def _attempt(self, work: Callable[[Transaction], T], deadline: float, attempt: int) -> tuple[T, MongoTransaction]:
        with self._client.start_session() as session:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"),
                write_concern=MAJORITY,
                read_preference=ReadPreference.PRIMARY,
            )
            transaction = MongoTransaction(session, attempt)
            try:
                result = work(transaction)
            except BaseException:
                _abort(session)
                raise
            _commit(session, deadline)
            return result, transaction


def _commit(session: ClientSession, deadline: float) -> None:
    """Commits; where the outcome is unknown it asks again, which MongoDB answers for the same commit."""
    while True:
        try:
            return session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label("UnknownTransactionCommitResult") or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _abort(session: ClientSession) -> None:
    try:
        session.abort_transaction()
    except PyMongoError:
        # The server drops an unfinished transaction by itself.
        return


def _worth_another(error: PyMongoError | Again) -> bool:
    """A conflict, a lost connection, a duplicate that another transaction has just committed, a wrong guess."""
    if isinstance(error, Again):
        return True
    return error.has_error_label("TransientTransactionError") or is_duplicate(error)


def is_duplicate(error: PyMongoError) -> bool:
    """Whether a unique index refused the write, and nothing else did."""
    if isinstance(error, BulkWriteError):
        refused = (error.details or {}).get("writeErrors", [])
        return bool(refused) and all(each.get("code") == DUPLICATE_KEY for each in refused)
    return isinstance(error, DuplicateKeyError)


def _named(error: Exception) -> str:
    """The error's kind and code. Its text may quote documents, so it stays out of ours."""
    code = getattr(error, "code", None)
    return f"{type(error).__name__}" + (f" (code {code})" if code else "")
