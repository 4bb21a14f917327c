"""The bulk of a rebuild on a Dask cluster (extra `samla[dask]`): the same functions, in smaller parts.

    a slice of a partition -> its states, cut into parts by key -> all slices' parts of the same key merged -> written

A state is a commutative merge, so any cut will do. What passes between workers is sealed under a key derived from the
master key, which they have from their own settings: the scheduler, disks to which workers spill and the network see
nothing of anybody.
"""

import operator
import os
import threading
import zlib
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.profile.bulk import Gathered, Job, correct, gather, pages_of, write
from services.profile.domain.state import add
from services.profile.folding import SERVICE
from services.profile.store import ProfileStore
from shared.config import Settings
from shared.errors import SamlaError
from shared.keyring import NONCE_BYTES, derived
from shared.progress import Told
from shared.rebuild import Tools

MOST_PARTS: Final = 32
"""That the states of a slice are cut into: as many as there are slices, so that merging one part of each takes no more
memory than a slice."""
USE: Final = "rebuild slices"


class Folded(NamedTuple):
    """What comes of a slice."""

    events: int
    corrected: list[str]
    """Subjects whose events were corrected."""
    parts: list[bytes]
    """The states by key, sealed."""


class Cluster:
    """See services.profile.bulk.Engine. Without an address a cluster of `processes` is made on this machine. `slice_`:
    events of one task."""

    def __init__(self, address: str, processes: int, slice_: int) -> None:
        self._address = address
        self._processes = processes
        self._slice = slice_

    def fold(self, tools: Tools, job: Job) -> int:
        """All partitions; of each so many at a time as there are workers."""
        distributed = _distributed()
        name = tools.db.name
        with _client(distributed, self._address, self._processes) as client:
            waiting = list(job.upto)
            # A partition more than there are workers, so that none waits.
            together = max(1, sum(client.nthreads().values())) + 1
            running = distributed.as_completed([])
            count = 0
            for partition in waiting[:together]:
                running.add(self._submit(client, tools.progress, job, partition, name))
            waiting = waiting[together:]
            for future in running:
                count += future.result()
                if waiting:
                    running.add(self._submit(client, tools.progress, job, waiting.pop(0), name))
            return count

    def _submit(self, client: Any, progress: Told, job: Job, partition: int, database: str) -> Any:
        """The tasks of one partition; the last one's result is how many events there were."""
        slices = list(range(0, job.upto[partition], self._slice))
        parts = min(MOST_PARTS, len(slices))

        def submit(task: Any, *arguments: Any) -> Any:
            return client.submit(task, *arguments, pure=False)

        folded = []
        for at in slices:
            end = min(at + self._slice, job.upto[partition])
            folded.append(submit(fold_slice, database, job, partition, at, end, parts))
            folded[-1].add_done_callback(partial(_tell, progress, end - at))
        cut = [submit(operator.attrgetter("parts"), each) for each in folded]
        merged = [
            submit(merge_parts, database, job, [submit(operator.itemgetter(part), each) for each in cut])
            for part in range(parts)
        ]
        return submit(finish, database, job, partition, [submit(_without_parts, each) for each in folded], merged)


def fold_slice(database: str, job: Job, partition: int, after: int, upto: int, parts: int) -> Folded:
    """A slice of a partition: its states by key, in so many parts."""
    tools = _tools(database, job)
    store = ProfileStore(tools.db, tools.keyring, beside=job.end)
    gathered: Gathered = {}
    corrected: set[str] = set()
    count = 0
    for page in pages_of(tools, job, partition, after, upto):
        gather(tools, job, store, page, gathered, corrected)
        count += len(page)
    cut: list[Gathered] = [{} for _ in range(parts)]
    for at, states in gathered.items():
        cut[zlib.crc32(at.encode()) % parts][at] = states
    return Folded(count, sorted(corrected), [_sealed(job, each) for each in cut])


def merge_parts(database: str, job: Job, parts: list[bytes]) -> int:
    """One part of each slice's states, merged and written; how many states."""
    tools = _tools(database, job)
    merged: Gathered = {}
    for part in parts:
        for at, states in _opened(job, part).items():
            add(merged.setdefault(at, {}), states)
    write(tools, job, ProfileStore(tools.db, tools.keyring, beside=job.end), merged)
    return len(merged)


def finish(database: str, job: Job, partition: int, folded: list[Folded], merged: list[int]) -> int:
    """What was corrected, once all states of a partition are written; how many events there were."""
    tools = _tools(database, job)
    corrected = sorted({subject for each in folded for subject in each.corrected})
    correct(tools, job, ProfileStore(tools.db, tools.keyring, beside=job.end), partition, corrected)
    return sum(each.events for each in folded)


def _tell(progress: Told, events: int, future: Any) -> None:
    if future.status == "finished":
        progress.advance(events)


def _without_parts(folded: Folded) -> Folded:
    return folded._replace(parts=[])


# A worker's tools

_kept = threading.local()


def _tools(database: str, job: Job) -> Tools:
    """Of this thread, by this worker's settings. Raises SamlaError where those are not the deployment's."""
    if getattr(_kept, "end", None) != job.end:
        if hasattr(_kept, "tools"):
            _kept.tools.client.close()
        settings = Settings.from_env()
        tools = Tools.open(settings, SERVICE)
        # It refuses another master key.
        tools.keyring.setup()
        if tools.db.name != database or f"states{job.end}" not in tools.db.list_collection_names():
            raise SamlaError(
                f"this worker's settings lead to another deployment than {database}: give it the same MONGODB_URL, "
                "SAMLA_PREFIX and SAMLA_MASTER_KEY"
            )
        _kept.tools, _kept.end = tools, job.end
        _kept.cipher = AESGCM(derived(settings.master_key(), USE))
    tools_: Tools = _kept.tools
    return tools_


def _sealed(job: Job, states: Gathered) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    sealed: bytes = nonce + _kept.cipher.encrypt(nonce, orjson.dumps(states), job.end.encode())
    return sealed


def _opened(job: Job, part: bytes) -> Gathered:
    text = _kept.cipher.decrypt(part[:NONCE_BYTES], part[NONCE_BYTES:], job.end.encode())
    states: Gathered = orjson.loads(text)
    return states


# The cluster


def _distributed() -> Any:
    try:
        # Only here: nobody else needs the package.
        import distributed  # noqa: PLC0415
    except ImportError as error:
        raise SamlaError("--engine dask needs a package that is not installed: pip install 'samla[dask]'") from error
    return distributed


def _client(distributed: Any, address: str, processes: int) -> Any:
    if address:
        try:
            return distributed.Client(address, timeout=10)
        except (OSError, ValueError) as error:
            raise SamlaError(f"no Dask scheduler answers at {address}") from error
    cluster = distributed.LocalCluster(
        n_workers=processes, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    )
    return distributed.Client(cluster)
