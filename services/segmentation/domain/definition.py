"""Definitions: checked once, then evaluated over a profile's facts at an instant.

An evaluation also says when its answer will change by itself, because something leaves a time window; until
then, or until the profile changes, there is no need to look again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shared.conditions import COMPARE, UNITS, WITHIN, check_condition, compares, is_number, milliseconds
from shared.errors import SamlaError
from shared.facts import MINUTE_MS, minor_digits
from shared.policy import Policy

Definition = Mapping[str, Any]
Facts = Mapping[str, Any]

DEEPEST: Final = 10
MOST_CONDITIONS: Final = 100


class Answer(NamedTuple):
    """Whether a profile is in, and when that changes by itself (ms; None: never)."""

    inside: bool
    changes_at: int | None


# Checking


def check(definition: object) -> None:
    """Raises SamlaError, saying where and what, for what is no definition."""
    count = sum(1 for _ in _leaves_checked(definition, "definition", 0))
    if count > MOST_CONDITIONS:
        raise SamlaError(f"a definition holds {MOST_CONDITIONS} conditions at most, not {count}")


def _leaves_checked(definition: object, place: str, depth: int) -> Iterator[None]:
    if depth > DEEPEST:
        raise SamlaError(f"{place}: nested deeper than {DEEPEST}")
    if not isinstance(definition, dict):
        raise SamlaError(f'{place}: must be an object such as {{"trait": "plan", "is": "pro"}}')
    heads = [word for word in ("all", "any", "not", "trait", "identifier", "event") if word in definition]
    if len(heads) != 1:
        raise SamlaError(f"{place}: needs just one of all, any, not, trait, identifier, event")
    [head] = heads
    if head in ("all", "any"):
        if set(definition) != {head} or not isinstance(definition[head], list) or not definition[head]:
            raise SamlaError(f"{place}: {head} is a list of definitions, and stands alone")
        for index, each in enumerate(definition[head]):
            yield from _leaves_checked(each, f"{place}.{head}[{index}]", depth + 1)
    elif head == "not":
        if set(definition) != {"not"}:
            raise SamlaError(f"{place}: not stands alone")
        yield from _leaves_checked(definition["not"], f"{place}.not", depth + 1)
    else:
        if not isinstance(definition[head], str) or not definition[head]:
            raise SamlaError(f"{place}.{head}: must be a name")
        _CHECKS[head](definition, place)
        yield None


def _check_trait(definition: Definition, place: str) -> None:
    check_condition({word: value for word, value in definition.items() if word != "trait"}, place, "a trait")


def _check_identifier(definition: Definition, place: str) -> None:
    if set(definition) != {"identifier", "exists"} or not isinstance(definition["exists"], bool):
        raise SamlaError(f"{place}: an identifier has `exists`, true or false")


def _check_event(definition: Definition, place: str) -> None:
    if ("count" in definition) == ("sum" in definition):
        raise SamlaError(f"{place}: an event has either count or sum")
    what = "count" if "count" in definition else "sum"
    known = {"event", what, "within"} | ({"currency"} if what == "sum" else set())
    if more := set(definition) - known:
        raise SamlaError(f"{place}: {sorted(more)[0]} does not belong here")
    bounds = definition[what]
    if not isinstance(bounds, dict) or not bounds or set(bounds) - set(COMPARE):
        raise SamlaError(f'{place}.{what}: compares with {", ".join(COMPARE)}, such as {{"gte": 3}}')
    if not all(is_number(each) for each in bounds.values()):
        raise SamlaError(f"{place}.{what}: must compare with numbers")
    currency = definition.get("currency")
    if what == "sum" and not (isinstance(currency, str) and len(currency) == 3):
        raise SamlaError(f"{place}: a sum names its currency, such as EUR")
    if "within" in definition and not (
        isinstance(definition["within"], str) and WITHIN.fullmatch(definition["within"])
    ):
        raise SamlaError(f"{place}.within: a number and one of {', '.join(UNITS)}, such as 30d")


_CHECKS: Final = {"trait": _check_trait, "identifier": _check_identifier, "event": _check_event}


# What it looks at


def depends_on(definition: Definition) -> set[str]:
    """The names (`traits.plan`, `events.Order Completed` ...) whose change may change the answer."""
    return {
        f"{part}.{leaf[head]}"
        for leaf in leaves(definition)
        for head, part in (("trait", "traits"), ("event", "events"), ("identifier", "ids"))
        if head in leaf
    }


def leaves(definition: Definition) -> Iterator[Definition]:
    """Its conditions, without what joins them."""
    if "not" in definition:
        yield from leaves(definition["not"])
    elif joined := definition.get("all") or definition.get("any"):
        for each in joined:
            yield from leaves(each)
    else:
        yield definition


def special_names(definition: Definition, policy: Policy) -> list[str]:
    """The traits and events in it that belong to special categories of data."""
    return sorted(
        name
        for leaf in leaves(definition)
        for name, category in (
            (leaf.get("trait"), policy.trait(leaf["trait"]) if "trait" in leaf else None),
            (leaf.get("event"), policy.event(leaf["event"]) if "event" in leaf else None),
        )
        if name and category
    )


# Evaluating


def evaluate(definition: Definition, facts: Facts, now: int) -> Answer:
    """Whether a profile with these facts is in at `now` (ms). The definition has been checked."""
    if "all" in definition or "any" in definition:
        return _joined(definition, facts, now)
    if "not" in definition:
        inside, changes_at = evaluate(definition["not"], facts, now)
        return Answer(not inside, changes_at)
    if "trait" in definition:
        return Answer(_trait(definition, facts), None)
    if "identifier" in definition:
        return Answer(bool(facts["ids"].get(definition["identifier"])) == definition["exists"], None)
    return _event(definition, facts, now)


def _joined(definition: Definition, facts: Facts, now: int) -> Answer:
    every = "all" in definition
    answers = [evaluate(each, facts, now) for each in definition["all" if every else "any"]]
    inside = (all if every else any)(each.inside for each in answers)
    return Answer(inside, _earliest(each.changes_at for each in answers))


def _earliest(instants: Iterator[int | None]) -> int | None:
    return min((each for each in instants if each is not None), default=None)


def _trait(definition: Definition, facts: Facts) -> bool:
    said = facts["traits"].get(definition["trait"])
    op = next(word for word in definition if word != "trait")
    wanted = definition[op]
    if op == "exists":
        return bool((said is not None) == wanted)
    if said is None:
        return op in ("is_not", "not_in")
    return compares(op, said[2], wanted)


def _event(definition: Definition, facts: Facts, now: int) -> Answer:
    what = "count" if "count" in definition else "sum"
    minutes, unit = _minutes(definition, facts, what)
    bounds = {COMPARE[name]: number * unit for name, number in definition[what].items()}
    if "within" not in definition:
        return Answer(_holds_all(bounds, sum(minutes.values())), None)
    return _windowed(bounds, minutes, milliseconds(definition["within"]), now)


def _minutes(definition: Definition, facts: Facts, what: str) -> tuple[Mapping[str, int], int]:
    event = facts["events"].get(definition["event"])
    if what == "count":
        return (event[3] if event else {}), 1
    currency = definition["currency"].upper()
    return (event[4].get(currency, {}) if event else {}), 10 ** minor_digits(currency)


def _windowed(bounds: Mapping[Any, float], minutes: Mapping[str, int], window: int, now: int) -> Answer:
    """What stands in a minute leaves the window when that minute's beginning does."""
    ends = sorted((int(minute) * MINUTE_MS + window, number) for minute, number in minutes.items())
    living: Sequence[tuple[int, int]] = [each for each in ends if each[0] > now]
    total = sum(number for _, number in living)
    inside = _holds_all(bounds, total)
    for end, number in living:
        total -= number
        if _holds_all(bounds, total) != inside:
            return Answer(inside, end)
    return Answer(inside, None)


def _holds_all(bounds: Mapping[Any, float], number: float) -> bool:
    return all(compare(number, bound) for compare, bound in bounds.items())
