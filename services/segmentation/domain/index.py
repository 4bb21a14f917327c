"""The segments that there are, ready to ask which of them a change concerns."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from contracts.profile import EVERYTHING
from services.segmentation.domain.definition import Definition, depends_on, named, signals
from services.segmentation.domain.membership import Segment
from services.segmentation.domain.nesting import reach


class Needs(NamedTuple):
    """What is to be asked for to evaluate some segments."""

    signals: frozenset[str]
    """Ids."""
    purposes: frozenset[str]


class Index:
    """A set of segments at a revision. The dependencies of those that a segment refers to are its own."""

    def __init__(self, segments: Iterable[Segment], revision: int) -> None:
        self.revision = revision
        self.segments = {each.id: each for each in segments}
        self.definitions: dict[str, Definition] = {each.key: each.definition for each in self.segments.values()}
        own_names = {key: depends_on(each) for key, each in self.definitions.items()}
        own_needs = {key: _needs(each) for key, each in self.definitions.items()}
        self._by_name: dict[str, list[Segment]] = {}
        self._needs: dict[str, Needs] = {}
        self._reach = {key: reach(key, self.definitions) for key in self.definitions}
        for segment in self.segments.values():
            reached = self._reach[segment.key]
            self._needs[segment.id] = _together(own_needs[key] for key in reached)
            for name in set[str]().union(*(own_names[key] for key in reached)):
                self._by_name.setdefault(name, []).append(segment)
        began = {each.key: each.since for each in self.segments.values()}
        self._since = {each.id: max(began[key] for key in self._reach[each.key]) for each in self.segments.values()}
        ready = {each.key for each in self.segments.values() if each.ready}
        self._ready = {each.id: each for each in self.segments.values() if self._reach[each.key] <= ready}

    def concerned(self, names: Collection[str]) -> list[Segment]:
        """The segments that are evaluated, and whose answer the change of these names may change."""
        if EVERYTHING in names:
            return list(self._ready.values())
        found = {each.id: each for name in names for each in self._by_name.get(name, ())}
        return [each for each in found.values() if each.id in self._ready]

    def evaluated(self) -> Mapping[str, Segment]:
        """By id, those of which all is there that they look at."""
        return self._ready

    def needs(self, segments: Iterable[Segment]) -> Needs:
        """What is to be asked for to evaluate these."""
        return _together(self._needs[each.id] for each in segments)

    def since(self, segment: Segment) -> int:
        """When it, and all that it refers to, came in force as it is (ms)."""
        return self._since[segment.id]

    def using(self, key: str) -> list[Segment]:
        """The other segments that refer to one, through others too."""
        return [each for each in self.segments.values() if each.key != key and key in self._reach[each.key]]


def _needs(definition: Definition) -> Needs:
    return Needs(frozenset(signals(definition)), frozenset(named(definition, "consent")))


def _together(needs: Iterable[Needs]) -> Needs:
    every = list(needs)
    return Needs(
        frozenset[str]().union(*(each.signals for each in every)),
        frozenset[str]().union(*(each.purposes for each in every)),
    )


def needs_of(definition: Definition, definitions: Mapping[str, Definition]) -> tuple[dict[str, dict[str, Any]], Needs]:
    """(signals by id, what is to be asked for) of a definition that is not saved, with those that it refers to."""
    parts = [definition]
    for key in named(definition, "segment"):
        parts += [definitions[each] for each in reach(key, definitions)] if key in definitions else []
    every = {key: each for part in parts for key, each in signals(part).items()}
    return every, _together(_needs(each) for each in parts)
