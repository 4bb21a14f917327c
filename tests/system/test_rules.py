"""What a source's owner decides about its messages: cleaning, plans, agreements; and newer rules for older messages."""

import json
import time

import pytest

from contracts.tracking import CORRECTED
from tests.system.test_sources import bodies, row
from tests.system.world import eventually

DAY = 86_400_000
RULES = {
    "rename": {"traits.E-post": "traits.email", "properties.summa": "properties.revenue"},
    "clean": {
        "traits.email": ["trim", "lower", "email"],
        "traits.phone": {"phone": {"region": "SE"}},
        "properties.revenue": {"number": {"locale": "sv_SE"}},
        "userId": ["trim", "lower"],
    },
    "default": {"properties.currency": "SEK"},
}


@pytest.fixture
def source(world):
    """A source of this test's own."""
    made = world.ask("collector", "create_source", f"source-{world.fresh()}", "first")
    world.key = made["write_key"]
    return made["source"]


def in_force(world, source, kind="cleaning", version=1):
    """Waits until the edge has the rules."""
    eventually(lambda: row(world, source)[kind] == version, 5, "they are not shown")
    # The edge looks every five seconds; a message that it takes in says by which version it did.
    probe = world.fresh()

    def taken():
        world.post("/v1/track", {"userId": f"probe-{probe}", "event": "Probe"})
        return any(each.get("cleaned") == version for each in bodies(world, f"probe-{probe}"))

    if kind == "cleaning":
        eventually(taken, 20, "the edge does not use the rules", 0.3)


def messy(user, number):
    return {
        "type": "track", "userId": user, "event": "Bought", "messageId": f"{user.strip().lower()}-{number}",
        "properties": {"summa": f"1 {number:03d},50 kr"}, "timestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip


def tidy(user, number):
    return {
        "type": "track", "userId": user, "event": "Bought", "messageId": f"{user}-{number}",
        "properties": {"revenue": 1000.5 + number, "currency": "SEK"}, "timestamp": "2026-01-01T10:00:00Z",
    }  # fmt: skip


def test_messages_are_cleaned_and_every_clean_value_is_traced_to_its_raw_one(world, source):
    """By rules that were tried before; the version stands with the event; what could not be read is named."""
    user = world.fresh()
    report = world.samla("source", "clean", source, json.dumps(RULES), "--json")
    assert report["saved"] and report["version"] == 1 and report["messages"] == 0
    in_force(world, source)
    world.post(
        "/v1/identify", {"userId": f" {user.upper()} ", "traits": {"E-post": f" {user}@Example.ORG", "phone": "070-1"}}
    )
    world.post("/v1/track", messy(user, 7))
    found = {each["type"]: each for each in bodies(world, user)}
    assert found["identify"]["traits"] == {"email": f"{user}@example.org", "phone": "070-1"}
    assert found["identify"]["cleaned"] == 1 and found["identify"]["uncleaned"] == ["traits.phone"]
    assert found["track"]["properties"] == {"revenue": 1007.5, "currency": "SEK"}
    traced = json.loads(world.samla("source", "trace", found["track"]["id"]))
    assert traced["message"]["properties"] == {"summa": "1 007,50 kr"} and traced["cleaning"] == 1
    assert {"path": "properties.revenue", "raw": "1 007,50 kr", "clean": 1007.5, "problem": ""} in traced["changes"]
    assert traced["renamed"]["properties.summa"] == "properties.revenue"
    received = json.loads(world.samla("source", "received", traced["request"]))
    assert received["messages"][0]["message"]["properties"] == {"summa": "1 007,50 kr"}


def test_newer_rules_correct_older_messages_as_if_they_had_been_sent_right(world, source):
    """Appended, never edited; doing it twice is doing it once; whom a message is about stays; a rebuild agrees."""
    ill, well, other = world.fresh(), world.fresh(), f" {world.fresh().upper()}"
    world.post("/v1/batch", {"batch": [messy(ill, n) for n in range(40)] + [messy(other, 0)]})
    world.post("/v1/batch", {"batch": [tidy(well, n) for n in range(40)]})
    world.quiet()
    heads = sum(world.log.heads("tracking").values())
    world.ask("collector", "change_rules", source, "cleaning", RULES)
    dry = world.samla("source", "reclean", source, "--dry-run", "--json")
    assert (dry["corrected"], dry["moved"]) == (40, 1) and sum(world.log.heads("tracking").values()) == heads
    done = world.samla("source", "reclean", source, "--json")
    assert (done["corrected"], done["unchanged"], done["set_aside"], done["moved"]) == (40, 40, 0, 1)
    assert sum(world.log.heads("tracking").values()) == heads + 40
    again = world.samla("source", "reclean", source, "--json")
    assert (again["corrected"], again["unchanged"], again["moved"]) == (0, 80, 1)
    assert sum(world.log.heads("tracking").values()) == heads + 40
    world.quiet()

    def spent(user):
        shown = world.ask("profile", "show", world.profile_of(user))
        return shown["quantitative"]

    assert without_ids(spent(ill)) == without_ids(spent(well))
    assert world.count(other.strip().lower(), "Bought") == 0
    world.verify()
    # What is sent again is what is there already.
    world.post("/v1/batch", {"batch": [tidy(ill, n) for n in range(40)]})
    world.quiet()
    assert world.count(ill, "Bought") == 40


def without_ids(value):
    """Without the ids of events, which differ from person to person, and without instants of receipt."""
    if isinstance(value, dict):
        return {name: without_ids(each) for name, each in value.items() if name not in ("event", "first", "last")}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def test_a_correction_of_a_correction_is_traced_too(world, source):
    user = world.fresh()
    world.post("/v1/track", {**messy(user, 1), "properties": {"price": "1,5"}})
    for version, decimal in ((1, "."), (2, ",")):
        rule = {"clean": {"properties.price": {"number": {"decimal": decimal}}}}
        assert world.ask("collector", "change_rules", source, "cleaning", rule)["version"] == version
        assert world.ask("collector", "reclean", source)["corrected"] == 1
    events = [
        each for part in range(8) for each in world.log.read("tracking", part, 0, 100_000) if each.source == source
    ]
    [first] = [each for each in events if each.type != CORRECTED]
    assert sorted(each.data["cleaning"] for each in events if each.type == CORRECTED) == [1, 2]
    traced = world.ask("collector", "trace", first.id)
    assert traced["body"]["properties"] == {"price": 1.5} and traced["cleaning"] == 2
    assert traced["changes"] == [{"path": "properties.price", "raw": "1,5", "clean": 1.5, "problem": ""}]


def test_a_plan_is_learned_tried_and_held_against_what_comes(world, source):
    """One that would set aside what is taken in now is not put in force unless that is meant."""
    user = world.fresh()
    good = {"type": "track", "userId": user, "event": "Order", "properties": {"revenue": 1.5}}
    world.post("/v1/batch", {"batch": [good, {**good, "properties": {"revenue": "much"}}]})
    learned = json.loads(world.samla("source", "learn", source))
    assert learned["events"]["Order"]["properties"]["required"] == ["revenue"]
    schema = {"type": "object", "properties": {"revenue": {"type": "number"}}, "required": ["revenue"]}
    plan = {
        "mode": "quarantine",
        "events": {"Order": {"properties": schema}, "View": {"mode": "drop", "properties": schema}},
    }
    tried = world.ask("collector", "change_rules", source, "plan", plan)
    assert not tried["saved"] and tried["newly_set_aside"] == 1 and row(world, source)["plan"] == 0
    assert tried["violations"] == [{"event": "Order", "path": "properties.revenue", "rule": "type", "count": 1}]
    assert world.samla("source", "plan", source, json.dumps(plan), "--force", "--json")["version"] == 1
    bad = {**good, "properties": {"revenue": "much"}}

    def refused():
        return world.post("/v1/batch", {"batch": [bad]}).get("set_aside")

    [aside] = eventually(refused, 20, "the plan is not used", 0.3)
    assert aside == {
        "index": 0, "code": "off_plan", "place": "properties.revenue",
        "message": "not as the source's tracking plan says (type)",
    }  # fmt: skip
    world.post("/v1/track", {"userId": user, "event": "View", "properties": {"revenue": "x", "page": 1}})
    [viewed] = [each for each in bodies(world, user) if each["event"] == "View"]
    assert viewed["properties"] == {"page": 1}

    def counted():
        found = {
            (each["event"], each["path"], each["rule"]): each for each in world.ask("collector", "violations", source)
        }
        return len(found) >= 2 and found

    found = eventually(counted, 15, "violations are not counted", 0.3)
    example = found["View", "properties.revenue", "type"]["examples"][0]
    assert world.ask("collector", "received", example)["messages"][0]["message"]["properties"]["revenue"] == "x"


def test_a_partners_source_takes_nothing_before_there_is_an_agreement(world):
    """Then the fields that are agreed on, with the agreement as provenance; and nothing once it has ended."""
    made = world.ask("collector", "create_source", f"partner-{world.fresh()}", "second")
    world.key, source, user = made["write_key"], made["source"], world.fresh()
    message = {"userId": user, "traits": {"email": f"{user}@example.org", "income": 5_000, "plan": "gold"}}
    refused = world.send("/v1/identify", message)
    assert refused.status == 403 and refused.json()["code"] == "no_agreement"
    agreement = world.samla(
        "agreement", "create", "The Hotel", "--party", "second", "--purpose", "marketing",
        "--field", "traits.email", "--field", "traits.plan", "--until", "2099-01-01", "--json",
    )  # fmt: skip
    world.samla("source", "sign", source, agreement["agreement"], "--json")
    eventually(lambda: world.send("/v1/identify", message).status == 200, 20, "it is not taken", 0.3)
    answer = world.post("/v1/identify", message)
    assert answer["refused_fields"] == [{"index": 0, "code": "outside_agreement", "place": "traits.income"}]
    beside = {"context": {"page": {"url": "secret"}}}
    answer = world.post("/v1/batch", {"batch": [{"type": "page", "name": "secret", "userId": user}], **beside})
    assert answer["refused_fields"] == [
        {"index": None, "code": "outside_agreement", "place": "context.page"},
        {"index": 0, "code": "outside_agreement", "place": "name"},
    ]
    [page] = [each for each in bodies(world, user) if each["type"] == "page"]
    assert page["properties"] == {} and page["context"] == {}
    world.quiet()
    shown = world.ask("profile", "show", world.profile_of(user))
    assert shown["descriptive"]["plan"]["agreement"] == agreement["agreement"]
    assert shown["descriptive"]["plan"]["party"] == "second" and "income" not in shown["descriptive"]
    subjects = world.ask("identity", "members", world.profile_of(user))["subjects"]
    keys = world.client[world.settings.database("keyring")]["keys"]
    assert keys.count_documents({"subject": {"$in": subjects}, "class": f"agreement-{agreement['agreement']}"})
    world.verify()
    world.post("/v1/batch", {"batch": [{"type": "nonsense", "userId": user}]})
    world.samla("agreement", "end", agreement["agreement"])
    done = world.ask("collector", "quarantine_replay", source, rule={"set": {"type": "identify"}})
    assert done["replayed"] == 0 and done["still"] == {"no_agreement": 1}
    eventually(lambda: world.send("/v1/identify", message).status == 403, 20, "it is still taken", 0.3)


def test_an_agreement_is_for_sources_of_its_party(world, source):
    now = time.time_ns() // 1_000_000
    made = world.ask("collector", "create_agreement", "third", "Supplier", ["ads"], ["traits.*"], now, now + DAY)
    with pytest.raises(Exception, match="sources of that party"):
        world.ask("collector", "sign_agreement", source, made["agreement"])


def test_a_source_may_keep_nothing_as_received(world, source):
    user = world.fresh()
    world.samla("source", "set", source, "--raw-days", "0")

    def keeps():
        """Whether one more request is one more that is kept."""
        before = world.ask("collector", "received_size", source)
        world.post("/v1/track", {"userId": user, "event": "E"})
        return world.ask("collector", "received_size", source) > before

    eventually(lambda: not keeps(), 20, "it is still kept", 0.3)
