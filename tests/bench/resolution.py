"""Identity alone: how fast a resolver decides, on a real log: about what is known, what is new, and merges."""

import time
from collections.abc import Callable, Iterator

import orjson

from contracts.streams import TRACKING
from services.identity.regrouping import RESOLVE
from services.identity.resolver import Resolver
from services.identity.store import IdentityStore
from shared.checkpoints import MongoCheckpoints
from shared.config import Settings
from shared.consumer import Consumer
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.keyring import ORDINARY, Keyring, Sealing
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect

EVENTS = 10_000
APPENDED = 500

Note = Callable[..., None]
Named = list[tuple[str, str]]


def new() -> Iterator[Named]:
    """Everybody comes for the first time, with three identifiers."""
    for number in range(EVENTS):
        yield [("user", f"u{number}"), ("anonymous", f"a{number}"), ("email", f"u{number}@example.org")]


def merges() -> Iterator[Named]:
    """Each event makes two of them one: a device that was known by itself logs in."""
    for number in range(EVENTS // 2):
        yield [("anonymous", f"m{number}")]
    for number in range(EVENTS // 2):
        yield [("user", f"u{number}"), ("anonymous", f"m{number}")]


def measure(note: Note, settings: Settings) -> None:
    """Events a second, in databases of its own that are gone at the end."""
    client = connect(settings.mongodb_url)
    names = [f"{settings.prefix}_resolution_{each}" for each in ("keyring", "log", "identity")]
    try:
        transactor = MongoTransactor(client)
        keyring = Keyring(MongoKeyStore(client, names[0]), b"b" * 32)
        keyring.setup()
        log = MongoEventLog(client, names[1], transactor, keyring.fenced)
        log.setup()
        checkpoints = MongoCheckpoints(client[names[2]])
        checkpoints.setup()
        store = IdentityStore(client[names[2]], keyring)
        store.setup()
        resolve = Resolver(store, keyring).resolve
        consumer = Consumer(RESOLVE, TRACKING, log, transactor, checkpoints, resolve, lambda: 0)
        for name, events in {"new": new, "known": new, "merges": merges}.items():
            append(log, keyring, name, events())
            started = time.perf_counter()
            while consumer.step(range(log.partitions(TRACKING))).more:
                pass
            note(f"resolution.{name}", EVENTS / (time.perf_counter() - started), "events/s")
    finally:
        for each in names:
            client.drop_database(each)
        client.close()


def append(log: MongoEventLog, keyring: Keyring, name: str, events: Iterator[Named]) -> None:
    """As the collector does, in groups."""
    group: list[tuple[str, Named]] = []
    for number, named in enumerate(events):
        group.append((derive_id(name, number), named))
        if len(group) == APPENDED:
            log.append(TRACKING, _sealed(keyring, group))
            group = []
    log.append(TRACKING, _sealed(keyring, group))


def _sealed(keyring: Keyring, group: list[tuple[str, Named]]) -> list[NewEvent]:
    subjects = keyring.subjects_of([named[0] for _, named in group], create=True)
    texts = keyring.seal(
        [Sealing(subjects[named[0]] or "", ORDINARY, identity, _body(named)) for identity, named in group]
    )
    return [
        NewEvent(
            id=identity, type="tracking.track.v1", source="bench", subject=subjects[named[0]] or "", time=1,
            sealed={ORDINARY: text},
        )
        for (identity, named), text in zip(group, texts, strict=True)
    ]  # fmt: skip


def _body(named: Named) -> bytes:
    return orjson.dumps({"type": "track", "time": 1, "party": "first", "identifiers": [list(each) for each in named]})
