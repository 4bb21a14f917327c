"""The fold: what a subject's events say, as a state that does not depend on their order.

A state is a commutative merge (DESIGN law 6): sets with the first and last time, exact sums of integers,
and for each origin the last writer by (event time, event id). So any order, any batches and any grouping of
the same events give the same state, and a profile is the merge of its subjects' states.

The shapes are in contracts/profile.py; a change of them, or of what is folded, is a new FOLD_VERSION.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from contracts.profile import Origin
from services.profile.domain.computed import Trait, apart, bounded, joined, measured
from shared.facts import MINUTE_MS, minor_digits

FOLD_VERSION: Final = 3

State = dict[str, Any]
Body = Mapping[str, Any]

OPINIONS: Final = frozenset(
    {"Survey Answered", "Survey Completed", "Feedback Given", "Product Reviewed", "NPS Answered", "Review Submitted"}
)
"""Events that say what somebody thinks."""
OPINION_ABOUT: Final = ("survey_id", "survey", "product_id", "product")
QUESTION: Final = "question"
LONGEST_KEY: Final = 200
"""Characters of what an opinion is about, and of its question."""
OPINION_FIELDS: Final = (
    "answer",
    "value",
    "rating",
    "score",
    "scale",
    "review_body",
    "comment",
    "question",
    "survey",
    "product_id",
)
MOST_ANSWERS: Final = 100
"""Of one event."""
MONEY: Final = ("revenue", "total", "value", "amount")
"""Where an event says what it was worth; the first that is there counts."""
MOST_MINOR: Final = 10**15


def empty() -> State:
    """Nothing is known."""
    return {part: {} for part in _JOINS}


def state_of(body: Body, event: str, traits: Iterable[Trait] = ()) -> State:
    """What one event says. `body` is an opened body of contracts/tracking.py; `event` is the event's id; `traits` are
    to be computed."""
    time, origin = body["time"], str(Origin.of(body))
    state = empty()
    for kind, value in body.get("identifiers", ()):
        state["ids"].setdefault(kind, {})[value] = [time, time, event, origin]
    if body["type"] == "identify":
        state["traits"] = {
            name: {origin: [time, event, value]} for name, value in body["traits"].items() if value is not None
        }
    name = body.get("event")
    if name:
        properties = body["properties"]
        origins = {origin: [1, [time, event], [time, event]]}
        state["events"][name] = [1, time, time, {_minute(time): 1}, _money(properties, time), origins]
        state["computed"] = measured(traits, name, properties, time, event)
        if name in OPINIONS:
            state["opinions"] = {key: {origin: [time, event, said]} for key, said in _opinions(name, properties)}
    return state


def _opinions(name: str, properties: Body) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, what was said) of each answer: one that the event is about, or the several that it lists."""
    said = {field: properties[field] for field in OPINION_FIELDS if field in properties}
    answers = properties.get("answers")
    listed = [each for each in answers if isinstance(each, Mapping)] if isinstance(answers, list) else []
    for number, each in enumerate(listed[:MOST_ANSWERS], 1):
        own = {field: each[field] for field in OPINION_FIELDS if field in each}
        key = _opinion_key(name, {**properties, **each})
        # Answers that do not say what to are told by their place.
        yield key if each.get(QUESTION) else f"{key} {number}", said | own
    if not listed:
        yield _opinion_key(name, properties), said


def _minute(time: int) -> str:
    return str(time // MINUTE_MS)


def _opinion_key(name: str, properties: Mapping[str, Any]) -> str:
    """What it is about and the question, as far as they are said."""
    about = next((properties[key] for key in OPINION_ABOUT if properties.get(key)), None)
    parts = [str(each)[:LONGEST_KEY] for each in (about, properties.get(QUESTION)) if each]
    return ": ".join(parts) or name


def _money(properties: Mapping[str, Any], time: int) -> dict[str, dict[str, int]]:
    """{currency: {minute: minor units}}; nothing without a currency, or where it is no amount."""
    currency = properties.get("currency")
    amount = next((properties[name] for name in MONEY if properties.get(name) is not None), None)
    if not isinstance(currency, str) or len(currency) != 3 or amount is None or isinstance(amount, bool):
        return {}
    minor = minor_units(amount, currency.upper())
    return {} if minor is None else {currency.upper(): {_minute(time): minor}}


def minor_units(amount: object, currency: str) -> int | None:
    """An amount in the currency's minor unit (cents), rounded half to even; None where it is no amount."""
    try:
        exact = Decimal(str(amount)).scaleb(minor_digits(currency))
        minor = int(exact.to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return minor if abs(minor) <= MOST_MINOR else None


# Merging


def merge(into: State, more: State) -> State:
    """The state of both together, in `into` (which is changed). Commutative and associative."""
    for part, join in _JOINS.items():
        have = into[part]
        for key, value in more[part].items():
            have[key] = join(have[key], value) if key in have else value
    return into


def add(states: dict[str, State], more: Mapping[str, State]) -> dict[str, State]:
    """`merge` for states by class of data: all of `more` in `states` (which is changed)."""
    for cls, state in more.items():
        states[cls] = merge(states.get(cls) or empty(), state)
    return states


def merged(states: Iterable[State]) -> State:
    """All of them together; they are left as they are."""
    whole = empty()
    for state in states:
        merge(whole, copied(state))
    return whole


def copied(state: State) -> State:
    """A copy that merging may change."""
    return {
        "ids": {kind: dict(values) for kind, values in state["ids"].items()},
        "traits": {name: dict(origins) for name, origins in state["traits"].items()},
        "events": {
            name: [
                *event[:3],
                dict(event[3]),
                {currency: dict(sums) for currency, sums in event[4].items()},
                dict(event[5]),
            ]
            for name, event in state["events"].items()
        },
        "opinions": {key: dict(origins) for key, origins in state["opinions"].items()},
        "computed": {name: apart(each) for name, each in state["computed"].items()},
    }


def _join_ids(have: dict[str, list[Any]], more: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for value, seen in more.items():
        mine = have.get(value)
        if mine is None:
            have[value] = seen
            continue
        # Where it is from: the event that said it first.
        first = mine if (mine[0], mine[2]) <= (seen[0], seen[2]) else seen
        have[value] = [first[0], max(mine[1], seen[1]), first[2], first[3]]
    return have


def _join_latest(have: dict[str, list[Any]], more: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The last writer of each origin, by (event time, event id)."""
    for origin, said in more.items():
        mine = have.get(origin)
        if mine is None or (mine[0], mine[1]) < (said[0], said[1]):
            have[origin] = said
    return have


def _join_events(have: list[Any], more: list[Any]) -> list[Any]:
    _add(have[3], more[3])
    for currency, sums in more[4].items():
        _add(have[4].setdefault(currency, {}), sums)
    origins = _join_origins(have[5], more[5])
    return [have[0] + more[0], min(have[1], more[1]), max(have[2], more[2]), have[3], have[4], origins]


def _join_origins(have: dict[str, list[Any]], more: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Of each: how often, the first time and the last, each with its event."""
    for origin, seen in more.items():
        mine = have.get(origin)
        have[origin] = [mine[0] + seen[0], min(mine[1], seen[1]), max(mine[2], seen[2])] if mine else seen
    return have


def _add(have: dict[str, int], more: dict[str, int]) -> None:
    for minute, number in more.items():
        have[minute] = have.get(minute, 0) + number


_JOINS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "ids": _join_ids,
    "traits": _join_latest,
    "events": _join_events,
    "opinions": _join_latest,
    "computed": joined,
}


def names_of(state: State) -> set[str]:
    """What a state says something about: `traits.plan`, `events.Order Completed` ... `computed.ID`."""
    return {f"{part}.{key}" for part in _JOINS for key in state[part]}


def as_kept(state: State) -> State:
    """Without what of computed traits no window reaches any more: the same for the same events."""
    return {**state, "computed": {name: bounded(each) for name, each in state["computed"].items()}}


def with_traits(state: State, ids: Collection[str]) -> State:
    """The state with these of its computed traits only."""
    return {**state, "computed": {name: each for name, each in state["computed"].items() if name in ids}}


def without_traits(states: Mapping[str, State]) -> dict[str, State]:
    """States by class of data without all that is computed."""
    return {cls: with_traits(state, ()) for cls, state in states.items()}


# States by an older fold


def lifted(state: State) -> State:
    """A state of version 2 as it is read now; it is not added to, but folded again."""
    return {
        "ids": {
            kind: {value: [*seen[:3], f"::{seen[3]}"] for value, seen in values.items()}
            for kind, values in state["ids"].items()
        },
        "traits": {name: _by_origin(parties) for name, parties in state["traits"].items()},
        "events": {name: [*event[:5], {}] for name, event in state["events"].items()},
        "opinions": {key: _by_origin(parties) for key, parties in state["opinions"].items()},
        "computed": {},
    }


def _by_origin(parties: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        str(Origin(party, under[0] if under else "", source)): [time, event, value]
        for party, (time, event, value, source, *under) in parties.items()
    }
