"""The compose file and the Dockerfile, as far as they can be checked without an engine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.console.admin.guard import check_bind
from shared.config import SERVICES, Settings
from shared.local.suite import MODULES, Suite

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = (*SERVICES, *MODULES)


@pytest.mark.parametrize("service", OURS)
def test_a_container_runs_a_process_that_exists(service):
    """Its command is the module, and the argument, that the local suite starts too."""
    python, dash, module, *arguments = COMPOSE["services"][service]["command"]
    assert (python, dash) == ("python", "-m")
    assert (ROOT / (module.replace(".", "/") + ".py")).exists()
    assert arguments == ([] if service in MODULES else [service])
    assert service not in MODULES or module == MODULES[service]


@pytest.mark.parametrize("service", OURS)
def test_a_containers_health_check_asks_its_own_port(service):
    """The port that the settings give this process."""
    port = Suite({}).port(service)
    assert f"http://127.0.0.1:{port}/health" in COMPOSE["services"][service]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("service", OURS)
def test_a_containers_settings_exist(service):
    """Every variable is one of Settings, and the values are right ones."""
    environment = COMPOSE["services"][service]["environment"]
    assert set(environment) <= {name for name, _, _ in Settings.described()}
    plain = {name: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value) for name, value in environment.items()}
    plain |= {name: "ab" * 32 for name in ("SAMLA_MASTER_KEY", "SAMLA_ADMIN_TOKEN") if name in plain}
    settings = Settings.from_env(plain)
    assert len(settings.master_key()) == 32
    if service == "console":
        check_bind(settings)


def test_a_service_waits_for_healthy_servers_that_keep_their_data():
    """MongoDB as the replica set that the URL names, RabbitMQ, a volume each."""
    for service in OURS:
        waits = COMPOSE["services"][service]["depends_on"]
        assert {name: each["condition"] for name, each in waits.items()} == {
            "mongodb": "service_healthy",
            "rabbitmq": "service_healthy",
        }
    for server in ("mongodb", "rabbitmq"):
        assert COMPOSE["services"][server]["healthcheck"]
        assert any(volume.startswith(f"{server}:") for volume in COMPOSE["services"][server]["volumes"])
        assert server in COMPOSE["volumes"]
    assert "samla" in COMPOSE["services"]["mongodb"]["command"]


def test_the_servers_are_the_versions_that_were_tested():
    """The mongod of the PyPI package; Debian 12's RabbitMQ."""
    images = {name: COMPOSE["services"][name]["image"] for name in ("mongodb", "rabbitmq")}
    assert images == {"mongodb": "mongo:6.0.5", "rabbitmq": "rabbitmq:3.10.8"}


def test_there_is_a_container_for_every_process():
    """No more, no fewer."""
    assert set(COMPOSE["services"]) == {*OURS, "mongodb", "rabbitmq"}


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    """The linter of Dockerfiles."""
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_holds_what_the_processes_import():
    """Everything that is copied exists, and nothing of the tests or the demo's data is needed."""
    copied = re.findall(r"^COPY (\S+) (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for source, _ in copied:
        assert (ROOT / source).exists()
    own = [ROOT / (module.replace(".", "/") + ".py") for module in MODULES.values()]
    for path in [*ROOT.glob("services/*/service.py"), *own, *ROOT.glob("services/console/admin/*.py")]:
        modules = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not {each for each in modules if each and each.startswith("tests")}
