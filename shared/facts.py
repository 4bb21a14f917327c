"""Reading a profile's facts (contracts/profile.py): its minutes, and its sums of money."""

from typing import Final

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
