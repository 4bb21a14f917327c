"""Rebuilding: a service's projections made again from the log, beside the live ones.

    python -m services.profile.rebuild --verify      # compares, changes nothing
    python -m services.profile.rebuild               # puts the rebuilt ones in the live ones' place

Live is read at one instant (a snapshot session): its checkpoints, and the digest of all that it holds. Then
the log is folded exactly as far as those checkpoints, beside; the two digests must be equal. A rebuild folds
facts and appends nothing (DESIGN law 1). Profile's, which is the long one, goes on while the service works: see
services/profile/takeover.py.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import orjson
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from shared.checkpoints import MongoCheckpoints
from shared.config import Settings
from shared.errors import SamlaError
from shared.eventlog import Event, MongoEventLog
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.mongo import Document, MongoTransactor, connect
from shared.progress import SILENT, Told, told

PAGE: Final = 2_000

Upto = Mapping[tuple[str, int], int]
"""(stream, partition) -> the last position to fold."""
Rows = Iterable[tuple[str, bytes]]
"""(id, content), in the order of the ids."""


class Tools(NamedTuple):
    """What a rebuild works with; it does not join the service."""

    service: str
    client: "MongoClient[Document]"
    db: "Database[Any]"
    log: MongoEventLog
    keyring: Keyring
    transactor: MongoTransactor
    checkpoints: MongoCheckpoints
    progress: Told = SILENT

    @classmethod
    def open(cls, settings: Settings, service: str, progress: Told = SILENT) -> "Tools":
        """Over the databases that the settings name."""
        client = connect(settings.mongodb_url)
        transactor = MongoTransactor(client)
        keyring = Keyring(
            MongoKeyStore(client, settings.database("keyring")), settings.master_key(), settings.key_cache_seconds
        )
        db = client.get_database(settings.database(service))
        log = MongoEventLog(client, settings.database("log"), transactor, keyring.fenced)
        return cls(service, client, db, log, keyring, transactor, MongoCheckpoints(db), progress)

    def events(self, stream: str, upto: Upto, pages: int = PAGE, subscription: str = "") -> Iterator[list[Event]]:
        """The stream's events as far as `upto`, a page at a time, a partition after the other; without those that a
        subscription has parked, if one is named, since what is live is without them too."""
        parked = self.parked(subscription) if subscription else set()
        self.progress.expect(sum(upto.get((stream, each), 0) for each in range(self.log.partitions(stream))))
        for partition in range(self.log.partitions(stream)):
            at, end = 0, upto.get((stream, partition), 0)
            while at < end and (page := self.log.read(stream, partition, at, min(pages, end - at))):
                at = page[-1].position
                yield [event for event in page if event.id not in parked] if parked else page
                self.progress.advance(len(page))

    def parked(self, subscription: str) -> set[str]:
        """The ids of the events that a subscription has parked."""
        return {each.event for each in self.checkpoints.parked() if each.subscription == subscription}


class Projection(Protocol):
    """What a service's rebuild module gives."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Upto:
        """How far to fold which streams, to be where live is. `handled`: the service's checkpoints."""

    def live(self, tools: Tools, session: Any) -> Rows:
        """Everything that is live."""

    def fold(self, tools: Tools, upto: Upto) -> int:
        """Makes everything again, beside; how many events it took."""

    def beside(self, tools: Tools) -> Rows:
        """Everything that was made beside."""

    def swap(self, tools: Tools) -> None:
        """Puts it in the live ones' place. Nobody writes meanwhile."""

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""


class Digest(NamedTuple):
    """Of many rows: equal where the rows are."""

    sha256: str
    rows: int


def digest_of(rows: Rows) -> Digest:
    """Over all rows, in their order."""
    whole, count = hashlib.sha256(), 0
    for name, content in rows:
        whole.update(hashlib.sha256(name.encode() + b"\0" + content).digest())
        count += 1
    return Digest(whole.hexdigest(), count)


def verify(projection: Projection, tools: Tools) -> dict[str, Any]:
    """Compares live with rebuilt; changes nothing that is live."""
    tools.progress.phase("reading what is live")
    with tools.client.start_session(snapshot=True) as session:
        upto = projection.upto(tools, _handled(tools, session), session)
        live = digest_of(projection.live(tools, session))
    projection.clear(tools)
    try:
        tools.progress.phase("folding")
        started = time.monotonic()
        events = projection.fold(tools, upto)
        folding = time.monotonic() - started
        tools.progress.phase("comparing")
        rebuilt = digest_of(projection.beside(tools))
    finally:
        projection.clear(tools)
    return _report(tools, live, rebuilt, events, folding)


def rebuild(projection: Projection, tools: Tools) -> dict[str, Any]:
    """Puts what is rebuilt in the live ones' place. The service's work is held up meanwhile: its checkpoints
    are marked, so that nothing that is under way can commit. A rebuild that was cut off is done again."""
    tools.checkpoints.hold()
    upto = projection.upto(tools, _handled(tools, None), None)
    live = digest_of(projection.live(tools, None))
    projection.clear(tools)
    tools.progress.phase("folding")
    started = time.monotonic()
    events = projection.fold(tools, upto)
    folding = time.monotonic() - started
    rebuilt = digest_of(projection.beside(tools))
    projection.swap(tools)
    tools.checkpoints.release()
    return _report(tools, live, rebuilt, events, folding)


def _handled(tools: Tools, session: Any) -> dict[tuple[str, int], int]:
    handled: dict[tuple[str, int], int] = {}
    for place, position in tools.checkpoints.all(session).items():
        slot = (place.stream, place.partition)
        handled[slot] = max(position, handled.get(slot, 0))
    return handled


def _report(tools: Tools, live: Digest, rebuilt: Digest, events: int, seconds: float) -> dict[str, Any]:
    return {
        "service": tools.service,
        "equal": live == rebuilt,
        "live": live.sha256,
        "rebuilt": rebuilt.sha256,
        "documents": rebuilt.rows,
        "events": events,
        "seconds": round(seconds, 3),
    }


def run(projection: Projection, service: str, arguments: list[str]) -> int:
    """The command line: 0 where live equals rebuilt (or does now), 1 where not, 2 for a wrong setting."""
    options = parser(service).parse_args(arguments)

    def work(progress: Told) -> dict[str, Any]:
        tools = Tools.open(Settings.from_env(), service, progress)
        return verify(projection, tools) if options.verify else rebuild(projection, tools)

    return finished(service, options, work, compared)


def parser(service: str) -> argparse.ArgumentParser:
    """What the command of every service takes."""
    made = argparse.ArgumentParser(prog=f"python -m services.{service}.rebuild")
    made.add_argument("--verify", action="store_true", help="only compare")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    return made


def finished(
    service: str,
    options: argparse.Namespace,
    work: Callable[[Told], dict[str, Any]],
    sentence: Callable[[dict[str, Any]], str],
) -> int:
    """Runs the work, shows its progress and its report; the exit code."""
    try:
        with told(service, quiet=options.json) as progress:
            report = work(progress)
    except SamlaError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    except PyMongoError as error:
        print(f"samla: MongoDB does not answer ({type(error).__name__}): is the suite up?", file=sys.stderr)
        return 2
    print(orjson.dumps(report).decode() if options.json else sentence(report))
    return 0 if report.get("equal", True) or not options.verify else 1


def compared(report: Mapping[str, Any]) -> str:
    """The report of `verify` and `rebuild`, to read."""
    return (
        f"{report['service']}: {report['documents']} documents from {report['events']} events in "
        f"{report['seconds']:.1f} s: {'equal' if report['equal'] else 'NOT EQUAL'}, "
        f"live {report['live'][:12]}, rebuilt {report['rebuilt'][:12]}"
    )
