"""What the collector keeps beside the log, on a real MongoDB: violations, the quarantine, connections."""

import orjson
import pytest
from msgspec.structs import replace

from services.collector.activity import EXAMPLES, MOST_KEPT, Activity, ActivityStore, Broken, Seen
from services.collector.connections import ConnectionStore
from services.collector.domain import agreement as agreements
from services.collector.domain import quarantine as quarantined
from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import Accepted, take_in
from services.collector.domain.plan import Violation
from services.collector.domain.raw import request_id
from services.collector.replaying import Replaying
from services.collector.store import Chosen, QuarantineStore, SourceStore
from shared.keyring import Keyring, new_id
from shared.keystore import MongoKeyStore
from shared.mongo import connect
from shared.policy import POLICY

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


# Quarantine


@pytest.fixture
def stores(world):
    """(sources, quarantine)"""
    sources = SourceStore(world.db)
    sources.setup()
    quarantine = QuarantineStore(world.db, world.keyring)
    quarantine.setup()
    return sources, quarantine


def put_aside(quarantine, source, *messages, **shared):
    """What the door does with messages that cannot be taken in."""
    arrival = source.arrival(NOW, False, Sender(agent="x" * 5_000))
    intake = take_in(Batch(list(messages), shared), arrival, POLICY, new_id)
    assert len(intake.set_aside) == len(messages)
    quarantine.add(source.id, NOW, intake, request_id(NOW, new_id()))
    return intake


def test_an_export_or_erasure_of_one_leaves_what_is_anothers(stores):
    """By kind, with the region of the source; a value that is the same counts for nothing."""
    sources, quarantine = stores
    source, _ = sources.create("shop", "first", NOW)
    source = sources.change(source.id, {"region": "SE"})
    put_aside(
        quarantine, source, {"userId": "bob", "properties": {"quantity": 1}}, {"userId": "1"},
        {"userId": "eve", "traits": {"phone": "070-123 45 67"}}, {"properties": {"note": "see ada@example.org."}},
    )  # fmt: skip

    def shown(*wanted):
        return [orjson.loads(each.raw).get("userId") for each in quarantine.of(set(wanted), sources.by_id()).kept]

    assert shown(("user", "1")) == ["1"] and shown(("phone", "+46701234567")) == ["eve"]
    assert shown(("email", "ada@example.org")) == []
    assert quarantine.forget({("user", "1")}, sources.by_id()) == (1, None)
    assert quarantine.forget({("user", "e"), ("email", "ada@example.org")}, sources.by_id()) == (1, None)
    assert sorted(shown(("user", "bob"), ("user", "eve"))) == ["bob", "eve"]


def test_an_erasure_and_an_export_go_through_the_quarantine_as_long_as_they_may_and_go_on_there(stores, monkeypatch):
    """However many entries there are and whatever their size: none is left out, none that is another's is taken."""
    sources, quarantine = stores
    source = sources.one(sources.create("shop", "first", NOW)[0].id)
    for user in ("ada", "bob") * 9:
        put_aside(quarantine, source, {"type": "nonsense", "userId": user, "n": new_id()})
    monkeypatch.setattr("services.collector.store.LOOKED_AT", 4)

    def whole(ask, seconds):
        """(what the pages gave, how many pages)"""
        gave, after = [], ""
        while after is not None:
            found = ask({("user", "ada")}, sources.by_id(), after, seconds)
            after = found[-1]
            gave.append(found[0])
        return gave

    for seconds, pages in ((0, 18), (60, 1)):
        gave = whole(quarantine.of, seconds)
        assert sum(map(len, gave)) == len(set().union(*gave)) == 9 and pages <= len(gave) <= pages + 1
    monkeypatch.setattr("services.collector.store.MOST_FOUND", 100)
    assert max(map(len, whole(quarantine.of, 60))) < 4
    monkeypatch.undo()
    gave = whole(quarantine.forget, 0)
    assert sum(gave) == 9 and max(gave) == 1
    assert whole(quarantine.forget, 60) == [0] and quarantine.count(Chosen()) == 9


def test_what_a_batch_says_of_all_is_not_kept_with_each_without_bound(world, stores):
    """A large one is left out and that is marked: such a message is taken in by hand only, by its whole."""
    sources, quarantine = stores
    source, _ = sources.create("shop", "first", NOW)
    wrong = [{"type": "track", "userId": f"u{n}"} for n in range(50)]
    put_aside(quarantine, source, *wrong, context={"page": "x" * 100_000}, sentAt="2026-01-01T00:00:00Z")
    put_aside(quarantine, source, {"type": "track", "userId": "small"}, context={"page": "y"})
    sizes = sorted(len(doc["sealed"]) for doc in world.db["quarantine"].find())
    assert sizes[-1] < 2_000
    kept = {orjson.loads(each.kept.raw)["userId"]: each for each in quarantine.page(Chosen(), "", 100)}
    assert kept["u1"].kept.cut and kept["u1"].kept.shared == {"sentAt": "2026-01-01T00:00:00Z"}
    assert not kept["small"].kept.cut and kept["small"].kept.shared == {"context": {"page": "y"}}

    def again(of, rule=None):
        return quarantined.again(kept[of].kept, kept[of].id, NOW, source, rule, POLICY)

    rule = {"set": {"event": "E"}}
    assert again("u1", rule).code == "cut" and isinstance(again("small", rule), Accepted)
    quarantine.mend(kept["u1"].id, lambda each: replace(each, mended={"type": "track", "userId": "u1", "event": "E"}))
    kept["u1"] = quarantine.page(Chosen(ids=(kept["u1"].id,)), "", 1)[0]
    assert isinstance(again("u1"), Accepted)


def test_what_came_under_one_agreement_is_not_replayed_under_another(stores):
    """Also where that holds, and the first does not any more."""
    sources, quarantine = stores
    source, _ = sources.create("hotel", "second", NOW)
    first, second = (
        agreements.checked(identity, "second", "The Hotel", ["ads"], ["traits.*"], 0, NOW + DAY)
        for identity in ("first", "second")
    )
    for each in (first, second):
        sources.agreements.add(each)
    source = sources.sign(source.id, first)
    put_aside(quarantine, source, {"type": "track", "userId": "u"})
    replaying = Replaying(quarantine, sources, Appended(), POLICY, lambda: NOW)
    rule = {"set": {"event": "E"}}
    assert replaying.page(Chosen(), rule, "", 10, True)["replayed"] == 1
    sources.sign(source.id, second)
    assert replaying.page(Chosen(), rule, "", 10, True)["still"] == {"other_agreement": 1}
    sources.sign(source.id, first)
    sources.agreements.end("first", NOW)
    assert replaying.page(Chosen(), rule, "", 10, True)["still"] == {"no_agreement": 1}


class Appended:
    """Nothing is appended in a dry run."""


# Connections


@pytest.fixture
def connections(world, stores):
    sources, _ = stores
    made = ConnectionStore(world.db, world.keyring, sources)
    return made, sources.create("shop", "first", NOW)[0].id


HOUR = 3_600_000
ONE, TWO, THREE = "first secret", "second secret", "third secret"


def test_a_secret_that_is_replaced_is_good_for_a_while_more(connections):
    """As a write key that is rotated; never for longer than it was said to be; the newest goes first."""
    store, source = connections
    assert store.connect(source, "stripe", ONE, None, NOW)["old_until"] is None
    assert store.connect(source, "stripe", TWO, None, NOW, 2 * HOUR)["old_until"] == NOW + 2 * HOUR
    found = store.find(source, "stripe")
    assert found.good(NOW) == [TWO, ONE] and found.good(NOW + 2 * HOUR) == [TWO]
    store.connect(source, "stripe", THREE, None, NOW + HOUR, 5 * HOUR)
    found = store.find(source, "stripe")
    assert found.good(NOW + HOUR) == [THREE, TWO, ONE] and found.good(NOW + 3 * HOUR) == [THREE, TWO]
    assert found.good(NOW + 6 * HOUR) == [THREE]
    [row] = store.all()
    assert row["old_until"] == NOW + 6 * HOUR and set(row) == {"source", "dialect", "own", "since", "old_until"}


def test_without_an_overlap_the_old_secrets_end_at_once(world, connections):
    """All of them, and their keys with them; so they do where the tool is disconnected."""
    store, source = connections
    store.connect(source, "stripe", ONE, None, NOW)
    store.connect(source, "stripe", TWO, None, NOW, HOUR)
    assert len(world.keyring.holders("connection:")) == 2
    store.connect(source, "stripe", THREE, None, NOW, 0)
    assert store.find(source, "stripe").good(NOW) == [THREE]
    assert len(world.keyring.holders("connection:")) == 1
    store.connect(source, "stripe", ONE, None, NOW, HOUR)
    store.disconnect(source, "stripe")
    assert store.find(source, "stripe") is None and world.keyring.holders("connection:") == []


def test_secrets_whose_time_is_over_are_destroyed(world, connections):
    store, source = connections
    store.connect(source, "stripe", ONE, None, NOW)
    store.connect(source, "stripe", TWO, None, NOW, HOUR)
    assert store.expire(NOW) == 0 and store.expire(NOW + HOUR) == 1 and store.expire(NOW + HOUR) == 0
    assert store.find(source, "stripe").good(NOW) == [TWO] and len(world.keyring.holders("connection:")) == 1
