"""Evaluating: a checked definition over one person's facts at an instant, and why the answer is what it is.

Facts are contracts.profile.Facts, and `consents`: {purpose: whether it was agreed to}. What happens after the instant
is not known at it, so an instant that has passed can be evaluated as well.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from contracts.profile import signal_id
from services.segmentation.domain.answer import NOBODY, Answer, bounds_of, earliest, joined, summed, total
from services.segmentation.domain.dates import DATES, dated
from services.segmentation.domain.definition import Definition, signals_of
from services.segmentation.domain.sequences import Step, chain, followed
from shared.conditions import compares, milliseconds
from shared.errors import Unavailable
from shared.facts import MINUTE_MS, minor_digits

Facts = Mapping[str, Any]
Definitions = Mapping[str, Definition]
"""Key of a segment -> its definition."""

SIGNAL_DIGITS: Final = 9
"""Behind the point, in which signals count what they add."""
NOTHING: Final[Definitions] = {}


def evaluate(definition: Definition, facts: Facts, now: int, segments: Definitions = NOTHING) -> Answer:
    """Whether a person with these facts is in at `now` (ms). `segments`: those that the definition refers to."""
    if "all" in definition or "any" in definition:
        every = "all" in definition
        parts = definition["all" if every else "any"]
        return joined(every, [evaluate(each, facts, now, segments) for each in parts])
    if "not" in definition:
        inside, changes_at = evaluate(definition["not"], facts, now, segments)
        return Answer(not inside, changes_at)
    if "segment" in definition:
        # In one that is no more is nobody.
        meant = segments.get(definition["segment"])
        return NOBODY if meant is None else evaluate(meant, facts, now, segments)
    return _condition(definition, facts, now)


def _condition(leaf: Definition, facts: Facts, now: int) -> Answer:
    if "event" in leaf:
        return _event(leaf, facts, now)
    if "trait" in leaf:
        said = facts["traits"].get(leaf["trait"])
        return _compared(leaf, "trait", said[2] if said else None, now)
    if "identifier" in leaf:
        return Answer(bool(facts["ids"].get(leaf["identifier"])) == leaf["exists"], None)
    if "consent" in leaf:
        return Answer(bool(facts.get("consents", {}).get(leaf["consent"])) == leaf["is"], None)
    if "computed" in leaf:
        value, changes_at = facts.get("computed", {}).get(leaf["computed"], (None, None))
        answer = _compared(leaf, "computed", value, now)
        return Answer(answer.inside, earliest((answer.changes_at, changes_at)))
    return followed(_steps(leaf, facts), _span(leaf, "within"), _span(leaf, "span"), now)


def _compared(leaf: Definition, head: str, value: Any, now: int) -> Answer:
    op = next(word for word in leaf if word != head)
    wanted = leaf[op]
    if op == "exists":
        return Answer(bool((value is not None) == wanted), None)
    if value is None:
        return Answer(op in ("is_not", "not_in"), None)
    return dated(op, wanted, value, now) if op in DATES else Answer(compares(op, value, wanted), None)


def _span(definition: Definition, name: str) -> int:
    """In ms; 0 where it is not said: ever."""
    return milliseconds(definition[name]) if name in definition else 0


# Events


def _event(leaf: Definition, facts: Facts, now: int) -> Answer:
    for what in ("last", "first"):
        if what in leaf:
            return _moment(leaf, what, facts, now)
    what = "count" if "count" in leaf else "sum"
    numbers, scale, digits = _numbers(leaf, facts, now)
    return summed(numbers, scale, _span(leaf, "within"), bounds_of(leaf[what], digits), now)


def _numbers(leaf: Definition, facts: Facts, now: int) -> tuple[Mapping[str, int], int, int]:
    """(numbers by bucket, ms of a bucket, digits behind the point)."""
    if watched := _watched(leaf, facts):
        numbers = {bucket: int(number) for bucket, number in (watched[0] or {}).items()}
        return numbers, 1, SIGNAL_DIGITS if "sum" in leaf else 0
    event = facts["events"].get(leaf["event"])
    if "sum" in leaf:
        currency = leaf["currency"].upper()
        return (event[4].get(currency, {}) if event else {}), MINUTE_MS, minor_digits(currency)
    if event and "within" not in leaf and event[2] <= now:
        return {"0": event[0]}, 1, 0
    return (event[3] if event else {}), MINUTE_MS, 0


def _watched(leaf: Definition, facts: Facts) -> list[Mapping[str, int] | None]:
    """The signals of a condition; None where there was too much to keep."""
    if "event" in leaf and not ("where" in leaf or "within" in leaf or "of" in leaf):
        return []
    kept, ids = facts["signals"], _ids(orjson.dumps(leaf))
    if any(each not in kept for each in ids):
        raise Unavailable("the profile service does not keep what a segment looks at: it is asked for again")
    return [kept[each] for each in ids]


@lru_cache(maxsize=20_000)
def _ids(leaf: bytes) -> tuple[str, ...]:
    return tuple(signal_id(each) for each in signals_of(orjson.loads(leaf)))


def _moment(leaf: Definition, what: str, facts: Facts, now: int) -> Answer:
    """The last (or first) time lies within a span, or does not."""
    [(word, span)] = leaf[what].items()
    window = milliseconds(span)
    times = [each for each in _times(leaf, facts) if each <= now]
    coming = min((each for each in _times(leaf, facts) if each > now), default=None)
    if not times:
        return Answer(False, coming)
    ends = (times[-1] if what == "last" else times[0]) + window
    inside = (now < ends) == (word == "within")
    turns = earliest((ends if now < ends else None, coming))
    return Answer(inside, turns)


def _times(leaf: Definition, facts: Facts) -> list[int]:
    """When it happened, ascending: exactly where it is watched, else the first and the last, and minutes between."""
    if watched := _watched(leaf, facts):
        return sorted(map(int, watched[0] or ()))
    event = facts["events"].get(leaf["event"])
    if not event:
        return []
    between = (int(minute) * MINUTE_MS for minute in event[3])
    return sorted({event[1], event[2], *(each for each in between if event[1] < each < event[2])})


def _steps(leaf: Definition, facts: Facts) -> list[Step]:
    return [
        Step(sorted(map(int, times or ())), _span(step, "within"), "not" in step)
        for step, times in zip(leaf["sequence"], _watched(leaf, facts), strict=True)
    ]


# Explaining


def explain(definition: Definition, facts: Facts, now: int, segments: Definitions = NOTHING) -> dict[str, Any]:
    """Why: {holds, changes_at, and either all, any, not or segment with its parts, or the condition with what was
    found}. The same in every part."""
    answer = evaluate(definition, facts, now, segments)
    told: dict[str, Any] = {"holds": answer.inside, "changes_at": answer.changes_at}
    for word in ("all", "any"):
        if word in definition:
            return {**told, word: [explain(each, facts, now, segments) for each in definition[word]]}
    if "not" in definition:
        return {**told, "not": explain(definition["not"], facts, now, segments)}
    if "segment" in definition:
        meant = segments.get(definition["segment"])
        parts = {} if meant is None else {"is": explain(meant, facts, now, segments)}
        return {**told, "segment": definition["segment"], **parts}
    return {**told, "condition": definition, "found": found(definition, facts, now)}


def found(leaf: Definition, facts: Facts, now: int) -> Any:
    """What a condition was compared with: a value, a number, instants in ms; None where there is nothing."""
    if "trait" in leaf:
        said = facts["traits"].get(leaf["trait"])
        return said[2] if said else None
    if "computed" in leaf:
        return facts.get("computed", {}).get(leaf["computed"], (None,))[0]
    if "identifier" in leaf:
        return len(facts["ids"].get(leaf["identifier"], ()))
    if "consent" in leaf:
        return facts.get("consents", {}).get(leaf["consent"])
    return _happened(leaf, facts, now)


def _happened(leaf: Definition, facts: Facts, now: int) -> Any:
    if "sequence" in leaf:
        best = chain(_steps(leaf, facts), _span(leaf, "within"), _span(leaf, "span"), now)
        return {"began": best.began, "ended": best.ended} if best else None
    if "last" in leaf or "first" in leaf:
        times = [each for each in _times(leaf, facts) if each <= now]
        return (times[-1] if "last" in leaf else times[0]) if times else None
    numbers, scale, digits = _numbers(leaf, facts, now)
    units = total(numbers, scale, _span(leaf, "within"), now)
    return units / 10**digits if digits and units % 10**digits else units // 10**digits
