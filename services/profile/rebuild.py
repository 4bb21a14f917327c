"""Profiles from the log: `python -m services.profile.rebuild [--verify] [--json]`."""

import sys
from collections.abc import Mapping
from typing import Any, Final

from contracts.streams import IDENTITY, TRACKING
from contracts.tracking import CORRECTED
from services.profile.domain.placing import subject_of
from services.profile.domain.state import add
from services.profile.folding import STATES, folded_again, named_in, readable, regroup
from services.profile.store import ProfileStore, States
from services.profile.traits import NO_TRAITS, Defined, TraitStore
from shared.eventlog import partition_of
from shared.rebuild import Rows, Tools, Upto, run

MOST_IN_MEMORY: Final = 20_000
"""Subjects whose states are gathered before they are written; all of a subject's events lie in one partition."""
WRITTEN: Final = 1_000


class ProfileProjection:
    """See shared.rebuild.Projection."""

    _defined = NO_TRAITS
    """The computed traits, as of when live was looked at."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """As far as the service's checkpoints."""
        return handled

    def live(self, tools: Tools, session: Any) -> Rows:
        """States and merges."""
        # What is defined or filled from here on makes no difference between the two.
        self._defined = TraitStore(tools.db).at(session)
        return ProfileStore(tools.db, tools.keyring).rows(self._filled(), session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """Whose subjects and events are first, then their states."""
        store = ProfileStore(tools.db, tools.keyring, beside=True)
        store.setup()
        return _follow_identity(store, tools, upto) + _fold_states(store, tools, upto, self._defined)

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return ProfileStore(tools.db, tools.keyring, beside=True).rows(self._filled())

    def swap(self, tools: Tools) -> None:
        """The rebuilt states become the live ones."""
        ProfileStore(tools.db, tools.keyring).replace_with(ProfileStore(tools.db, tools.keyring, beside=True))

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        ProfileStore(tools.db, tools.keyring, beside=True).drop()

    def _filled(self) -> set[str]:
        """The computed traits that live states hold, too."""
        return {each.id for each in self._defined.traits if each.filled}


def _fold_states(store: ProfileStore, tools: Tools, upto: Upto, defined: Defined) -> int:
    count = 0
    gathered: dict[str, States] = {}
    corrected: set[str] = set()
    for page in tools.events(TRACKING, upto, subscription=STATES):
        count += len(page)
        corrected |= {event.subject for event in page if event.type == CORRECTED}
        said = [(event, event.id) for event in page if event.type != CORRECTED]
        placing = store.placing({event.subject for event in page}, [event.id for event in page])
        for at, delta in readable(tools.keyring, said, placing, defined.traits).items():
            add(gathered.setdefault(at, {}), delta)
        if len(gathered) > MOST_IN_MEMORY:
            _write(store, tools, gathered, defined)
            gathered = {}
    _write(store, tools, gathered, defined)
    _correct(store, tools, upto, sorted(corrected), defined)
    return count


def _correct(store: ProfileStore, tools: Tools, upto: Upto, subjects: list[str], defined: Defined) -> None:
    """Folds the subjects again whose events were corrected."""
    gone = tools.keyring.fenced(subjects)
    parked = tools.parked(STATES)
    for subject in subjects:
        if subject not in gone:
            at = upto[TRACKING, partition_of(subject, tools.log.partitions(TRACKING))]
            placing = store.placing([subject])
            states = folded_again(tools.log, tools.keyring, subject, at, parked, placing, defined.traits)
            store.save(states, whole=True, defined=defined.version)
            store.drop_slots(store.prints([subject]).keys() - states.keys())
            store.settle(states)


def _write(store: ProfileStore, tools: Tools, gathered: dict[str, States], defined: Defined) -> None:
    """Together with what of the same subjects was written before."""
    slots = sorted(gathered)
    for start in range(0, len(slots), WRITTEN):
        page = slots[start : start + WRITTEN]
        gone = tools.keyring.fenced({subject_of(each) for each in page})
        living = [each for each in page if subject_of(each) not in gone]
        for at, known in store.load(living).items():
            add(gathered[at], known.states)
        store.save({each: gathered[each] for each in living}, defined=defined.version)
        store.settle(living)


def _follow_identity(store: ProfileStore, tools: Tools, upto: Upto) -> int:
    count = 0
    for page in tools.events(IDENTITY, upto):
        count += len(page)
        regroup(store, page, tools.keyring.fenced(named_in(page)))
    return count


if __name__ == "__main__":
    sys.exit(run(ProfileProjection(), "profile", sys.argv[1:]))
