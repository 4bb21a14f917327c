"""Reading a profile's facts (contracts/profile.py): which of several parties is believed."""

from collections.abc import Mapping
from typing import Any, Final

RANKS: Final = {"first": 0, "second": 1, "third": 2}
"""What the customer has said ranks above what a partner says, and that above what was bought."""
MINUTE_MS: Final = 60_000


def best(parties: Mapping[str, list[Any]]) -> tuple[str, list[Any]]:
    """(party, what it said): the party of the highest rank, whatever the others said later."""
    return min(parties.items(), key=lambda item: RANKS.get(item[0], 9))
