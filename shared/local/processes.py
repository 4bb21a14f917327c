"""Processes in the background: started, found again, and ended by the id that they were started with."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from shared.errors import Unavailable

STOP_SECONDS: Final = 15.0
LOG_LINES: Final = 8


class Background:
    """One named process. Its pid file holds the id and the start time, so that another process that has
    got the same id since is never taken for it."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.log = home / "log" / f"{name}.log"
        self._file = home / "run" / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """The id of the running process, or None."""
        try:
            pid, started = map(int, self._file.read_text().split())
        except (OSError, ValueError):
            return None
        return pid if _started_at(pid) == started else None

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> None:
        """Starts it, unless it runs already; what it prints goes to its log."""
        if self.pid is not None:
            return
        for each in (self.log, self._file):
            each.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._file.write_text(f"{process.pid} {_started_at(process.pid) or 0}")

    def signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Asks it to end, and ends it where it does not within `seconds`."""
        self.signal(signal.SIGTERM)
        if not self._gone_within(seconds):
            self.kill()
        self._file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends it at once (SIGKILL)."""
        self.signal(signal.SIGKILL)
        self._gone_within(STOP_SECONDS)

    def _gone_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (pid := self.pid) is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return ""


def wait_until(ready: Callable[[], bool], process: Background, seconds: float) -> None:
    """Waits for a condition; Unavailable, with the end of its log, where the process ends or takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        if process.pid is None or time.monotonic() > end:
            how = "ended" if process.pid is None else f"was not ready within {seconds:g} s"
            raise Unavailable(f"{process.name} {how}; the end of {process.log}:\n{process.last_words()}")
        time.sleep(0.05)


def is_open(port: int) -> bool:
    """Whether something listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, in a row."""
    for first in range(20_000 + os.getpid() % 8_000, 32_000, count):
        if all(_can_bind(first + each) for each in range(count)):
            return list(range(first, first + count))
    raise Unavailable(f"no {count} free ports in a row on this machine")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _started_at(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks; None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
