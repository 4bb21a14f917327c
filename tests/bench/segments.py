"""Segments, through the door: how fast events are handled and how many segments are evaluated for each, where there are
10, 100 and 500, of which an event concerns one in a hundred; and how long a preview over many profiles takes."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from shared.config import Settings
from shared.rpc import rpc_cluster
from tests.bench import load

COUNTS = (10, 100, 500)
NAMES = 100
"""Events that segments look at; each segment looks at one of them."""
EVENTS = int(os.environ.get("BENCH_SEGMENTS_EVENTS", "10000"))
PROFILES = int(os.environ.get("BENCH_SEGMENTS_PROFILES", "100000"))
"""That a preview looks at."""
PEOPLE = 1_000
BATCH = 100
CONNECTIONS = 8

Note = Callable[..., None]
Message = dict[str, Any]


def definition(number: int) -> dict[str, Any]:
    """Of a kind each."""
    event = f"Event {number % NAMES}"
    kinds: tuple[dict[str, Any], ...] = (
        {"event": event, "count": {"gte": 3}, "within": "30d"},
        {"event": event, "where": [{"property": "kind", "is": "x"}], "count": {"gte": 2}, "within": "7d"},
        {"all": [{"event": event, "last": {"within": "7d"}}, {"not": {"trait": f"plan {number}", "is": "pro"}}]},
        {
            "sequence": [{"event": event}, {"event": event}, {"not": {"event": "Bought"}, "within": "1d"}],
            "within": "7d",
        },
    )
    return kinds[number // NAMES % len(kinds)]


def events() -> Iterator[Message]:
    """Everybody does everything."""
    for number in range(EVENTS):
        properties = {"kind": "xyz"[number % 3]}
        event = f"Event {number * 7 % NAMES}"
        yield {"type": "track", "userId": f"s{number % PEOPLE}", "event": event, "properties": properties}


def measure(note: Note, settings: Settings, key: str, quiet: Callable[[], None]) -> None:
    """See the module's text."""
    # Who is new is looked at for every segment: everybody is known before.
    known = [{"type": "track", "userId": f"s{number}", "event": "Came"} for number in range(PEOPLE)]
    load.drive(settings.collector_port, load.batches(known, BATCH, key), CONNECTIONS)
    quiet()
    with rpc_cluster(settings, timeout=1_200) as services:
        made: list[str] = []
        for count in COUNTS:
            for number in range(len(made), count):
                row = services.segmentation.create_segment(f"bench-{number}", "", definition(number))
                made.append(row["segment"])
            quiet()
            before, started = _evaluations(settings), time.perf_counter()
            result = load.drive(settings.collector_port, load.batches(list(events()), BATCH, key), CONNECTIONS)
            assert set(result.statuses) == {200}, result.statuses
            quiet()
            note(f"segments.{count}", EVENTS / (time.perf_counter() - started), "events/s")
            evaluated = (_evaluations(settings) - before) / EVENTS
            note(f"segments.{count}.evaluated", evaluated, "evaluations/event", better="lower")
        for each in made:
            services.segmentation.delete_segment(each)
        _preview(note, services, settings, key, quiet)


def _preview(note: Note, services: Any, settings: Settings, key: str, quiet: Callable[[], None]) -> None:
    people = services.profile.stats()["profiles"]
    messages = [
        {"type": "identify", "userId": f"preview-{number}", "traits": {"plan": "pro" if number % 3 else "free"}}
        for number in range(max(0, PROFILES - people))
    ]
    load.drive(settings.collector_port, load.batches(messages, BATCH, key), CONNECTIONS)
    quiet()
    tried = {"all": [{"trait": "plan", "is": "free"}, {"not": {"event": "Event 1", "count": {"gte": 1}}}]}
    started = time.perf_counter()
    told = services.segmentation.preview(tried)
    seconds = time.perf_counter() - started
    note("segments.preview.profiles", told["profiles"], "profiles")
    note("segments.preview", seconds, "s", better="lower")


def _evaluations(settings: Settings) -> float:
    """So far, by the service's own count."""
    address = f"http://127.0.0.1:{settings.port_of('segmentation')}/metrics"
    lines = urllib3.request("GET", address).data.decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("samla_evaluations_total ")), 0.0)
