"""The transaction's port: a consumer's projection, its output and its checkpoint, all or nothing."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from shared.errors import CheckpointMoved, Conflict

T = TypeVar("T")


class Again(Exception):
    """What the work has tried hopefully was wrong: nothing of it remains, and a new attempt tries nothing."""


class Transaction(Protocol):
    """One attempt. The work that is given it may run again in a new one after a conflict."""

    session: Any
    """PyMongo's ClientSession, to pass as `session=`; None in memory."""
    attempt: int
    """1 for the first; what may be tried hopefully then is done carefully later."""
    unfenced: set[str]
    """Subjects that this transaction's snapshot has shown not to be erased."""

    def appended(self, stream: str, partition: int, position: int) -> None:
        """Remembers what to nudge for once it is committed."""

    def on_commit(self, action: Callable[[], None]) -> None:
        """Runs `action` once the transaction is committed."""


class Transactor(Protocol):
    """Runs work in a transaction, again after a conflict, until a deadline."""

    def run(self, work: Callable[[Transaction], T], seconds: float = 10.0) -> T:
        """The work's result, committed with majority and journal.

        Raises Unavailable when the deadline passes; any other error of the work aborts and is raised.
        """


def tried(once: Callable[[], T], times: int, otherwise: str) -> T:
    """The result of `once`, which is done again, with all that it reads, where the ground has moved meanwhile. Raises
    Conflict, saying `otherwise`, where it always has."""
    for _ in range(times):
        try:
            return once()
        except CheckpointMoved:
            continue
    raise Conflict(otherwise)
