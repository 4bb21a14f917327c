"""Filling states that lack something, while everything goes on: traits that were defined after they were folded.

Subjects are folded again from the log, some at a time; what happens to them meanwhile is added before they are written.
Nothing is told of it: what somebody is by a trait was not known to anybody before. But where a state becomes too large
with it, or is no more, traits that were known go or come: that is told.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from services.profile.folding import Again, Folding
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.errors import CheckpointMoved, SubjectsFenced
from shared.transaction import Transaction, Transactor

MOST_SUBJECTS: Final = 50
"""That are folded again at a time."""
MOST_EVENTS: Final = 2_000
"""Of them, but for the last one's."""
TRIES: Final = 10
"""At what others write meanwhile, each with less that is new."""


class Filling:
    """See the module's text."""

    def __init__(
        self,
        store: ProfileStore,
        traits: TraitStore,
        folding: Folding,
        transactor: Transactor,
        checkpoints: MongoCheckpoints,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._traits = traits
        self._folding = folding
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._clock = clock or Clock()

    def step(self) -> bool:
        """Fills some; whether there may be more."""
        version = self._traits.current().version
        subjects = self._store.lacking(version, MOST_SUBJECTS)
        if not subjects:
            # Nothing was folded without them since they were defined (see TraitStore), so nothing lacks them again.
            self._traits.fill(version)
            return False
        again: Again | None = self._folding.again(subjects, MOST_EVENTS)
        for _ in range(TRIES):
            if again is None or self._put(again):
                break
            again = self._folding.further(again)
        return True

    def _put(self, again: Again) -> bool:
        """Whether it was written, or there is nothing to be written; not where others have written meanwhile."""

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            self._folding.tell(self._folding.put(again, within), self._clock.now_ms(), within)

        try:
            self._transactor.run(work)
        except (CheckpointMoved, SubjectsFenced):
            # Or somebody is being erased since it was looked whether they are.
            return False
        return True

    def rows(self) -> list[dict[str, object]]:
        """The traits, each with how many of all states still lack it."""
        rows = self._traits.rows()
        holding = self._store.holding() if any(not row["filled"] for row in rows) else Counter[int]()
        return [
            {
                "key": row["key"],
                "definition": row["definition"],
                "created": row["created"],
                "filled": row["filled"],
                "left": 0 if row["filled"] else self._left(row["since"], holding),
                "of": 0 if row["filled"] else holding.total(),
            }
            for row in rows
        ]

    def _left(self, since: int, holding: Mapping[int, int]) -> int:
        lacking = sum(slots for version, slots in holding.items() if version < since)
        return max(0, lacking - self._store.count_let_be(since))
