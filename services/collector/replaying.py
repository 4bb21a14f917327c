"""Replay: quarantined messages are taken in again, a page at a time, by the rules as they are now.

What goes through is appended under the id that it would have had, and leaves the quarantine after that: a
replay that is cut off, or done twice at once, changes nothing. What still fails stays, with its newest reason.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.collector.domain.intake import Accepted, SetAside
from services.collector.domain.mending import Rule
from services.collector.domain.quarantine import again
from services.collector.domain.raw import Request, request_id
from services.collector.domain.source import Source
from services.collector.store import Chosen, Entry, QuarantineStore, SourceStore
from services.collector.writer import Appender, Item
from shared.keyring import new_id
from shared.policy import Policy

EXAMPLES: Final = 5


class Replaying:
    """See the module's text."""

    def __init__(
        self,
        quarantine: QuarantineStore,
        sources: SourceStore,
        appender: Appender,
        policy: Policy,
        now_ms: Callable[[], int],
    ) -> None:
        self._quarantine = quarantine
        self._sources = sources
        self._appender = appender
        self._policy = policy
        self._now_ms = now_ms

    def page(self, chosen: Chosen, rule: Rule | None, after: str, limit: int, dry: bool) -> dict[str, Any]:
        """Replays the entries behind `after`, `limit` at most. With `dry` it only says what would come of it."""
        sources = self._sources.by_id()
        entries = self._quarantine.page(chosen, after, limit)
        found = {each.id: self._again(each, sources, rule) for each in entries}
        passed = {each.id: (each, taken) for each in entries if isinstance(taken := found[each.id], Accepted)}
        failed = {name: each for name, each in found.items() if isinstance(each, SetAside)}
        if not dry:
            now = self._now_ms()
            self._appender.append([_item(entry, taken, now) for entry, taken in passed.values() if entry.kept])
            self._quarantine.remove(list(passed))
            self._quarantine.explain(failed)
        return {
            "looked_at": len(entries),
            "replayed": len(passed),
            "still": dict(Counter(each.code for each in failed.values())),
            "examples": [
                {"id": name, "code": each.code, "place": each.place, "message": each.why}
                for name, each in list(failed.items())[:EXAMPLES]
            ],
            "after": entries[-1].id if len(entries) == limit else None,
        }

    def _again(self, entry: Entry, sources: Mapping[str, Source], rule: Rule | None) -> Accepted | SetAside:
        source = sources.get(entry.source)
        if source is None or entry.kept is None:
            return _GONE
        if not source.may_send(self._now_ms()):
            return _NO_AGREEMENT
        return again(entry.kept, entry.id, entry.received, source, rule, self._policy)


_NO_AGREEMENT: Final = SetAside(0, "no_agreement", "", "its source has no agreement or licence that holds", b"")
_GONE: Final = SetAside(0, "gone", "", "its source is gone, or it was erased", b"")


def _item(entry: Entry, taken: Accepted, now: int) -> Item:
    correlation = request_id(entry.received, new_id())
    return Item(entry.source, entry.received, correlation, taken, entry.kept or Request(), now)
