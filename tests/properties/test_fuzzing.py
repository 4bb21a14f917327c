"""A coverage-guided fuzzer finds nothing that breaks the way from a request's bytes to what is kept."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris has no wheel for this machine")

from tests.properties.fuzz_door import SEEDS, one_input

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(32))
def test_the_seeds_keep_the_promises(first):
    """So that what the fuzzer looks for is what is so."""
    for seed in SEEDS:
        one_input(bytes([first]) + seed)


def test_no_bytes_break_the_door(tmp_path):
    """Bodies of any kind: a refusal, or each message is accepted or set aside."""
    for number, seed in enumerate(SEEDS * 4):
        (tmp_path / f"seed{number}").write_bytes(bytes([number * 5]) + seed)
    done = subprocess.run(
        [sys.executable, "-m", "tests.properties.fuzz_door", "-runs=400000", "-max_total_time=20", "-max_len=2048",
         "-rss_limit_mb=1500", f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    runs = int(re.search(r"Done (\d+) runs", done.stderr).group(1))
    assert runs > 1_000
