"""Profiles: how long reading one of 5,000 events takes over RPC, now and at an instant; and what folding costs an
event, on a log of 10,000 events, of 100,000 and of a million."""

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson

from contracts.streams import TRACKING
from services.profile.domain.state import empty, merge, state_of
from services.profile.folding import STATES, Folding
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.config import Settings
from shared.consumer import Consumer
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.keyring import ORDINARY, Keyring, Sealing
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from tests.bench import load

LONG = 5_000
"""Events of the profile that is read."""
GETS = 500
LOOKS_BACK = 50
DAY_MS = 86_400_000

MOST = int(os.environ.get("BENCH_PROFILE_EVENTS", "1000000"))
"""Events in the log at most; BENCH_PROFILE_EVENTS says otherwise."""
SIZES = (10_000, 100_000, 1_000_000)
LAST = 10_000
"""Events over which the cost at a size is taken."""
APPENDED = 500
EVENTS_EACH = 20
"""Of a person."""
TRAITS: dict[str, dict[str, Any]] = {
    "bench-orders": {"event": "Order Completed", "measure": "count", "within": "30d"},
    "bench-spent": {"event": "Order Completed", "measure": "sum", "value": "total"},
    "bench-last": {"event": "Order Completed", "measure": "last", "value": "store"},
}
"""Computed meanwhile."""

Note = Callable[..., None]


def measure(note: Note, settings: Settings, services: Any, key: str, quiet: Callable[[], None]) -> None:
    """All of it; the second part in databases of its own that are gone at the end."""
    reading(note, settings, services, key, quiet)
    folding(note, settings)


# Reading


def reading(note: Note, settings: Settings, services: Any, key: str, quiet: Callable[[], None]) -> None:
    """Over RPC, one after the other, of somebody whose events are spread over a year."""
    for name, definition in TRAITS.items():
        services.profile.add_trait(name, definition)
    now = time.time_ns() // 1_000_000
    chance = random.Random(1)
    sent = [_message(number, now - chance.randrange(365 * DAY_MS), chance) for number in range(LONG)]
    result = load.drive(settings.collector_port, load.batches(sent, 100, key), 4)
    assert set(result.statuses) == {200}, result.statuses
    quiet()
    who = services.identity.resolve([["user", "bench-long"]])
    events = services.profile.show(who)["quantitative"]
    assert sum(each["count"] for each in events.values()) == LONG
    back = now - 180 * DAY_MS
    calls: dict[str, tuple[int, float | None, Callable[[], Any]]] = {
        # The yardstick: RPC alone, on the same machine.
        "profile.rpc": (GETS, None, lambda: services.profile.facts([])),
        "profile.get": (GETS, 20, lambda: services.profile.show(who)),
        "profile.get_by_identifier": (GETS, None, lambda: services.profile.show(["user", "bench-long"])),
        "profile.as_of": (LOOKS_BACK, None, lambda: services.profile.show(who, back)),
        "profile.known_at": (LOOKS_BACK, None, lambda: services.profile.show(who, known_at=now + DAY_MS)),
        "profile.timeline": (LOOKS_BACK, None, lambda: services.profile.timeline(who, 50)),
    }
    for name, (times, goal, call) in calls.items():
        waits = sorted(_milliseconds(call) for _ in range(times))
        note(f"{name}.p50", waits[len(waits) // 2], "ms", better="lower")
        note(f"{name}.p99", waits[int(len(waits) * 0.99)], "ms", goal, "lower")
    for name in TRAITS:
        services.profile.remove_trait(name)


def _message(number: int, at: int, chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(["Order Completed", "Product Viewed", "Page Visited", "Coupon Redeemed"])
    properties = {"total": chance.randrange(1, 10_000) / 100, "currency": "EUR", "store": f"s{chance.randrange(20)}"}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000))
    return {
        "type": "track", "userId": "bench-long", "event": kind, "properties": properties, "timestamp": stamp,
        "messageId": f"bench-long-{number}",
    }  # fmt: skip


def _milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


# Folding


class House(NamedTuple):
    """The profile service's folding, by hand."""

    log: MongoEventLog
    keyring: Keyring
    consumer: Consumer


def folding(note: Note, settings: Settings) -> None:
    """In this process: from the log to states that are written."""
    _pure(note)
    client = connect(settings.mongodb_url)
    names = [f"{settings.prefix}_folding_{each}" for each in ("keyring", "log", "profile")]
    try:
        house = _house(client, names)
        done = spent = 0.0
        at = 0
        for size in sorted({min(size, MOST) for size in SIZES}):
            fold(house, at, size - LAST)
            seconds = fold(house, size - LAST, size)
            note(f"profile.cost.{size}", seconds / LAST * 1_000_000, "us/event", better="lower")
            done, spent, at = done + LAST, spent + seconds, size
        note("profile.fold", done / spent, "events/s")
        sizes = [client[names[1]].command("collstats", TRACKING)["size"], _size_of_states(client[names[2]])]
        note("profile.bytes.log", sizes[0] / at, "bytes/event", better="lower")
        note("profile.bytes.state", sizes[1] / at, "bytes/event", better="lower")
    finally:
        for each in names:
            client.drop_database(each)
        client.close()


def _size_of_states(db: Any) -> int:
    return sum(int(db.command("collstats", name)["size"]) for name in ("states", "merges", "given"))


def _house(client: Any, names: list[str]) -> House:
    transactor = MongoTransactor(client)
    keyring = Keyring(MongoKeyStore(client, names[0]), b"b" * 32)
    keyring.setup()
    log = MongoEventLog(client, names[1], transactor, keyring.fenced)
    log.setup()
    db = client[names[2]]
    checkpoints = MongoCheckpoints(db)
    checkpoints.setup()
    store = ProfileStore(db, keyring)
    store.setup()
    traits = TraitStore(db)
    traits.setup()
    for name, definition in TRAITS.items():
        traits.add(name, definition, 1)
    folds = Folding(store, log, keyring, checkpoints, traits)
    return House(log, keyring, Consumer(STATES, TRACKING, log, transactor, checkpoints, folds.fold, lambda: 0))


def fold(house: House, start: int, end: int) -> float:
    """Appends events number `start` to `end`, and folds them; seconds of the folding alone."""
    spent = 0.0
    group: list[int] = []
    for number in range(start, end):
        group.append(number)
        if len(group) == APPENDED * 20 or number == end - 1:
            for at in range(0, len(group), APPENDED):
                house.log.append(TRACKING, _sealed(house.keyring, group[at : at + APPENDED]))
            group = []
            started = time.perf_counter()
            while house.consumer.step(range(house.log.partitions(TRACKING))).more:
                pass
            spent += time.perf_counter() - started
    return spent


def _sealed(keyring: Keyring, group: list[int]) -> list[NewEvent]:
    who = {number: ("user", f"u{number // EVENTS_EACH}") for number in group}
    subjects = keyring.subjects_of(list(who.values()), create=True)
    ids = {number: derive_id("profile", number) for number in group}
    texts = keyring.seal([Sealing(subjects[who[n]] or "", ORDINARY, ids[n], orjson.dumps(_body(n))) for n in group])
    return [
        NewEvent(
            id=ids[number], type="tracking.track.v1", source="bench", subject=subjects[who[number]] or "", time=number,
            sealed={ORDINARY: text},
        )
        for number, text in zip(group, texts, strict=True)
    ]  # fmt: skip


def _body(number: int) -> dict[str, Any]:
    return {
        "type": "track", "time": number * 60_000, "party": "first", "source_name": "bench", "event": "Order Completed",
        "identifiers": [["user", f"u{number // EVENTS_EACH}"]], "traits": {},
        "properties": {"total": number % 9_999 / 100, "currency": "EUR", "store": f"s{number % 20}"},
    }  # fmt: skip


def _pure(note: Note) -> None:
    """Of one person's events, without a log, on one core."""
    bodies = list(_bodies())
    started = time.perf_counter()
    state = empty()
    for number, body in enumerate(bodies):
        merge(state, state_of(body, str(number)))
    note("profile.fold.pure", len(bodies) / (time.perf_counter() - started), "events/s")


def _bodies() -> Iterator[dict[str, Any]]:
    return (_body(number) for number in range(LAST))
