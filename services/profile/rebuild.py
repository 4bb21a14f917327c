"""Profiles from the log: `python -m services.profile.rebuild [--verify] [--processes N] [--engine dask] [--json]`."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from services.profile import bulk
from services.profile.bulk import Engine, Here, Processes
from services.profile.domain.state import FOLD_VERSION
from services.profile.folding import SERVICE
from services.profile.store import ProfileStore
from services.profile.takeover import REBUILT, Marks, TakeOver
from services.profile.traits import Defined, TraitStore
from shared import logs
from shared.config import Settings
from shared.errors import SettingsError
from shared.progress import Told
from shared.rebuild import Rows, Tools, Upto, compared, finished, parser, verify

PARENT_SECONDS: Final = 1.0
LEAST: Final = 20_000
"""Events that are worth another process: starting one takes as long as folding these."""
PLAIN: Final = "plain"
DASK: Final = "dask"
SLICE: Final = 20_000
"""Events: their states take some tens of megabytes."""


class ProfileProjection:
    """See shared.rebuild.Projection. What is made beside has a name of its own: no other rebuild writes to it."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.end = f"{REBUILT}{os.urandom(4).hex()}"
        self.engine = engine or Here()

    _defined: Defined | None = None
    """The computed traits, as of when live was looked at."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """As far as the service's checkpoints."""
        return handled

    def live(self, tools: Tools, session: Any) -> Rows:
        """States and merges."""
        # What is defined or filled from here on makes no difference between the two.
        self._defined = TraitStore(tools.db).at(session)
        return ProfileStore(tools.db, tools.keyring).rows(self._filled(), session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """Whose subjects and events are first, then their states."""
        self._made(tools).setup()
        # Where nothing is compared nobody has looked.
        self._defined = self._defined or TraitStore(tools.db).at()
        return bulk.fold(tools, self.end, upto, self.engine, self._defined)

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return self._made(tools).rows(self._filled())

    def swap(self, tools: Tools) -> None:
        """A take-over does that: see services.profile.takeover."""
        raise NotImplementedError

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        self._made(tools).drop()

    def _made(self, tools: Tools) -> ProfileStore:
        return ProfileStore(tools.db, tools.keyring, beside=self.end)

    def _filled(self) -> set[str]:
        """The computed traits that live states hold, too."""
        return {each.id for each in self._defined.traits if each.filled} if self._defined else set()


def main(arguments: list[str]) -> int:
    """0 where it is done, and with --verify equal; 1 where it is not equal, 2 for a wrong setting."""
    options = _parser().parse_args(arguments)
    if options.attended:
        _end_with(os.getppid())

    def work(progress: Told) -> dict[str, Any]:
        settings = Settings.from_env()
        # What is logged goes to standard error.
        logs.configure(settings, SERVICE)
        tools = Tools.open(settings, SERVICE, progress)
        tools.checkpoints.setup()
        marks = Marks(tools.db, tools.checkpoints, tools.transactor)
        lease = marks.lease()
        engine = _engine(options)
        if not lease.take():
            progress.phase("waiting for another rebuild to end")
            lease.wait()
        with lease.kept():
            if options.if_older and marks.fold() == FOLD_VERSION:
                return {"service": SERVICE, "done": "by another"}
            if options.verify:
                marks.recover()
                return verify(ProfileProjection(engine), tools)
            projection = ProfileProjection(engine)
            return TakeOver(tools, marks, lease, projection.end, projection.fold).run()

    return finished(SERVICE, options, work, compared if options.verify else _sentence)


def _parser() -> argparse.ArgumentParser:
    made = parser(SERVICE)
    made.add_argument("--processes", type=int, default=0, help="that fold, side by side; else as many as are of use")
    made.add_argument("--engine", choices=(PLAIN, DASK), default=PLAIN, help="what runs them")
    made.add_argument("--scheduler", default="", help="with --engine dask: its address; else a cluster is made here")
    made.add_argument("--slice", type=int, default=SLICE, help="with --engine dask: events of one task")
    made.add_argument("--if-older", action="store_true", help="only where the states are by an older fold")
    made.add_argument("--attended", action="store_true", help="end with the process that has started this")
    return made


def _engine(options: argparse.Namespace) -> Engine:
    if options.processes < 0 or options.slice < 1:
        raise SettingsError("--processes and --slice are numbers from 1")
    cores = os.cpu_count() or 1
    if options.scheduler and options.engine != DASK:
        raise SettingsError("--scheduler goes with --engine dask")
    if options.engine == DASK:
        # Only here: nobody else needs the package.
        from services.profile.cluster import Cluster  # noqa: PLC0415

        return Cluster(options.scheduler, options.processes or cores, options.slice)
    if options.processes == 1:
        return Here()
    return Processes(options.processes) if options.processes else Processes(cores, LEAST)


def _end_with(parent: int) -> None:
    """Ends this process when that one is gone: by then it is somebody else's child. And others go first."""
    os.nice(10)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sentence(report: Mapping[str, Any]) -> str:
    if "done" in report:
        return f"{report['service']}: nothing to do, the states are by today's fold"
    return (
        f"{report['service']}: {report['documents']:,} documents from {report['events']:,} events in "
        f"{report['seconds']:.1f} s, {report['caught_up']:,} more meanwhile; held up for {report['held_seconds']:.2f} s"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
