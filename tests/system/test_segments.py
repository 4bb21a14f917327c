"""Segments through the whole suite: what is watched, filled and live; by time; consents; why, on the command line."""

import json
import time
from functools import partial

from tests.system.world import eventually


def _definition(event, department):
    return {"event": event, "where": [{"property": "products.department", "is": department}], "count": {"gte": 1}}


def test_properties_of_events_are_filled_from_history_then_live_and_explained(world):
    """And a changed definition is the next version, by which somebody leaves and somebody else enters."""
    ann, bo, event, key = world.fresh(), world.fresh(), f"Bought {world.fresh()}", f"deli-{world.fresh()}"

    def buys(user, department):
        properties = {"products": [{"department": department}], "total": 12.5}
        world.post("/v1/track", {"userId": user, "event": event, "properties": properties})

    def members():
        return set(world.ask("segmentation", "members", key))

    buys(ann, "DELI")
    world.quiet()
    told = world.samla("segment", "preview", json.dumps(_definition(event, "DELI")), "--json")
    assert told["count"] == 1 and told["sample"] == [world.profile_of(ann)]
    world.ask("segmentation", "create_segment", key, key, _definition(event, "DELI"))
    world.quiet()
    eventually(lambda: members() == {world.profile_of(ann)}, 20, "history was not looked through")
    buys(bo, "DELI")
    eventually(lambda: len(members()) == 2, 10, "what happened since was not seen")
    why = world.samla("segment", "why", f"user:{bo}", key, "--json")
    assert why["why"]["holds"] and why["why"]["found"] == 1
    buys(bo, "MEAT")
    world.ask("segmentation", "change_segment", key, _definition(event, "MEAT"))
    eventually(lambda: members() == {world.profile_of(bo)}, 20, "the change was not followed")
    assert [each["version"] for each in world.samla("segment", "versions", key, "--json")] == [2, 1]


def test_who_looked_and_did_not_buy_enters_when_the_time_has_passed_and_within_a_second(world):
    """Told with the instant at which it became true."""
    user, key = world.fresh(), f"looked-{world.fresh()}"
    event = f"Looked {key}"
    definition = {"sequence": [{"event": event}, {"not": {"event": f"Bought {key}"}, "within": "6s"}], "within": "1h"}
    world.ask("segmentation", "create_segment", key, key, definition)
    world.quiet()
    world.post("/v1/track", {"userId": user, "event": event})
    sent = time.time()
    eventually(lambda: world.ask("segmentation", "members", key), 30, "nobody entered")
    entered = time.time()
    [row] = world.ask("segmentation", "of", world.profile_of(user))
    assert sent + 4 < row["since"] / 1000 < sent + 8
    assert entered - row["since"] / 1000 < 5


def test_a_condition_on_consent_follows_what_people_say(world):
    """Agreed to is in, withdrawn is out."""
    user, event, key = world.fresh(), f"Asked {world.fresh()}", f"agreed-{world.fresh()}"
    definition = {"all": [{"event": event, "count": {"gte": 1}}, {"consent": "marketing", "is": True}]}
    world.ask("segmentation", "create_segment", key, key, definition)
    world.post("/v1/track", {"userId": user, "event": event})
    world.quiet()
    assert world.ask("segmentation", "members", key) == []
    for agreed in (True, False):
        context = {"consent": {"categoryPreferences": {"marketing": agreed}}}
        world.post("/v1/track", {"userId": user, "event": "Said", "context": context})
        wanted = [world.profile_of(user)] if agreed else []
        eventually(partial(_holds, world, key, wanted), 20, "consent was not followed")


def _holds(world, key, wanted):
    return world.ask("segmentation", "members", key) == wanted
