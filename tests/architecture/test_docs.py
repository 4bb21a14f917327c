"""Docs cannot lie: commands, settings, targets, endpoints and files that they name exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from services.collector import edge
from services.console.cli import app
from shared.config import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
COMMANDS = typer.main.get_command(app)
DOCS = [
    ROOT / "README.md",
    ROOT / "contracts/README.md",
    *sorted(ROOT.glob("services/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]


def find(words):
    """The click command of these words, and what is left of them."""
    command = COMMANDS
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("line", sorted({line.strip() for line in re.findall(r"\.venv/bin/(samla [^#\n]+)", README)}))
def test_a_command_of_the_readme_exists_with_its_options(line):
    """`samla ...` as it is written there."""
    command, rest = find(shlex.split(line)[1:])
    assert not hasattr(command, "commands"), f"{line}: no such command"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_and_samla_commands_that_docs_name_exist(path):
    """In any page, in backticks or code."""
    text = path.read_text()
    for target in re.findall(r"`make ([a-z]+)", text) + re.findall(r"^make ([a-z]+)", text, re.MULTILINE):
        assert target in TARGETS, target
    for words in re.findall(r"`samla ([a-z ]+)", text):
        command, rest = find(words.split())
        assert command is not COMMANDS, words
        assert not hasattr(command, "commands") or not rest, words


def test_the_settings_table_is_the_settings():
    """Variable, default and meaning of each, and no other."""
    for name, default, meaning in Settings.described():
        assert f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |" in README
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)) == {name for name, _, _ in Settings.described()}


def test_the_paths_that_the_readme_names_are_the_ones_that_are_taken():
    """All of them, and no other."""
    table = README[README.index("## The HTTP door") : README.index("## Settings")]
    named = set(re.findall(r"/(?:beacon/|pixel/)?v1/[a-zA-Z_/]+|/sourceConfig|/example/WRITE_KEY", table))
    settings = f"{edge.PROJECTS}WRITE_KEY/settings"
    taken = {*edge.SINGLE, *edge.BATCH, *edge.PIXELS, edge.SDK_METRICS, settings, edge.SOURCE_CONFIG, edge.VISITOR}
    taken |= {f"{edge.EXAMPLE}WRITE_KEY", f"{edge.INBOUND}DIALECT/SOURCE"}
    assert named == taken


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    """Every relative link."""
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_the_first_screen_shows_the_two_commands():
    """What it is, `make demo` and `make test`, before anything else."""
    first = "\n".join(README.splitlines()[:30])
    assert "make demo" in first and "make test" in first


def test_ci_calls_the_readmes_test_command():
    """And nothing that the README does not name."""
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert "make test" in lines
    assert {line.split()[1] for line in lines if line.startswith("make ")} <= TARGETS


def test_licence_and_version_are_said_where_tools_look():
    """Apache-2.0, as SPDX says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_make_help_lists_every_target_for_people():
    """Those with a meaning."""
    meant = set(re.findall(r"^([a-z]+):.*?## ", MAKEFILE, re.MULTILINE))
    assert {"help", "setup", "demo", "test", "up", "down", "status", "check", "bench"} <= meant


def test_the_lock_files_name_no_registry():
    """Hashes, and nothing about where they are from."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text and "http://" not in text and "https://" not in text and "--index" not in text
