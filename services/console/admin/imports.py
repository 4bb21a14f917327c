"""Imports that run in the background, and go on after whatever ended them.

What an import is stands in a file of its own, beside the uploaded one, moved on with every batch that is durable; so
it is found again at the start and goes on behind it. The write key is in there sealed. Once an import is over the
uploaded file and the key are gone.
"""

import base64
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.console.importing.mapping import Mapping_, mapped, mappings_of
from services.console.importing.opening import open_file
from services.console.importing.repeats import notes_of
from services.console.importing.sending import NO_MESSAGE, NOTHING, Came, Door, Mark, count_places, digest_of, send
from services.console.keeping import keep
from shared.config import Settings
from shared.errors import SamlaError, Unavailable

WORKERS: Final = 2
PAUSE: Final = 5.0
"""Seconds before an import whose collector is away is gone on with."""
MOST_KEPT: Final = 1_000
"""Imports that are over and still shown."""
NONCE_BYTES: Final = 12
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"

logger = structlog.get_logger("samla.console")


class Job(msgspec.Struct, kw_only=True):
    """An import, as it stands in its file."""

    id: str
    format: str
    encoding: str
    separator: str
    mapping: Any
    """One or several."""
    key: str
    """The write key, sealed; empty once it is over."""
    size: int
    created: int
    changed: int
    state: str = RUNNING
    bytes: int = 0
    rows: int = 0
    begun: bool = False
    skipped: int = 0
    set_aside: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    repeated: int = 0
    refused_fields: dict[str, int] = msgspec.field(default_factory=dict)
    why: str = ""
    notes: list[str] = msgspec.field(default_factory=list)


SHOWN: Final = (
    "id", "state", "format", "size", "bytes", "rows", "skipped", "set_aside", "reasons", "repeated", "refused_fields",
    "why", "notes", "created", "changed",
)  # fmt: skip


def described(job: Job) -> dict[str, Any]:
    """What is told of an import."""
    return {name: getattr(job, name) for name in SHOWN}


class Stopping(Exception):
    """The console ends: the import goes on at its next start."""


class Importer:
    """See the module's text. `start` and `stop` are called once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs_folder = settings.home / "imports-api"
        self.files = settings.home / "uploads"
        self._marks = settings.home / "imports"
        self._seal = _cipher(settings.master_key())
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._workers = [threading.Thread(target=self._work, name="importing", daemon=True) for _ in range(WORKERS)]

    def start(self) -> None:
        """Finds what was left, and goes on with it."""
        for folder in (self._jobs_folder, self.files):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        for path in self._jobs_folder.glob("*.json"):
            job = msgspec.json.decode(path.read_bytes(), type=Job)
            self._jobs[job.id] = job
        self._tidy()
        for job in sorted(self._jobs.values(), key=lambda each: each.created):
            if job.state == RUNNING:
                self._waiting.put(job.id)
        for each in self._workers:
            each.start()

    def stop(self) -> None:
        """Ends after the batches at hand."""
        self._stopped.set()
        for _ in self._workers:
            self._waiting.put("")
        for each in self._workers:
            each.join(10)

    def add(self, job: Job, write_key: str) -> None:
        """A new import, whose file is there. It is durable when this returns."""
        job.key = self._sealed(job.id, write_key)
        self._save(job, durable=True)
        self._jobs[job.id] = job
        self._waiting.put(job.id)

    def file_of(self, identity: str, format_: str) -> Path:
        """Where an upload lies; its ending says what it is."""
        return self.files / f"{identity}.{format_}"

    def job(self, identity: str) -> Job | None:
        """One of them."""
        return self._jobs.get(identity)

    def jobs(self) -> list[Job]:
        """All, latest first."""
        return sorted(self._jobs.values(), key=lambda each: (-each.created, each.id))

    @property
    def unfinished(self) -> int:
        """How many are not over."""
        return sum(each.state == RUNNING for each in list(self._jobs.values()))

    # One after the other

    def _work(self) -> None:
        while identity := self._waiting.get():
            if self._stopped.is_set():
                return
            try:
                self._run(self._jobs[identity])
            except Stopping:
                return
            except OSError as error:
                # No room for its own description, say. It is still running as far as the disk knows.
                logger.error("an import cannot be written down", job=identity, error=type(error).__name__)

    def _run(self, job: Job) -> None:
        try:
            self._send(job)
        except Stopping:
            raise
        except Unavailable:
            self._waits(job, "waits for the collector")
            self._sleep(PAUSE)
            self._waiting.put(job.id)
        except SamlaError as error:
            self._end(job, FAILED, str(error))
        except Exception as error:
            # Only its type: the text may quote the file.
            logger.error("an import failed", job=job.id, error=type(error).__name__)
            self._end(job, FAILED, f"the file cannot be read ({type(error).__name__})")
        else:
            self._end(job, DONE, "")

    def _send(self, job: Job) -> None:
        path = self.file_of(job.id, job.format)
        key, wanted = self._opened(job), mappings_of(job.mapping)
        file = open_file(path, job.encoding, job.separator, wanted).checked()
        job.notes = file.notes
        mark = _JobMark(self._marks, path, wanted, key, job, self._save)
        door = Door(self._settings.collector_url, key, sleep=self._sleep, say=lambda text: self._waits(job, text))

        def reached(at: int) -> None:
            job.bytes = min(at, job.size)
            if self._stopped.is_set():
                raise Stopping

        report = send(mapped(wanted, file.rows), door, mark, reached)
        job.notes = [*file.notes, *notes_of(job.repeated)]
        if not (report.messages or job.rows):
            raise SamlaError(NO_MESSAGE)

    def _waits(self, job: Job, why: str) -> None:
        job.why = why
        self._save(job)

    def _end(self, job: Job, state: str, why: str) -> None:
        job.state, job.why, job.key = state, why, ""
        if state == DONE:
            job.bytes = job.size
        self._save(job, durable=True)
        self.file_of(job.id, job.format).unlink(missing_ok=True)
        self._tidy()

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopping

    # On disk

    def _save(self, job: Job, durable: bool = False) -> None:
        job.changed = now_ms()
        keep(self._jobs_folder / f"{job.id}.json", msgspec.json.encode(job), durable)

    def _tidy(self) -> None:
        """Removes the oldest that are over, and at the start what was uploaded in part only."""
        over = [each for each in self.jobs() if each.state != RUNNING]
        for job in over[MOST_KEPT:]:
            (self._jobs_folder / f"{job.id}.json").unlink(missing_ok=True)
            self._jobs.pop(job.id, None)
        if not self._workers[0].is_alive():
            for path in self.files.iterdir():
                job_ = self._jobs.get(path.stem)
                if job_ is None or job_.state != RUNNING:
                    path.unlink()

    def _sealed(self, identity: str, write_key: str) -> str:
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._seal.encrypt(nonce, write_key.encode(), identity.encode())).decode()

    def _opened(self, job: Job) -> str:
        text = base64.b64decode(job.key)
        try:
            return self._seal.decrypt(text[:NONCE_BYTES], text[NONCE_BYTES:], job.id.encode()).decode()
        except InvalidTag as error:
            raise SamlaError("its write key was sealed under another SAMLA_MASTER_KEY: send the file again") from error


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def _cipher(master: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=b"samla/console/imports").derive(master))


class _JobMark(Mark):
    """The mark of a file, and the job's own account of it. The job's is written first: what was set aside of a batch
    is counted in the same step as the batch."""

    def __init__(
        self,
        folder: Path,
        path: Path,
        wanted: Sequence[Mapping_],
        key: str,
        job: Job,
        save: Callable[[Job], None],
    ) -> None:
        super().__init__(folder, digest_of(path), msgspec.json.encode(wanted), key.encode())
        self._job, self._save = job, save
        if not job.begun:
            job.begun, job.skipped = True, super().rows
            job.rows = job.skipped

    @property
    def rows(self) -> int:
        """So many rows have been sent, by this import or by another one of the same file."""
        return max(super().rows, self._job.rows)

    def move(self, rows: int, came: Came = NOTHING) -> None:
        """A batch is durable."""
        job = self._job
        job.set_aside += len(came.codes)
        for code in came.codes:
            job.reasons[code] = job.reasons.get(code, 0) + 1
        job.repeated += came.repeated
        count_places(job.refused_fields, came.refused)
        job.rows, job.why = rows, ""
        self._save(job)
        super().move(rows, came)
