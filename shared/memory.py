"""Transactions in memory: the twin of shared.mongo. One at a time; an error takes everything back."""

import threading
from collections.abc import Callable
from typing import TypeVar

from shared.transaction import Transaction

T = TypeVar("T")


class MemoryTransaction:
    """One transaction; `undos` take back, last first, what was done in it."""

    session = None
    attempt = 1

    def __init__(self) -> None:
        self.unfenced: set[str] = set()
        self.reached: dict[tuple[str, int], int] = {}
        self.undos: list[Callable[[], None]] = []
        self._actions: list[Callable[[], None]] = []

    def appended(self, stream: str, partition: int, position: int) -> None:
        """Remembers what to nudge for once it is committed."""
        self.reached[stream, partition] = max(position, self.reached.get((stream, partition), 0))

    def on_commit(self, action: Callable[[], None]) -> None:
        """Runs `action` once the transaction is committed."""
        self._actions.append(action)

    def committed(self) -> None:
        """Runs what was to be run after the commit."""
        for action in self._actions:
            action()


class MemoryTransactor:
    """Runs work in transactions that exclude one another."""

    def __init__(self, nudge: Callable[[str, int, int], None] = lambda stream, partition, position: None) -> None:
        self.lock = threading.RLock()
        self._nudge = nudge

    def run(self, work: Callable[[Transaction], T], seconds: float = 10.0) -> T:
        """The work's result; when it raises, nothing of it remains."""
        with self.lock:
            transaction = MemoryTransaction()
            try:
                result = work(transaction)
            except BaseException:
                for undo in reversed(transaction.undos):
                    undo()
                raise
        for (stream, partition), position in transaction.reached.items():
            self._nudge(stream, partition, position)
        transaction.committed()
        return result

    def undo(self, transaction: Transaction, action: Callable[[], None]) -> None:
        """Says how to take back what has just been done within `transaction`."""
        assert isinstance(transaction, MemoryTransaction)
        transaction.undos.append(action)
