"""The event log's port: what every implementation promises.

Tested by one conformance suite, tests/conformance/test_eventlog.py.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from contracts.streams import IDENTITY
from shared.eventlog.event import Appended, Event, NewEvent
from shared.transaction import Transaction

FOUND_BY: Final[Mapping[str, Mapping[str, str]]] = {
    IDENTITY: {
        "profile": "into",
        "subject": "to",
        "dissolved": "dissolved",
        "facts.profile": "facts",
        "facts.subject": "facts",
    }
}
"""Stream -> field of `data` by which events are found -> the field that just those have which are found by it: few. A
merge lies under the one that stays, what is given to somebody under who has it, what is decided again about many people
under one of them."""


class EventLog(Protocol):
    """Append-only streams, each cut into partitions.

    Whoever has read position n of a partition has been shown every position below n: positions are
    claimed in the transaction that inserts the events, so they follow the commits and leave no holes.
    """

    def setup(self) -> None:
        """Makes collections and indexes; refuses a log that was made with other partitions."""

    def append(self, stream: str, events: Sequence[NewEvent], within: Transaction | None = None) -> list[Appended]:
        """Appends all of the events or none, and tells where each stands.

        An event whose id its partition already holds (or that repeats one of the batch) is not
        appended again; it gives the first one's place. Durable (majority, journal) on return,
        or, with `within`, once that transaction has committed.

        Raises SubjectsFenced where a subject is erased, Unavailable where the log cannot be reached
        in time; the outcome is then unknown and the same append may be made again.
        """

    def read(self, stream: str, partition: int, after: int, limit: int) -> list[Event]:
        """At most `limit` events behind position `after`, in order."""

    def read_behind(self, stream: str, after: Mapping[int, int], limit: int) -> list[Event]:
        """At most about `limit` events behind these positions (partition -> position), in the order of the
        partitions and of their positions. Each partition gets its share of the room that is left, so that none
        starves behind a long one."""

    def read_subject(self, stream: str, subject: str, after: int = 0, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject behind position `after`, in order."""

    def read_subject_back(self, stream: str, subject: str, before: int | None = None, limit: int = 500) -> list[Event]:
        """At most `limit` events of one subject before a position (from the end where there is none), the last one
        first."""

    def find(self, stream: str, ids: Collection[str]) -> dict[str, Event]:
        """The events with these ids, of those that there are."""

    def find_by(self, stream: str, field: str, values: Collection[str]) -> list[Event]:
        """The events in whose `data` one of these values stands in a field, in the order of partitions and positions,
        of those that FOUND_BY names."""

    def heads(self, stream: str) -> Mapping[int, int]:
        """Partition -> its last position (0 where nothing was appended yet)."""

    def partitions(self, stream: str) -> int:
        """Into how many partitions the stream is cut."""


def mark_of(stream: str, field: str) -> str:
    """What events of a stream have that are found by a field. Raises KeyError where none are."""
    found = FOUND_BY.get(stream, {}).get(field)
    if found is None:
        raise KeyError(f"events of {stream} are not found by {field}")
    return found
