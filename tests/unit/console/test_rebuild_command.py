"""`samla rebuild`: what it takes."""

import pytest
from typer.testing import CliRunner

from services.console.cli import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collector"], "nothing to rebuild in collector"),
        (["profile", "--engine", "spark"], "--engine is one of plain, dask"),
        (["profile", "--scheduler", "tcp://127.0.0.1:8786"], "--scheduler goes with --engine dask"),
        (["profile", "--processes", "-1"], "'--processes': Input should be greater"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(arguments, said):
    """Which option, and what would be right."""
    done = CliRunner().invoke(app, ["rebuild", *arguments], env={"TERM": "dumb", "COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in done.output
