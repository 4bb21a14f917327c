"""Computed traits: what is counted, summed, compared or listed of a person's events, by a definition that is data.

    {"event": "Order Completed", "measure": "sum", "value": "total", "within": "30d",
     "where": [{"property": "currency", "is": "EUR"}]}

A trait's state is a commutative merge like all of a state (domain/state.py): `[measure, window, {bucket: content}]`,
which says itself how it is merged and read. Without a window there is one bucket; with one, each holds a stretch of
event time, and a window is read off them at an instant: a bucket is in it from its beginning until its beginning
leaves. Buckets that no window can reach any more, since something newer has happened, are dropped before a state is
kept (`bounded`); as that depends on the events alone, order still does not matter.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property, reduce
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from contracts.profile import SIGNAL_MEASURES, signal_id
from shared.conditions import checked_where, exact, holds, is_number, milliseconds, values_at
from shared.errors import SamlaError
from shared.policy import POLICY

TIMES: Final = "times"
"""A measure of signals only: how often at which millisecond."""
MEASURES: Final = ("count", "sum", "average", "min", "max", "first", "last", "most_frequent", "distinct")
DAY_MS: Final = 86_400_000
LONGEST_MS: Final = 3_660 * DAY_MS
ALL: Final = ""
"""The bucket where there is no window."""
TOO_MANY: Final = "*"
"""The bucket that says that there were too many different values; it stays."""
MOST_VALUES: Final = 20_000
"""Different values (in a window's trait: of a bucket each) that a trait lists."""
LONGEST_VALUE: Final = 200
"""Characters of a value that is listed or kept."""
MANY_BUCKETS: Final = 5_000
MOST_EVENTS: Final = 20
EXAMPLE: Final = '{"property": "currency", "is": "EUR"}'
DIGITS: Final = 9
"""Behind the point, of what is summed."""
UNITS: Final = 10**DIGITS
MOST: Final = Decimal(10) ** 15
"""What is summed is smaller; a value that is not, is none."""

LARGEST: Final = 1 << 63
"""Integers of JSON, as others read it, are smaller."""

Content = Any
Buckets = dict[str, Content]
Measured = Sequence[Any]
"""[measure, window in ms (0: all time), buckets]."""


class Value(NamedTuple):
    """What a trait is at an instant."""

    value: Any
    """None where nothing is known."""
    changes_at: int | None
    """When it may change by itself (ms): until then, or until something happens, it stays."""


class Trait(msgspec.Struct, frozen=True, kw_only=True):
    """A definition that was checked, ready to fold by."""

    id: str
    key: str
    """What people call it; of a signal, contracts.profile.signal_id."""
    signal: bool = False
    """Kept for those who watch it (segments), not for people."""
    since: int
    """The version of the set of definitions with which it came."""
    filled: bool = True
    """Whether all states hold it."""
    events: frozenset[str]
    measure: str
    value: str = ""
    where: tuple[tuple[str, str, Any], ...] = ()
    """(property, operator, what it compares with); all must hold."""
    window: int = 0
    """Milliseconds; 0: all time."""

    @property
    def name(self) -> str:
        """As what is told to have changed names it."""
        return f"{'signals' if self.signal else 'computed'}.{self.key}"


class Traits(tuple[Trait, ...]):
    """Definitions, found by event: there may be thousands."""

    @cached_property
    def of_event(self) -> Mapping[str, Sequence[Trait]]:
        """Event's name -> those on it."""
        found: dict[str, list[Trait]] = {}
        for trait in self:
            for event in trait.events:
                found.setdefault(event, []).append(trait)
        return found


def width_of(window: int, measure: str = "") -> int:
    """Of a window's buckets, both in ms: never more than 90,000 of them are in it. Times are exact."""
    if measure == TIMES:
        return 1
    if window <= DAY_MS:
        return 1_000
    return 60_000 if window <= 60 * DAY_MS else 3_600_000


# Checking


def trait_of(identity: str, key: str, since: int, definition: object, filled: bool = True) -> Trait:
    """A definition, ready to fold by. Raises SamlaError, saying where and what, for what is none."""
    if not isinstance(definition, dict):
        raise SamlaError('trait: must be an object such as {"event": "Order Completed", "measure": "count"}')
    if more := definition.keys() - {"event", "measure", "value", "where", "within"}:
        raise SamlaError(f"trait: {min(map(str, more))} does not belong here")
    measure = definition.get("measure")
    if measure not in MEASURES:
        raise SamlaError(f"trait.measure: one of {', '.join(MEASURES)}")
    value = definition.get("value", "")
    if not isinstance(value, str) or (measure == "count") != (value == ""):
        says = "count takes none" if measure == "count" else "the property to take, such as total"
        raise SamlaError(f"trait.value: {says}")
    return Trait(
        id=identity,
        key=key,
        since=since,
        filled=filled,
        events=frozenset(_events(definition.get("event"))),
        measure=measure,
        value=value,
        where=tuple(checked_where(definition.get("where", []), "trait.where", "a condition", EXAMPLE)),
        window=_window(definition),
    )


def signal_of(identity: str, since: int, definition: Mapping[str, Any], filled: bool = True) -> Trait:
    """A signal (contracts.profile.Signal), ready to fold by. Raises SamlaError for what is none."""
    made = trait_of(identity, signal_id(definition), since, {**definition, "measure": "count", "value": ""}, filled)
    measure, value = definition.get("measure"), definition.get("value", "")
    if measure not in SIGNAL_MEASURES or not isinstance(value, str) or (measure == "sum") != (value != ""):
        raise SamlaError(f"signal.measure: one of {', '.join(SIGNAL_MEASURES)}, a sum with the value to add")
    return msgspec.structs.replace(made, measure=measure, value=value, signal=True)


def check_ordinary(trait: Trait) -> None:
    """Raises SamlaError, saying which part, where a property that it looks at names a special category of data."""
    paths = {"value": trait.value, **{f"where[{number}]": path for number, (path, _, _) in enumerate(trait.where)}}
    for part, path in paths.items():
        POLICY.check_path(path, f"trait.{part}", "computed traits")


def _events(given: object) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not 0 < len(names) <= MOST_EVENTS:
        raise SamlaError(f"trait.event: an event's name, or a list of {MOST_EVENTS} at most")
    for each in names:
        if not isinstance(each, str) or not each:
            raise SamlaError("trait.event: must be a name")
    return names


def _window(definition: Mapping[str, Any]) -> int:
    if "within" not in definition:
        return 0
    window = milliseconds(definition["within"], "trait.within")
    if window > LONGEST_MS:
        raise SamlaError("trait.within: ten years at most; without it, all time")
    return window


# Folding


def measured(
    traits: Iterable[Trait], event: str, properties: Mapping[str, Any], time: int, identity: str
) -> dict[str, Measured]:
    """What one event adds, by trait's id. `time` in ms, `identity` the event's id."""
    found: dict[str, Measured] = {}
    for trait in traits.of_event.get(event, ()) if isinstance(traits, Traits) else traits:
        if event not in trait.events or not _matches(trait, properties):
            continue
        values = list(values_at(properties, trait.value)) if trait.value else []
        content = _CONTENTS[trait.measure](values, time, identity)
        if content is not None:
            bucketed = trait.window or trait.measure == TIMES
            bucket = str(time // width_of(trait.window, trait.measure)) if bucketed else ALL
            found[trait.id] = [trait.measure, trait.window, _limited({bucket: content}, trait.measure)]
    return found


def _matches(trait: Trait, properties: Mapping[str, Any]) -> bool:
    return all(holds(op, wanted, list(values_at(properties, path))) for path, op, wanted in trait.where)


def _summed(values: list[Any], time: int, identity: str) -> Content:
    numbers = _numbers(values)
    # As a text: JSON's integers end at 64 bits.
    return [len(numbers), str(sum(numbers))] if numbers else None


def _numbers(values: list[Any]) -> list[int]:
    """In units of the last digit that counts."""
    if all(type(each) is int for each in values):
        return [each * UNITS for each in values if abs(each) < MOST]
    found = [exact(each) for each in values]
    return [
        int(each.scaleb(DIGITS).to_integral_value(ROUND_HALF_EVEN))
        for each in found
        # Not by abs(), which fails where the exponent is beyond what decimals compute with.
        if each is not None and each.copy_abs() < MOST
    ]


def _lowest(values: list[Any], time: int, identity: str) -> Content:
    numbers = _numbers(values)
    return str(min(numbers)) if numbers else None


def _highest(values: list[Any], time: int, identity: str) -> Content:
    numbers = _numbers(values)
    return str(max(numbers)) if numbers else None


def _moment(values: list[Any], time: int, identity: str) -> Content:
    plain = [value for each in values if (value := _plain(each)) is not None]
    return [time, identity, plain[0]] if plain else None


def _listed(values: list[Any], time: int, identity: str) -> Content:
    plain = Counter(orjson.dumps(value).decode() for each in values if (value := _plain(each)) is not None)
    return dict(plain) or None


def _plain(value: Any) -> Any:
    """A plain value as it is kept: texts cut off, 1.0 as 1; None where it is none."""
    if isinstance(value, str):
        return value[:LONGEST_VALUE]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, bool) or is_number(value) else None


_CONTENTS: Final[Mapping[str, Callable[[list[Any], int, str], Content]]] = {
    "count": lambda values, time, identity: 1,
    TIMES: lambda values, time, identity: 1,
    "sum": _summed,
    "average": _summed,
    "min": _lowest,
    "max": _highest,
    "first": _moment,
    "last": _moment,
    "most_frequent": _listed,
    "distinct": _listed,
}


# Merging


def joined(have: Measured, more: Measured) -> Measured:
    """Both of one trait together, in `have`'s buckets (which are changed). What no window reaches is only left out
    where there is much of it: see `bounded`."""
    measure, window, buckets = have
    if TOO_MANY in buckets or TOO_MANY in more[2]:
        return [measure, window, {TOO_MANY: 1}]
    unite = _UNIONS[measure]
    before = len(buckets)
    for bucket, content in more[2].items():
        buckets[bucket] = unite(buckets[bucket], content) if bucket in buckets else content
    whole = [measure, window, buckets]
    many = not window or len(buckets) // MANY_BUCKETS > before // MANY_BUCKETS
    return bounded(whole) if many else whole


def bounded(measured_: Measured) -> Measured:
    """Without what no window reaches any more, and as TOO_MANY where that is so: as it is kept. The same, whether the
    parts of it were bounded before or not."""
    measure, window, buckets = measured_
    kept = _limited(buckets, measure) if measure in LISTING else _reachable(window, buckets)
    return [measure, window, kept]


def apart(measured_: Measured) -> Measured:
    """A copy that joining may change."""
    return [*measured_[:2], dict(measured_[2])]


def _reachable(window: int, buckets: Buckets) -> Buckets:
    """Without what no window reaches that holds the newest. Where values are listed nothing is dropped: how many there
    ever were must not depend on the order in which they came."""
    if not window or len(buckets) < 2:
        return buckets
    # A bucket is within reach as long as its beginning has not left.
    reach = max(map(int, buckets)) - -(-window // width_of(window))
    if min(map(int, buckets)) > reach:
        return buckets
    return {bucket: each for bucket, each in buckets.items() if int(bucket) > reach}


def _limited(buckets: Buckets, measure: str) -> Buckets:
    if measure in LISTING and _listed_in(measure, buckets) > MOST_VALUES:
        return {TOO_MANY: 1}
    return buckets


def _listed_in(measure: str, buckets: Buckets) -> int:
    return len(buckets) if measure == TIMES else sum(map(len, buckets.values()))


LISTING: Final = ("most_frequent", "distinct", TIMES)


def _added(one: Content, other: Content) -> Content:
    return [one[0] + other[0], str(int(one[1]) + int(other[1]))]


def _counted(one: Content, other: Content) -> Content:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _earlier(one: Content, other: Content) -> Content:
    return min(one, other, key=lambda each: (each[0], each[1]))


def _later(one: Content, other: Content) -> Content:
    return max(one, other, key=lambda each: (each[0], each[1]))


_UNIONS: Final[Mapping[str, Callable[[Content, Content], Content]]] = {
    "count": lambda one, other: one + other,
    TIMES: lambda one, other: one + other,
    "sum": _added,
    "average": _added,
    "min": lambda one, other: min(one, other, key=int),
    "max": lambda one, other: max(one, other, key=int),
    "first": _earlier,
    "last": _later,
    "most_frequent": _counted,
    "distinct": _counted,
}


# Reading


def value_of(measured_: Measured, now: int) -> Value:
    """What a trait is at `now` (ms), of a state that holds nothing that happens later."""
    measure, window, buckets = measured_
    if not is_listed_in_full(measured_):
        return Value(None, None)
    if not window:
        return Value(_read(measure, list(buckets.values())), None)
    width = width_of(window)
    ends = {int(bucket): int(bucket) * width + window for bucket in buckets}
    living = sorted(bucket for bucket, end in ends.items() if end > now)
    value = _read(measure, [buckets[str(bucket)] for bucket in living])
    return Value(value, ends[living[0]] if living else None)


def signal_value(measured_: Measured) -> dict[str, int] | None:
    """A signal as others get it: where its bucket begins (ms) -> how many, or the sum in units of 10^-9; None where
    there were too many."""
    measure, window, buckets = bounded(measured_)
    if TOO_MANY in buckets:
        return None
    width = width_of(window, measure)
    return {
        # A sum as a text: JSON's integers end at 64 bits.
        str(int(bucket or 0) * width): content[1] if measure == "sum" else content
        for bucket, content in buckets.items()
    }


def is_listed_in_full(measured_: Measured) -> bool:
    """Whether there were not too many different values to list."""
    measure, _, buckets = measured_
    return TOO_MANY not in buckets and not (measure in LISTING and _listed_in(measure, buckets) > MOST_VALUES)


def nothing(measure: str) -> Any:
    """What a trait is where nothing has happened."""
    return _read(measure, [])


def _read(measure: str, contents: list[Content]) -> Any:
    if measure == "count":
        return sum(contents)
    if not contents:
        return 0 if measure in ("sum", "distinct") else None
    return _VALUES[measure](_summed_up(contents) if measure in LISTING else reduce(_UNIONS[measure], contents))


def _summed_up(contents: list[Content]) -> Content:
    """All of `_counted`, in one: there may be thousands."""
    counts: Counter[str] = Counter()
    for each in contents:
        counts.update(each)
    return counts


def _number(units: int, shares: int = 1) -> int | float:
    """Of units of the last digit, divided: an integer where it is one of 64 bits, else the nearest float."""
    divisor = shares * UNITS
    whole, rest = divmod(units, divisor)
    return whole if rest == 0 and abs(whole) < LARGEST else units / divisor


def _commonest(content: Content) -> Any:
    """Of those that are equally frequent, the first by its JSON."""
    return orjson.loads(min(content, key=lambda key: (-content[key], key)))


_VALUES: Final[Mapping[str, Callable[[Content], Any]]] = {
    "sum": lambda content: _number(int(content[1])),
    "average": lambda content: _number(int(content[1]), content[0]),
    "min": lambda content: _number(int(content)),
    "max": lambda content: _number(int(content)),
    "first": lambda content: content[2],
    "last": lambda content: content[2],
    "most_frequent": _commonest,
    "distinct": len,
}
