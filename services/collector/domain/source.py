"""A source: where data comes from, and what its owner has decided about what it sends."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from phonenumbers import SUPPORTED_REGIONS

from contracts.tracking import BIGGEST_EVENT, PARTIES
from services.collector.domain.agreement import FIRST
from services.collector.domain.client import Sender
from services.collector.domain.normalize import Arrival
from services.collector.domain.rules import NONE, Rules
from services.collector.domain.visitor import GPC_POLICIES, MOST_DAYS, checked_origins
from shared.errors import SamlaError

IP_POLICIES: Final = ("keep", "truncate", "drop")
"""What becomes of IP addresses before anything is stored."""
BOT_POLICIES: Final = ("set_aside", "keep")
LONGEST_NAME: Final = 100


class Source(NamedTuple):
    """Where data comes from."""

    id: str
    name: str
    party: str
    enabled: bool
    created: int
    ip: str = "truncate"
    bots: str = "set_aside"
    rate: int = 0
    """Events a second that each edge, all its processes together, takes from it; 0: as many as come."""
    quarantine_days: int = 30
    """How long what could not be taken in is kept."""
    alarm: int = 100
    """Quarantined messages in an hour that are one too many; 0: never."""
    raw_days: int = 7
    """How long messages are kept as they were received; 0: not at all."""
    size: int = BIGGEST_EVENT
    """Bytes that one message may hold."""
    region: str = ""
    """Where telephone numbers without a country code are: ISO 3166 alpha-2."""
    cookie_days: int = 0
    """How long a browser keeps the visitor's id that we give it, from its last visit on; 0: we give none."""
    origins: Sequence[str] = ()
    """Web origins whose pages may use the visitor's cookie."""
    cookie_gpc: str = "ignore"
    """What `Sec-GPC: 1` means for that id."""
    example: bool = False
    """Whether the example page is shown."""
    rules: Rules = NONE

    def row(self) -> dict[str, Any]:
        """As `sources()` shows it: of the rules only which they are."""
        shown = {name: value for name, value in self._asdict().items() if name not in ("id", "rules")}
        agreement, cleaning, plan = self.rules
        rules = {
            "agreement": agreement.id if agreement else None,
            "cleaning": cleaning.version if cleaning else 0,
            "plan": plan.version if plan else 0,
        }
        return {"source": self.id, **shown, **rules}

    def arrival(self, received: int, gpc: bool, sender: Sender, sized: bool = False, exact: bool = False) -> Arrival:
        """What is to be known of a request of this source; `received` in ms."""
        return Arrival(
            received=received,
            party=self.party,
            source_name=self.name,
            gpc=gpc,
            sized=sized,
            exact=exact,
            sender=sender,
            rules=self.rules,
            region=self.region,
            biggest=self.size,
            keeps_raw=self.raw_days > 0,
        )

    def may_send(self, now: int) -> bool:
        """Whether it needs no agreement, or has one that holds."""
        agreement = self.rules.agreement
        return self.party == FIRST or (agreement is not None and agreement.holds(now))


def named(name: str, party: str) -> str:
    """The name, trimmed. Raises SamlaError where a source cannot be made of the two."""
    if party not in PARTIES:
        raise SamlaError(f"party is one of {', '.join(PARTIES)}")
    if not 0 < len(name.strip()) <= LONGEST_NAME:
        raise SamlaError(f"a source has a name, of {LONGEST_NAME} characters at most")
    return name.strip()


def checked(changes: Mapping[str, object]) -> dict[str, Any]:
    """What may be changed of a source. Raises SamlaError."""
    for name, value in changes.items():
        if name not in _CHECKS:
            raise SamlaError(f"of a source can be changed: {', '.join(_CHECKS)}; not {name}")
        allowed = _CHECKS[name]
        if allowed and not any(value is each or (value == each and isinstance(each, str)) for each in allowed):
            raise SamlaError(f"{name} is one of {', '.join(map(str, allowed))}")
    for name, (least, most) in _NUMBERS.items():
        value = changes.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise SamlaError(f"{name} is a whole number from {least} to {most}")
    return {**changes, **({"origins": checked_origins(changes["origins"])} if "origins" in changes else {})}


_NUMBERS: Final = {
    "rate": (0, 1_000_000),
    "quarantine_days": (1, 3_650),
    "alarm": (0, 1_000_000),
    "raw_days": (0, 3_650),
    "size": (1_024, BIGGEST_EVENT),
    "cookie_days": (0, MOST_DAYS),
}
_CHECKS: Final[dict[str, tuple[object, ...]]] = {
    "enabled": (True, False),
    "ip": IP_POLICIES,
    "bots": BOT_POLICIES,
    "region": ("", *sorted(SUPPORTED_REGIONS)),
    "cookie_gpc": GPC_POLICIES,
    "example": (True, False),
    **dict.fromkeys([*_NUMBERS, "origins"], ()),
}


class Bucket:
    """A token bucket: a source may send `rate` events a second, and a second's worth at once."""

    def __init__(self, rate: int, at: float, left: float | None = None) -> None:
        self.rate = rate
        self.at = at
        self.left = float(rate) if left is None else left

    def take(self, events: int, now: float) -> float:
        """0 where the events may pass; else in how many seconds they might, and nothing is taken.

        A request larger than the bucket passes when that is full, and is paid for afterwards.
        """
        self.left = min(float(self.rate), self.left + (now - self.at) * self.rate)
        self.at = now
        needed = min(events, self.rate)
        if self.left < needed:
            return math.ceil((needed - self.left) / self.rate * 1000) / 1000
        self.left -= events
        return 0.0


class Limits:
    """The buckets of all sources that have a rate."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def wait(self, source: Source, events: int, now: float) -> float:
        """Seconds that the source must wait before it may send so many; 0 where it may now."""
        if not source.rate:
            return 0.0
        bucket = self._buckets.get(source.id)
        if bucket is None or bucket.rate != source.rate:
            bucket = self._buckets[source.id] = Bucket(source.rate, now)
        return bucket.take(events, now)
