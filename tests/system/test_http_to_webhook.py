"""The main job, on real servers: from an HTTP request to a signed webhook."""

import json
import time
from datetime import UTC, datetime

import pytest

from contracts.activation import WebhookBody
from contracts.streams import TRACKING
from tests.system.world import eventually


def test_an_event_becomes_a_signed_webhook(world, sink):
    """Two orders within 30 days make a buyer; the destination hears of it once, signed, with who it is."""
    world.buyers(sink, count=2)
    user = world.fresh()
    world.agrees(user)
    world.orders(user)
    world.quiet()
    assert sink.received == []
    world.orders(user)
    eventually(lambda: sink.accepted, 20, "no webhook came")
    world.quiet()
    [received] = sink.received
    assert received.verified
    assert WebhookBody().validate(received.message) == {}
    assert received.message["type"] == "segment.entered"
    assert received.message["data"]["identifiers"] == {"user": [user], "email": [f"{user}@example.org"]}


def test_the_correlation_id_goes_from_the_request_to_the_webhook(world, sink):
    """What the collector answers in X-Correlation-Id is what the destination gets."""
    world.buyers(sink)
    user = world.fresh()
    world.agrees(user)
    world.quiet()
    answer = world.send("/v1/track", {"userId": user, "event": world.event})
    eventually(lambda: sink.accepted, 20, "no webhook came")
    assert sink.accepted[0].headers["x-correlation-id"] == answer.headers["X-Correlation-Id"]


@pytest.mark.parametrize(
    ("said", "reason"), [([], "no_consent"), ([False], "consent_refused"), ([True, False], "consent_withdrawn")]
)
def test_nothing_goes_out_without_consent(world, sink, said, reason):
    """The gate is closed when in doubt, and says why."""
    segment = world.buyers(sink)
    user = world.fresh()
    for agreed in said:
        world.agrees(user, agreed)
    world.orders(user)
    profile = eventually(lambda: world.profile_of(user), 20, "nobody was found")
    world.quiet()
    rows = [row for row in world.ask("activation", "deliveries", "held") if row["segment"] == segment]
    assert [(row["profile"], row["reason"]) for row in rows] == [(profile, reason)]
    assert sink.received == []


def test_two_devices_and_a_login_become_one_person(world):
    """Visits before the login are that person's too."""
    user, phone, laptop = world.fresh(), world.fresh(), world.fresh()
    for device in (phone, laptop):
        world.post("/v1/track", {"anonymousId": device, "event": "Product Viewed"})
    world.quiet()
    for device in (phone, laptop):
        world.post("/v1/identify", {"userId": user, "anonymousId": device})
    world.quiet()
    profile = world.profile_of(user)
    assert world.count(user, "Product Viewed") == 2
    assert {world.ask("identity", "resolve", [["anonymous", device]]) for device in (phone, laptop)} == {profile}


def test_an_event_that_is_sent_twice_counts_once(world):
    """Retries keep their message id."""
    user, message = world.fresh(), world.fresh()
    for _ in range(3):
        world.orders(user, messageId=message)
    world.quiet()
    assert world.count(user, world.event) == 1


def test_somebody_leaves_a_segment_because_time_has_passed(world, sink):
    """Nothing happens but the end of the window, and the destination hears that they left."""
    user = world.fresh()
    world.agrees(user)
    now = time.time()
    minute = int(now - 120) // 60 * 60
    within = int(now + 6 - minute)
    key = f"recent-{world.fresh()}"
    definition = {"event": "Visited", "count": {"gte": 1}, "within": f"{within}s"}
    segment = world.ask("segmentation", "create_segment", key, key, definition)["segment"]
    made = world.ask("activation", "create_destination", name=key, url=sink.url)
    sink.secrets.append(made["secret"])
    world.ask("activation", "subscribe", made["destination"], segment, ["left"], "marketing")
    moment = datetime.fromtimestamp(minute + 5, UTC).isoformat()
    world.post("/v1/track", {"userId": user, "event": "Visited", "timestamp": moment})
    eventually(lambda: world.ask("segmentation", "members", segment), 20, "nobody entered")
    eventually(lambda: sink.accepted, 30, "nobody left")
    assert sink.accepted[0].message["type"] == "segment.left"
    assert sink.accepted[0].message["data"]["reason"] == "time"
    assert world.ask("segmentation", "members", segment) == []


def test_a_new_segment_is_filled_from_history_and_its_preview_agrees(world):
    """Those who ordered before the segment was thought of are in it."""
    event = f"Event {world.fresh()}"
    users = [world.fresh() for _ in range(5)]
    for user in users:
        world.post("/v1/track", {"userId": user, "event": event})
    world.quiet()
    definition = {"event": event, "count": {"gte": 1}}
    assert world.ask("segmentation", "preview", definition)["count"] == 5
    key = f"history-{world.fresh()}"
    world.ask("segmentation", "create_segment", key, key, definition)
    world.quiet()
    assert sorted(world.ask("segmentation", "members", key)) == sorted(world.profile_of(user) for user in users)


def test_nothing_personal_stands_in_clear_in_the_log(world):
    """Names, identifiers and properties are sealed; ids are random or keyed hashes."""
    user = f"clear-{world.fresh()}"
    world.agrees(user)
    world.post("/v1/track", {"userId": user, "event": f"Secret {user}", "properties": {"category": "COLD AND FLU"}})
    world.quiet()
    for name in world.client.list_database_names():
        if name.startswith("system_"):
            for collection in world.client[name].list_collection_names():
                for document in world.client[name][collection].find():
                    assert user not in str(document), (name, collection)


def test_special_data_is_kept_apart(world):
    """A health product is in no ordinary state, so no segment can see it, and in the sensitive one."""
    user = world.fresh()
    world.post("/v1/track", {"userId": user, "event": "Product Viewed", "properties": {"category": "COLD AND FLU"}})
    world.quiet()
    profile = world.profile_of(user)
    assert world.ask("profile", "facts", [profile])[profile]["facts"]["events"] == {}
    shown = world.ask("profile", "show", profile, None, True)
    assert list(shown["sensitive"]["quantitative"]) == ["Product Viewed"]
    with pytest.raises(Exception, match="special category"):
        world.ask("segmentation", "create_segment", world.fresh(), "x", {"trait": "religion", "exists": True})


def test_the_command_line_shows_what_was_known_then(world):
    """--as-of leaves out what had not happened yet; every value says where it is from."""
    user = world.fresh()
    world.post("/v1/identify", {"userId": user, "timestamp": "2020-01-01T00:00:00Z", "traits": {"plan": "free"}})
    world.post("/v1/identify", {"userId": user, "timestamp": "2024-01-01T00:00:00Z", "traits": {"plan": "pro"}})
    world.quiet()
    now = world.samla("profile", "show", f"user:{user}", "--json")
    then = world.samla("profile", "show", f"user:{user}", "--as-of", "2022-06-01", "--json")
    assert (now["descriptive"]["plan"]["value"], then["descriptive"]["plan"]["value"]) == ("pro", "free")
    assert {"event", "source", "party", "time"} <= set(now["descriptive"]["plan"])
    timeline = world.samla("profile", "timeline", f"user:{user}", "--json")
    assert [line["what"] for line in timeline["lines"]] == ["identify", "identify"]
    first = world.samla("profile", "timeline", f"user:{user}", "--limit", "1", "--json")
    rest = world.samla("profile", "timeline", f"user:{user}", "--before", first["next"], "--json")
    assert first["lines"] + rest["lines"] == timeline["lines"] and rest["next"] is None
    told = world.samla("profile", "compare", f"user:{user}", "2022-06-01", "2024-06-01", "--json")
    assert told["descriptive"]["changed"] == {"plan": {"from": "free", "to": "pro"}}
    card = world.samla("profile", "compare", f"user:{user}", "2022-06-01", "2024-06-01")
    assert "~ plan: free -> pro" in card
    known = world.samla("profile", "show", f"user:{user}", "--known-at", "2200-01-01", "--json")
    assert known["descriptive"] == now["descriptive"] and known["people_then"] == []


def test_the_command_line_searches_profiles(world):
    """By trait, identifier and computed trait, sealed as they are."""
    user, plan = world.fresh(), world.fresh()
    world.post("/v1/identify", {"userId": user, "traits": {"plan": plan, "address": {"city": "Lund"}}})
    world.quiet()
    where = [
        {"trait": "plan", "is": plan},
        {"trait": "address.city", "in": ["Lund"]},
        {"identifier": "user", "is": user},
    ]
    found = world.samla("profile", "search", json.dumps(where), "--json")
    assert [each["profile"] for each in found["profiles"]] == [world.profile_of(user)] and found["after"] is None
    assert world.profile_of(user) in world.samla("profile", "search", json.dumps(where[0]))
    assert world.samla("profile", "search", json.dumps({"trait": "plan", "is": f"{plan}x"}), "--json")["profiles"] == []


def test_the_log_holds_what_the_collector_has_acknowledged(world):
    """200 means durable."""
    before = sum(world.log.heads(TRACKING).values())
    world.post("/v1/batch", {"batch": [{"type": "track", "userId": world.fresh(), "event": "E"} for _ in range(50)]})
    assert sum(world.log.heads(TRACKING).values()) == before + 50
