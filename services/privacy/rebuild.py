"""Consents from the log: `python -m services.privacy.rebuild [--verify] [--json]`."""

import sys
from collections.abc import Mapping
from typing import Any

from contracts.streams import TRACKING
from services.privacy.consenting import CONSENTS, add, deltas_of
from services.privacy.store import ConsentStore
from shared.rebuild import Rows, Tools, Upto, run


class PrivacyProjection:
    """See shared.rebuild.Projection."""

    def upto(self, tools: Tools, handled: Upto, session: Any) -> Mapping[tuple[str, int], int]:
        """As far as the service's checkpoints."""
        return handled

    def live(self, tools: Tools, session: Any) -> Rows:
        """Consents."""
        return ConsentStore(tools.db, tools.keyring).rows(session)

    def fold(self, tools: Tools, upto: Upto) -> int:
        """Page by page."""
        store = ConsentStore(tools.db, tools.keyring, beside=True)
        store.setup()
        count = 0
        for page in tools.events(TRACKING, upto, subscription=CONSENTS):
            count += len(page)
            add(store, tools.keyring, deltas_of(tools.keyring, page))
        return count

    def beside(self, tools: Tools) -> Rows:
        """What was folded."""
        return ConsentStore(tools.db, tools.keyring, beside=True).rows()

    def swap(self, tools: Tools) -> None:
        """The rebuilt consents become the live ones."""
        live, made = ConsentStore(tools.db, tools.keyring), ConsentStore(tools.db, tools.keyring, beside=True)
        made.consents.rename(live.consents.name, dropTarget=True)

    def clear(self, tools: Tools) -> None:
        """Drops what was made beside."""
        ConsentStore(tools.db, tools.keyring, beside=True).consents.drop()


if __name__ == "__main__":
    sys.exit(run(PrivacyProjection(), "privacy", sys.argv[1:]))
