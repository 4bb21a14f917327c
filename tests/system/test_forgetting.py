"""Erasure reaches everything that there is of a person, and stays so after a rebuild."""

import pytest

from tests.system.world import eventually


def everywhere(world, *words):
    """Where any of the words stands in clear, in any database."""
    return [
        (name, collection)
        for name in world.client.list_database_names()
        if name.startswith("system_")
        for collection in world.client[name].list_collection_names()
        for document in world.client[name][collection].find()
        if any(word in str(document) for word in words)
    ]


def completed(world, request):
    eventually(
        lambda: world.ask("privacy", "request", request)["status"] == "completed", 150, "the erasure is not over"
    )


@pytest.fixture
def somebody(world, sink):
    """A person with everything: visits, login, orders, consent, a segment, deliveries, quarantine."""
    segment = world.buyers(sink)
    user, device = f"gone-{world.fresh()}", f"gone-{world.fresh()}"
    world.post("/v1/track", {"anonymousId": device, "event": "Product Viewed"})
    world.quiet()
    world.agrees(user, anonymousId=device)
    world.orders(user)
    world.send("/v1/track", {"userId": user, "event": world.event, "timestamp": "yesterday"})
    eventually(lambda: sink.accepted, 20, "no webhook came")
    world.quiet()
    return {"user": user, "device": device, "segment": segment, "profile": world.profile_of(user)}


def test_erasure_reaches_log_profile_graph_segment_quarantine_and_deliveries(world, somebody):
    """And a rebuild brings nothing back."""
    user, profile = somebody["user"], somebody["profile"]
    subjects = world.ask("identity", "members", profile)["subjects"]
    held = world.ask("privacy", "export", profile)
    assert len(held["events"]) == 3 and len(held["quarantined"]) == 1 and held["consents"] and held["segments"]
    assert sorted(each["message"]["type"] for each in held["received"]) == ["identify", "track", "track"]

    completed(world, world.samla("privacy", "erase", f"user:{user}", "--json")["request"])

    def is_gone():
        assert world.profile_of(user) is None
        assert world.ask("identity", "members", profile) is None
        assert world.ask("profile", "show", profile) is None
        assert world.ask("profile", "timeline", profile) == {"lines": [], "next": None}
        assert profile not in world.ask("segmentation", "members", somebody["segment"])
        assert all(row["profile"] != profile for row in world.ask("activation", "deliveries", limit=1000))
        assert world.ask("collector", "quarantined_of", [["user", user]]) == {"messages": [], "after": None}
        assert world.ask("collector", "received_of", subjects) == []
        keys = world.client[world.settings.database("keyring")]["keys"]
        assert keys.count_documents({"subject": {"$in": [*subjects, profile]}}) == 0

    is_gone()
    for service in ("identity", "profile", "segmentation", "activation", "privacy"):
        world.rebuild(service)
    is_gone()
    world.verify()
    is_gone()
    # What is left of them in the log are random ids and ciphertexts that no key opens.
    assert any(world.log.read_subject("tracking", each) for each in subjects)
    assert not everywhere(world, user, somebody["device"])


def test_erasure_takes_its_messages_out_of_requests_that_hold_others_too(world, somebody):
    """What a batch held of somebody else stays."""
    other = world.fresh()
    batch = [{"type": "track", "userId": user, "event": world.event} for user in (somebody["user"], other)]
    world.post("/v1/batch", {"batch": batch})
    world.quiet()
    completed(world, world.ask("privacy", "erase", somebody["profile"], "forget"))
    subjects = world.ask("identity", "members", world.profile_of(other))["subjects"]
    [left] = world.ask("collector", "received_of", subjects)
    [kept] = world.ask("collector", "received", left["request"])["messages"]
    assert kept["message"]["userId"] == other


def test_after_forgetting_somebody_may_come_back_as_somebody_new(world, somebody):
    """Forget is not suppress: the same user id starts over, with nothing of before."""
    request = world.ask("privacy", "erase", somebody["profile"], "forget")
    completed(world, request)
    world.orders(somebody["user"])
    world.quiet()
    again = world.profile_of(somebody["user"])
    assert again and again != somebody["profile"]
    assert world.count(somebody["user"], world.event) == 1


def test_after_suppression_nothing_about_them_is_taken_in(world, somebody):
    """Not under any of their identifiers; the sender is answered as ever."""
    completed(world, world.ask("privacy", "erase", somebody["profile"], "suppress"))
    world.orders(somebody["user"])
    world.post("/v1/track", {"anonymousId": somebody["device"], "event": "Product Viewed"})
    world.post("/v1/identify", {"userId": world.fresh(), "traits": {"email": f"{somebody['user']}@example.org"}})
    world.quiet()
    assert world.profile_of(somebody["user"]) is None
    assert world.ask("identity", "resolve", [["anonymous", somebody["device"]]]) is None


def test_an_erasure_goes_on_after_privacy_was_killed(world, somebody):
    """The saga is resumed where it was."""
    request = world.ask("privacy", "erase", somebody["profile"], "forget")
    world.suite.process("privacy").kill()
    world.restart("privacy")
    completed(world, request)
    assert world.profile_of(somebody["user"]) is None


def test_events_that_come_during_an_erasure_belong_to_somebody_new(world, somebody):
    """No event is lost, and none brings the erased person back."""
    request = world.ask("privacy", "erase", somebody["profile"], "forget")
    for _ in range(20):
        # 503 is an answer, for a moment: SDKs send it again.
        world.insist("/v1/track", {"userId": somebody["user"], "event": world.event})
    completed(world, request)
    world.orders(somebody["user"])
    world.quiet()
    assert world.profile_of(somebody["user"]) not in (None, somebody["profile"])
    world.verify()
