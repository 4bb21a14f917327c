"""Small files that are never half written."""

import os
from pathlib import Path


def keep(path: Path, content: bytes, durable: bool = False) -> None:
    """Writes the file in one step, for its owner alone, in a folder that is there: a cut finds the old one or the new.

    `durable`: it is on the disk when this returns.
    """
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
