"""The admin API's process: `python -m services.console.api`."""

import sys

import uvicorn

from services.console.admin.app import Admin
from services.console.admin.guard import check_bind
from shared import logs
from shared.config import Settings
from shared.errors import SettingsError


def main() -> int:
    """Runs until SIGTERM or SIGINT; 2 for a wrong setting."""
    try:
        settings = Settings.from_env()
        check_bind(settings)
        settings.master_key()
    except SettingsError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 2
    logs.configure(settings, "console")
    config = uvicorn.Config(
        Admin(settings).app,
        host=settings.bind,
        port=settings.console_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        lifespan="on",
        server_header=False,
        # Who stands in between is not believed: nothing here follows from a client's address.
        proxy_headers=False,
        timeout_graceful_shutdown=20,
    )
    uvicorn.Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
