"""The courier: takes deliveries that are due, asks the gate, sends, and notes what became of each.

    take (a short lease) -> ask privacy and profile, once for the page -> send, many at once -> note

Nothing is sent that the gate did not allow a moment before. A delivery is taken only when it can be sent at
once, so no decision of the gate grows old in a queue; and one destination gets at most half of the room,
so a slow one does not hold up the others.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Gauge, Histogram

from services.activation.adapters.webhook import Answer
from services.activation.domain.body import SAMLA, body_of
from services.activation.domain.delivery import Arrived, Command, Delivery, Hopeless, Missed, Refused
from services.activation.domain.plan import gate_request
from services.activation.domain.schedule import Meaning, meaning_of, pause_after, retry_after_ms
from services.activation.domain.segment import Segment
from services.activation.house import House, Person, Segments, people_of
from services.activation.ledger import Ledger, Outcome
from services.activation.store import ActivationStore
from services.activation.vault import Vault
from shared.clock import Clock
from shared.errors import MissingKey, Unavailable

ROOM: Final = 32
"""Deliveries that an instance is at, at most."""
ROOM_EACH: Final = 16
"""Of one destination."""
PAGE: Final = 8
"""Free places that are worth a look, while others are taken."""
LOOK_SECONDS: Final = 0.2
"""While it is at some, how often it looks for more."""
LEASE_MS: Final = 10_000
KEEP_SECONDS: Final = 3.0
AGAIN_PAUSES: Final = (0.02, 0.03, 0.05, 0.1, 0.2)
"""Seconds before the gate is asked again, where it has not come to the delivery's cause yet."""
AGAIN_LATER_MS: Final = 500
UNANSWERED_MS: Final = 1_000
"""When a delivery is due again that could not be decided: no attempt is counted."""

SECONDS: Final = Histogram("samla_delivery_attempt_seconds", "Time of an attempt, from sending to the answer")
UNDER_WAY: Final = Gauge("samla_deliveries_under_way", "Deliveries that this instance is at")
PUT_BACK: Final = Metric("samla_deliveries_put_back_total", "Deliveries put back without an attempt", ["why"])

logger = structlog.get_logger(__name__)

Spawn = Callable[[Callable[[], None]], object]
Destination = Mapping[str, Any]
Destinations = Mapping[str, Destination]


def in_a_thread(work: Callable[[], None]) -> None:
    """Runs the work beside this (a green thread, in a service). It does not hold up the process's end."""
    threading.Thread(target=work, daemon=True).start()


class Sender(Protocol):
    """The webhook adapter."""

    def send(self, url: str, keys: Sequence[bytes], message: str, body: bytes, extra: Mapping[str, str]) -> Answer:
        """One attempt; never raises for what the other side does."""


class Parcel(NamedTuple):
    """A delivery that the gate has let pass, ready to go."""

    delivery: Delivery
    destination: Destination
    keys: Sequence[bytes]
    body: bytes


class Page(NamedTuple):
    """Deliveries that are decided together. What is decided leaves `open`."""

    open: dict[str, Delivery]
    destinations: Destinations
    keys: dict[str, list[bytes]]


class Courier:
    """See the module's text. One an instance; safe to use from many threads (or green threads)."""

    def __init__(
        self,
        store: ActivationStore,
        ledger: Ledger,
        segments: Segments,
        vault: Vault,
        sender: Sender,
        clock: Clock,
        owner: str,
        spawn: Spawn = in_a_thread,
    ) -> None:
        self.owner = owner
        self._store = store
        self._ledger = ledger
        self._segments = segments
        self._vault = vault
        self._sender = sender
        self._clock = clock
        self._spawn = spawn
        self._lock = threading.Lock()
        self._under_way: dict[str, str] = {}
        self._kept = time.monotonic()
        self._wake = threading.Event()

    # Room

    def choose(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those of the deliveries that there is room for at once."""
        with self._lock:
            busy, room = Counter(self._under_way.values()), ROOM - len(self._under_way)
        chosen: list[Delivery] = []
        for each in deliveries:
            if len(chosen) < room and busy[each.destination] < ROOM_EACH:
                busy[each.destination] += 1
                chosen.append(each)
        return chosen

    def lease(self) -> int:
        """Until when what is taken now is this instance's (ms)."""
        return self._clock.now_ms() + LEASE_MS

    def _rooms(self, now: int) -> dict[str, int]:
        """Destination -> room; without those that have none, or asked for a pause."""
        with self._lock:
            busy = Counter(self._under_way.values())
        listed = [each for each in self._store.all_destinations() if each["slow_until"] <= now]
        rooms = {each["_id"]: ROOM_EACH - busy[each["_id"]] for each in listed}
        return {name: room for name, room in rooms.items() if room > 0}

    def _enter(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            self._under_way.update({each.id: each.destination for each in deliveries})
            UNDER_WAY.set(len(self._under_way))

    def _leave(self, identities: Collection[str]) -> None:
        with self._lock:
            for each in identities:
                self._under_way.pop(each, None)
            UNDER_WAY.set(len(self._under_way))
        self._wake.set()

    # Taking

    def hand_over(self, house: House, deliveries: Sequence[Delivery]) -> None:
        """Starts on deliveries that are in this instance's name already; does not wait."""
        if deliveries:
            self._enter(deliveries)
            self._spawn(partial(self._page, house, deliveries))

    def run(self, house: House, seconds: float) -> bool:
        """Works until nothing is due and nobody is at work, or the time is over; whether there may be more."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._keep()
            room = ROOM - len(self._under_way)
            if room >= PAGE and self._take(house, room):
                continue
            if not self._under_way:
                return False
            self._wait(min(LOOK_SECONDS, end - time.monotonic()), for_room=room < PAGE)
        return True

    def _wait(self, seconds: float, for_room: bool) -> None:
        """Until nobody is at work, or, `for_room`, until there is room for a page; at most so long."""
        end = time.monotonic() + seconds
        self._wake.clear()
        while self._under_way and (left := end - time.monotonic()) > 0:
            if for_room and ROOM - len(self._under_way) >= PAGE:
                return
            self._wake.wait(left)
            self._wake.clear()

    def _take(self, house: House, room: int) -> bool:
        now = self._clock.now_ms()
        due = self._store.due(now, self._rooms(now), room)
        found = [each for each in due if each.id not in self._under_way]
        taken = self._store.take(found, self.owner, now + LEASE_MS, now) if found else []
        self.hand_over(house, taken)
        return bool(taken)

    def _keep(self) -> None:
        """What takes long stays ours."""
        if self._under_way and time.monotonic() - self._kept >= KEEP_SECONDS:
            self._kept = time.monotonic()
            self._store.keep(list(self._under_way), self.owner, self.lease())

    # Deciding

    def _page(self, house: House, deliveries: Sequence[Delivery]) -> None:
        """From the lease to the sending, for all of a page at once. What stays undecided is put back."""
        page = Page({each.id: each for each in deliveries}, {}, {})
        try:
            page = self._decidable(page.open)
            self._decide(house, page)
        except Exception as error:
            # Only its kind: the text of an error may quote what the others said.
            text = str(error) if isinstance(error, Unavailable) else ""
            name = type(error).__name__
            logger.warning("deliveries wait", error=name, text=text, deliveries=len(page.open))
            self._put_back(page, page.open, UNANSWERED_MS, "unanswered")
        self._put_back(page, page.open, AGAIN_LATER_MS, "again")

    def _decidable(self, waiting: dict[str, Delivery]) -> Page:
        """The page without those whose destination is disabled, has a pause, or cannot sign."""
        page = Page(waiting, {each["_id"]: each for each in self._store.all_destinations()}, {})
        now = self._clock.now_ms()
        for name in {each.destination for each in waiting.values()}:
            mine = [each for each in waiting.values() if each.destination == name]
            destination = page.destinations.get(name)
            if destination is None or not destination["enabled"]:
                self._note_all(page, mine, Hopeless("destination_disabled"))
            elif destination["slow_until"] > now:
                self._put_back(page, [each.id for each in mine], destination["slow_until"] - now, "slow")
            else:
                self._find_keys(page, mine, destination, now)
        return page

    def _find_keys(self, page: Page, mine: Sequence[Delivery], destination: Destination, now: int) -> None:
        try:
            page.keys[destination["_id"]] = self._vault.keys(destination["_id"], destination["secrets"], now)
        except MissingKey as error:
            logger.error("deliveries wait", error="MissingKey", text=str(error), deliveries=len(mine))
            self._put_back(page, [each.id for each in mine], UNANSWERED_MS, "no_secret")

    def _decide(self, house: House, page: Page) -> None:
        """Asks the gate until it has decided on all of the page; gives up after the last pause."""
        for pause in (*AGAIN_PAUSES, 0.0):
            if page.open:
                self._ask(house, page)
            if page.open and pause:
                time.sleep(pause * random.uniform(0.8, 1.2))

    def _ask(self, house: House, page: Page) -> None:
        segments = self._segments.of(house, _versions(page.open.values()))
        asked = [each for each in page.open.values() if each.segment in segments]
        unknown = [each.id for each in page.open.values() if each.segment not in segments]
        self._put_back(page, unknown, UNANSWERED_MS, "unknown_segment")
        if not asked:
            return
        profiles = sorted({each.profile for each in asked})
        requests = [gate_request(each, segments[each.segment].sensitive) for each in asked]
        answers, found = house.judge(requests, profiles)
        people = people_of(house, profiles, found)
        for delivery, answer in zip(asked, answers, strict=True):
            if not answer.get("again"):
                self._act(page, delivery, answer, people.get(delivery.profile), segments[delivery.segment])

    def _act(
        self,
        page: Page,
        delivery: Delivery,
        answer: Mapping[str, Any],
        person: Person | None,
        segment: Segment,
    ) -> None:
        """What the gate's answer leads to. Only a plain yes is a yes."""
        if answer.get("allow") is not True:
            return self._note_all(page, [delivery], Refused(str(answer.get("reason") or "refused")))
        if person is None:
            return self._note_all(page, [delivery], Refused("profile_gone"))
        destination = page.destinations[delivery.destination]
        body = body_of(
            delivery, segment, person.profile, person.facts, destination["identifiers"], destination.get("form", SAMLA)
        )
        parcel = Parcel(delivery, destination, page.keys[delivery.destination], body)
        del page.open[delivery.id]
        self._spawn(partial(self._send, parcel))
        return None

    # Sending

    def _send(self, parcel: Parcel) -> None:
        delivery, url = parcel.delivery, parcel.destination["url"]
        extra = {"x-correlation-id": delivery.correlation} if delivery.correlation else {}
        try:
            with SECONDS.time():
                answer = self._sender.send(url, parcel.keys, delivery.id, parcel.body, extra)
            self._pace(parcel.destination, answer)
            command, disables = self._meant(answer)
        except Exception as error:
            logger.error("an attempt failed within", error=type(error).__name__, delivery=delivery.id)
            command, disables = Missed("internal_error", random.random()), ""
        self._note(delivery, command, disables)

    def _meant(self, answer: Answer) -> tuple[Command, str]:
        """The command, and why the destination is disabled (empty: it is not)."""
        meaning = Meaning.FAILED if answer.status is None else meaning_of(answer.status)
        if meaning is Meaning.DELIVERED and answer.status is not None:
            return Arrived(answer.status), ""
        if meaning is Meaning.GONE:
            return Hopeless("gone"), "gone"
        wait = retry_after_ms(answer.retry_after, self._clock.now_ms())
        return Missed(answer.reason, random.random(), wait), ""

    def _pace(self, destination: Destination, answer: Answer) -> None:
        """A destination that asks for it, or does not answer in time, gets a pause."""
        meaning = Meaning.FAILED if answer.status is None else meaning_of(answer.status)
        if meaning is Meaning.SLOW_DOWN or answer.reason == "timeout":
            now = self._clock.now_ms()
            pause = pause_after(destination["slow_times"] + 1, retry_after_ms(answer.retry_after, now))
            self._store.slow_down(destination["_id"], now + pause, now)
        elif meaning is Meaning.DELIVERED and destination["slow_times"]:
            self._store.recovered(destination["_id"])

    # Noting

    def _note_all(self, page: Page, deliveries: Sequence[Delivery], command: Command) -> None:
        for each in deliveries:
            del page.open[each.id]
            self._note(each, command)

    def _note(self, delivery: Delivery, command: Command, disables: str = "") -> None:
        self._ledger.note(Outcome(delivery, command, disables), partial(self._leave, [delivery.id]))

    def _put_back(self, page: Page, identities: Collection[str], wait: int, why: str) -> None:
        """Others may have them, in `wait` ms; no attempt is counted."""
        chosen = list(identities)
        if not chosen:
            return
        for each in chosen:
            del page.open[each]
        PUT_BACK.labels(why).inc(len(chosen))
        try:
            self._store.put_back({each: self._clock.now_ms() + wait for each in chosen}, self.owner)
        except Exception as error:
            # They fall due when their lease ends.
            logger.warning("deliveries are not put back", error=type(error).__name__, deliveries=len(chosen))
        finally:
            self._leave(chosen)


def _versions(deliveries: Collection[Delivery]) -> dict[str, int]:
    """Segment -> the newest version that is spoken of."""
    versions: dict[str, int] = {}
    for each in deliveries:
        versions[each.segment] = max(each.segment_version, versions.get(each.segment, 0))
    return versions
