"""Profiles from the log: `python -m services.profile.rebuild [--verify] [--json]`."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from contracts.streams import IDENTITY, TRACKING
from contracts.tracking import CORRECTED
from services.profile.domain.state import add
from services.profile.folding import STATES, folded_again, named_in, readable, regroup
from services.profile.store import ProfileStore, States
from shared.eventlog import partition_of
from shared.rebuild import Rows, Tools, Upto, run

MOST_IN_MEMORY: Final = 20_000
"""Subjects whose states are gathered before they are written; all of a subject's events lie in one partition."""
WRITTEN: Final = 1_000


class ProfileProjection:
    """See shared.rebuild.Projection."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """As far as the service's checkpoints."""
        return handled

    def live(self, tools: Tools, session: Any) -> Rows:
        """States and merges."""
        return ProfileStore(tools.db, tools.keyring).rows(session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """States first, then whose they are."""
        store = ProfileStore(tools.db, tools.keyring, beside=True)
        store.setup()
        return _fold_states(store, tools, upto) + _follow_identity(store, tools, upto)

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return ProfileStore(tools.db, tools.keyring, beside=True).rows()

    def swap(self, tools: Tools) -> None:
        """The rebuilt states become the live ones."""
        ProfileStore(tools.db, tools.keyring).replace_with(ProfileStore(tools.db, tools.keyring, beside=True))

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        ProfileStore(tools.db, tools.keyring, beside=True).drop()


def _fold_states(store: ProfileStore, tools: Tools, upto: Upto) -> int:
    count = 0
    gathered: dict[str, States] = {}
    corrected: set[str] = set()
    for page in tools.events(TRACKING, upto, subscription=STATES):
        count += len(page)
        corrected |= {event.subject for event in page if event.type == CORRECTED}
        said = [(event, event.id) for event in page if event.type != CORRECTED]
        for subject, delta in readable(tools.keyring, said).items():
            add(gathered.setdefault(subject, {}), delta)
        if len(gathered) > MOST_IN_MEMORY:
            _write(store, tools, gathered)
            gathered = {}
    _write(store, tools, gathered)
    _correct(store, tools, upto, sorted(corrected))
    return count


def _correct(store: ProfileStore, tools: Tools, upto: Upto, subjects: list[str]) -> None:
    """Folds the subjects again whose events were corrected."""
    gone = tools.keyring.fenced(subjects)
    parked = tools.parked(STATES)
    for subject in subjects:
        if subject not in gone:
            at = upto[TRACKING, partition_of(subject, tools.log.partitions(TRACKING))]
            store.save({subject: folded_again(tools.log, tools.keyring, subject, at, parked)}, whole=True)


def _write(store: ProfileStore, tools: Tools, gathered: dict[str, States]) -> None:
    """Together with what of the same subjects was written before."""
    subjects = sorted(gathered)
    for start in range(0, len(subjects), WRITTEN):
        page = subjects[start : start + WRITTEN]
        gone = tools.keyring.fenced(page)
        living = [each for each in page if each not in gone]
        for subject, known in store.load(living).items():
            add(gathered[subject], known.states)
        store.save({each: gathered[each] for each in living})


def _follow_identity(store: ProfileStore, tools: Tools, upto: Upto) -> int:
    count = 0
    for page in tools.events(IDENTITY, upto):
        count += len(page)
        regroup(store, page, tools.keyring.fenced(named_in(page)))
    return count


if __name__ == "__main__":
    sys.exit(run(ProfileProjection(), "profile", sys.argv[1:]))
