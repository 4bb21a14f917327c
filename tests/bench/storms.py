"""Merge storms, through the door: many events that share one identifier, chains that merge a thousand profiles; and how
long somebody else's event takes until its person is known meanwhile."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from shared.config import Settings
from shared.rpc import rpc_cluster
from tests.bench import load

EVENTS = int(os.environ.get("BENCH_STORM_EVENTS", "20000"))
"""Of each storm; BENCH_STORM_EVENTS says otherwise."""
CHAIN = 1_000
"""Profiles that become one."""
BATCH = 100
CONNECTIONS = 8
EVERY_SECONDS = 0.25

Note = Callable[..., None]
Message = dict[str, Any]


def plain() -> Iterator[Message]:
    """Everybody by themselves: the yardstick."""
    for number in range(EVENTS):
        yield _identify(f"plain-{number}", f"plain-{number}@example.org")


def blocked() -> Iterator[Message]:
    """An address that is nobody's, in everybody's event."""
    for number in range(EVENTS):
        yield _identify(f"blocked-{number}", "test@test.com")


def over_limit() -> Iterator[Message]:
    """One device that everybody logs in on."""
    for number in range(EVENTS):
        yield {**_identify(f"over-{number}", f"over-{number}@example.org"), "anonymousId": "kiosk"}


def guests() -> Iterator[Message]:
    """One device on which everybody orders as a guest: all events lie under it, and each is somebody else's."""
    for number in range(EVENTS):
        email = f"guest-{number}@example.org"
        yield {"type": "identify", "anonymousId": "till", "traits": {"email": email}}


def chain() -> Iterator[Message]:
    """Profiles that become one, each by an event that names the next."""
    for number in range(CHAIN):
        yield _externals(number)
    for number in range(CHAIN - 1):
        yield _externals(number, number + 1)


def _identify(user: str, email: str) -> Message:
    return {"type": "identify", "userId": user, "traits": {"email": email}}


def _externals(*numbers: int) -> Message:
    # A person may have five of a kind: so there are many kinds.
    ids = [
        {"id": f"chain-{number}", "type": f"kind{number % (CHAIN // 4)}", "collection": "users", "encoding": "none"}
        for number in numbers
    ]
    return {"type": "track", "event": "Chained", "context": {"externalIds": ids}, "anonymousId": f"c{numbers[0]}"}


STORMS: dict[str, Callable[[], Iterator[Message]]] = {
    "plain": plain, "blocked": blocked, "over_limit": over_limit, "guests": guests, "chain": chain,
}  # fmt: skip


def measure(note: Note, settings: Settings, key: str, quiet: Callable[[], None]) -> None:
    """Events a second until everything has been handled, and the wait of somebody who has nothing to do with it."""
    port = settings.collector_port
    rates: dict[str, float] = {}
    for name, storm in STORMS.items():
        messages = list(storm())
        with Others(settings, key) as others:
            started = time.perf_counter()
            result = load.drive(port, load.batches(messages, BATCH, key), CONNECTIONS)
            assert set(result.statuses) == {200}, result.statuses
            quiet()
            rates[name] = len(messages) / (time.perf_counter() - started)
        note(f"storm.{name}", rates[name], "events/s")
        note(f"storm.{name}.ratio", rates[name] / rates["plain"], "of plain")
        note(f"storm.{name}.others", others.worst, "s until known", better="lower")


class Others:
    """People who come meanwhile, one every EVERY_SECONDS; `worst` is how long it took until one was known."""

    def __init__(self, settings: Settings, key: str) -> None:
        self.worst = 0.0
        self._settings, self._key = settings, key
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=120)

    def _run(self) -> None:
        with rpc_cluster(self._settings, timeout=60) as services:
            while not self._stopping.wait(EVERY_SECONDS):
                user = f"other-{time.time_ns()}"
                message = {"type": "track", "userId": user, "event": "E"}
                load.drive(self._settings.collector_port, load.singles([message], self._key), 1)
                sent = time.perf_counter()
                while services.identity.resolve([["user", user]]) is None:
                    time.sleep(0.01)
                self.worst = max(self.worst, time.perf_counter() - sent)
