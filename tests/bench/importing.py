"""`samla import` of a large file: rows a second and the sender's peak of memory, at a door that only answers, and
at the real one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shared.local.processes import free_ports, is_open
from shared.local.suite import ROOT, eventually

ROWS = int(os.environ.get("BENCH_IMPORT_ROWS", "1000000"))
"""Of the file; BENCH_IMPORT_ROWS says otherwise."""
AT_THE_DOOR = min(ROWS, 100_000)
"""Rows that go through the real door."""
PEOPLE = 20_000
MOST_MB = 150
MAPPING = {
    "type": "track", "event": "Order Completed", "id": ["Ordernr"], "set": {"properties.currency": "SEK"},
    "time": {"column": "Datum", "format": "%Y-%m-%d %H:%M", "zone": "Europe/Stockholm"},
    "columns": {
        "Kundnr": "userId", "Ordernr": "properties.order_id", "Butik": "properties.store",
        "Mobil": {"to": "traits.phone", "clean": [{"phone": {"region": "SE"}}]},
        "Belopp": {"to": "properties.revenue", "as": "number", "decimal": ","},
    },
}  # fmt: skip

Note = Callable[..., None]


def written(path: Path) -> None:
    """A million orders, as a Swedish Excel saves Unicode text."""
    with path.open("w", encoding="utf-16", newline="") as file:
        file.write("Kundnr\tOrdernr\tDatum\tBelopp\tButik\tMobil\r\n")
        for number in range(ROWS):
            day, minute, amount = number % 28 + 1, number % 60, number % 1_000
            phone = f"070-{number % PEOPLE + 1_000_000}"
            line = f"{number % PEOPLE}\tA-{number}\t2026-01-{day:02} 10:{minute:02}\t{amount},50\tUmeå\t{phone}\r\n"
            file.write(line)


def measure(note: Note, folder: Path, environment: dict[str, str], door: int, key: str) -> None:
    """`door`: the collector's port."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "import.csv"
    written(path)
    try:
        [port] = free_ports(1)
        empty = subprocess.Popen([sys.executable, "-m", "tests.bench.empty_asgi", str(port)], cwd=ROOT)
        try:
            eventually(lambda: is_open(port), 20, "the empty door does not listen")
            _send(note, "import.sender", path, environment, port, "nobody", ROWS)
        finally:
            empty.send_signal(signal.SIGKILL)
            empty.wait()
        _send(note, "import.door", path, environment, door, key, AT_THE_DOOR)
    finally:
        path.unlink()


def _send(note: Note, name: str, path: Path, environment: dict[str, str], port: int, key: str, rows: int) -> None:
    """Runs the command; the kernel says how much memory it had at most."""
    command = [
        sys.executable, "-m", "services.console.cli", "import", str(path), "--mapping", json.dumps(MAPPING),
        "--write-key", key, "--url", f"http://127.0.0.1:{port}", "--rows", str(rows), "--json",
    ]  # fmt: skip
    started, peak = time.perf_counter(), 0.0
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    while running.poll() is None:
        peak = max(peak, _peak_mb(running.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    report = json.loads(running.stdout.read())
    assert (report["messages"], report["set_aside"]) == (rows, 0), report
    note(name, rows / seconds, "rows/s")
    note(f"{name}.memory", peak, "MB", MOST_MB, "lower")


def _peak_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        # It has ended, or the kernel does not tell.
        return 0.0
