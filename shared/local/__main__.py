"""`python -m shared.local setup|up|down|status`: what make's targets call."""

import sys

from shared.errors import SamlaError
from shared.local import mongod, rabbitmq
from shared.local.suite import Suite


def main(arguments: list[str]) -> int:
    """0 where it went well; for `status`, where everything is well."""
    commands = {"setup": setup, "up": up, "down": down, "status": status}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m shared.local {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[arguments[0]](Suite())
    except SamlaError as error:
        print(f"samla: {error}", file=sys.stderr)
        return 1


def setup(suite: Suite) -> int:
    """Installs the servers that are missing and not somewhere else."""
    if suite.owns_mongodb:
        mongod.server()
    if suite.owns_rabbitmq:
        rabbitmq.install()
    return 0


def up(suite: Suite) -> int:
    """Starts everything."""
    suite.up()
    status(suite)
    print(f"\ncollector: http://127.0.0.1:{suite.settings.collector_port}/v1/track")
    print(f"admin API: http://127.0.0.1:{suite.settings.console_port}/api/v1/openapi.json")
    print("next:      .venv/bin/samla source create my-site")
    return 0


def down(suite: Suite) -> int:
    """Ends everything."""
    suite.down()
    print(f"down; the data stays in {suite.home}")
    return 0


def status(suite: Suite) -> int:
    """Shows how everything is."""
    states = suite.states()
    for each in states:
        print(f"{each.process:<13} {each.pid or '-':>8}  {each.health:<14} {each.address}")
    return 0 if all(each.health == "ok" for each in states) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
