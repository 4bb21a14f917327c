"""Secrets that are shared with somebody outside, sealed under a key of their owner's own; they stand nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson.binary import Binary

from shared.keyring import ORDINARY, Keyring, Sealed, Sealing, new_id

Kept = dict[str, Any]
"""{"id", "sealed"}: a secret as it is stored."""


class SealedSecrets:
    """Seals and opens the secrets of one kind of owner, such as destinations."""

    def __init__(self, keyring: Keyring, kind: str) -> None:
        self._keyring = keyring
        self._kind = kind

    def sealed(self, owner: str, secret: bytes) -> Kept:
        """The secret as it is kept."""
        identity = new_id()
        [text] = self._keyring.seal([Sealing(self._subject(owner), ORDINARY, identity, secret)])
        return {"id": identity, "sealed": Binary(text)}

    def opened(self, owner: str, kept: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
        """The secrets; None where the key is gone for good. Raises MissingKey where it should be there."""
        subject = self._subject(owner)
        return self._keyring.open([Sealed(subject, ORDINARY, each["id"], bytes(each["sealed"])) for each in kept])

    def forget(self, owner: str) -> None:
        """Destroys the key: nothing of what was sealed for this owner can be opened again."""
        self._keyring.destroy([self._subject(owner)])

    def _subject(self, owner: str) -> str:
        return f"{self._kind}:{owner}"
