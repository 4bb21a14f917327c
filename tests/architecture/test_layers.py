"""The walls: what may import what, and where the time of day and the network may come from."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = sorted(ROOT.glob("services/*/domain/*.py"))
SOURCES = sorted(each for top in ("contracts", "services", "shared") for each in (ROOT / top).rglob("*.py"))
FORBIDDEN = {
    "pymongo", "nameko", "kombu", "amqp", "eventlet", "requests", "urllib3", "httpx", "socket", "ssl", "asyncio",
    "threading", "subprocess", "time", "random", "secrets", "os", "structlog", "logging", "uvicorn", "http",
}  # fmt: skip
IO_OF_SHARED = {
    "shared.mongo", "shared.runtime", "shared.messaging", "shared.clock", "shared.config", "shared.rpc",
    "shared.subscription", "shared.service", "shared.keyring", "shared.keystore", "shared.checkpoints",
}  # fmt: skip


def imported(path):
    """Every module that a file imports, in full."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_a_domain_does_no_io(path):
    """Its decisions are plain functions: no clock, network, database or chance is imported."""
    modules = imported(path)
    assert not {each for each in modules if each.partition(".")[0] in FORBIDDEN}
    assert not modules & IO_OF_SHARED


@pytest.mark.parametrize("path", DOMAIN, ids=name)
def test_a_domain_reads_no_clock(path):
    """Nor by a method: `now`, `today`, `utcnow` are nowhere called."""
    called = {
        node.func.attr for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }  # fmt: skip
    assert not called & {"now", "today", "utcnow", "now_ms", "monotonic"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_services_do_not_import_one_another(path):
    """They share contracts/ and shared/ alone; the console only asks."""
    place = path.relative_to(ROOT).parts
    owner = place[1] if place[0] == "services" and len(place) > 2 else None
    others = {each.split(".")[1] for each in imported(path) if each.startswith("services.")}
    assert others <= ({owner} if owner else set())


@pytest.mark.parametrize("path", [each for each in SOURCES if each.relative_to(ROOT).parts[0] == "contracts"], ids=name)
def test_contracts_stand_alone(path):
    """They import nothing of ours."""
    assert not {each for each in imported(path) if each.partition(".")[0] in ("services", "shared", "tests")}


def test_every_service_has_its_rooms():
    """README, domain, store and service, where a newcomer looks for them."""
    for service in ("collector", "identity", "profile", "segmentation", "activation", "privacy"):
        for room in ("README.md", "domain", "store.py", "service.py"):
            assert (ROOT / "services" / service / room).exists(), (service, room)


def test_every_public_function_and_class_has_a_docstring():
    """What it takes, gives and raises is said where it is defined."""
    bare = []
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{name(path)}: {node.name}")
    assert bare == []


def test_nothing_needs_what_lies_beside_the_project():
    """No path of a machine, and nothing of a folder beside this one."""
    for path in [*SOURCES, ROOT / "Makefile", ROOT / "README.md", ROOT / "pyproject.toml"]:
        text = path.read_text()
        assert "/work/" not in text and "../shared" not in text and "/opt/" not in text.replace("/opt/homebrew", ""), (
            path
        )


def test_the_core_runs_without_nameko():
    """nameko must be able to go: log, keyring and consumer do not import it, nor eventlet."""
    code = (
        "import sys, shared.eventlog, shared.keyring, shared.consumer, shared.checkpoints\n"
        "sys.exit(bool({'nameko', 'eventlet'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
