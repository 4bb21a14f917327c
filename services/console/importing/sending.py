"""Messages through the door, in batches; where it was cut off, it goes on."""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import urllib3

from shared.errors import SamlaError, Unavailable

MOST_EVENTS: Final = 500
MOST_BYTES: Final = 400_000
PATIENCE: Final = 120.0
"""Seconds for which a door that does not take anything is asked again."""
PAUSE: Final = 1.0

Message = dict[str, Any]
Numbered = tuple[int, Message | None, int]
"""(row, message, bytes of the file read so far). A row may have several messages, one behind the other, or none."""


class Report(NamedTuple):
    """What came of it."""

    rows: int
    skipped: int
    """Rows that had been sent before."""
    set_aside: int
    """Messages that are in quarantine."""
    reasons: dict[str, int]
    messages: int = 0
    """Messages that were sent this time."""


class Mark:
    """How far an import has come, in a file. A row before it is in the log; one behind it may be."""

    def __init__(self, folder: Path, *parts: bytes) -> None:
        name = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]
        self._path = folder / f"{name}.json"

    @property
    def rows(self) -> int:
        """So many rows have been sent."""
        try:
            return int(orjson.loads(self._path.read_bytes())["rows"])
        except (OSError, ValueError, KeyError):
            return 0

    def move(self, rows: int) -> None:
        """In one step, so that a cut finds the old one or the new."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(orjson.dumps({"rows": rows}))
        fresh.replace(self._path)


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def send(
    messages: Iterable[Numbered],
    door: "Door",
    mark: Mark,
    advance: Callable[[int], None] = lambda done: None,
    counted: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Sends what lies behind the mark, which moves with every batch that is durable.

    `advance` is told how many bytes have been read, `counted` how many rows have been sent this time.
    """
    already = mark.rows
    rows, sent, aside, reasons = already, 0, 0, dict[str, int]()
    for batch in _batches(each for each in messages if each[0] > already):
        for code in door.take(batch.messages) if batch.messages else ():
            aside += 1
            reasons[code] = reasons.get(code, 0) + 1
        sent += len(batch.messages)
        rows = max(rows, batch.rows)
        mark.move(rows)
        advance(batch.read)
        counted(rows - already)
    return Report(rows, already, aside, reasons, sent)


class _Batch(NamedTuple):
    messages: list[Message]
    rows: int
    """So many rows are sent in full with it: the last of its messages may have more in the next."""
    read: int


def _batches(messages: Iterator[Numbered]) -> Iterator[_Batch]:
    batch: list[Message] = []
    size = row = read = 0
    for number, message, at in messages:
        own = len(orjson.dumps(message)) if message is not None else 0
        if batch and (len(batch) == MOST_EVENTS or size + own > MOST_BYTES):
            yield _Batch(batch, number - 1, read)
            batch, size = [], 0
        if message is not None:
            batch.append(message)
        size, row, read = size + own, number, at
    if row:
        yield _Batch(batch, row, read)


class Door:
    """The collector's, with a source's write key."""

    def __init__(self, url: str, write_key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = f"{url.rstrip('/')}/v1/import"
        self._headers = {**urllib3.make_headers(basic_auth=f"{write_key}:"), "Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(retries=False)
        self._sleep = sleep

    def take(self, messages: list[Message]) -> list[str]:
        """Sends a batch until it is durable; the reasons of what was set aside. Raises SamlaError."""
        body = orjson.dumps({"batch": messages})
        waited = 0.0
        for _ in itertools.count():
            status, answer, wait = self._ask(body)
            if status == 200:
                return [each["code"] for each in answer.get("set_aside", [])]
            if status not in (0, 429, 500, 502, 503, 504):
                raise SamlaError(f"the collector refuses: {answer.get('message') or status}")
            if waited >= PATIENCE:
                break
            self._sleep(wait)
            waited += wait
        raise Unavailable(f"the collector has taken nothing for {PATIENCE:g} s; run the same command again to go on")

    def _ask(self, body: bytes) -> tuple[int, dict[str, Any], float]:
        """(status, or 0 where nobody answers; the answer; seconds to wait before asking again)."""
        try:
            answer = self._pool.request("POST", self._url, body=body, headers=self._headers, timeout=60)
        except urllib3.exceptions.HTTPError:
            return 0, {}, PAUSE
        try:
            found = orjson.loads(answer.data)
        except orjson.JSONDecodeError:
            found = {}
        after = answer.headers.get("Retry-After", "")
        return answer.status, found, min(float(after), PATIENCE) if after.isdigit() else PAUSE
