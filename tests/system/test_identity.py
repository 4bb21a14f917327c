"""Who is one person, through the running suite: shared devices, explanations, splits and rules."""

import json

import pytest

from tests.system.world import eventually


def emails(*names):
    return [f"{name}@example.org" for name in names]


def test_a_split_takes_people_out_of_segments_that_they_were_in_together(world, sink):
    """Each has ordered once; as one they are a buyer of two orders, and after the split neither is. Told once each."""
    segment = world.buyers(sink, count=2)
    one, other = world.fresh(), world.fresh()
    for name in (one, other):
        world.post("/v1/identify", {"anonymousId": f"d-{name}", "traits": {"email": f"{name}@example.org"}})
        world.post("/v1/track", {"anonymousId": f"d-{name}", "event": world.event})
    world.quiet()
    profiles = {world.ask("identity", "resolve", [["email", each]]) for each in emails(one, other)}
    assert len(profiles) == 2 and world.ask("segmentation", "members", segment) == []
    externals = [
        {"id": each, "type": "email", "collection": "users", "encoding": "none"} for each in emails(one, other)
    ]
    world.post("/v1/track", {"anonymousId": f"g-{one}", "event": "Glued", "context": {"externalIds": externals}})
    eventually(lambda: world.ask("segmentation", "members", segment), 30, "nobody is a buyer of two")
    world.quiet()
    told = world.samla("identity", "explain", f"email:{one}@example.org", "--json")
    [merge] = [each for each in told["chain"] if each["decided"] == "merged"]
    assert merge["source"] == world.source and merge["value"] in emails(one, other)
    split = world.samla("identity", "split", "--merge", merge["id"], "--json")
    assert {each["profile"] for each in split["profiles"]} == profiles
    eventually(lambda: world.ask("segmentation", "members", segment) == [], 30, "somebody is still in")
    world.verify()
    assert {world.ask("identity", "resolve", [["email", each]]) for each in emails(one, other)} == profiles


def test_a_family_tablet(world, sink):
    """The second login's visits are nobody's, a guest's order is the guest's, and consent on it is whose it was."""
    ann, guest, tablet = world.fresh(), world.fresh(), world.fresh()
    world.post("/v1/track", {"anonymousId": tablet, "event": "Visited"})
    world.quiet()
    world.agrees(ann, anonymousId=tablet)
    world.quiet()
    world.agrees(guest, agreed=False, anonymousId=tablet)
    world.quiet()
    yes = {"consent": {"categoryPreferences": {"ads": True}}}
    world.post("/v1/track", {"anonymousId": tablet, "event": "Visited", "context": yes})
    world.quiet()
    assert world.count(ann, "Visited") == 1
    profile = world.profile_of(ann)
    assert set(world.ask("privacy", "consents", profile)) == {"marketing"}
    held = world.ask("privacy", "export", profile)
    assert [each["message"].get("event") for each in held["received"]].count("Visited") == 1
    assert world.ask("identity", "resolve", [["anonymous", tablet]]) is None
    world.verify()


def test_a_guest_is_forgotten_with_what_was_done_on_somebody_elses_tablet(world):
    """Its owner is somebody still; the tablet is known anew."""
    ann, guest, tablet = world.fresh(), world.fresh(), world.fresh()
    world.post("/v1/identify", {"userId": ann, "anonymousId": tablet, "traits": {"email": f"{ann}@example.org"}})
    world.quiet()
    world.post("/v1/identify", {"anonymousId": tablet, "traits": {"email": f"{guest}@example.org"}})
    world.post("/v1/track", {"anonymousId": tablet, "event": "Visited"})
    world.quiet()
    profile = world.ask("identity", "resolve", [["email", f"{guest}@example.org"]])
    assert world.ask("profile", "timeline", profile)["lines"]
    request = world.samla("privacy", "erase", f"email:{guest}@example.org", "--json")["request"]
    eventually(
        lambda: world.ask("privacy", "request", request)["status"] == "completed", 150, "the erasure is not over"
    )
    world.quiet()
    assert world.ask("identity", "resolve", [["email", f"{guest}@example.org"]]) is None
    assert world.profile_of(ann) and world.ask("profile", "timeline", world.profile_of(ann))["lines"]
    world.post("/v1/track", {"userId": ann, "anonymousId": tablet, "event": "Visited"})
    world.quiet()
    assert world.ask("identity", "resolve", [["anonymous", tablet]]) == world.profile_of(ann)
    world.verify()


def test_an_identifier_is_taken_out_of_its_person(world):
    """By its kind and value; it stays out."""
    user, wrong = world.fresh(), world.fresh()
    message = {"userId": user, "traits": {"email": f"{wrong}@example.org"}}
    world.post("/v1/identify", message)
    world.quiet()
    told = world.samla("identity", "split", f"email:{wrong.upper()}@example.org", "--json")
    assert told["was"] == world.profile_of(user)
    world.post("/v1/identify", message)
    world.quiet()
    assert world.ask("identity", "resolve", [["email", f"{wrong}@example.org"]]) is None
    assert world.profile_of(user) and "apart" in world.samla("identity", "explain", f"user:{user}")


def test_other_rules_are_tried_and_put_in_force(world, tmp_path):
    """A trial names who would part and touches nothing; from then on they decide."""
    user, first, second = world.fresh(), world.fresh(), world.fresh()
    world.post("/v1/identify", {"userId": user, "traits": {"email": f"{first}@example.org"}})
    world.quiet()
    file = tmp_path / "rules.json"
    before = world.ask("identity", "rules")["rules"]
    file.write_text(json.dumps({"kinds": {"email": {"limit": 1}}}))
    tried = world.samla("identity", "rules", str(file), "--json")
    assert tried["events"] > 0 and tried["people"]["before"] > 0
    assert world.ask("identity", "rules")["rules"] == before
    world.samla("identity", "rules", str(file), "--from-now")
    world.post("/v1/identify", {"userId": user, "traits": {"email": f"{second}@example.org"}})
    world.quiet()
    assert world.ask("identity", "resolve", [["email", f"{second}@example.org"]]) is None
    file.write_text("{}")
    world.samla("identity", "rules", str(file), "--apply")
    world.quiet()
    assert world.ask("identity", "resolve", [["email", f"{second}@example.org"]]) == world.profile_of(user)
    world.verify()


@pytest.mark.parametrize("wrong", [["nobody:x"], ["--merge", "0" * 32], []])
def test_what_cannot_be_split_is_told(world, wrong):
    """In a line."""
    with pytest.raises(AssertionError) as error:
        world.samla("identity", "split", *wrong)
    assert "Traceback" not in str(error.value)
