"""A local RabbitMQ: a node of our own (port, name, data folder), from the system's packages."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from kombu import Connection
from kombu.exceptions import OperationalError

from shared.errors import Unavailable
from shared.local.packages import installed
from shared.local.processes import Background, is_open, wait_until

START_SECONDS: Final = 90.0
SERVERS: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")
"""Not the wrapper in /usr/sbin: that one insists on the system's own user and node."""


def server() -> str | None:
    """The path of a rabbitmq-server, or None."""
    return next((each for each in SERVERS if Path(each).exists()), None)


def install() -> str:
    """The path of a rabbitmq-server, installed from the system's packages where it is not there yet."""
    return installed("rabbitmq-server", server, "set AMQP_URL to a broker, or use `docker compose up`")


def process(home: Path) -> Background:
    """The node's process."""
    return Background(home, "rabbitmq")


def start(home: Path, port: int) -> Background:
    """Starts it and waits until it takes connections."""
    running = process(home)
    folder = (home / "rabbitmq").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if running.pid is None and is_open(port):
        raise Unavailable(f"port {port}, where our RabbitMQ should listen, is taken by another program")
    (folder / "plugins").write_text("[].\n")
    # Its watermark counts all the memory of the machine; a laptop's disk is often nearly full.
    (folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\nloopback_users.guest = true\n")
    running.start([install()], os.environ | _settings(folder, port), folder)
    wait_until(lambda: _answers(port), running, START_SECONDS)
    return running


def stop(home: Path, port: int) -> None:
    """Ends the node, and the name server that it started on a port of its own."""
    process(home).stop()
    if epmd := shutil.which("epmd"):
        command = [epmd, "-port", str(_epmd_port(port)), "-kill"]
        subprocess.run(command, capture_output=True, check=False)


def url(port: int) -> str:
    """Its address."""
    return f"amqp://guest:guest@127.0.0.1:{port}//"


def _epmd_port(port: int) -> int:
    """Away from the ports that outgoing connections get."""
    return port - 1_999


def _settings(folder: Path, port: int) -> dict[str, str]:
    distribution = port - 2_000
    return {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(_epmd_port(port)),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"samla{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2",
    }


def _answers(port: int) -> bool:
    if not is_open(port):
        return False
    try:
        with Connection(url(port), connect_timeout=2) as connection:
            connection.connect()
    except (OperationalError, OSError):
        return False
    return True
