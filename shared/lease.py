"""A lease: one at a time, over all processes and machines, until it is given back, or not renewed any more.

It saves work and keeps two from treading on each other's toes; that nothing wrong is written is for a transaction
to make sure, with `confirm`: whoever has lost the lease cannot commit.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from shared.errors import Conflict
from shared.transaction import Transaction

LEASE_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.25
NOBODY: Final = ""


class Lease:
    """On a document of a collection. Times are the database's, so that clocks need not agree."""

    def __init__(self, collection: "Collection[Any]", name: str, seconds: float = LEASE_SECONDS) -> None:
        self._leases = collection
        self._name = name
        self._seconds = seconds
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"

    def setup(self) -> None:
        """Makes the document."""
        nobody = {"holder": NOBODY, "until": datetime.fromtimestamp(0, UTC)}
        self._leases.update_one({"_id": self._name}, {"$setOnInsert": nobody}, upsert=True)

    def take(self) -> bool:
        """Whether it is this one's now: it was nobody's, or has not been renewed, or its process is gone."""
        mine = {"holder": {"$literal": self.holder}, "until": {"$add": ["$$NOW", round(self._seconds * 1000)]}}
        return self._leases.update_one(self._free(), [{"$set": mine}]).matched_count == 1

    def is_free(self) -> bool:
        """Whether `take` would succeed."""
        return self._leases.find_one(self._free()) is not None

    def renew(self) -> bool:
        """Whether it is still this one's; then it is for longer."""
        later = [{"$set": {"until": {"$add": ["$$NOW", round(self._seconds * 1000)]}}}]
        return self._leases.update_one({"_id": self._name, "holder": self.holder}, later).matched_count == 1

    def confirm(self, within: Transaction) -> None:
        """Raises Conflict where it has been lost; conflicts with whoever takes it meanwhile."""
        mine = {"_id": self._name, "holder": self.holder}
        seen = self._leases.update_one(mine, {"$inc": {"confirmed": 1}}, session=within.session)
        if seen.matched_count != 1:
            raise Conflict(f"the lease {self._name} is not held any more: somebody else has taken it")

    def give_back(self) -> None:
        """It is nobody's."""
        self._leases.update_one({"_id": self._name, "holder": self.holder}, {"$set": {"holder": NOBODY}})

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renews it from a thread meanwhile, and gives it back at the end."""
        ended = threading.Event()

        def renewing() -> None:
            while not ended.wait(self._seconds / 3):
                try:
                    if not self.renew():
                        return
                except PyMongoError:
                    # It is tried again; should it be over by then, `confirm` says so.
                    continue

        thread = threading.Thread(target=renewing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.give_back()

    def wait(self) -> None:
        """Takes it as soon as it is free."""
        while not self.take():
            time.sleep(LOOK_SECONDS)

    def _free(self) -> dict[str, Any]:
        return {"_id": self._name, "$or": [{"holder": {"$in": [NOBODY, self.holder, *self._dead()]}}, _OVER]}

    def _dead(self) -> list[str]:
        """The holder, if it is a process of this host that is no more."""
        found = self._leases.find_one({"_id": self._name}) or {}
        host, _, rest = str(found.get("holder", "")).partition(":")
        pid = rest.partition(":")[0]
        return [found["holder"]] if host == socket.gethostname() and not process_exists(int(pid)) else []


_OVER: Final = {"$expr": {"$lt": ["$until", "$$NOW"]}}


def process_exists(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
