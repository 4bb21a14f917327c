"""A profile as others see it: as facts for machines, as four parts for people, each value with where it is from."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from contracts.profile import Origin
from services.profile.domain.believing import Believing
from services.profile.domain.computed import Measured, Trait, Value, is_listed_in_full, nothing, signal_value, value_of
from services.profile.domain.state import State
from shared.policy import POLICY


def facts_of(
    state: State,
    believing: Believing,
    traits: Collection[Trait],
    now: int,
    signals: Collection[Trait] = (),
    too_large: bool = False,
) -> dict[str, Any]:
    """What is known (contracts.profile.Facts), at `now` (ms): of several values the one that is believed. `too_large`:
    some of it goes without what is computed, of which nothing can be said."""
    return {
        "ids": state["ids"],
        "traits": {name: _believed(believing, name, said) for name, said in state["traits"].items()},
        "events": {name: event[:5] for name, event in state["events"].items()},
        "opinions": {key: _believed(believing, key, said) for key, said in state["opinions"].items()},
        "computed": {
            trait.key: list(Value(None, None) if too_large else computed(state, trait, now)) for trait in traits
        },
        "signals": {each.key: None if too_large else _signal(state["computed"].get(each.id)) for each in signals},
    }


def _signal(held: Measured | None) -> dict[str, Any] | None:
    return signal_value(held) if held else {}


def _believed(believing: Believing, name: str, said: Mapping[str, list[Any]]) -> list[Any]:
    text, (time, event, value) = believing.best(name, said)
    origin = Origin.read(text)
    under = [origin.agreement] if origin.agreement else []
    return [time, event, value, origin.source, origin.party, *under]


def computed(state: State, trait: Trait, now: int) -> Value:
    """A computed trait at `now` (ms)."""
    held = state["computed"].get(trait.id)
    return value_of(held, now) if held else Value(nothing(trait.measure), None)


def view_of(
    profile: str,
    state: State,
    believing: Believing,
    traits: Collection[Trait],
    now: int,
    sensitive: bool = False,
    too_large: bool = False,
) -> dict[str, Any]:
    """The four parts: identity, quantitative, descriptive, qualitative; and what is computed, at `now` (ms).
    `too_large`: as for `facts_of`."""
    return {
        "profile": profile,
        "identity": {kind: _ids(values) for kind, values in sorted(state["ids"].items())},
        "quantitative": {name: _event(name, event, sensitive) for name, event in sorted(state["events"].items())},
        "descriptive": {
            name: _said(believing.ordered(name, said), POLICY.trait(name) if sensitive else None)
            for name, said in sorted(state["traits"].items())
        },
        "qualitative": {
            key: _said(believing.ordered(key, said), SPECIAL if sensitive else None)
            for key, said in sorted(state["opinions"].items())
        },
        "computed": {
            trait.key: {"value": None, "too_large": True} if too_large else _computed(state, trait, now)
            for trait in sorted(traits, key=lambda each: each.key)
        },
    }


SPECIAL: Final = "special"
"""The category of what came with something that is of one."""
ORDINARY: Final = "ordinary"


def _ids(values: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "first_seen": first,
            "last_seen": last,
            "event": event,
            **Origin.read(origin).shown(),
            "sensitivity": ORDINARY,
        }
        for value, (first, last, event, origin) in sorted(values.items(), key=lambda item: (-item[1][1], item[0]))
    ]


def _event(name: str, event: list[Any], sensitive: bool) -> dict[str, Any]:
    count, first, last, _, sums, origins = event
    totals = {currency: sum(minutes.values()) for currency, minutes in sorted(sums.items())}
    sources = [
        {**Origin.read(origin).shown(), "count": times, "first": seen[0], "last": latest[0], "event": latest[1]}
        for origin, (times, seen, latest) in sorted(origins.items(), key=lambda item: (-item[1][0], item[0]))
    ]
    return {
        "count": count,
        "first": first,
        "last": last,
        **({"minor_units": totals} if totals else {}),
        "sources": sources,
        "sensitivity": (POLICY.event(name) or SPECIAL) if sensitive else ORDINARY,
    }


def _said(ordered: list[tuple[str, Any]], category: str | None) -> dict[str, Any]:
    """The value that is believed; the others beside it."""
    shown = [
        {"value": value, "time": time, "event": event, **Origin.read(origin).shown()}
        for origin, (time, event, value) in ordered
    ]
    others = {"others": shown[1:]} if len(shown) > 1 else {}
    return {**shown[0], "sensitivity": category or ORDINARY, **others}


def _computed(state: State, trait: Trait, now: int) -> dict[str, Any]:
    value, changes_at = computed(state, trait, now)
    held = state["computed"].get(trait.id)
    changing = {} if changes_at is None else {"changes_at": changes_at}
    cut = {} if held is None or is_listed_in_full(held) else {"too_many": True}
    return {"value": value, **changing, **cut}


def with_ids(state: State, allowed: Collection[tuple[str, str]]) -> State:
    """The state with only those identifiers that are this person's by identity's decisions."""
    ids = {
        kind: kept
        for kind, values in state["ids"].items()
        if (kept := {value: seen for value, seen in values.items() if (kind, value) in allowed})
    }
    return {**state, "ids": ids}


def line_of(body: Mapping[str, Any], event: str) -> dict[str, Any]:
    """A line of the timeline."""
    return {
        "time": body["time"],
        "what": body.get("event") or body["type"],
        "details": _details(body),
        "source": body["source_name"],
        "party": body["party"],
        "event": event,
    }


SHOWN: Final = 5


def _details(body: Mapping[str, Any]) -> str:
    """The first few plain values, to be recognized by."""
    values = body["traits"] if body["type"] == "identify" else body["properties"]
    plain = [f"{name}={value}" for name, value in values.items() if isinstance(value, (str, int, float))]
    products = values.get("products")
    if isinstance(products, list):
        plain.append(f"{len(products)} products")
    if "consent" in body:
        plain += [f"{name}={'yes' if agreed else 'no'}" for name, agreed in body["consent"].items()]
    return ", ".join(plain[:SHOWN])
