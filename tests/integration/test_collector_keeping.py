"""What the collector keeps beside the log, on a real MongoDB: violations, the quarantine, connections."""

import pytest

from services.collector.activity import EXAMPLES, MOST_KEPT, Activity, ActivityStore, Broken, Seen
from services.collector.domain.plan import Violation
from services.collector.domain.raw import request_id
from shared.keyring import Keyring, new_id
from shared.keystore import MongoKeyStore
from shared.mongo import connect

NOW = 1_767_225_600_000
DAY = 86_400_000


class World:
    """Stores on databases of their own."""

    def __init__(self, mongodb_url, prefix):
        self.client = connect(mongodb_url)
        self.db = self.client[f"{prefix}_collector"]
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()

    def settle(self):
        """Figures are written without waiting for the majority; what was written before this is read after it."""
        self.db["settled"].insert_one({})


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


# Violations of tracking plans


class Settled(ActivityStore):
    """It reads what it has written."""

    def __init__(self, world):
        super().__init__(world.db)
        self.settle = world.settle

    def violations(self, source):
        self.settle()
        return super().violations(source)

    def add_violations(self, broken):
        self.settle()
        super().add_violations(broken)


@pytest.fixture
def activity(world):
    return Settled(world)


def counted(activity, *noted):
    """What a process writes of (violation, correlation) pairs."""
    process = Activity(activity)
    for violation, correlation in noted:
        process.violated("s", NOW, correlation, [violation])
    process.start()
    process.stop()
    return activity.violations("s")


def test_what_is_special_is_counted_without_the_requests_it_came_with(activity):
    """Beside what is not, of the same kind."""
    plain, special = Violation("Order", "properties.n", "type"), Violation("Order", "properties.n", "type", True)
    [row] = counted(activity, (plain, "r1"), (special, "r2"), (plain, "r3"))
    assert (row["count"], row["examples"]) == (3, ["r1", "r3"])
    [row] = counted(activity, (special, "r4"))
    assert (row["count"], row["examples"]) == (4, ["r1", "r3"])
    assert set(row) == {"event", "path", "rule", "count", "first", "last", "examples"}


def test_a_source_has_so_many_kinds_of_violations_and_no_more(activity):
    """The others are counted together, whichever process has seen them; those that are there go on."""
    for part in range(3):
        kinds = [Violation("E", f"properties.p{part}_{n}", "type") for n in range(MOST_KEPT // 2)]
        activity.add_violations({Broken("s", each): Seen(1, NOW, ()) for each in kinds})
    first = Broken("s", Violation("E", "properties.p0_0", "type"))
    activity.add_violations({first: Seen(1, NOW, ()), Broken("t", Violation("E", "a", "type")): Seen(1, NOW, ())})
    rows = {each["path"]: each["count"] for each in activity.violations("s")}
    assert len(rows) <= MOST_KEPT + 1 and rows["properties.p0_0"] == 2
    assert sum(rows.values()) == 3 * (MOST_KEPT // 2) + 1 and rows["*"] == MOST_KEPT // 2
    assert len(activity.violations("t")) == 1


def test_violations_end_with_their_retention_and_so_do_their_examples(activity):
    old, new = (request_id(at, new_id()) for at in (NOW - 40 * DAY, NOW))
    seldom, often = (Broken("s", Violation("E", path, "type")) for path in ("a", "b"))
    activity.add_violations({seldom: Seen(1, NOW - 40 * DAY, (old,)), often: Seen(1, NOW - 40 * DAY, (old,))})
    activity.add_violations({often: Seen(1, NOW, (new,))})
    assert activity.expire_violations("s", NOW - 30 * DAY) == 1
    [row] = activity.violations("s")
    assert (row["path"], row["count"], row["examples"]) == ("b", 2, [new])
    assert EXAMPLES > 1
