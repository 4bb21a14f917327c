"""Two ways to decide the same events, compared: who would merge, who would part."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from services.identity.domain.graph import Graph

EXAMPLES: Final = 20
MOST_NAMED: Final = 10
"""Identifiers of a person that are told in an example."""


class Difference(NamedTuple):
    """Identifiers (subjects) that are put together otherwise."""

    before: list[frozenset[str]]
    after: list[frozenset[str]]

    @property
    def merges(self) -> bool:
        """Whether people become one who were not."""
        return any(sum(not each.isdisjoint(one) for one in self.before) > 1 for each in self.after)

    @property
    def parts(self) -> bool:
        """Whether somebody becomes several, or loses an identifier."""
        after = frozenset[str]().union(*self.after)
        return any(not each <= after or sum(not each.isdisjoint(one) for one in self.after) > 1 for each in self.before)

    @property
    def subjects(self) -> frozenset[str]:
        """All that are concerned."""
        return frozenset[str]().union(*self.before, *self.after)


def groups_of(graph: Graph) -> dict[str, frozenset[str]]:
    """Profile -> its identifiers (subjects)."""
    return {each.id: frozenset(each.members) for each in graph.people.values() if each.into is None}


def differences(before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]) -> Iterator[Difference]:
    """Each smallest set of people that is put together otherwise."""
    whose = {subject: profile for profile, subjects in before.items() for subject in subjects}
    becomes = {subject: profile for profile, subjects in after.items() for subject in subjects}
    seen: set[str] = set()
    for start in [*whose, *becomes]:
        if start in seen:
            continue
        old, new = _around(start, whose, becomes, before, after)
        seen |= frozenset[str]().union(*(before[each] for each in old), *(after[each] for each in new))
        changed = Difference([before[each] for each in sorted(old)], [after[each] for each in sorted(new)])
        if set(changed.before) != set(changed.after):
            yield changed


def _around(
    start: str,
    whose: Mapping[str, str],
    becomes: Mapping[str, str],
    before: Mapping[str, frozenset[str]],
    after: Mapping[str, frozenset[str]],
) -> tuple[set[str], set[str]]:
    old: set[str] = set()
    new: set[str] = set()
    waiting = {start}
    while waiting:
        one = waiting.pop()
        if (profile := whose.get(one)) is not None and profile not in old:
            old.add(profile)
            waiting |= before[profile]
        if (profile := becomes.get(one)) is not None and profile not in new:
            new.add(profile)
            waiting |= after[profile]
    return old, new


class Report:
    """What two ways of deciding differ in, in figures and examples."""

    def __init__(self) -> None:
        self._merging: list[Difference] = []
        self._parting: list[Difference] = []
        self.merges = 0
        self.parts = 0

    def add(self, difference: Difference) -> None:
        """One more."""
        if difference.merges:
            self.merges += 1
            self._merging = ([*self._merging, difference])[:EXAMPLES]
        if difference.parts:
            self.parts += 1
            self._parting = ([*self._parting, difference])[:EXAMPLES]

    @property
    def shown(self) -> set[str]:
        """Subjects whose names examples need."""
        found = [*self._merging, *self._parting]
        return {subject for each in found for group in (*each.before, *each.after) for subject in few(group)}

    def examples(self, names: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
        """{merging, parting}: [{before, after}], people as lists of identifiers; `names` tells a subject's."""
        return {
            kind: [
                {side: [told(group, names) for group in getattr(each, side)] for side in ("before", "after")}
                for each in found
            ]
            for kind, found in (("merging", self._merging), ("parting", self._parting))
        }


def biggest(groups: Mapping[str, frozenset[str]]) -> list[frozenset[str]]:
    """The people with the most identifiers."""
    return sorted(groups.values(), key=lambda each: (-len(each), min(each, default="")))[:EXAMPLES]


def few(group: frozenset[str]) -> list[str]:
    """Those of a person's identifiers that are told."""
    return sorted(group)[:MOST_NAMED]


def told(group: frozenset[str], names: Mapping[str, str]) -> dict[str, Any]:
    """{identifiers: how many, some: [kind:value]}."""
    return {"identifiers": len(group), "some": [names.get(each, each) for each in few(group)]}
