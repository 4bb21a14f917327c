"""The whole suite in the background: what `make up`, the demo, the tests and the benchmarks start."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from shared.config import SERVICES, Settings
from shared.errors import Unavailable
from shared.local import mongod, rabbitmq
from shared.local.processes import Background, free_ports, is_open, wait_until

EDGE: Final = "edge"
CONSOLE: Final = "console"
MODULES: Final = {EDGE: "services.collector.edge", CONSOLE: "services.console.api"}
"""What is no nameko service -> its module."""
PROCESSES: Final = (*SERVICES, *MODULES)
START_SECONDS: Final = 60.0
ROOT: Final = Path(__file__).resolve().parents[2]


class State(NamedTuple):
    """A line of `make status`."""

    process: str
    pid: int | None
    health: str
    address: str


class Suite:
    """Samla's processes, and the two servers where the settings name none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._given = dict(environment)
        self.settings = Settings.from_env(self._given)
        self.home = self.settings.home.resolve()

    @classmethod
    def apart(cls, home: Path, environment: Mapping[str, str] = os.environ, **settings: str) -> "Suite":
        """A suite that meets no other: a folder, ports and a prefix of its own. `settings` win."""
        mongo, amqp, edge, console, *health = free_ports(4 + len(SERVICES))
        kept = {name: value for name, value in environment.items() if not name.startswith("SAMLA_")}
        for name in ("MONGODB_URL", "AMQP_URL", "COLLECTOR_PORT", "COLLECTOR_URL", "CONSOLE_PORT"):
            kept.pop(name, None)
        own = {
            "SAMLA_MONGODB_PORT": str(mongo),
            "SAMLA_AMQP_PORT": str(amqp),
            "COLLECTOR_PORT": str(edge),
            "CONSOLE_PORT": str(console),
            "SAMLA_HEALTH_PORT": str(health[0]),
            "SAMLA_HOME": str(home),
        }
        return cls(kept | own | settings)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are started with, and what asks it anything."""
        return self._given | {
            "MONGODB_URL": self.settings.mongodb_url,
            "AMQP_URL": self.settings.amqp_url,
            "SAMLA_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [self._given.get("PYTHONPATH")])]),
        }

    @property
    def owns_mongodb(self) -> bool:
        """Whether MongoDB is ours to start."""
        return not self._given.get("MONGODB_URL")

    @property
    def owns_rabbitmq(self) -> bool:
        """Whether RabbitMQ is ours to start."""
        return not self._given.get("AMQP_URL")

    def process(self, name: str) -> Background:
        """One of its processes."""
        return Background(self.home, name)

    # Up and down

    def up(self, processes: Sequence[str] = PROCESSES) -> None:
        """Starts what does not run yet, and waits until all of it is well."""
        self.start_servers()
        for name in processes:
            self.start(name)
        self.wait(processes)

    def down(self) -> None:
        """Ends everything that it started; the data stays."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.process(name).stop(), PROCESSES))
        if self.owns_rabbitmq:
            self.stop_rabbitmq()
        if self.owns_mongodb:
            mongod.process(self.home).stop()

    def down_from(self, home: Path) -> None:
        """Ends what an earlier run in this folder has left, whatever its ports were."""
        for name in (*PROCESSES, "rabbitmq", "mongod"):
            Background(home, name).stop()

    def start_servers(self) -> None:
        """MongoDB and RabbitMQ, at the same time."""
        with ThreadPoolExecutor() as pool:
            waits = [pool.submit(each) for each in (self.start_mongodb, self.start_rabbitmq)]
            for each in waits:
                each.result()

    def start_mongodb(self) -> None:
        """Where it is ours."""
        if self.owns_mongodb:
            mongod.start(self.home, _port(self.settings.mongodb_url))

    def start_rabbitmq(self) -> None:
        """Where it is ours."""
        if self.owns_rabbitmq:
            rabbitmq.start(self.home, _port(self.settings.amqp_url))

    def stop_rabbitmq(self) -> None:
        """Ends our node."""
        rabbitmq.stop(self.home, _port(self.settings.amqp_url))

    def start(self, name: str) -> None:
        """Starts one process; does not wait."""
        process = self.process(name)
        if process.pid is None:
            # One that has just been killed may take a moment to let go of its port.
            taken = f"port {self.port(name)}, where {name} should listen, is taken by another program"
            eventually(lambda: not is_open(self.port(name)), 5, taken)
        module = [MODULES[name]] if name in MODULES else ["shared.runner", name]
        process.start([sys.executable, "-m", *module], self.environment, self.home.parent)

    def wait(self, processes: Sequence[str] = PROCESSES, seconds: float = START_SECONDS) -> None:
        """Waits until these answer that they are well."""
        for name in processes:
            wait_until(lambda name=name: self.health(name) == "ok", self.process(name), seconds)  # type: ignore[misc]

    # Looking

    def port(self, name: str) -> int:
        """Where a process serves HTTP."""
        own = {EDGE: self.settings.collector_port, CONSOLE: self.settings.console_port}
        return own[name] if name in own else self.settings.port_of(name)

    def health(self, name: str) -> str:
        """`ok`, or what is wrong."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port(name)}/health", timeout=3) as answer:
                return str(json.load(answer).get("status"))
        except (URLError, OSError, ValueError) as error:
            return type(error).__name__

    def states(self) -> list[State]:
        """How everything is."""
        servers = [
            State(
                "mongod",
                mongod.process(self.home).pid,
                _listens(self.settings.mongodb_url),
                _shown(self.settings.mongodb_url),
            ),
            State(
                "rabbitmq",
                rabbitmq.process(self.home).pid,
                _listens(self.settings.amqp_url),
                _shown(self.settings.amqp_url),
            ),
        ]
        own = [
            State(name, self.process(name).pid, self.health(name), f"http://127.0.0.1:{self.port(name)}/health")
            for name in PROCESSES
        ]
        return servers + own

    def memory_mb(self) -> dict[str, float]:
        """Process -> resident memory in MB, of all that it has started too; what they share counts once."""
        return {name: sum(map(_resident, found)) for name, found in self._running()}

    def cpu_seconds(self) -> dict[str, float]:
        """Process -> seconds of processor time that it, and what it has started, have taken."""
        return {name: sum(map(_cpu_seconds, found)) for name, found in self._running()}

    def _running(self) -> Iterator[tuple[str, list[Path]]]:
        """(name, its entries in /proc): each of ours leads a session of its own."""
        everything = [each for each in Path("/proc").iterdir() if each.name.isdigit()]
        for name in ("mongod", "rabbitmq", *PROCESSES):
            if (pid := self.process(name).pid) is not None:
                yield name, [each for each in everything if _session(each) == pid]


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise Unavailable(f"there is no port in {_shown(url)}")
    return port


def _shown(url: str) -> str:
    """Without a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _listens(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost"):
        return "not looked at"
    return "ok" if is_open(parts.port or 0) else "down"


def _session(process: Path) -> int:
    try:
        return os.getsid(int(process.name))
    except OSError:
        return 0


def _resident(process: Path) -> float:
    """MB; of pages that several processes hold, each has its share."""
    try:
        text = (process / "smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _cpu_seconds(process: Path) -> float:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def eventually(condition, seconds: float, what: str, pause: float = 0.05):  # type: ignore[no-untyped-def]
    """Waits until `condition()` is true and gives its value; Unavailable after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Unavailable(f"{what} ({seconds:g} s)")
        time.sleep(pause)
    return value
