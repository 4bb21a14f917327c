"""What could not be taken in: seen, mended, taken in again, once."""

import json

import pytest

from shared.keyring import Sealing
from tests.system.test_sources import bodies, row
from tests.system.world import eventually


@pytest.fixture
def source(world):
    """A source of this test's own."""
    made = world.ask("collector", "create_source", f"source-{world.fresh()}", "first")
    world.key = made["write_key"]
    return made["source"]


def right(user, number):
    return {
        "type": "track", "userId": user, "event": "Mended", "messageId": f"{user}-{number}",
        "timestamp": "2026-01-01T10:00:00Z", "properties": {"n": number},
    }  # fmt: skip


def wrong(user, number):
    message = right(user, number)
    return {**message, "event": None, "name": message["event"]}


def compared(found):
    """A body without what the two must differ in."""
    left = {name: value for name, value in found.items() if name not in ("id", "received", "identifiers", "message_id")}
    return json.dumps(left, sort_keys=True)


def test_mended_and_replayed_is_what_a_correct_sender_would_have_given(world, source):
    """By one rule for many; a dry run changes nothing; twice is once; nothing is left in quarantine."""
    ill, well = world.fresh(), world.fresh()
    shared = {"context": {"locale": "sv-SE"}, "sentAt": "2026-01-01T10:00:01Z"}
    answer = world.post("/v1/batch", {"batch": [wrong(ill, n) for n in range(250)], **shared})
    assert len(answer["set_aside"]) == 250
    world.post("/v1/batch", {"batch": [right(well, n) for n in range(250)], **shared})
    rule = json.dumps({"rename": {"name": "event"}})
    chosen = ("quarantine", "replay", "--source", source, "--rule", rule, "--json")
    assert world.samla(*chosen, "--dry-run")["replayed"] == 250
    assert world.ask("collector", "quarantine_size", source) == 250
    assert world.samla(*chosen) == {"looked_at": 250, "replayed": 250, "still": {}, "examples": []}
    assert world.samla(*chosen)["looked_at"] == 0
    assert world.ask("collector", "quarantine_size", source) == 0
    one, other = bodies(world, ill), bodies(world, well)
    assert len(one) == 250
    # The clock is the receiver's: the two requests came some milliseconds apart.
    for each in (*one, *other):
        assert abs(each.pop("time") - each["received"]) < 60_000
    assert sorted(map(compared, one)) == sorted(map(compared, other))
    world.post("/v1/batch", {"batch": [right(ill, n) for n in range(250)], **shared})
    world.quiet()
    assert world.count(ill, "Mended") == 250


def test_one_is_mended_by_hand_and_what_still_fails_stays_with_its_newest_reason(world, source):
    """Beside what was sent, which stays to be seen."""
    user = world.fresh()
    world.post("/v1/batch", {"batch": [{"userId": user}, {"type": "nonsense", "userId": user}]})
    ids = [each["id"] for each in world.samla("quarantine", "list", "--json") if each["source"] == source]
    assert len(ids) == 2
    message = json.dumps({"type": "track", "userId": user, "event": "By Hand"})
    shown = world.samla("quarantine", "mend", ids[0], "--message", message, "--json")
    assert json.loads(shown["message"])["userId"] == user and shown["mended"]["event"] == "By Hand"
    world.samla("quarantine", "mend", ids[1], "--rule", '{"set": {"type": "track"}}', "--json")
    done = world.ask("collector", "quarantine_replay", source)
    assert done["replayed"] == 1 and done["still"] == {"missing_field": 1} and done["examples"][0]["place"] == "event"
    [left] = world.ask("collector", "quarantine_list", source)
    assert left["reason"] == "missing_field"
    world.quiet()
    assert world.count(user, "By Hand") == 1


def test_what_is_no_message_is_not_put_in_ones_place(world, source):
    """And nothing in quarantine keeps the others from being looked at."""
    world.post("/v1/batch", {"batch": [{"type": "nonsense", "userId": world.fresh()}]})
    [entry] = world.ask("collector", "quarantine_list", source)
    for odd in ("text", [1], 5):
        with pytest.raises(Exception, match="JSON object"):
            world.ask("collector", "quarantine_mend", entry["id"], odd)
    assert world.ask("collector", "quarantine_show", entry["id"])["mended"] is None
    assert world.ask("collector", "forget_quarantined", [["user", "nobody-at-all"]])["removed"] == 0


def test_erasure_reaches_what_was_mended_too(world, source):
    """A name that only the mended message holds is found."""
    user = world.fresh()
    world.post("/v1/batch", {"batch": [{"type": "track", "event": "E"}]})
    [entry] = world.ask("collector", "quarantine_list", source)
    world.ask("collector", "quarantine_mend", entry["id"], {"type": "track", "userId": user})
    assert len(world.ask("collector", "quarantined_of", [["user", user]])["messages"]) == 1
    assert world.ask("collector", "forget_quarantined", [["user", user]]) == {"removed": 1, "after": None}
    assert world.ask("collector", "quarantine_list", source) == []


def test_a_source_that_sends_too_much_that_fails_is_shown(world, source):
    """How many in the last hour; the alarm's threshold is the source's."""
    world.ask("collector", "change_source", source, {"alarm": 3, "quarantine_days": 1})
    world.post("/v1/batch", {"batch": [{"n": n} for n in range(4)]})
    found = eventually(lambda: (each := row(world, source))["quarantined"] == 4 and each, 15, "it is not shown")
    assert found["alarm"] == 3 and found["quarantine_days"] == 1

    def rings():
        with_labels = f'samla_quarantine_alarm{{source="{source}"}} 1.0'
        port = world.settings.port_of("collector")
        return with_labels in world.pool.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()

    eventually(rings, 40, "the alarm does not ring", 0.5)


def test_the_key_of_a_day_dies_when_nothing_is_left_under_it(world, source):
    """What is still kept keeps its key, and so does the day of today."""
    world.post("/v1/batch", {"batch": [{"type": "nonsense", "userId": world.fresh()}]})
    over, kept = f"source:{source}:2020-01-01", f"source:{source}:2020-01-02"
    world.keyring.seal([Sealing(each, "raw", "e", b"x") for each in (over, kept)])
    entries = world.client[world.settings.database("collector")]["quarantine"]
    [entry] = list(entries.find({"source": source}))
    entries.insert_one({**entry, "_id": "kept", "holder": kept, "received": 1_577_930_000_000})
    own = [each for each in world.keyring.holders("source:") if source in each]
    assert world.ask("collector", "unused_days", own) == [over]
    world.suite.process("privacy").stop()
    world.restart("privacy")
    eventually(lambda: over not in world.keyring.holders("source:"), 20, "the key is still there", 0.3)
    assert set(own) - {over} <= set(world.keyring.holders("source:"))
    entries.delete_one({"_id": "kept"})
