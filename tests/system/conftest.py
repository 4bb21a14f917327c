"""One suite for all system tests; each test has names of its own in it."""

import pytest

from tests.system.world import Sink, World, make_suite


@pytest.fixture(scope="session")
def suite(home):
    made = make_suite(home / "system")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def world(suite):
    made = World(suite)
    made.open_source()
    yield made
    made.client.close()


@pytest.fixture
def sink(world):
    """Where webhooks go. Its destinations end with it: what becomes due for them later, by what other tests do to
    people and segments that stay, is given up and not tried for hours."""
    with Sink() as made:
        yield made
        for each in world.ask("activation", "destinations"):
            if each["url"].startswith(made.url):
                world.ask("activation", "disable_destination", each["destination"])
