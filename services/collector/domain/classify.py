"""Splitting a body into what is ordinary and what belongs to a special category."""

from collections.abc import Sequence
from typing import Any, Final

from services.collector.domain.normalize import Body
from shared.policy import Policy, Special

NAMING: Final = ("traits", "properties", "context.traits")
"""Parts of a message whose fields' names tell what they are about."""
TELLING: Final = ("page", "screen", "referrer")
"""Of the context: where an event happened tells what it is about."""


def split(body: Body, policy: Policy) -> tuple[Body, Body | None]:
    """(ordinary, sensitive or None). What is special is only in the second, and so is what it is called."""
    special = policy.classify(body["event"], body["properties"], body["traits"])
    context_traits = body["context"].get("traits")
    if isinstance(context_traits, dict) and (names := [name for name in context_traits if policy.trait(name)]):
        body["context"] = {**body["context"], "traits": _without(context_traits, names)}
    uncleaned = body.pop("uncleaned", ())
    telling = [path for path in uncleaned if _tells(path, special, policy)] if uncleaned else []
    if len(telling) < len(uncleaned):
        body["uncleaned"] = [path for path in uncleaned if path not in telling]
    if not special:
        return body, None
    return _ordinary(body, special), _sensitive(body, special) | ({"uncleaned": telling} if telling else {})


def _tells(path: str, special: Special, policy: Policy) -> bool:
    """Whether a path lies in what is special, or is called like it: the value itself may have been dropped."""
    for part in NAMING:
        name = path.removeprefix(f"{part}.")
        if name != path and (policy.trait(name) or policy.trait(name.partition(".")[0])):
            return True
    whole = ("properties", *(f"context.{name}" for name in TELLING)) if special.event else ()
    lines = (f"properties.products.{index}" for index in special.products)
    return any(path == place or path.startswith(f"{place}.") for place in (*whole, *lines))


def _ordinary(body: Body, special: Special) -> Body:
    rest = {**body, "traits": _without(body["traits"], special.traits)}
    if special.event:
        # Its name, its properties and the page it happened on would tell.
        rest |= {"event": None, "properties": {}, "context": _without(body["context"], TELLING)}
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


def _without(value: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if name not in names}
