"""What activation knows of a segment: its names for the message, and whether it looks at special data."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

GROUPS: Final = ("all", "any", "not")

Special = Callable[[str], object]
"""Gives something true where a name belongs to a special category of data, by the data policy."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says about a segment, and what the gate needs to know of it."""

    id: str
    key: str
    name: str
    version: int
    sensitive: bool
    """Whether its definition looks at special categories of data."""


def segment_of(row: Mapping[str, Any], trait: Special, event: Special) -> Segment:
    """A row of segmentation's `segments()`, judged by the data policy where it does not say itself."""
    said = row.get("sensitive")
    return Segment(
        id=row["segment"],
        key=row["key"],
        name=row["name"],
        version=int(row.get("version", 0)),
        sensitive=said if isinstance(said, bool) else looks_at_special(row.get("definition"), trait, event),
    )


def looks_at_special(definition: object, trait: Special, event: Special) -> bool:
    """Whether a definition looks at special data anywhere; one that cannot be read counts as if it did."""
    if isinstance(definition, list):
        return any(looks_at_special(each, trait, event) for each in definition)
    if not isinstance(definition, dict):
        return True
    groups = [each for word, each in definition.items() if word in GROUPS]
    names = [(definition.get("trait"), trait), (definition.get("event"), event)]
    return any(looks_at_special(each, trait, event) for each in groups) or any(
        name is not None and (not isinstance(name, str) or bool(special(name))) for name, special in names
    )
