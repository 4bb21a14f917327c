"""Servers of the tests' own: started when a test first needs them, gone at the end."""

import shutil
import tempfile
import uuid
from pathlib import Path

import pymongo
import pytest
from hypothesis import settings

from shared.local import mongod, rabbitmq
from shared.local.processes import free_ports

# How long an example takes says nothing of what it proves, least of all on a busy machine.
settings.register_profile("samla", deadline=None)
settings.load_profile("samla")


@pytest.fixture(scope="session")
def home():
    """A folder for the session's servers and suites."""
    folder = Path(tempfile.mkdtemp(prefix="samla-tests-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mongodb_url(home):
    """A real MongoDB, as a replica set."""
    [port] = free_ports(1)
    # Tests make and drop so many collections that those of five minutes are more files than a process may open.
    server = mongod.start(home, port, history=30)
    yield mongod.url(port)
    server.stop()


@pytest.fixture(scope="session")
def amqp_url(home):
    """A real RabbitMQ."""
    [port] = free_ports(1)
    rabbitmq.start(home, port)
    yield rabbitmq.url(port)
    rabbitmq.stop(home, port)


@pytest.fixture
def prefix(mongodb_url):
    """A prefix for databases that goes with them at the end of the test."""
    name = "t" + uuid.uuid4().hex[:10]
    yield name
    with pymongo.MongoClient(mongodb_url) as client:
        for database in client.list_database_names():
            if database.startswith(f"{name}_"):
                client.drop_database(database)
