import os
import uuid

import pymongo
import pytest


@pytest.fixture(scope="session")
def mongodb_url():
    return os.environ.get("MONGODB_URL", "mongodb://127.0.0.1:27117/?replicaSet=rs0")


@pytest.fixture
def prefix(mongodb_url):
    name = "t" + uuid.uuid4().hex[:10]
    yield name
    client = pymongo.MongoClient(mongodb_url)
    for db in client.list_database_names():
        if db.startswith(name):
            client.drop_database(db)
