"""`make demo`: the whole suite on a real shop's year, from the HTTP door to signed webhooks."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import orjson
import urllib3
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.console import show
from services.console.demo_data import Sent, Year, year
from services.console.demo_files import File, files
from services.console.demo_segments import SEGMENTS, sizes, somebody
from services.console.importing.files import dialect_of, rows_of
from services.console.importing.mapping import mapped, mappings_of
from services.console.importing.sending import Door, Mark, Report, digest_of, send
from services.console.progress import behind, is_quiet
from services.console.sink import Sink
from shared.config import Settings
from shared.errors import SamlaError, Unavailable
from shared.eventlog import MongoEventLog
from shared.keyring import new_id
from shared.local.processes import is_open
from shared.local.suite import Suite
from shared.mongo import MongoTransactor, connect
from shared.rpc import rpc_cluster

BATCH: Final = 100
CONNECTIONS: Final = 4
QUIET_SECONDS: Final = 600.0
SOURCES: Final = ("web", "shop", "crm", "survey")
LOOKED_AT: Final = 200
"""People of whom one is chosen to be shown."""
HALF_A_YEAR_MS: Final = 182 * 86_400_000
ORDERS: Final = {"event": "Order Completed", "where": [{"property": "currency", "is": "USD"}]}
TRAITS: Final[Mapping[str, Mapping[str, Any]]] = {
    "spent-90d": {**ORDERS, "measure": "sum", "value": "revenue", "within": "90d"},
    "favourite-department": {**ORDERS, "measure": "most_frequent", "value": "products.department"},
}
"""Computed traits that are there from the start; and one that comes when the year is over."""
LATE_TRAIT: Final = ("average-basket", {**ORDERS, "measure": "average", "value": "revenue"})
SUBSCRIPTIONS: Final = (
    ("email tool", "frequent-buyers", "marketing"),
    ("email tool", "lapsed", "marketing"),
    ("email tool", "looks-online", "marketing"),
    ("ads tool", "big-spenders", "ads"),
)

console = Console()


class Seconds(NamedTuple):
    """How long it took."""

    streaming: float
    following: float
    filling: float


class Demo:
    """One run, with a suite, a data folder and databases of its own."""

    def __init__(self, suite: Suite, services: Any, log: MongoEventLog, sink: Sink) -> None:
        self._suite = suite
        self._services = services
        self._log = log
        self._sink = sink
        self._keys: dict[str, str] = {}

    def prepare(self) -> None:
        """Sources, segments, destinations."""
        for name in SOURCES:
            self._keys[name] = self._services.collector.create_source(name, "first")["write_key"]
        for key, name, definition in SEGMENTS:
            self._services.segmentation.create_segment(key, name, definition)
        for key, definition in TRAITS.items():
            self._services.profile.add_trait(key, definition)
        made: dict[str, str] = {}
        for destination, segment, purpose in SUBSCRIPTIONS:
            if destination not in made:
                found = self._services.activation.create_destination(name=destination, url=self._sink.url)
                self._sink.secrets.append(found["secret"])
                made[destination] = found["destination"]
            self._services.activation.subscribe(made[destination], segment, ["entered", "left"], purpose)
        # Nobody's server is always well: the first messages find it ill, and come again.
        self._sink.ill = 3

    def stream(self, sent: Sequence[Sent]) -> float:
        """Sends everything through the HTTP door; seconds."""
        batches = list(_batches(sent))
        pool = urllib3.PoolManager(maxsize=CONNECTIONS)
        started = time.monotonic()
        with _progress() as bar, ThreadPoolExecutor(CONNECTIONS) as threads:
            task = bar.add_task("events through the collector's door", total=len(sent))
            for count in threads.map(lambda batch: self._post(pool, *batch), batches):
                bar.advance(task, count)
        return time.monotonic() - started

    def _post(self, pool: urllib3.PoolManager, source: str, batch: list[Sent]) -> int:
        """Like an SDK: again, where the answer says later."""
        body = orjson.dumps({"batch": [each.message for each in batch]})
        headers = {"Content-Type": "application/json", **urllib3.make_headers(basic_auth=f"{self._keys[source]}:")}
        url = f"http://127.0.0.1:{self._suite.settings.collector_port}/v1/batch"
        for _ in range(60):
            answer = pool.request("POST", url, body=body, headers=headers, timeout=30, retries=False)
            if answer.status == 200:
                return len(batch)
            if answer.status != 503:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        raise Unavailable(f"the collector answered {answer.status}: {answer.data.decode()[:200]}")

    def bring_in(self, brought: Sequence[File]) -> list[tuple[File, Report]]:
        """Imports files as `samla import` does; what each import did."""
        url = f"http://127.0.0.1:{self._suite.settings.collector_port}"
        done = []
        for each in brought:
            rows, key = rows_of(each.path, dialect_of(each.path)), self._keys[each.source]
            mark = Mark(self._suite.home / "imports", digest_of(each.path), orjson.dumps(each.mapping), key.encode())
            done.append((each, send(mapped(mappings_of(each.mapping), rows), Door(url, key), mark)))
        return done

    def wait_until_quiet(self) -> float:
        """Until everything has followed; seconds."""
        started = time.monotonic()
        with _progress() as bar:
            lag = sum(behind(self._services, self._log).values())
            task = bar.add_task("what follows from them        ", total=max(lag, 1))
            while not is_quiet(self._services, self._log):
                if time.monotonic() - started > QUIET_SECONDS:
                    raise Unavailable(f"not all was handled within {QUIET_SECONDS:g} s; see {self._suite.home / 'log'}")
                now = sum(behind(self._services, self._log).values())
                bar.update(task, completed=max(0, max(lag, 1) - now))
                time.sleep(0.2)
            bar.update(task, completed=max(lag, 1))
        return time.monotonic() - started

    def add_trait(self) -> float:
        """Defines a computed trait of what has happened already, until all profiles have it; seconds."""
        key, definition = LATE_TRAIT
        started = time.monotonic()
        row = self._services.profile.add_trait(key, definition)
        with _progress() as bar:
            task = bar.add_task(f"computed trait {key:<13}", total=row["of"])
            while not row["filled"]:
                if time.monotonic() - started > QUIET_SECONDS:
                    raise Unavailable(
                        f"{key} was not filled within {QUIET_SECONDS:g} s; see {self._suite.home / 'log'}"
                    )
                time.sleep(0.1)
                row = next(each for each in self._services.profile.traits() if each["key"] == key)
                bar.update(task, completed=row["of"] - row["left"])
            bar.update(task, completed=max(row["of"], 1), total=max(row["of"], 1))
        return time.monotonic() - started

    def tell(self, told: Year, brought: Sequence[tuple[File, Report]], seconds: "Seconds") -> None:
        """What came of it."""
        sent = len(told.sent) + sum(report.messages for _, report in brought)
        console.print()
        console.print(self._summary(sent, seconds))
        console.print(_imports(brought))
        console.print(sizes(self._services, time.time_ns() // 1_000_000))
        if (why := somebody(self._services)) is not None:
            console.print(why)
        if (shown := self._somebody(told)) is not None:
            show.card(shown)
            now = time.time_ns() // 1_000_000
            show.comparison(self._services.profile.compare(shown["profile"], now - HALF_A_YEAR_MS, now))
            show.timeline({**self._services.profile.timeline(shown["profile"], 12), "next": None})
            console.print(
                "Bought and known from the CRM: as published. Visits, logins, e-mails, consents, contact ids and the "
                "survey's answers: made up, from a fixed seed.",
                style="dim",
            )

    def _summary(self, sent: int, seconds: "Seconds") -> Table:
        table = Table(title="What came of it", show_header=False, title_justify="left")
        add = table.add_row
        add("messages sent", f"{sent:,} in {seconds.streaming:.1f} s, handled {seconds.following:.1f} s later")
        add("events in the log", f"{sum(self._log.heads('tracking').values()):,}")
        reasons: Counter[str] = Counter()
        for row in self._services.collector.quarantine_counts():
            reasons[row["reason"]] += row["count"]
        add("quarantined", _counted(reasons))
        identity, activation = self._services.identity.stats(), self._services.activation.stats()
        add(
            "people found",
            f"{identity['people']:,} ({identity['identifiers']:,} identifiers, {identity['merges']:,} merges)",
        )
        late = f"{LATE_TRAIT[0]} last, from all that had happened, in {seconds.filling:.1f} s"
        add("computed traits", f"{len(self._services.profile.traits())}: {late}")
        received = self._sink.counts()
        verified = f"{received['verified']:,} of {received['requests']:,} signatures verified"
        add("webhooks received", f"{received['messages']:,} in {received['requests']:,} attempts, {verified}")
        add("  of which", _counted(received["types"]))
        add("deliveries held back", _counted(activation["held"]))
        return table

    def _somebody(self, told: Year) -> Any:
        """The profile of somebody of whom all four parts are known, and an e-mail address too."""
        best: tuple[int, Any] = (0, None)
        for number in list(told.demographics)[:LOOKED_AT]:
            profile = self._services.identity.resolve([["user", f"household-{number}"]])
            found = self._services.profile.show(profile) if profile else None
            if found is None:
                continue
            filled = sum(bool(found[part]) for part in show.PARTS) + ("email" in found["identity"])
            if filled > best[0]:
                best = filled, found
            if filled > len(show.PARTS):
                break
        return best[1]

    def addresses(self) -> None:
        """Where to look on."""
        port = self._suite.settings.collector_port
        health = self._suite.settings.health_port
        console.print(
            f"\ncollector   http://127.0.0.1:{port}/v1/track   (health, metrics: /health, /metrics)", highlight=False
        )
        console.print(f"services    http://127.0.0.1:{health}/metrics ... {health + 5}", highlight=False)
        console.print(f"logs        {self._suite.home / 'log'}", highlight=False)
        names = ("MONGODB_URL", "AMQP_URL", "SAMLA_PREFIX", "SAMLA_HOME")
        given = " ".join(f"{name}='{self._suite.environment[name]}'" for name in names)
        console.print(f"ask it      env {given} .venv/bin/samla segment list", highlight=False, soft_wrap=True)


def _imports(brought: Sequence[tuple[File, Report]]) -> Table:
    table = Table("file", "written as", "rows", "messages", "set aside", title="Imported", title_justify="left")
    for each, report in brought:
        counts = (f"{report.rows:,}", f"{report.messages:,}", _counted(report.reasons))
        table.add_row(each.path.name, each.written, *counts)
    return table


def _counted(counts: Mapping[str, int]) -> str:
    if not counts:
        return "0"
    shown = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{sum(counts.values()):,}: {shown}"


def _batches(sent: Sequence[Sent]) -> Iterator[tuple[str, list[Sent]]]:
    """A source's messages in batches, in the order of time."""
    gathered: dict[str, list[Sent]] = {name: [] for name in SOURCES}
    for one in sent:
        batch = gathered[one.source]
        batch.append(one)
        # A batch may hold 500 KB; orders are long.
        if len(batch) == BATCH:
            yield one.source, batch
            gathered[one.source] = []
    yield from ((source, batch) for source, batch in gathered.items() if batch)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def suite_of_its_own() -> Suite:
    """On the usual port where that is free; with fresh databases, so that it can be run again and again."""
    settings = Settings.from_env()
    home = (settings.home / "demo").resolve()
    own = {"SAMLA_PREFIX": f"demo_{new_id()[:8]}", "SAMLA_ALLOW_LOCAL_WEBHOOKS": "1"}
    for name in ("MONGODB_URL", "AMQP_URL", "SAMLA_MASTER_KEY"):
        if os.environ.get(name):
            own[name] = os.environ[name]
    if not is_open(settings.collector_port):
        own["COLLECTOR_PORT"] = str(settings.collector_port)
    suite = Suite.apart(home, **own)
    suite.down_from(home)
    if suite.owns_mongodb:
        shutil.rmtree(home / "mongodb", ignore_errors=True)
    return suite


def run(everything: bool, leave: bool) -> None:
    """The demo."""
    suite = suite_of_its_own()
    try:
        with console.status("starting MongoDB, RabbitMQ and the services"):
            suite.up()
        with console.status("reading a year of purchases"):
            told = year(everything, time.time_ns() // 1_000_000)
            brought = files(told, suite.home / "files")
        settings = Settings.from_env(suite.environment)
        log = MongoEventLog(client := connect(settings.mongodb_url), settings.database("log"), MongoTransactor(client))
        with rpc_cluster(settings, timeout=60) as services, Sink() as sink:
            demo = Demo(suite, services, log, sink)
            demo.prepare()
            streaming = demo.stream(told.sent)
            reports = demo.bring_in(brought)
            following = demo.wait_until_quiet()
            filling = demo.add_trait()
            demo.tell(told, reports, Seconds(streaming, following, filling))
            demo.addresses()
            if not leave:
                console.print("\nIt stays up until Ctrl-C.")
                _until_interrupted()
    finally:
        with console.status("ending the suite"):
            suite.down()


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def main() -> int:
    """0 where all went well."""
    parser = argparse.ArgumentParser(prog="python -m services.console.demo", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all households, not a sample")
    parser.add_argument("--exit", action="store_true", help="leave at the end")
    options = parser.parse_args()
    try:
        run(options.all, options.exit)
    except KeyboardInterrupt:
        return 130
    except SamlaError as error:
        console.print(f"samla: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
