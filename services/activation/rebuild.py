"""Deliveries from the log: `python -m services.activation.rebuild [--verify] [--json]`.

With --verify it compares: every live delivery with the state that its first n events give, n being the number
that the live one says has made it. So it can run while the suite works. Without --verify it mends as well:
what is missing or different is written, what the log does not know is dropped. Nothing is appended.
"""

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple

import orjson

from contracts.privacy import SUBJECTS_ERASED
from contracts.profile import SPLIT, merges_of
from contracts.streams import ACTIVATION, PRIVACY, PROFILE, SEGMENTATION
from services.activation.domain.delivery import Delivery
from services.activation.domain.replay import People, decided_at, digest_of, digest_of_all, fold
from services.activation.store import ActivationStore
from shared.checkpoints import MongoCheckpoints
from shared.config import Settings
from shared.errors import SamlaError
from shared.eventlog import Event, EventLog, MongoEventLog
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.progress import SILENT, Told, told
from shared.transaction import Transaction, Transactor

PAGE: Final = 2_000

Checkpoints = dict[tuple[str, int], int]
"""(stream, partition) -> position handled."""


class Tools(NamedTuple):
    """What a rebuild works with."""

    store: ActivationStore
    log: EventLog
    keyring: Keyring
    transactor: Transactor
    checkpoints: MongoCheckpoints

    @classmethod
    def open(cls, settings: Settings) -> "Tools":
        """Over the databases that the settings name. It does not join the service."""
        client = connect(settings.mongodb_url)
        transactor = MongoTransactor(client)
        store = MongoKeyStore(client, settings.database("keyring"))
        keyring = Keyring(store, settings.master_key(), settings.key_cache_seconds)
        db = client.get_database(settings.database("activation"))
        log = MongoEventLog(client, settings.database("log"), transactor, keyring.fenced)
        return cls(ActivationStore(db), log, keyring, transactor, MongoCheckpoints(db))


class Compared(NamedTuple):
    """What a rebuild found. Ids of deliveries, all empty where the two are equal."""

    rebuilt: dict[str, Delivery]
    live: dict[str, bytes]
    at_same_version: dict[str, bytes]
    missing: list[str]
    different: list[str]
    unknown: list[str]
    lingering: list[str]
    """Of people who are erased."""
    events: int

    @property
    def equal(self) -> bool:
        """Whether every live delivery is what the log says, and none is missing."""
        return not (self.missing or self.different or self.unknown or self.lingering)

    def report(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "service": "activation",
            "equal": self.equal,
            "live": digest_of_all(self.live),
            "rebuilt": digest_of_all(self.at_same_version),
            "deliveries": len(self.live),
            "events": self.events,
            **{name: len(getattr(self, name)) for name in ("missing", "different", "unknown", "lingering")},
        }


def compare(tools: Tools, progress: Told = SILENT) -> Compared:
    """Folds the log and looks at what is live; writes nothing."""
    # In this order: what the checkpoints cover is among the deliveries, and those are in the log.
    handled = {(place.stream, place.partition): at for place, at in tools.checkpoints.all().items()}
    live = {state.id: (state.version, state.profile, digest_of(state)) for state in tools.store.states()}
    same: dict[str, bytes] = {}
    count = 0

    def seen(state: Delivery) -> None:
        nonlocal count
        count += 1
        if state.id in live and live[state.id][0] == state.version:
            same[state.id] = digest_of(state)

    rebuilt = fold(events_of(tools.log, ACTIVATION, progress=progress), seen)
    gone = _erased(tools.log, {})
    return Compared(
        rebuilt=rebuilt,
        live={name: digest for name, (_, _, digest) in live.items()},
        at_same_version=same,
        missing=_missing(tools, rebuilt, live, handled, gone),
        different=[name for name in live if name in rebuilt and same.get(name) != live[name][2]],
        unknown=[name for name in live if name not in rebuilt],
        lingering=_lingering(tools, live, _erased(tools.log, handled)),
        events=count,
    )


def events_of(log: EventLog, stream: str, upto: Checkpoints | None = None, progress: Told = SILENT) -> Iterator[Event]:
    """The stream's events, a partition after the other; with `upto` only as far as that has come."""
    heads = log.heads(stream)
    progress.expect(sum(heads.values()))
    for partition, head in heads.items():
        end = head if not upto else min(head, upto.get((stream, partition), 0))
        at = 0
        while at < end and (page := log.read(stream, partition, at, min(PAGE, end - at))):
            yield from page
            at = page[-1].position
            progress.advance(len(page))


def _erased(log: EventLog, upto: Checkpoints) -> People:
    people = People()
    for event in events_of(log, PROFILE, upto):
        people.parted(event.texts("profiles") if event.type == SPLIT else (), decided_at(event))
        for old, into in merges_of(event.type, event.data):
            people.merged(old, into, decided_at(event))
    for event in events_of(log, PRIVACY, upto):
        if event.type == SUBJECTS_ERASED:
            people.erased(event.text("profile"))
    return people


def _missing(
    tools: Tools, rebuilt: dict[str, Delivery], live: Collection[str], handled: Checkpoints, gone: People
) -> list[str]:
    """What the log has scheduled by the checkpoints, and nobody has erased, but is not live."""
    absent = [state for name, state in rebuilt.items() if name not in live]
    covered = [state for state in absent if _covered(state, handled) and not gone.is_erased(state.profile)]
    fenced = tools.keyring.fenced({state.profile for state in covered})
    return [state.id for state in covered if state.profile not in fenced]


def _covered(state: Delivery, handled: Checkpoints) -> bool:
    """Whether the checkpoint has passed what scheduled the delivery."""
    for place, position in state.causes.items():
        stream, _, partition = place.partition(":")
        if stream == SEGMENTATION and handled.get((stream, int(partition)), 0) < position:
            return False
    return True


def _lingering(tools: Tools, live: dict[str, tuple[int, str, bytes]], gone: People) -> list[str]:
    return [name for name, (_, profile, _) in live.items() if gone.is_erased(profile)]


def mend(tools: Tools, found: Compared) -> int:
    """Writes what is missing or different, drops what should not be; how many deliveries it touched."""
    touched = [*found.missing, *found.different, *found.unknown, *found.lingering]
    for start in range(0, len(touched), PAGE):
        tools.transactor.run(_mending(tools.store, found, touched[start : start + PAGE]))
    return len(touched)


def _mending(store: ActivationStore, found: Compared, page: list[str]) -> Callable[[Transaction], None]:
    dropped = {*found.unknown, *found.lingering}

    def work(within: Transaction) -> None:
        current = store.current(page, within)
        # What has gone on meanwhile is left as it is.
        behind = [
            state
            for name in page
            if name not in dropped
            and (state := found.rebuilt[name]).version >= getattr(current.get(name), "version", 0)
        ]
        store.put(behind, within)
        store.remove([name for name in page if name in dropped], within)

    return work


def main(arguments: list[str]) -> int:
    """0 where live equals rebuilt (or does now), 1 where it does not, 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="python -m services.activation.rebuild", description=__doc__)
    parser.add_argument("--verify", action="store_true", help="only compare")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        tools = Tools.open(Settings.from_env())
        with told("activation", quiet=options.json) as progress:
            found = compare(tools, progress)
        mended = 0 if options.verify else mend(tools, found)
    except SamlaError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    report = found.report() | {"mended": mended, "seconds": round(time.monotonic() - started, 3)}
    print(orjson.dumps(report).decode() if options.json else _sentence(report))
    return 0 if found.equal or not options.verify else 1


def _sentence(report: dict[str, Any]) -> str:
    said = (
        f"activation: {report['deliveries']} deliveries from {report['events']} events: "
        f"{'equal' if report['equal'] else 'NOT EQUAL'}, live {report['live'][:12]}, "
        f"rebuilt {report['rebuilt'][:12]}"
    )
    if report["equal"]:
        return said
    names = ("missing", "different", "unknown", "lingering", "mended")
    return f"{said}; " + ", ".join(f"{report[name]} {name}" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
