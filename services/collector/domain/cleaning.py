"""From raw to clean: a source's rules, which are data and have versions.

    {"rename": {"traits.E-post": "traits.email"},
     "clean": {"traits.email": ["trim", "email"], "traits.*": "trim",
               "properties.price": {"steps": [{"number": {"locale": "sv_SE"}}], "else": "drop"}},
     "drop": ["properties.debug"], "set": {}, "default": {"properties.currency": "SEK"}}

Done in this order: rename, clean, drop, set, default (see mending for the others). A path has dots; `*` is any name,
or each item of a list. `clean` are steps of shared.values; a value that cannot be read stays as it is and is
named, is dropped, or has the message set aside (`else`: keep, drop, reject).

Nothing here may touch what a message is known by or what somebody has agreed to.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from services.collector.domain.decode import holds_more
from services.collector.domain.mending import STEPS, mended
from services.collector.domain.mending import checked as checked_rule
from shared.checking import bounded, only, told
from shared.errors import SamlaError
from shared.values import Clean, compiled, weight

ELSE: Final = ("keep", "drop", "reject")
MOST_PATHS: Final = 200
DEEPEST: Final = 20
MOST_VALUES: Final = 1_000
"""Of one message that rules clean; one that is read by a language's words counts for WEIGHT of them."""
MOST_PLACES: Final = 50_000
"""Of one message, names and items of lists, that all of the rules look at."""
MOST_PARTS: Final = 20_000
"""Values of a message on which rules are used at all: more have no room in an event."""
UNTOUCHABLE: Final = ("messageId", "sentAt", "writeKey", "context.consent")

Message = dict[str, Any]


class Step(NamedTuple):
    """What is done with the values at a path."""

    path: tuple[str, ...]
    clean: Clean
    otherwise: str
    weight: int = 1
    """For how many values each that it cleans counts."""


class Cleaning(NamedTuple):
    """A source's rules, compiled."""

    version: int
    rule: Mapping[str, Any]
    before: Mapping[str, Any]
    steps: tuple[Step, ...]
    after: Mapping[str, Any]


class Change(NamedTuple):
    """A value that was cleaned, or could not be."""

    path: str
    raw: Any
    clean: Any
    problem: str
    """Empty where it was cleaned."""


class Cleaned(NamedTuple):
    """What came of a message."""

    message: Message
    uncleaned: list[str]
    """Paths of values that could not be read."""
    rejected: str
    """The path of one for whose sake the message is set aside, as the rules have it: `traits.*` tells no name that a
    sender has made up. Else empty."""
    too_many: bool = False
    """Whether it holds more values than are cleaned in one message; then it is as it came, and is to be set aside."""


def cleaning_of(version: int, rule: object) -> Cleaning:
    """The rules, compiled. Raises SamlaError that says what is wrong."""
    bounded(rule, "cleaning rules")
    if not isinstance(rule, dict):
        raise SamlaError(f"cleaning rules are an object with some of: {', '.join((*STEPS, 'clean'))}")
    only(rule, (*STEPS, "clean"), "cleaning rules")
    mending = {name: value for name, value in rule.items() if name != "clean"}
    if mending:
        checked_rule(mending)
    clean = rule.get("clean", {})
    if not isinstance(clean, dict) or len(clean) > MOST_PATHS:
        raise SamlaError(f"clean is an object of {MOST_PATHS} paths at most")
    for path in _named(rule):
        if any(path == each or path.startswith(f"{each}.") or each.startswith(f"{path}.") for each in UNTOUCHABLE):
            raise SamlaError(f"{told(path)} may not be changed by rules")
    steps = tuple(_step(path, given) for path, given in clean.items())
    before = {"rename": mending.pop("rename")} if "rename" in mending else {}
    return Cleaning(version, rule, before, steps, mending)


def _named(rule: Mapping[str, Any]) -> Iterator[str]:
    for part in rule.values():
        yield from part
    yield from rule.get("rename", {}).values()


def _step(path: object, given: object) -> Step:
    names = tuple(path.split(".")) if isinstance(path, str) else ()
    if not 0 < len(names) <= DEEPEST or not all(names):
        raise SamlaError(f"clean: {told(path)} is no path; paths are like traits.email")
    steps, otherwise, place = given, "keep", f"clean.{told(path)}"
    if isinstance(given, dict) and "steps" in given:
        only(given, ("steps", "else"), place)
        steps, otherwise = given["steps"], given.get("else", "keep")
    if otherwise not in ELSE:
        raise SamlaError(f"{place}: else is one of {', '.join(ELSE)}")
    try:
        return Step(names, compiled(steps), otherwise, weight(steps))
    except SamlaError as error:
        raise SamlaError(f"{place}: {error}") from error


def unusable(version: int) -> Cleaning:
    """In place of rules that are kept and can be used no more: every message is set aside, none passes uncleaned."""
    return Cleaning(version, {}, {}, (Step(("type",), _unreadable, "reject"),), {})


def _unreadable(value: Any) -> Any:
    raise ValueError("the source's cleaning rules cannot be used any more")


def cleaned(
    message: Message,
    cleaning: Cleaning,
    note: Callable[[Change], None] | None = None,
    within: Callable[[Message], Message] | None = None,
) -> Cleaned:
    """The message by the rules; it is left as it is. `note` is told of every value that was looked at. `within` gives
    what of a message may be kept, by what its fields are called once they are renamed; what the rules themselves set
    is not asked about. What is done with one message is bounded: of one with more in it nothing is cleaned."""
    if holds_more(message, MOST_PARTS):
        return Cleaned(message, [], "", True)
    whole = mended(message, cleaning.before)
    if within is not None and cleaning.before:
        whole = within(whole)
    uncleaned: list[str] = []
    rejected = ""
    left = _Left()
    try:
        for step in cleaning.steps:
            for place in list(_places(whole, step.path, "", left)):
                if _clean_one(place, step, note, left):
                    uncleaned.append(place.path)
                    rejected = rejected or (".".join(step.path) if step.otherwise == "reject" else "")
    except _TooMany:
        return Cleaned(message, [], "", True)
    if cleaning.after:
        whole = mended(whole, cleaning.after)
    return Cleaned(whole, uncleaned, rejected)


class _TooMany(Exception):
    """There is more in a message than rules are used on."""


class _Left:
    """What may still be done with a message: it is sorted at a stretch, and others wait."""

    def __init__(self) -> None:
        self.values = MOST_VALUES
        self.places = MOST_PLACES

    def clean(self, weight: int) -> None:
        """One value of a weight. Raises _TooMany."""
        self.values -= weight
        if self.values < 0:
            raise _TooMany

    def look(self, places: int) -> None:
        """At so many places. Raises _TooMany."""
        self.places -= places
        if self.places < 0:
            raise _TooMany


class _Place(NamedTuple):
    """Where a value stands."""

    holder: Any
    key: Any
    path: str


def _places(value: Any, path: tuple[str, ...], at: str, left: _Left) -> Iterator[_Place]:
    name, rest = path[0], path[1:]
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value) if name == "*" else [name] if name in value else []
    elif isinstance(value, list) and name == "*":
        keys = list(range(len(value)))
    left.look(len(keys))
    for key in keys:
        here = f"{at}.{key}" if at else str(key)
        if rest:
            yield from _places(value[key], rest, here, left)
        elif not _is_untouchable(here):
            yield _Place(value, key, here)


def _is_untouchable(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}.") for each in UNTOUCHABLE)


def _clean_one(place: _Place, step: Step, note: Callable[[Change], None] | None, left: _Left) -> str:
    """The path where the value could not be read; else nothing."""
    raw = place.holder[place.key]
    if raw is None or isinstance(raw, (dict, list)):
        return ""
    left.clean(step.weight)
    try:
        made = step.clean(raw)
    except (ValueError, ArithmeticError, TypeError) as error:
        if step.otherwise == "drop" and isinstance(place.holder, dict):
            del place.holder[place.key]
        if note:
            note(Change(place.path, raw, raw if step.otherwise == "keep" else None, str(error)))
        return place.path
    place.holder[place.key] = made
    if note:
        note(Change(place.path, raw, made, ""))
    return ""
