"""Filling states that lack something, while everything goes on: traits that were defined after they were folded.

Subjects are folded again from the log, some at a time; what happens to one meanwhile makes that it is folded once
more. Nothing is told of it: what somebody is by a trait was not known to anybody before.
"""

from typing import Final

from services.profile.folding import Folding
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import Checkpoints
from shared.errors import CheckpointMoved
from shared.transaction import Transaction, Transactor

MOST_SUBJECTS: Final = 50
"""That are folded again at a time."""


class Filling:
    """See the module's text."""

    def __init__(
        self,
        store: ProfileStore,
        traits: TraitStore,
        folding: Folding,
        transactor: Transactor,
        checkpoints: Checkpoints,
    ) -> None:
        self._store = store
        self._traits = traits
        self._folding = folding
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._many = MOST_SUBJECTS

    def step(self) -> bool:
        """Fills some; whether there may be more."""
        version = self._traits.refresh().version
        subjects = self._store.lacking(version, self._many)
        if not subjects:
            self._traits.fill(version)
            return False
        again = self._folding.again(subjects)

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            self._folding.put(again, within)

        try:
            self._transactor.run(work)
        except CheckpointMoved:
            # The fewer there are, the less likely that one of them has just been written.
            self._many = max(1, self._many // 2)
        else:
            self._many = min(MOST_SUBJECTS, self._many * 2)
        return True

    def rows(self) -> list[dict[str, object]]:
        """The traits, each with how many of all states still lack it."""
        rows = self._traits.rows()
        slots = self._store.counts()["subjects"] if any(not row["filled"] for row in rows) else 0
        return [
            {
                "key": row["key"],
                "definition": row["definition"],
                "created": row["created"],
                "filled": row["filled"],
                "left": 0 if row["filled"] else self._store.count_lacking(row["since"]),
                "of": 0 if row["filled"] else slots,
            }
            for row in rows
        ]
