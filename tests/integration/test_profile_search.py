"""Searching profiles, on a real MongoDB: in pages, each of bounded work."""

import orjson
import pytest

from contracts.streams import TRACKING
from shared.errors import SamlaError
from shared.eventlog import NewEvent, derive_id
from shared.keyring import ORDINARY, Sealing
from tests.integration.identity_world import World

PEOPLE = 30
PRO = {"trait": "plan", "is": "pro"}


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    for number in range(PEOPLE):
        # Every third is pro; each is known by two identifiers, under each of which lies something.
        told(made, number, ("user", f"u{number}"), ("anonymous", f"a{number}"), plan="free" if number % 3 else "pro")
        told(made, number, ("anonymous", f"a{number}"), seen=number)
    made.settle()
    made.follow()
    yield made
    made.client.close()


def told(world, number, *identifiers, **traits):
    subject = world.subject(identifiers[0], create=True)
    identity = derive_id(number, *identifiers[0])
    body = {
        "type": "identify", "time": number, "party": "first", "source_name": "web", "event": None,
        "identifiers": [list(each) for each in identifiers], "properties": {}, "traits": traits,
    }  # fmt: skip
    [sealed] = world.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
    new = NewEvent(
        id=identity, type="tracking.identify.v1", source="web", subject=subject, time=number, sealed={ORDINARY: sealed}
    )
    world.log.append(TRACKING, [new])


def test_pages_of_a_search_are_everybody_of_whom_it_holds_once_and_in_order(world, monkeypatch):
    """Whatever their size; a call looks at so many profiles at most, and may find nobody and not be the last."""
    monkeypatch.setattr("services.profile.reading.MOST_SEARCHED", 8)
    monkeypatch.setattr("services.profile.reading.SEARCHED", 4)
    opened = []
    facts = world.reading.facts
    monkeypatch.setattr(world.reading, "facts", lambda page, **more: opened.append(len(page)) or facts(page, **more))
    expected = sorted(world.profile(("user", f"u{number}")) for number in range(0, PEOPLE, 3))
    for limit in (1, 3, 100):
        found, after = [], ""
        while after is not None:
            opened.clear()
            page = world.reading.search(PRO, after, limit)
            assert len(page["profiles"]) <= limit and sum(opened) <= 8
            found += page["profiles"]
            after = page["after"]
        assert [each["profile"] for each in found] == expected
        assert all(each["found"] == {"trait.plan": ["pro"]} for each in found)


def test_conditions_are_of_the_whole_person(world):
    """What was said under several identifiers of theirs holds together."""
    where = [PRO, {"trait": "seen", "gte": 6}, {"identifier": "anonymous", "is": "a9"}]
    [found] = world.reading.search(where, "", 10)["profiles"]
    assert found["profile"] == world.profile(("user", "u9")) == world.profile(("anonymous", "a9"))


def test_more_than_a_hundred_at_once_are_refused(world):
    with pytest.raises(SamlaError, match="100 profiles at most"):
        world.reading.batch(["p"] * 101)
