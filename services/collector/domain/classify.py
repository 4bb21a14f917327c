"""Splitting a body into what is ordinary and what belongs to a special category."""

from typing import Any

from services.collector.domain.normalize import Body
from shared.policy import Policy, Special


def split(body: Body, policy: Policy) -> tuple[Body, Body | None]:
    """(ordinary, sensitive or None). What is special is only in the second."""
    special = policy.classify(body["event"], body["properties"], body["traits"])
    context_traits = body["context"].get("traits")
    if isinstance(context_traits, dict) and (names := [name for name in context_traits if policy.trait(name)]):
        body["context"] = {**body["context"], "traits": _without(context_traits, names)}
    if not special:
        return body, None
    return _ordinary(body, special), _sensitive(body, special)


def _ordinary(body: Body, special: Special) -> Body:
    rest = {**body, "traits": _without(body["traits"], special.traits)}
    if special.event:
        # Its name, its properties and the page it happened on would tell.
        rest |= {"event": None, "properties": {}, "context": _without(body["context"], ("page", "screen", "referrer"))}
    elif special.products:
        kept = [line for index, line in enumerate(body["properties"]["products"]) if index not in special.products]
        rest["properties"] = {**body["properties"], "products": kept}
    return rest


def _sensitive(body: Body, special: Special) -> Body:
    properties: dict[str, Any] = {}
    if special.event:
        properties = body["properties"]
    elif special.products:
        lines = body["properties"]["products"]
        properties = {"products": [lines[index] for index in special.products]}
    return {
        "type": body["type"],
        "time": body["time"],
        "party": body["party"],
        "source_name": body["source_name"],
        "event": body["event"] if special.event or special.products else None,
        "properties": properties,
        "traits": {name: body["traits"][name] for name in special.traits},
        "categories": list(special.categories),
    }


def _without(value: dict[str, Any], names: tuple[str, ...] | list[str]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name not in names}
