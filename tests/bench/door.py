"""The collector's door alone: an edge, its MongoDB and this load generator on one machine, nobody listening.

Beside it, in the same run, the ceilings: raw `insert_many` of the very documents, an empty nameko handler, and
an empty ASGI app on the same uvicorn. Every event is a page's typical one (about 750 bytes of JSON).
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from services.collector.store import SourceStore
from shared.config import Settings
from shared.local.processes import free_ports, is_open
from shared.local.suite import ROOT, Suite, eventually
from shared.mongo import connect
from tests.bench import load

CONNECTIONS = (1, 16, 64, 256)
SECONDS = 4.0
"""Of each measurement."""
BATCH = 100
PEOPLE = 20_000
AIM_SINGLES = 6_000
AIM_BATCHED = 20_000
AIM_P99 = 100
RAW_EVENTS = 20_000
SOAK_RATE = 50
"""Batches a second, of ten events, while memory is watched."""

Note = Callable[..., None]


def event(number: int, chance: random.Random) -> dict[str, Any]:
    """What a shop's page sends."""
    person = chance.randrange(PEOPLE)
    return {
        "type": "track",
        "messageId": f"ajs-next-{number}-{chance.getrandbits(64):016x}",
        "anonymousId": f"{person:08x}-1111-4222-8333-444455556666",
        "userId": f"customer-{person}" if person % 3 else None,
        "event": chance.choice(("Product Viewed", "Product Added", "Products Searched", "Cart Viewed")),
        "timestamp": "2026-11-02T10:15:30.123Z",
        "sentAt": "2026-11-02T10:15:30.456Z",
        "properties": {
            "product_id": f"sku-{chance.randrange(5_000)}",
            "name": "Räksmörgås, stor",
            "price": chance.randrange(10_000) / 100,
            "currency": "SEK",
            "quantity": chance.randrange(1, 5),
            "category": "Groceries",
        },
        "context": {
            "library": {"name": "analytics.js", "version": "next-1.84.0"},
            "locale": "sv-SE",
            "timezone": "Europe/Stockholm",
            "page": {
                "path": "/varor/smorgas",
                "referrer": "https://www.example.org/",
                "title": "Räksmörgås",
                "url": "https://shop.example.org/varor/smorgas",
            },
            "userAgent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/130.0.0.0 Safari/537.36",
        },
    }


class Door:
    """One run."""

    def __init__(self, note: Note, **settings: str) -> None:
        self._note = note
        self._chance = random.Random(1)
        self._sent = 0
        home = Settings.from_env().home.resolve() / "bench-door"
        shutil.rmtree(home, ignore_errors=True)
        self._suite = Suite.apart(home, **settings)

    def __enter__(self) -> "Door":
        self._suite.up(("edge",))
        settings = self._suite.settings
        self._client = connect(settings.mongodb_url)
        sources = SourceStore(self._client[settings.database("collector")])
        sources.setup()
        self._key = sources.create("bench", "first", time.time_ns() // 1_000_000)[1]
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._suite.down()

    def _events(self, count: int) -> list[dict[str, Any]]:
        self._sent += count
        return [event(self._sent - count + number, self._chance) for number in range(count)]

    def _singles(self, count: int) -> list[bytes]:
        return load.singles(self._events(count), self._key)

    def _batches(self, count: int) -> list[bytes]:
        return load.batches(self._events(count), BATCH, self._key)

    # What is measured

    def measure(self) -> None:
        """Everything."""
        self.saturated("singles", self._singles, 1, 7_000)
        self.saturated("batches", self._batches, BATCH, 16_000)
        self.half("singles", self._singles, 1, AIM_SINGLES / 2)
        self.half("batches", self._batches, BATCH, AIM_BATCHED / 2)
        self._note("door.memory", self._suite.memory_mb()["edge"], "MB", better="lower")
        self.ceilings()

    def saturated(self, what: str, make: Callable[[int], list[bytes]], size: int, most: int) -> None:
        """As much as goes, over so many connections."""
        best = 0.0
        load.drive(self._suite.settings.collector_port, make(20 * size), 4)  # to be warm
        for connections in CONNECTIONS:
            events = int(most * SECONDS) if connections > 1 else int(most * SECONDS / 10)
            requests, before = make(events), self._suite.cpu_seconds()
            result = load.drive(self._suite.settings.collector_port, requests, connections, 60)
            after = self._suite.cpu_seconds()
            rate = size * len(result.latencies) / result.seconds
            best = max(best, rate)
            name = f"door.{what}.{connections}"
            self._note(name, rate, "events/s")
            self._note(f"{name}.p50", result.percentile(0.5) * 1000, "ms", better="lower")
            self._note(f"{name}.p99", result.percentile(0.99) * 1000, "ms", better="lower")
            errors = sum(number for status, number in result.statuses.items() if status != 200)
            self._note(f"{name}.errors", errors, "requests", 0, "lower")
            for process in ("edge", "mongod"):
                spent = (after[process] - before[process]) / (size * len(result.latencies)) * 1e6
                self._note(f"{name}.cpu.{process}", spent, "us/event", better="lower")
        self._note(f"door.{what}", best, "events/s", AIM_SINGLES if size == 1 else AIM_BATCHED)

    def half(self, what: str, make: Callable[[int], list[bytes]], size: int, rate: float) -> None:
        """At half of what is aimed at, whether or not the earlier requests are answered."""
        requests = make(int(rate * SECONDS))
        waits, statuses = load.waits(self._suite.settings.collector_port, requests, rate / size)
        p99 = sorted(waits)[int(len(waits) * 0.99)] * 1000
        self._note(f"door.{what}.half.p99", p99, "ms", AIM_P99, "lower")
        errors = sum(number for status, number in statuses.items() if status != 200)
        self._note(f"door.{what}.half.errors", errors, "requests", 0, "lower")

    def ceilings(self) -> None:
        """What MongoDB and the servers would do without us."""
        stored = self._client[self._suite.settings.database("log")]["tracking"]
        documents = list(stored.find().limit(RAW_EVENTS))
        raw = self._client[f"{self._suite.settings.prefix}_raw"]["raw"]
        started = time.perf_counter()
        for at in range(0, len(documents), BATCH):
            raw.insert_many(documents[at : at + BATCH])
        self._note("door.raw.insert_many", len(documents) / (time.perf_counter() - started), "events/s")
        for name, command in (
            ("nameko", ["-m", "tests.bench.empty"]),
            ("uvicorn", ["-m", "tests.bench.empty_asgi"]),
        ):
            self._note(f"door.empty.{name}", self._empty(command), "requests/s")

    def _empty(self, command: list[str]) -> float:
        [port] = free_ports(1)
        process = subprocess.Popen(
            [sys.executable, *command, str(port)], cwd=ROOT, env=self._suite.environment, stderr=subprocess.DEVNULL
        )
        try:
            eventually(lambda: is_open(port), 20, "the empty handler does not listen")
            result = load.drive(port, self._singles(10_000), 64)
            return len(result.latencies) / result.seconds
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def soak(self, minutes: float) -> None:
        """Memory of the edge under a steady load; what it has grown by since it was warm."""
        seen = [self._suite.memory_mb()["edge"] for _ in self._stretches(minutes)]
        warm = seen[min(2, len(seen) - 1)]
        self._note("door.soak.memory", max(seen), "MB", better="lower")
        self._note("door.soak.growth", max(seen) - warm, "MB", 20, "lower")

    def _stretches(self, minutes: float) -> Iterator[None]:
        for _ in range(max(1, round(minutes * 6))):
            requests = load.batches(self._events(SOAK_RATE * 10 * 10), 10, self._key)
            _, statuses = load.waits(self._suite.settings.collector_port, requests, SOAK_RATE)
            assert set(statuses) == {200}, statuses
            yield


def measure(note: Note, soak_minutes: float = 0, **settings: str) -> None:
    """The door, or (with minutes) its memory over time."""
    with Door(note, **settings) as door:
        if soak_minutes:
            door.soak(soak_minutes)
        else:
            door.measure()


if __name__ == "__main__":

    def show(name: str, value: float, unit: str, goal: float | None = None, better: str = "higher") -> None:
        """Prints a figure."""
        print(f"{name:<34} {value:>12,.2f} {unit}", flush=True)

    parser = argparse.ArgumentParser(prog="python -m tests.bench.door", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=0, help="of memory under load, instead of all else")
    parser.add_argument("--processes", default="1", help="COLLECTOR_PROCESSES")
    asked = parser.parse_args()
    measure(show, asked.minutes, COLLECTOR_PROCESSES=asked.processes)
