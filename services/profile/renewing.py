"""Makes the states anew when the fold's code is newer than they are, by itself, while everything goes on.

Until then each subject that something happens to is folded again at once (ProfileStore.look): what is live is right
for whoever is looked at because of an event, and by the older fold for the others.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any, Final

import structlog
from pymongo.database import Database

from services.profile.domain.state import FOLD_VERSION
from services.profile.store import ProfileStore
from services.profile.takeover import Marks
from shared.checkpoints import MongoCheckpoints
from shared.mongo import MongoTransactor

FIRST_PAUSE: Final = 5.0
"""Seconds after a rebuild that has failed; twice as long after each that follows."""
LONGEST_PAUSE: Final = 600.0
COMMAND: Final = (sys.executable, "-m", "services.profile.rebuild", "--json", "--if-older", "--attended")

logger = structlog.get_logger(__name__)


class Renewing:
    """What a ticker calls. It never blocks: the work is another process's."""

    def __init__(
        self,
        db: "Database[Any]",
        store: ProfileStore,
        checkpoints: MongoCheckpoints,
        transactor: MongoTransactor,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._store = store
        self._checkpoints = checkpoints
        self._marks = Marks(db, checkpoints, transactor)
        self._lease = self._marks.lease()
        self._command = list(command)
        self._job: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        """At the service's start: states that are there are by an older fold unless it is said that they are not."""
        known = self._marks.fold()
        if known is None and not self._store.has_older():
            self._marks.set_fold(FOLD_VERSION)
        elif known is not None and known > FOLD_VERSION:
            # An older code than before: what it folds is to be folded again when the newer one is back.
            self._marks.set_fold(FOLD_VERSION)

    def step(self) -> None:
        """Looks after a rebuild that runs; finishes what one has left that is no more; starts one where it is due."""
        if self._job is not None:
            self._look_after(self._job)
        elif self._marks.is_left_over():
            self._recover()
        elif self._marks.fold() != FOLD_VERSION and time.monotonic() >= self._not_before and self._lease.is_free():
            self._begin()

    def stop(self) -> None:
        """Ends the rebuild that runs: it is begun again by the next."""
        if self._job is not None:
            self._job.kill()
            self._job.wait()
            self._job = None

    def _recover(self) -> None:
        if not self._lease.take():
            return
        with self._lease.kept():
            logger.warning("a rebuild was cut off while it held the service up: what it has committed is finished")
            self._marks.recover()

    def _begin(self) -> None:
        logger.info("the fold is newer than the states: they are made anew meanwhile", fold=FOLD_VERSION)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (until the process has ended)
        self._job = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said
        )

    def _look_after(self, job: "subprocess.Popen[bytes]") -> None:
        code = job.poll()
        if code is None:
            return
        self._job = None
        if code == 0:
            self._failures = 0
            logger.info("the states are made anew", fold=FOLD_VERSION)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
        self._failures += 1
        self._not_before = time.monotonic() + pause
        logger.error("making the states anew has failed", code=code, why=self._why(), again_in_seconds=pause)

    def _why(self) -> str:
        """What it has said itself, whose errors name nobody; the text of another might."""
        assert self._said is not None
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self._said.close()
        return lines[-1] if lines and lines[-1].startswith("samla: ") else ""
