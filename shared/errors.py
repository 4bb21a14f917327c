"""The errors that Samla's parts speak to each other with.

Messages are safe to log and to show: they name streams, positions, random ids and what to do,
never anything that a person said or is.
"""

from collections.abc import Iterable


class SamlaError(Exception):
    """Base of all errors of our own; its message holds nothing personal."""


class SettingsError(SamlaError):
    """A setting is wrong; the message says which, why and what would be right."""


class NotFound(SamlaError):
    """There is nothing under this id or name."""


class Conflict(SamlaError):
    """It is right in itself, but not as things stand: a name is taken, say, or somebody else was first."""


class Unavailable(SamlaError):
    """Something that we depend on did not answer; the same call may succeed later."""


class MissingKey(Unavailable):
    """A key is neither there nor fenced: an alarm, not an erasure. Nothing may go on without it."""


class Poison(SamlaError):
    """This event can never be handled as it is; the loop parks it and goes on."""


class CheckpointMoved(SamlaError):
    """Another instance has handled the batch in the meantime; nothing of ours was written."""


class SubjectsFenced(SamlaError):
    """Some subjects are erased and may never get a key or an event again."""

    def __init__(self, subjects: Iterable[str]) -> None:
        self.subjects = frozenset(subjects)
        super().__init__(f"{len(self.subjects)} subject(s) are erased; resolve their identifiers again")
