"""The edge as several processes: a parent that starts and watches them, one that appends, and those that serve.

The parent imports, binds and forks; it has no thread and no connection, so that a process that died is replaced by
another fork within milliseconds. Each that serves has a listening socket of its own on the same port (SO_REUSEPORT),
which the parent keeps: what arrives there while the process is being replaced waits for the next one.
"""

import atexit
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from shared.config import Settings
from shared.errors import SettingsError

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
STOP_SECONDS: Final = 45.0
"""A process finishes its requests (20 s) and appends what waits (20 s)."""
SOON_SECONDS: Final = 5.0
"""A process that lives no longer than that is not replaced at once."""
PAUSES: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
BACKLOG: Final = 2048
CANNOT_OPEN: Final = 1
DIED: Final = 70
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

logger = structlog.get_logger("samla.edge")
_number = -1


def prepare() -> None:
    """To be called before any metric is made: those of several processes are kept in files, by the process's number,
    so that a scrape shows their sum and a process that replaces another counts on."""
    try:
        if Settings.from_env().collector_processes == 1:
            return
    except SettingsError:
        return  # It is told when the settings are read to be used.
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="samla-edge-")
    atexit.register(_clean)
    from prometheus_client import values  # noqa: PLC0415

    values.ValueClass = values.MultiProcessValue(lambda: _number)


def metrics() -> bytes:
    """Prometheus' text format; the sum over all processes."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess  # noqa: PLC0415

    if FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


Task = Callable[[socket.socket], int]
"""What a process does with its listening socket; its exit code."""


def supervise(settings: Settings, append: Task, serve: Task) -> int:
    """Runs one process that appends and others that serve, until SIGTERM or SIGINT; 1 where one could not open."""
    host, port, serving = settings.bind, settings.collector_port, settings.collector_processes - 1
    try:
        doors = bound(host, port, serving)
        appender = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        appender.bind(appender_path())
    except OSError as error:
        logger.error("the edge cannot start", why=f"it cannot listen on {host}:{port} and {appender_path()}: {error}")
        return CANNOT_OPEN
    appender.listen(BACKLOG)
    appender.setblocking(False)
    return Supervisor([(appender, append), *((door, serve) for door in doors)]).run()


def appender_path() -> str:
    """Where the process that appends listens."""
    return f"{os.environ[FOLDER]}/appender"


def _clean() -> None:
    shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def bound(host: str, port: int, count: int) -> list[socket.socket]:
    """So many listening sockets on the same port. Raises OSError where another program listens there."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # Whoever else shares the port would get a part of what is sent to us: it must be free without sharing, too.
    with _socket(family) as probe:
        probe.bind(address)
    sockets = []
    for _ in range(count):
        each = _socket(family)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(address)
        sockets.append(each)
    for each in sockets:
        each.listen(BACKLOG)
        each.setblocking(False)
    return sockets


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


class Supervisor:
    """The parent. One process a task."""

    def __init__(self, tasks: Sequence[tuple[socket.socket, Task]]) -> None:
        self._tasks = tasks
        self._pids: dict[int, int] = {}
        """Process id -> its number."""
        self._started = [0.0] * len(tasks)
        self._deaths = [0] * len(tasks)
        """In a row, each soon after the start."""
        self._due: dict[int, float] = {}
        """Number -> when it is to be started."""
        self._alive, self._held = os.pipe()
        """Ends where the parent does, however that comes."""

    def run(self) -> int:
        """Until asked to end; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._due = dict.fromkeys(range(len(self._tasks)), 0.0)
        while True:
            self._start_due()
            wait = min((at - time.monotonic() for at in self._due.values()), default=60.0)
            asked = signal.sigtimedwait(SIGNALS, max(0.0, wait))
            if asked is not None and asked.si_signo != signal.SIGCHLD:
                self._stop()
                return 0
            if CANNOT_OPEN in [self._bury(*each) for each in _dead()]:
                self._stop()
                return CANNOT_OPEN

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [each for each, at in self._due.items() if at <= now]:
            del self._due[number]
            self._start(number)

    def _start(self, number: int) -> None:
        self._started[number] = time.monotonic()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be(number)
        self._pids[pid] = number
        logger.info("a process starts", process=pid, does="serve" if number else "append")

    def _be(self, number: int) -> None:
        """In the new process; does not return."""
        global _number  # noqa: PLW0603
        _number = number
        code = DIED
        try:
            os.close(self._held)
            for each, (listening, _) in enumerate(self._tasks):
                if each != number:
                    listening.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            threading.Thread(target=_end_with, args=(self._alive,), name="parent", daemon=True).start()
            listening, run = self._tasks[number]
            code = run(listening)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else DIED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _bury(self, pid: int, code: int) -> int:
        """Has the process replaced; its exit code."""
        number = self._pids.pop(pid, None)
        if number is None or code == CANNOT_OPEN:
            return code
        lived = time.monotonic() - self._started[number]
        self._deaths[number] = self._deaths[number] + 1 if lived < SOON_SECONDS else 0
        pause = PAUSES[min(self._deaths[number], len(PAUSES) - 1)]
        self._due[number] = time.monotonic() + pause
        logger.warning("a process of the edge ended and is replaced", process=pid, code=code, lived=round(lived, 1))
        return code

    def _stop(self) -> None:
        """Ends all of them, after what they have taken."""
        for listening, _ in self._tasks[1:]:
            listening.close()
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while self._pids and (left := end - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, min(left, 1.0))
            for pid, _ in _dead():
                self._pids.pop(pid, None)
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)


def _dead() -> list[tuple[int, int]]:
    """(process id, exit code) of those that ended."""
    found = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _end_with(alive: int) -> None:
    """Ends this process as if it had been asked to, once its parent is gone."""
    os.read(alive, 1)
    _clean()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(DIED)
