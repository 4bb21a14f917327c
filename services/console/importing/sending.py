"""Messages through the door, in batches; where it was cut off, it goes on."""

import hashlib
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson
import urllib3

from services.console.importing.repeats import Repeats
from services.console.keeping import keep
from shared.errors import SamlaError, Unavailable

MOST_EVENTS: Final = 500
MOST_BYTES: Final = 400_000
PATIENCE: Final = 120.0
"""Seconds for which a door that does not take anything is asked again."""
MOST_PATIENCE: Final = 7 * 86_400.0
PAUSE: Final = 1.0
NO_MESSAGE: Final = "no row of the file gives a message: is the mapping for this file? --dry-run shows what comes of it"
SHORTEST_PAUSE: Final = 0.1
ANSWER_SECONDS: Final = 60.0
LONGEST_KEY: Final = 200
MOST_PLACES: Final = 100
OTHER_PLACES: Final = "other places"
"""What further places of refused fields are counted as."""
LOOK_SECONDS: Final = 0.2
"""How soon the thread that reads sees that nobody wants more."""

T = TypeVar("T")
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
    repeated: int = 0
    """Of them, those with the id of an earlier one of the same person, see importing.repeats."""
    refused_fields: dict[str, int] = {}
    """Place -> how often what stood there was left out, as the source's agreement does not name it; as far as the door
    tells it."""


class Came(NamedTuple):
    """What came of a batch besides events."""

    codes: Sequence[str] = ()
    """Why messages were set aside."""
    refused: Sequence[str] = ()
    """Places of fields that were left out."""
    repeated: int = 0


NOTHING: Final = Came()


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
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def move(self, rows: int, came: Came = NOTHING) -> None:
        """So many rows are durable now; `came`: what came of the last batch."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        keep(self._path, orjson.dumps({"rows": rows}))


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
    rows, sent, repeated, reasons = already, 0, 0, Counter[str]()
    refused: dict[str, int] = {}
    with closing(ahead(_batches(_behind(messages, already)))) as batches:
        for batch in batches:
            came = door.take(batch.messages) if batch.messages else NOTHING
            came = came._replace(repeated=batch.repeated)
            reasons.update(came.codes)
            count_places(refused, came.refused)
            sent, repeated = sent + len(batch.messages), repeated + came.repeated
            rows = max(rows, batch.rows)
            if sent or already:
                # Of a file that gives no message at all nothing is done, and nothing to be remembered.
                mark.move(rows, came)
            advance(batch.read)
            counted(rows - already)
    return Report(rows, already, reasons.total(), dict(reasons), sent, repeated, refused)


def count_places(counts: dict[str, int], places: Iterable[str]) -> None:
    """Counts each under its name, or with the others once there are too many names."""
    for each in places:
        name = each if each in counts or len(counts) < MOST_PLACES else OTHER_PLACES
        counts[name] = counts.get(name, 0) + 1


def _behind(messages: Iterable[Numbered], already: int) -> Iterator[tuple[Numbered, bool]]:
    """What lies behind so many rows, each with whether it has the id of an earlier one, which may lie before them."""
    known = Repeats()
    for each in messages:
        again = each[1] is not None and known.again(each[1])
        if each[0] > already:
            yield each, again


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """The same items, made in a thread: one while another is used."""
    made: queue.Queue[tuple[str, Any]] = queue.Queue(1)
    over = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not over.is_set():
            with suppress(queue.Full):
                made.put((kind, value), timeout=LOOK_SECONDS)
                return True
        return False

    def make() -> None:
        try:
            if all(put("item", each) for each in items):
                put("end", None)
        except BaseException as error:
            put("error", error)

    maker = threading.Thread(target=make, name="reading", daemon=True)
    maker.start()
    try:
        while (each := made.get())[0] == "item":
            yield each[1]
        if each[0] == "error":
            raise each[1]
    finally:
        over.set()
        maker.join()


class _Batch(NamedTuple):
    messages: list[Message]
    rows: int
    """So many rows are sent in full with it: the last of its messages may have more in the next."""
    read: int
    repeated: int


def _batches(messages: Iterator[tuple[Numbered, bool]]) -> Iterator[_Batch]:
    batch: list[Message] = []
    size = row = read = repeated = 0
    for (number, message, at), again in messages:
        own = len(orjson.dumps(message)) if message is not None else 0
        if batch and (len(batch) == MOST_EVENTS or size + own > MOST_BYTES):
            yield _Batch(batch, number - 1, read, repeated)
            batch, size, repeated = [], 0, 0
        if message is not None:
            batch.append(message)
        size, row, read, repeated = size + own, number, at, repeated + again
    if row:
        yield _Batch(batch, row, read, repeated)


class Door:
    """The collector's, with a source's write key. One that takes nothing is asked again, for `patience` seconds.

    `say` is told, once each time, why it is waited for and that it is over.
    """

    def __init__(
        self,
        url: str,
        write_key: str,
        patience: float = PATIENCE,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at = checked_url(url)
        self._headers = {
            **urllib3.make_headers(basic_auth=f"{checked_key(write_key)}:"), "Content-Type": "application/json"
        }  # fmt: skip
        self._pool = urllib3.PoolManager(retries=False)
        self._patience, self._say, self._sleep, self._now = patience, say, sleep, now

    def take(self, messages: list[Message]) -> Came:
        """Sends a batch until it is durable; what came of it. Raises SamlaError."""
        body = orjson.dumps({"batch": messages})
        end, waited = self._now() + self._patience, False
        while (answer := self._ask(body)).why:
            left = end - self._now()
            if left <= 0:
                raise Unavailable(
                    f"the collector at {self._at} has taken nothing for {self._patience:g} s ({answer.why}); "
                    "what it took before is safe: run the same command again to go on"
                )
            if not waited:
                self._say(f"the collector at {self._at}: {answer.why}; it is asked again for {self._patience:g} s")
            waited = True
            self._sleep(min(answer.wait, left))
        if waited:
            self._say("it takes messages again")
        return answer.came

    def _ask(self, body: bytes) -> "_Answer":
        """Raises SamlaError where asking again is of no use."""
        try:
            answer = self._pool.request(
                "POST", f"{self._at}/v1/import", body=body, headers=self._headers, timeout=ANSWER_SECONDS
            )
        except urllib3.exceptions.HTTPError as error:
            return _Answer(NOTHING, _unreachable(error), PAUSE)
        found = _object_of(answer.data)
        if answer.status == 200 and found.get("success") is True:
            codes = [str(each["code"]) for each in found.get("set_aside", [])]
            return _Answer(Came(codes, [str(each["place"]) for each in found.get("refused_fields", [])]), "", 0)
        if answer.status == 429 or answer.status >= 500:
            after = answer.headers.get("Retry-After", "")
            wait = float(after) if after.isdecimal() else PAUSE
            return _Answer(NOTHING, f"it answers {answer.status}", max(wait, SHORTEST_PAUSE))
        if "code" not in found:
            raise SamlaError(f"{self._at} answers {answer.status}, and not as a collector does: see --url")
        raise SamlaError(f"the collector at {self._at} refuses: {found.get('message') or answer.status}")


class _Answer(NamedTuple):
    came: Came
    why: str
    """Why it is to be asked again; empty where all is durable."""
    wait: float


def checked_url(url: str) -> str:
    """The address of a collector, without / at its end. Raises SamlaError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        bare = not (parts.query or parts.fragment or parts.username)
        urllib3.util.parse_url(url)
    except (ValueError, urllib3.exceptions.LocationParseError):
        good = bare = False
    if not good or not bare:
        raise SamlaError(f"{url!r} is no address of a collector: it is like http://127.0.0.1:8080")
    return url.rstrip("/")


def checked_key(write_key: str) -> str:
    """A write key as HTTP can say it. Raises SamlaError."""
    if not (0 < len(write_key) <= LONGEST_KEY and re.fullmatch("[!-9;-~]+", write_key)):
        raise SamlaError("a write key is 1 to 200 characters of ASCII, without space and colons")
    return write_key


def _unreachable(error: Exception) -> str:
    """For people; nothing of the request."""
    kinds = (
        (urllib3.exceptions.NameResolutionError, "its name is not known"),
        (urllib3.exceptions.SSLError, "it does not speak TLS, or its certificate is not trusted"),
        (urllib3.exceptions.NewConnectionError, "nobody listens there"),
        (urllib3.exceptions.TimeoutError, "it does not answer in time"),
    )
    return next((text for kind, text in kinds if isinstance(error, kind)), "the connection was lost")


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
