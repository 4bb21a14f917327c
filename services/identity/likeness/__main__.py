"""`python -m services.identity.likeness [--least 0.9]`: one run, as JSON. A process of its own: splink and DuckDB take
memory and processor time that the live path must not miss."""

import argparse
import sys

import orjson

from services.identity.likeness.job import LEAST, found_by
from shared.config import Settings
from shared.errors import SamlaError
from shared.rpc import rpc_cluster

SECONDS = 120
"""That one answer may take."""


def main() -> int:
    """0, or 1 with one line of what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.identity.likeness", description="Finds look-alikes.")
    parser.add_argument("--least", type=float, default=LEAST, help="probability from which a pair is proposed")
    asked = parser.parse_args()
    try:
        with rpc_cluster(Settings.from_env(), timeout=SECONDS) as services:
            counts = found_by(services, min(max(asked.least, 0.01), 1.0), _say)
    except SamlaError as error:
        sys.stderr.write(f"samla: {error}\n")
        return 1
    sys.stdout.write(orjson.dumps(counts).decode() + "\n")
    return 0


def _say(what: str, done: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}: {done}" + ("\n" if what == "pairs" else ""))
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
