"""Signing secrets of destinations, sealed under a key of the destination's own."""

import os
from collections.abc import Sequence
from typing import Any, Final

from services.activation.domain import signing
from shared.errors import MissingKey
from shared.keyring import Keyring
from shared.secrets import SealedSecrets

OVERLAP_HOURS: Final = 24
"""How long an old secret goes on signing beside the new one."""

Secret = dict[str, Any]
"""{"id", "sealed", "until"}: `until` in ms, None for the one in use."""


class Vault:
    """Seals and opens secrets; they stand nowhere else."""

    def __init__(self, keyring: Keyring) -> None:
        self._secrets = SealedSecrets(keyring, "destination")

    def sealed(self, destination: str, shown: str | None = None) -> tuple[str, Secret]:
        """A secret as it is shown (the one given, or a new one), and as it is kept."""
        key = signing.key_of(shown) if shown else os.urandom(signing.NEW_SECRET_BYTES)
        return signing.secret_of(key), {**self._secrets.sealed(destination, key), "until": None}

    def keys(self, destination: str, secrets: Sequence[Secret], now: int) -> list[bytes]:
        """The keys that sign at `now`, newest first. Raises MissingKey where one cannot be opened."""
        valid = [each for each in reversed(secrets) if each["until"] is None or each["until"] > now]
        keys = [key for key in self._secrets.opened(destination, valid) if key is not None]
        if len(keys) < len(valid) or not keys:
            raise MissingKey(f"destination {destination} has no secret to sign with: rotate it")
        return keys


def rotated(secrets: Sequence[Secret], fresh: Secret, now: int, overlap_hours: float) -> list[Secret]:
    """The secrets after a rotation: the old one signs on for a while, older ones that have ended go."""
    until = now + round(overlap_hours * 3_600_000)
    kept = [{**each, "until": min(each["until"] or until, until)} for each in secrets]
    return [each for each in kept if each["until"] > now] + [fresh]
