"""The graph from the log: `python -m services.identity.rebuild [--verify] [--json]`."""

import sys
from collections.abc import Mapping
from typing import Any

from contracts.identity import RULES_CHANGED
from contracts.streams import IDENTITY
from services.identity.domain.graph import involved
from services.identity.domain.rules import rules_of
from services.identity.store import Change, IdentityStore
from shared.errors import SamlaError
from shared.eventlog import Event
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY
from shared.rebuild import Rows, Tools, Upto, run


class IdentityProjection:
    """See shared.rebuild.Projection. Identity's decisions are folded, not decided again."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """The graph is written in the transaction that appends: live is at the head of the stream."""
        return {(IDENTITY, partition): at for partition, at in tools.log.heads(IDENTITY, session).items()}

    def live(self, tools: Tools, session: Any) -> Rows:
        """People and links."""
        return IdentityStore(tools.db, tools.keyring).rows(session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """Page by page, each on the part of the graph that it is about."""
        store = _beside(tools)
        store.setup()
        count = 0
        for page in tools.events(IDENTITY, upto):
            _fold(store, page, tools)
            count += len(page)
        return count

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return _beside(tools).rows()

    def swap(self, tools: Tools) -> None:
        """The rebuilt graph becomes the live one."""
        IdentityStore(tools.db, tools.keyring).replace_with(_beside(tools))

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        _beside(tools).drop()


def _beside(tools: Tools) -> IdentityStore:
    return IdentityStore(tools.db, tools.keyring, beside=True)


def _fold(store: IdentityStore, page: list[Event], tools: Tools) -> None:
    profiles, subjects = involved((event.type, event.data) for event in page)
    # First: it also tells whether anything was split by then.
    store.version()
    graph = store.load(subjects, profiles)
    for event in page:
        graph.evolve(event.type, event.data, event.time)
        if event.type == RULES_CHANGED:
            _put_rules(store, event, tools)
    version, _ = store.version()
    tools.transactor.run(lambda within: store.save(graph, version, within))


def _put_rules(store: IdentityStore, event: Event, tools: Tools) -> None:
    [document] = open_events(tools.keyring, [event])
    if document is None:
        raise SamlaError(f"the rules of event {event.id} cannot be opened: their key is gone")
    rules = rules_of(int(str(event.data["version"])), document)
    version, _ = store.version()
    change = Change(event.id, event.time, event.data.get("past") is True)
    sealed = event.sealed[ORDINARY]
    tools.transactor.run(lambda within: store.put_rules(rules.version, sealed, change, version, within))


if __name__ == "__main__":
    sys.exit(run(IdentityProjection(), "identity", sys.argv[1:]))
