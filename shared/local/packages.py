"""Programs from the system's packages: installed where they are missing and this user may install them."""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from shared.errors import Unavailable

NOBODY_ASKS: Final = {"DEBIAN_FRONTEND": "noninteractive"}


def installed(package: str, find: Callable[[], str | None], otherwise: str = "") -> str:
    """The path that `find` gives, once the package is there. Raises Unavailable, which says what to do:
    install it by hand, or what `otherwise` says."""
    if found := find():
        return found
    sudo = _may_install(package, otherwise)
    # A list of packages that cannot be fetched anew may still be good.
    _apt(sudo, "update", "-qq")
    done = _apt(sudo, "install", "-y", "-qq", "--no-install-recommends", package)
    if done.returncode:
        raise Unavailable(f"apt could not install {package}: {done.stderr.decode(errors='replace')[-300:]}")
    if found := find():
        return found
    raise Unavailable(f"{package} was installed, but it is not where it is looked for")


def _apt(sudo: list[str], *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*sudo, "apt-get", *arguments], env={**os.environ, **NOBODY_ASKS},
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip


def _may_install(package: str, otherwise: str) -> list[str]:
    if shutil.which("apt-get"):
        if os.geteuid() == 0:
            return []
        if (
            shutil.which("sudo")
            and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
        ):
            return ["sudo", "-n"]
    by_hand = f"run `sudo apt-get install --no-install-recommends {package}`"
    raise Unavailable(f"{package} is missing: {by_hand}{f', {otherwise}' if otherwise else ''}")
