"""A profile as people read it: four parts, each value with where it is from."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from services.profile.domain.state import State
from shared.facts import best


def view_of(profile: str, state: State) -> dict[str, Any]:
    """The four parts: identity, quantitative, descriptive, qualitative."""
    return {
        "profile": profile,
        "identity": {kind: _ids(values) for kind, values in sorted(state["ids"].items())},
        "quantitative": {name: _event(event) for name, event in sorted(state["events"].items())},
        "descriptive": {name: _said(parties) for name, parties in sorted(state["traits"].items())},
        "qualitative": {key: _said(parties) for key, parties in sorted(state["opinions"].items())},
    }


def _ids(values: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {"value": value, "first_seen": first, "last_seen": last, "event": event, "source": source}
        for value, (first, last, event, source) in sorted(values.items(), key=lambda item: (-item[1][1], item[0]))
    ]


def _event(event: list[Any]) -> dict[str, Any]:
    count, first, last, _, sums = event
    totals = {currency: sum(minutes.values()) for currency, minutes in sorted(sums.items())}
    return {"count": count, "first": first, "last": last, **({"minor_units": totals} if totals else {})}


def _said(parties: Mapping[str, list[Any]]) -> dict[str, Any]:
    party, (time, event, value, source, *under) = best(parties)
    shown = {"value": value, "time": time, "event": event, "source": source, "party": party}
    shown |= {"agreement": under[0]} if under else {}
    others = {other: said[2] for other, said in parties.items() if other != party}
    return shown | ({"others": others} if others else {})


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


def latest(lines: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The last lines, latest first."""
    return sorted(lines, key=lambda line: (-line["time"], line["event"]))[:limit]
