"""`samla rebuild`: each service's own command, in a process of its own."""

import subprocess
import sys
from typing import Annotated, Final

import typer

REBUILDS: Final = ("identity", "profile", "segmentation", "activation", "privacy")
PROFILE: Final = "profile"
ENGINES: Final = ("plain", "dask")


def rebuild(
    service: Annotated[str, typer.Argument(help="One service's projections; all where left out.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Only compare with the live ones.")] = False,
    processes: Annotated[int, typer.Option(min=0, help="That fold profiles; by default up to one a core.")] = 0,
    engine: Annotated[str, typer.Option(help="What folds profiles: plain (processes here), or dask.")] = "plain",
    scheduler: Annotated[str, typer.Option(help="With --engine dask: its address; else a cluster is made here.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Rebuilds what a service derived from the log, profiles while everything goes on; with --verify beside the live,
    proving that they are equal."""
    if service and service not in REBUILDS:
        raise typer.BadParameter(f"nothing to rebuild in {service}: {', '.join(REBUILDS)}")
    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine is one of {', '.join(ENGINES)}")
    if scheduler and engine != "dask":
        raise typer.BadParameter("--scheduler goes with --engine dask")
    options = (["--verify"] if verify else []) + (["--json"] if as_json else [])
    own = ["--processes", str(processes), "--engine", engine, "--scheduler", scheduler]
    codes = [
        subprocess.run(
            [sys.executable, "-m", f"services.{name}.rebuild", *options, *(own if name == PROFILE else [])], check=False
        ).returncode
        for name in ([service] if service else REBUILDS)
    ]
    raise typer.Exit(max(codes))
