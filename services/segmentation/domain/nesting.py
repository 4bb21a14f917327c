"""Segments that refer to others: that there are such, that none refers to itself, and how much it is in all."""

from collections.abc import Collection, Mapping
from typing import Final

from services.segmentation.domain.definition import Definition, leaves, named
from shared.errors import Conflict, SamlaError

MOST_IN_ALL: Final = 1_000
"""Conditions of a segment and of those that it refers to."""
DEEPEST_NESTING: Final = 10

Graph = Mapping[str, Collection[Definition]]
"""Key -> its definitions: the one in force, and one to come."""


def check_nesting(key: str, definition: Definition, others: Graph) -> None:
    """Raises SamlaError where a segment of this key may not refer to what it refers to."""
    graph = {**others, key: [definition]}
    for each in sorted(named(definition, "segment")):
        if each not in graph:
            raise SamlaError(f"there is no segment {each}: see `samla segment list`")
    if _size(key, graph, (key,)) > MOST_IN_ALL:
        raise SamlaError(f"with the segments that it refers to it holds more than {MOST_IN_ALL} conditions")


def _size(key: str, graph: Graph, path: tuple[str, ...]) -> int:
    size = 0
    for definition in graph.get(key, ()):
        for leaf in leaves(definition):
            size += len(leaf.get("sequence", "1"))
            if "segment" in leaf:
                size += _size_of(leaf["segment"], graph, path)
            if size > MOST_IN_ALL:
                return size
    return size


def _size_of(key: str, graph: Graph, path: tuple[str, ...]) -> int:
    if key in path:
        raise SamlaError(f"segments cannot refer to themselves: {' -> '.join((*path, key))}")
    if len(path) > DEEPEST_NESTING:
        raise SamlaError(f"segments refer to others {DEEPEST_NESTING} deep at most: {' -> '.join((*path, key))}")
    return _size(key, graph, (*path, key))


def check_unused(key: str, others: Graph) -> None:
    """Raises Conflict where another refers to it."""
    using = sorted(
        each for each, definitions in others.items() if any(key in named(one, "segment") for one in definitions)
    )
    if using:
        raise Conflict(f"{key} is used by {', '.join(using)}: change or delete those first")


def using(keys: Collection[str], graph: Graph) -> set[str]:
    """The segments that refer to any of these, now or by a definition to come, through others too; without these."""
    found, last = set(keys), 0
    while len(found) > last:
        last = len(found)
        found |= {key for key, each in graph.items() if any(named(one, "segment") & found for one in each)}
    return found - set(keys)


def reach(key: str, definitions: Mapping[str, Definition]) -> set[str]:
    """The segments that one refers to, through others too; and itself."""
    found, left = {key}, [key]
    while left:
        more = {each for each in named(definitions[left.pop()], "segment") if each in definitions} - found
        found |= more
        left += more
    return found
