"""Reading a profile's facts (contracts/profile.py): which of several parties is believed."""

from collections.abc import Mapping
from typing import Any, Final

RANKS: Final = {"first": 0, "second": 1, "third": 2}
"""What the customer has said ranks above what a partner says, and that above what was bought."""
MINUTE_MS: Final = 60_000
MINOR_DIGITS: Final = {
    "JPY": 0,
    "KRW": 0,
    "VND": 0,
    "CLP": 0,
    "ISK": 0,
    "UGX": 0,
    "BHD": 3,
    "KWD": 3,
    "OMR": 3,
    "TND": 3,
}
"""Digits of a currency's minor unit, where it is not two (ISO 4217)."""


def minor_digits(currency: str) -> int:
    """In how many digits behind the point sums of a currency are counted."""
    return MINOR_DIGITS.get(currency, 2)


def best(parties: Mapping[str, list[Any]]) -> tuple[str, list[Any]]:
    """(party, what it said): the party of the highest rank, whatever the others said later."""
    return min(parties.items(), key=lambda item: RANKS.get(item[0], 9))
