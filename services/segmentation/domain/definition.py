"""The language of segments: what a definition may hold, checked once, and what it looks at.

Published as contracts/segment.schema.json, which takes what is taken here (but for how much of it).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from contracts.profile import CONSENTS, signal_id
from services.segmentation.domain.dates import DATES, check_date
from shared.conditions import (
    COMPARE,
    MOST_WHERE,
    OPERATORS,
    check_condition,
    checked_where,
    is_number,
    milliseconds,
)
from shared.errors import SamlaError

Definition = Mapping[str, Any]

KEY: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a segment, or a computed trait, is called."""
HEADS: Final = ("all", "any", "not", "segment", "trait", "computed", "identifier", "consent", "event", "sequence")
EVENT_MEASURES: Final = ("count", "sum", "last", "first")
DEEPEST: Final = 10
MOST_CONDITIONS: Final = 100
MOST_STEPS: Final = 10
EXAMPLE: Final = '{"property": "department", "is": "GROCERY"}'
DAY_MS: Final = 86_400_000
LONGEST_MS: Final = 3_660 * DAY_MS
"""What is watched for longer is watched for all time."""


class Placed(NamedTuple):
    """A condition, and where in the definition it stands."""

    place: str
    condition: Definition


# Checking


def check(definition: object) -> None:
    """Raises SamlaError, saying where and what, for what is no definition."""
    _check(definition, "definition", 0)
    count = sum(len(each.condition.get("sequence", "1")) for each in placed(_mapping(definition)))
    if count > MOST_CONDITIONS:
        raise SamlaError(f"a definition holds {MOST_CONDITIONS} conditions at most, not {count}")


def _mapping(definition: object) -> Definition:
    assert isinstance(definition, dict)
    return definition


def _check(definition: object, place: str, depth: int) -> None:
    if depth > DEEPEST:
        raise SamlaError(f"{place}: nested deeper than {DEEPEST}")
    if not isinstance(definition, dict):
        raise SamlaError(f'{place}: must be an object such as {{"trait": "plan", "is": "pro"}}')
    heads = [word for word in HEADS if word in definition]
    if len(heads) != 1:
        raise SamlaError(f"{place}: needs just one of {', '.join(HEADS)}")
    [head] = heads
    if head in ("all", "any", "not"):
        _check_joined(definition, head, place, depth)
    elif head == "sequence":
        _check_sequence(definition, place)
    else:
        if not isinstance(definition[head], str) or not definition[head]:
            raise SamlaError(f"{place}.{head}: must be a name")
        _CHECKS[head](definition, place)


def _check_joined(definition: Definition, head: str, place: str, depth: int) -> None:
    if head == "not":
        if set(definition) != {"not"}:
            raise SamlaError(f"{place}: not stands alone")
        _check(definition["not"], f"{place}.not", depth + 1)
        return
    if set(definition) != {head} or not isinstance(definition[head], list) or not definition[head]:
        raise SamlaError(f"{place}: {head} is a list of definitions, and stands alone")
    for index, each in enumerate(definition[head]):
        _check(each, f"{place}.{head}[{index}]", depth + 1)


def _check_segment(definition: Definition, place: str) -> None:
    if set(definition) != {"segment"} or not KEY.fullmatch(definition["segment"]):
        raise SamlaError(f"{place}: a segment's key, which stands alone")


def _check_trait(definition: Definition, place: str) -> None:
    condition = {word: value for word, value in definition.items() if word not in ("trait", "computed")}
    op = next(iter(condition), "")
    if len(condition) == 1 and op in DATES:
        check_date(op, condition[op], place)
    elif len(condition) == 1 and op in OPERATORS:
        check_condition(condition, place, "a trait")
    else:
        raise SamlaError(f"{place}: a trait has just one of {', '.join((*OPERATORS, *DATES))}")
    _check_finite(condition[op], f"{place}.{op}")


def _check_finite(value: object, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SamlaError(f"{place}: must be a number")


def _check_computed(definition: Definition, place: str) -> None:
    if not KEY.fullmatch(definition["computed"]):
        raise SamlaError(f"{place}.computed: a computed trait's key")
    _check_trait(definition, place)


def _check_identifier(definition: Definition, place: str) -> None:
    if set(definition) != {"identifier", "exists"} or not isinstance(definition["exists"], bool):
        raise SamlaError(f"{place}: an identifier has `exists`, true or false")


def _check_consent(definition: Definition, place: str) -> None:
    if set(definition) != {"consent", "is"} or not isinstance(definition["is"], bool):
        raise SamlaError(f"{place}: a consent has `is`, true or false")


def _check_event(definition: Definition, place: str) -> None:
    said = [word for word in EVENT_MEASURES if word in definition]
    if len(said) != 1:
        raise SamlaError(f"{place}: an event has either count or sum, last or first")
    _EVENT_CHECKS[said[0]](definition, place)
    _check_where(definition, place)


def _only(definition: Definition, place: str, *known: str) -> None:
    if more := set(definition) - set(known):
        raise SamlaError(f"{place}: {min(map(str, more))} does not belong here")


def _check_count(definition: Definition, place: str) -> None:
    _only(definition, place, "event", "where", "count", "within")
    _check_bounds(definition, place, "count")


def _check_sum(definition: Definition, place: str) -> None:
    _only(definition, place, "event", "where", "sum", "of", "currency", "within")
    _check_bounds(definition, place, "sum")
    currency = definition.get("currency")
    if "of" in definition:
        if not isinstance(definition["of"], str) or not definition["of"]:
            raise SamlaError(f"{place}.of: the property to add, such as quantity")
    elif currency is None:
        raise SamlaError(f"{place}: a sum names its currency, such as EUR, or with `of` the property to add")
    elif "where" in definition:
        raise SamlaError(f"{place}: with `where` a sum says `of` what, such as revenue")
    if "currency" in definition:
        if not isinstance(currency, str) or len(currency) != 3:
            raise SamlaError(f"{place}: a sum names its currency, such as EUR")
        where = definition.get("where")
        if isinstance(where, list) and len(where) >= MOST_WHERE:
            raise SamlaError(f"{place}.where: the currency is a condition too, of {MOST_WHERE} at most")


def _check_bounds(definition: Definition, place: str, what: str) -> None:
    bounds = definition[what]
    if not isinstance(bounds, dict) or not bounds or set(bounds) - set(COMPARE):
        raise SamlaError(f'{place}.{what}: compares with {", ".join(COMPARE)}, such as {{"gte": 3}}')
    if not all(is_number(each) and math.isfinite(each) for each in bounds.values()):
        raise SamlaError(f"{place}.{what}: must compare with numbers")
    _check_span(definition, place, "within")


def _check_span(definition: Definition, place: str, name: str) -> None:
    if name in definition:
        milliseconds(definition[name], f"{place}.{name}")


def _check_moment(definition: Definition, place: str) -> None:
    what = "last" if "last" in definition else "first"
    _only(definition, place, "event", "where", what)
    said = definition[what]
    if not isinstance(said, dict) or len(said) != 1 or not set(said) <= {"within", "not_within"}:
        raise SamlaError(f'{place}.{what}: has either within or not_within, such as {{"within": "7d"}}')
    [span] = said
    milliseconds(said[span], f"{place}.{what}.{span}")


def _check_where(definition: Definition, place: str) -> None:
    where = checked_where(definition.get("where", []), f"{place}.where", "a property", EXAMPLE)
    for index, (_, op, value) in enumerate(where):
        _check_finite(value, f"{place}.where[{index}].{op}")


def _check_sequence(definition: Definition, place: str) -> None:
    _only(definition, place, "sequence", "within", "span")
    steps = definition["sequence"]
    if not isinstance(steps, list) or not 0 < len(steps) <= MOST_STEPS:
        raise SamlaError(f"{place}.sequence: a list of {MOST_STEPS} steps at most")
    for index, step in enumerate(steps):
        _check_step(step, f"{place}.sequence[{index}]", first=index == 0)
    _check_span(definition, place, "within")
    _check_span(definition, place, "span")


def _check_step(step: object, place: str, first: bool) -> None:
    if not isinstance(step, dict):
        raise SamlaError(f'{place}: a step such as {{"event": "Product Viewed"}}')
    if "not" in step:
        if first:
            raise SamlaError(f"{place}: a sequence begins with what happened")
        _only(step, place, "not", "within")
        event = step["not"]
        if not isinstance(event, dict):
            raise SamlaError(f'{place}.not: an event such as {{"event": "Order Completed"}}')
        _only(event, f"{place}.not", "event", "where")
    else:
        _only(step, place, "event", "where", *([] if first else ["within"]))
        event = step
    if not isinstance(event.get("event"), str) or not event["event"]:
        raise SamlaError(f"{place}.event: must be a name")
    _check_where(event, place)
    _check_span(step, place, "within")


_CHECKS: Final[Mapping[str, Callable[[Definition, str], None]]] = {
    "segment": _check_segment,
    "trait": _check_trait,
    "computed": _check_computed,
    "identifier": _check_identifier,
    "consent": _check_consent,
    "event": _check_event,
}
_EVENT_CHECKS: Final[Mapping[str, Callable[[Definition, str], None]]] = {
    "count": _check_count,
    "sum": _check_sum,
    "last": _check_moment,
    "first": _check_moment,
}


# What it looks at


def placed(definition: Definition, place: str = "definition") -> Iterator[Placed]:
    """Its conditions, without what joins them."""
    if "not" in definition:
        yield from placed(definition["not"], f"{place}.not")
        return
    for word in ("all", "any"):
        if word in definition:
            for index, each in enumerate(definition[word]):
                yield from placed(each, f"{place}.{word}[{index}]")
            return
    yield Placed(place, definition)


def leaves(definition: Definition) -> Iterator[Definition]:
    """Its conditions alone."""
    return (each.condition for each in placed(definition))


def named(definition: Definition, head: str) -> set[str]:
    """The names in its conditions of one kind, such as the keys of other segments."""
    return {leaf[head] for leaf in leaves(definition) if head in leaf}


def depends_on(definition: Definition) -> set[str]:
    """The names (`traits.plan`, `events.Order Completed`, `signals.ID` ...) whose change may change the answer; not
    what its segments depend on."""
    return {name for leaf in leaves(definition) for name in _names(leaf)}


_PARTS: Final = {"trait": "traits", "computed": "computed", "identifier": "ids"}


def _names(leaf: Definition) -> Iterator[str]:
    if watched := signals_of(leaf):
        yield from (f"signals.{signal_id(each)}" for each in watched)
    elif "event" in leaf:
        yield f"events.{leaf['event']}"
    elif "consent" in leaf:
        yield CONSENTS
    else:
        yield from (f"{part}.{leaf[head]}" for head, part in _PARTS.items() if head in leaf)


# Signals


def signals(definition: Definition) -> dict[str, dict[str, Any]]:
    """What is to be watched of people's events for it, by id (contracts.profile.Signal)."""
    return {signal_id(each): each for leaf in leaves(definition) for each in signals_of(leaf)}


def signals_of(leaf: Definition) -> list[dict[str, Any]]:
    """Those of one condition, in its order: none where the facts hold enough, which count by the minute."""
    if "sequence" in leaf:
        window = leaf.get("within")
        return [_watching(step.get("not", step), "times", window) for step in leaf["sequence"]]
    if "event" not in leaf:
        return []
    if "sum" in leaf:
        return [_watching(_of_currency(leaf), "sum", leaf.get("within"), leaf["of"])] if "of" in leaf else []
    if "count" in leaf:
        short = "within" in leaf and milliseconds(leaf["within"]) <= DAY_MS
        return [_watching(leaf, "count", leaf.get("within"))] if short or leaf.get("where") else []
    return [_watching(leaf, "times", None)] if leaf.get("where") else []


def _of_currency(leaf: Definition) -> Definition:
    if "currency" not in leaf:
        return leaf
    spellings = sorted({leaf["currency"].upper(), leaf["currency"].lower()})
    return {**leaf, "where": [*leaf.get("where", []), {"property": "currency", "in": spellings}]}


def _watching(event: Definition, measure: str, within: str | None, value: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"event": event["event"], "measure": measure}
    if event.get("where"):
        made["where"] = event["where"]
    if value:
        made["value"] = value
    if within is not None and milliseconds(within) <= LONGEST_MS:
        made["within"] = within
    return made


def lasting(signal: Mapping[str, Any]) -> dict[str, Any]:
    """A signal that can stand for this one at instants long past: nothing of it is dropped because something newer has
    happened."""
    if signal["measure"] == "sum":
        return {**signal, "within": f"{LONGEST_MS // DAY_MS}d"}
    return {**{name: each for name, each in signal.items() if name != "within"}, "measure": "times"}
