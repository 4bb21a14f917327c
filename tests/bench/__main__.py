"""`make bench`: measures the suite on the demo's own mix, everything on this machine, in one run.

Raw `insert_many` and the empty nameko handler are measured in the same run on the same servers, because
only ratios survive a noisy machine.
"""

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from contracts.streams import TRACKING
from services.console.demo_data import messages
from services.console.progress import behind, is_quiet
from services.console.sink import Sink
from shared.config import Settings
from shared.eventlog import MongoEventLog
from shared.local.processes import free_ports, is_open
from shared.local.suite import ROOT, Suite, eventually
from shared.mongo import MongoTransactor, connect
from shared.rpc import rpc_cluster
from tests.bench import door, importing, likeness, load, profiles, resolution, segments, storms

BATCH = 100
BATCH_EVENTS = 40_000
SINGLE_EVENTS = 6_000
SINGLE_CONNECTIONS = 64
BATCH_CONNECTIONS = 8
RATE = 200
RATE_SECONDS = 20
ENTERING_EVERY = 5
"""Of the paced events, one in so many makes somebody enter a segment, and so a webhook."""
RAW_EVENTS = 20_000

console = Console()


class Measured(NamedTuple):
    """A figure."""

    name: str
    value: float
    unit: str
    goal: float | None
    better: str


def noting(found: list[Measured]) -> Callable[..., None]:
    """What keeps and shows a figure."""

    def note(name: str, value: float, unit: str, goal: float | None = None, better: str = "higher") -> None:
        found.append(Measured(name, round(value, 3), unit, goal, better))
        console.print(f"  {name:<34} {value:>12,.2f} {unit}", highlight=False)

    return note


class Bench:
    """One run."""

    def __init__(self, suite: Suite, services: Any, log: MongoEventLog, client: Any) -> None:
        self.suite, self.services, self.log, self.client = suite, services, log, client
        self.port = suite.settings.collector_port
        self.found: list[Measured] = []
        self.note = noting(self.found)
        self.key = services.collector.create_source("bench", "first")["write_key"]

    def quiet(self, seconds: float = 300) -> None:
        """Waits until everything has been handled."""
        eventually(lambda: is_quiet(self.services, self.log), seconds, "the suite is not quiet")

    # The yardsticks

    def raw(self) -> float:
        """insert_many in hundreds, majority and journal; events a second."""
        collection = self.client.get_database(f"{self.suite.settings.prefix}_raw")["raw"]
        collection.create_index("name")
        # The very documents that the log holds, so that both write the same bytes.
        stored = self.client.get_database(self.suite.settings.database("log"))["tracking"]
        documents = list(stored.find().limit(RAW_EVENTS))
        started = time.perf_counter()
        for at in range(0, RAW_EVENTS, BATCH):
            collection.insert_many(documents[at : at + BATCH])
        seconds = time.perf_counter() - started
        self.client.drop_database(f"{self.suite.settings.prefix}_raw")
        return RAW_EVENTS / seconds

    def empty_handler(self) -> float:
        """Empty POSTs a second over the same number of connections."""
        [port] = free_ports(1)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.empty", str(port)], cwd=ROOT, env=self.suite.environment,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: is_open(port), 20, "the empty handler does not listen")
            requests = [load.request("/v1/track", b'{"userId":"u","event":"e"}')] * SINGLE_EVENTS
            result = load.drive(port, requests, SINGLE_CONNECTIONS)
            return len(result.latencies) / result.seconds
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    # What is measured

    def ingest(self, mix: list[dict[str, Any]]) -> None:
        """Durable ingest, next to the yardsticks, and until the last projection has caught up."""
        requests = load.batches(mix[:BATCH_EVENTS], BATCH, self.key)
        started = time.perf_counter()
        result = load.drive(self.port, requests, BATCH_CONNECTIONS)
        ingested = time.perf_counter() - started
        _all_well(result)
        console.print(f"    behind when the last was answered: {behind(self.services, self.log)}", highlight=False)
        self.quiet()
        whole = time.perf_counter() - started
        raw = statistics.mean([self.raw(), self.raw()])
        self.note("raw.insert_many", raw, "events/s")
        self.note("ingest.batches", BATCH_EVENTS / ingested, "events/s")
        self.note("ingest.batches.ratio", BATCH_EVENTS / ingested / raw, "of raw insert_many", 0.4)
        self.note("ingest.batches.p99", result.percentile(0.99) * 1000, "ms", better="lower")
        self.note("end_to_end", BATCH_EVENTS / whole, "events/s", 4_000)

    def singles(self, mix: list[dict[str, Any]]) -> None:
        """Single events over many connections, next to nameko's empty handler."""
        empty = self.empty_handler()
        result = load.drive(self.port, load.singles(mix[:SINGLE_EVENTS], self.key), SINGLE_CONNECTIONS)
        _all_well(result)
        rate = len(result.latencies) / result.seconds
        self.quiet()
        self.note("nameko.empty", empty, "requests/s")
        self.note("ingest.singles", rate, "events/s")
        self.note("ingest.singles.ratio", rate / empty, "of the empty handler", 2.0)
        self.note("ingest.singles.p99", result.percentile(0.99) * 1000, "ms", better="lower")

    def latency(self, mix: list[dict[str, Any]]) -> None:
        """From accepted to webhook received at a steady rate."""
        count = RATE * RATE_SECONDS
        users = {f"bench-{number}": number for number in range(0, count, ENTERING_EVERY)}
        consent = {"consent": {"categoryPreferences": {"marketing": True}}}
        known = [{"type": "identify", "userId": user, "traits": {"plan": "x"}, "context": consent} for user in users]
        _all_well(load.drive(self.port, load.batches(known, BATCH, self.key), 2))
        definition = {"event": "Bench Entered", "count": {"gte": 1}, "within": "1d"}
        segment = self.services.segmentation.create_segment("bench", "Bench", definition)
        with Sink() as sink:
            made = self.services.activation.create_destination(name="bench", url=sink.url)
            sink.secrets.append(made["secret"])
            self.services.activation.subscribe(made["destination"], segment["segment"], ["entered"], "marketing")
            self.quiet()
            paced = [
                {"type": "track", "userId": f"bench-{number}", "event": "Bench Entered"}
                if number % ENTERING_EVERY == 0
                else mix[number]
                for number in range(count)
            ]
            accepted, statuses = load.pace(self.port, load.singles(paced, self.key), RATE)
            assert statuses == {200: count}, statuses
            eventually(lambda: len(sink.accepted) >= len(users), 30, "not all webhooks came")
            received = {each.message["data"]["identifiers"]["user"][0]: each.time for each in sink.accepted}
            waits = sorted((received[user] - accepted[number]) * 1000 for user, number in users.items())
        self.note("webhook.p50", waits[len(waits) // 2], "ms", 100, "lower")
        self.note("webhook.p99", waits[int(len(waits) * 0.99)], "ms", 500, "lower")

    def rebuild(self, mix: list[dict[str, Any]]) -> None:
        """Rebuilding the profiles from the log, beside the live ones, on so many processes; and how long live is held
        up when the rebuilt ones take over."""
        if not any(self.log.heads(TRACKING).values()):
            _all_well(load.drive(self.port, load.batches(mix[:BATCH_EVENTS], BATCH, self.key), BATCH_CONNECTIONS))
        self.note("rebuild", self.rebuilt(), "events/s", 15_000)
        self.note("rebuild.1", self.rebuilt("--processes", "1"), "events/s")
        self.note("rebuild.2", self.rebuilt("--processes", "2"), "events/s")
        self.note("rebuild.held", self._reported()["held_seconds"] * 1000, "ms", 1_000, "lower")

    def rebuilt(self, *options: str) -> float:
        """Events a second, of a rebuild that is equal to what is live."""
        self.quiet()
        report = self._reported("--verify", *options)
        assert report["equal"], report
        return float(report["events"]) / float(report["seconds"])

    def _reported(self, *options: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "services.profile.rebuild", "--json", *options],
            env=self.suite.environment, cwd=ROOT, capture_output=True, check=False,
        )  # fmt: skip
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def storms(self) -> None:
        """Merge storms, see tests/bench/storms.py; what came of them is what a rebuild gives."""
        storms.measure(self.note, self.suite.settings, self.key, self.quiet)
        self.note("storm.rebuild", self.rebuilt(), "events/s")

    def importing(self) -> None:
        """A large file, see tests/bench/importing.py."""
        importing.measure(self.note, self.suite.home, self.suite.environment, self.port, self.key)
        self.quiet()

    def memory(self) -> None:
        """Of each process, at the end."""
        for name, megabytes in self.suite.memory_mb().items():
            self.note(f"memory.{name}", megabytes, "MB", better="lower")


def _all_well(result: load.Result) -> None:
    assert set(result.statuses) == {200}, result.statuses


def mix_of(count: int) -> list[dict[str, Any]]:
    """The demo's messages, as one source's, shuffled in stretches as traffic of many people is."""
    sent = [each.message for each in messages(False, time.time_ns() // 1_000_000)]
    good = [each for each in sent if not str(each["messageId"]).startswith("broken")]
    shuffled = random.Random(1)
    made: list[dict[str, Any]] = []
    copy = 0
    while len(made) < count:
        for start in range(0, len(good), 5_000):
            stretch = [_copied(each, copy) for each in good[start : start + 5_000]]
            shuffled.shuffle(stretch)
            made += stretch
        copy += 1
    return made[:count]


def _copied(message: dict[str, Any], copy: int) -> dict[str, Any]:
    """The same shape, other people: the mix is as long as it has to be."""
    if not copy:
        return message
    renamed = {name: f"{message[name]}-{copy}" for name in ("messageId", "userId", "anonymousId") if message.get(name)}
    return {**message, **renamed}


def wanted(names: str, only: str) -> bool:
    """Whether one of the names begins with what is asked for, or the other way round."""
    return any(name.startswith(only) or only.startswith(name) for name in names.split())


def measure(only: str, soak: float) -> list[Measured]:
    """Everything (or what begins with `only`): the door, then the suite. With `soak` minutes: the door's memory."""
    found: list[Measured] = []
    if soak or wanted("door", only):
        console.print("the collector's door")
        door.measure(noting(found), soak)
    if soak or (only and wanted("door", only)):
        return found
    if wanted("likeness", only):
        console.print("look-alikes")
        likeness.measure(noting(found))
    if only and wanted("likeness", only):
        return found
    return found + measure_suite(only)


def measure_suite(only: str) -> list[Measured]:
    """Everything (or what begins with `only`), on a suite of its own."""
    home = Settings.from_env().home.resolve() / "bench"
    shutil.rmtree(home, ignore_errors=True)
    suite = Suite.apart(home, SAMLA_ALLOW_LOCAL_WEBHOOKS="1")
    try:
        console.print("starting")
        suite.up()
        mix = mix_of(BATCH_EVENTS + SINGLE_EVENTS + RATE * RATE_SECONDS)
        settings = Settings.from_env(suite.environment)
        client = connect(settings.mongodb_url)
        log = MongoEventLog(client, settings.database("log"), MongoTransactor(client))
        with rpc_cluster(settings, timeout=60) as services:
            bench = Bench(suite, services, log, client)
            parts = {
                "ingest.batches end_to_end raw": lambda: bench.ingest(mix),
                "ingest.singles nameko": lambda: bench.singles(mix[BATCH_EVENTS:]),
                "webhook": lambda: bench.latency(mix[BATCH_EVENTS + SINGLE_EVENTS :]),
                "resolution": lambda: resolution.measure(bench.note, settings),
                "profile": lambda: profiles.measure(bench.note, settings, services, bench.key, bench.quiet),
                "rebuild": lambda: bench.rebuild(mix),
                "segments": lambda: segments.measure(bench.note, settings, bench.key, bench.quiet),
                "memory": bench.memory,
                "storm": bench.storms,
                "import": bench.importing,
            }
            for names, part in parts.items():
                if wanted(names, only):
                    part()
        return bench.found
    finally:
        suite.down()


def main() -> int:
    """0, also where a goal is missed: a noisy machine is no defect."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="names that begin with this")
    parser.add_argument("--soak", type=float, default=0, help="minutes of memory under load, instead of all else")
    asked = parser.parse_args()
    found = measure(asked.only, asked.soak)
    table = Table("name", "value", "unit", "goal", "", title="Samla, measured")
    for each in found:
        met = (
            "" if each.goal is None else ("met" if (each.value >= each.goal) == (each.better == "higher") else "MISSED")
        )
        table.add_row(each.name, f"{each.value:,.2f}", each.unit, "" if each.goal is None else f"{each.goal:,g}", met)
    console.print(table)
    path = Settings.from_env().home / "bench.json"
    path.write_text(json.dumps([each._asdict() for each in found], indent=2) + "\n")
    console.print(f"written to {Path(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
