"""What segmentation asks of the other services, and the facts that come of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.segmentation.domain.evaluate import Facts
from services.segmentation.domain.index import Needs

Signals = Sequence[Mapping[str, Any]]
Causes = Mapping[str, Mapping[str, int]]
"""Profile -> the positions that others must have passed."""


class Others(Protocol):
    """The other services. Any exception means: no answer, so it is tried again."""

    def facts(self, profiles: Sequence[str], signals: Sequence[str]) -> Mapping[str, Any]:
        """profile.facts."""

    def scan(self, after: str, limit: int, signals: Signals) -> Mapping[str, Any]:
        """profile.scan."""

    def watch(self, signals: Signals) -> Mapping[str, bool]:
        """profile.watch."""

    def watched(self) -> Mapping[str, bool]:
        """profile.watched."""

    def traits(self) -> Sequence[Mapping[str, Any]]:
        """profile.traits."""

    def agreed(self, asked: Sequence[tuple[str, str]], causes: Causes) -> Sequence[bool]:
        """privacy.decide: whether each (profile, purpose) was agreed to. Raises Unavailable where privacy has not come
        as far as the causes."""


class Known(NamedTuple):
    """What is known of people."""

    facts: dict[str, Facts]
    nobody: set[str]
    """Those of whom nothing is left, after a split say."""


def facts_of(others: Others, causes: Causes, needs: Needs) -> Known:
    """Of these profiles, as far as they are profiles of their own still."""
    if not causes:
        return Known({}, set())
    found = others.facts(sorted(causes), sorted(needs.signals))
    facts = {profile: each["facts"] for profile, each in found.items() if each and "facts" in each}
    nobody = {profile for profile in causes if found.get(profile) is None}
    return Known(with_consents(others, facts, causes, needs), nobody)


def with_consents(others: Others, facts: Mapping[str, Any], causes: Causes, needs: Needs) -> dict[str, Facts]:
    """The facts, with what each person has agreed to of what is needed."""
    asked = [(profile, purpose) for profile in sorted(facts) for purpose in sorted(needs.purposes)]
    if not asked:
        return dict(facts)
    said: dict[str, dict[str, bool]] = {}
    for (profile, purpose), agreed in zip(asked, others.agreed(asked, causes), strict=True):
        said.setdefault(profile, {})[purpose] = agreed
    return {profile: {**each, "consents": said[profile]} for profile, each in facts.items()}
