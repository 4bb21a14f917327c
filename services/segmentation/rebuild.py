"""Memberships from the log: `python -m services.segmentation.rebuild [--verify] [--json]`.

Who entered and left is folded, not evaluated again. When to look again follows from the profiles as they are:
after a rebuild everybody is due at once.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from pymongo import InsertOne

from contracts.segmentation import ENTERED
from contracts.streams import SEGMENTATION
from services.segmentation.store import SegmentationStore
from shared.rebuild import Rows, Tools, Upto, run

WRITTEN: Final = 1_000


class SegmentationProjection:
    """See shared.rebuild.Projection."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """Memberships are written in the transaction that appends: live is at the heads of the stream."""
        return {(SEGMENTATION, partition): at for partition, at in tools.log.heads(SEGMENTATION, session).items()}

    def live(self, tools: Tools, session: Any) -> Rows:
        """Memberships."""
        return SegmentationStore(tools.db).rows(session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """All of a profile's events lie in one partition."""
        store = SegmentationStore(tools.db, beside=True)
        store.setup()
        segments = [each.id for each in store.all()]
        count = 0
        since: dict[str, dict[str, int]] = {}
        for page in tools.events(SEGMENTATION, upto):
            count += len(page)
            for event in page:
                have = since.setdefault(event.subject, {})
                if event.type == ENTERED:
                    at: Any = event.data["at"]
                    have[str(event.data["segment"])] = int(at)
                else:
                    have.pop(str(event.data["segment"]), None)
        gone = tools.keyring.fenced(since)
        _write(store, {name: each for name, each in since.items() if each and name not in gone}, segments)
        return count

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return SegmentationStore(tools.db, beside=True).rows()

    def swap(self, tools: Tools) -> None:
        """The rebuilt memberships become the live ones."""
        live, made = SegmentationStore(tools.db), SegmentationStore(tools.db, beside=True)
        known = {doc["_id"] for doc in made.people.find({}, {"_id": 1})}
        # Who is in no segment may be on the way into one: everybody is looked at again.
        others = [doc["_id"] for doc in live.people.find({}, {"_id": 1}) if doc["_id"] not in known]
        _write(made, {each: {} for each in others}, [each.id for each in live.all()])
        made.people.rename(live.people.name, dropTarget=True)

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        SegmentationStore(tools.db, beside=True).people.drop()


def _write(store: SegmentationStore, since: Mapping[str, Mapping[str, int]], segments: list[str]) -> None:
    # A turn that nobody has seen: what is being evaluated on what was there before is void.
    turn = time.time_ns() // 1_000_000
    documents = [
        InsertOne(
            {"_id": name, "turn": turn, "in": list(each), "since": each, "due": dict.fromkeys(segments, 0), "next": 0}
        )
        for name, each in since.items()
    ]
    for start in range(0, len(documents), WRITTEN):
        store.people.bulk_write(documents[start : start + WRITTEN], ordered=False)


if __name__ == "__main__":
    sys.exit(run(SegmentationProjection(), "segmentation", sys.argv[1:]))
