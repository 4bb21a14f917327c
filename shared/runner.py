"""Runs one nameko service in this process: `python -m shared.runner profile`."""

import eventlet

eventlet.monkey_patch()

import signal
import sys
from importlib import import_module
from types import FrameType

from nameko.containers import ServiceContainer

from shared import logs, rpc
from shared.config import SERVICES, Settings
from shared.errors import SamlaError, SettingsError


def main(arguments: list[str]) -> int:
    """Runs until SIGTERM or SIGINT; 2 for a wrong setting or service, 1 when it died."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"usage: python -m shared.runner {'|'.join(SERVICES)}", file=sys.stderr)
        return 2
    [name] = arguments
    try:
        settings = Settings.from_env()
        settings.master_key()
    except SettingsError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    logs.configure(settings, name)
    return _run(name, settings)


def _run(name: str, settings: Settings) -> int:
    rpc.configure()
    service = import_module(f"services.{name}.service").SERVICE
    container = ServiceContainer(service, rpc.nameko_config(settings, name))
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _stopping(container))
    logger = logs.get_logger("samla.runner")
    try:
        container.start()
        logger.info("started", service=name)
        container.wait()
    except SamlaError as error:
        logger.error("ended", service=name, why=str(error))
        return 1
    logger.info("stopped", service=name)
    return 0


def _stopping(container: ServiceContainer):  # type: ignore[no-untyped-def]
    def stop(signum: int, frame: FrameType | None) -> None:
        # Not in the signal's own frame: stopping waits for workers.
        eventlet.spawn_n(container.stop)

    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
