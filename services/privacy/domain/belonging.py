"""What of the events that lie under some subjects is a person's: not what others did on a device that is shared, but
what the person did on one of somebody else's."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Belonging(NamedTuple):
    """As identity tells it."""

    subjects: frozenset[str]
    """The person's own."""
    shared: Mapping[str, int]
    """Those of them that are devices that others use, too, and since when (ms)."""
    given: Mapping[str, frozenset[str]]
    """Subject -> events of it that are the person's though it is not."""
    elsewhere: Mapping[str, frozenset[str]]
    """Subject of the person's -> events of it that are somebody else's."""

    @property
    def places(self) -> set[str]:
        """Every subject under which something of the person's lies."""
        return {*self.subjects, *self.given}

    def holds(self, subject: str, event: str, time: int) -> bool:
        """Whether an event of a subject, of that time (ms), is the person's."""
        if event in self.given.get(subject, ()):
            return True
        since = self.shared.get(subject)
        mine = subject in self.subjects and event not in self.elsewhere.get(subject, ())
        return mine and (since is None or time < since)


def belonging_of(person: Mapping[str, Any]) -> Belonging:
    """From an answer of identity.members."""
    return Belonging(
        frozenset(person["subjects"]),
        dict(person.get("shared") or {}),
        {subject: frozenset(events) for subject, events in (person.get("given") or {}).items()},
        {subject: frozenset(events) for subject, events in (person.get("elsewhere") or {}).items()},
    )
