"""Events that are given to somebody, again, anew and late, as profile's states have them, on a real MongoDB."""

import threading

import orjson
import pytest

from contracts.identity import GIVEN, REGROUPED
from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.identity.trial import Trial
from services.profile.domain.state import empty
from services.profile.folding import STATES
from services.profile.store import BIGGEST_STATE
from shared.errors import Poison
from shared.eventlog import NewEvent
from shared.keyring import ORDINARY, SENSITIVE, Sealing
from tests.integration.identity_world import World

ANN, BO, CIA = ("user", "ann"), ("user", "bo"), ("user", "cia")
TABLET, GUESTS, LOYAL = ("anonymous", "tablet"), ("email", "guest@x.se"), ("loyalty", "L-7")


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def shared_tablet(world):
    """Ann's; Bo is known on it, too."""
    world.happens(ANN, TABLET)
    world.happens(BO, TABLET)


def test_an_event_that_is_given_again_to_the_same_person_counts_once(world):
    """By a split of somebody else whom the event names, too: what it says again is no addition."""
    idfa = ("idfa", "d-1")
    shared_tablet(world)
    world.happens(CIA, ("email", "cia@x.se"), LOYAL)
    world.happens(CIA, idfa)
    login = world.happens(GUESTS)
    event = world.happens(TABLET, GUESTS, idfa)
    world.follow()
    assert world.events_of(GUESTS) == {login, event}
    world.regrouping.split_identifier(world.profile(CIA), world.subject(LOYAL))
    assert len([each for each in world.facts(GIVEN) if each.data["event"] == event]) == 1
    world.follow()
    assert world.events_of(GUESTS) == {login, event}
    world.verify_profiles()


def test_a_fold_under_way_sees_that_what_was_given_is_given_no_more(world):
    """The receiver is dissolved while an event of the device's, which is nobody's then, is handled."""
    shared_tablet(world)
    world.follow()
    world.happens(TABLET, LOYAL)
    world.follow("profile.people")
    fold = world.followers[STATES]
    inner, prepared, go = fold._prepare, threading.Event(), threading.Event()

    def slow(events):
        finish = inner(events)
        prepared.set()
        assert go.wait(60)
        return finish

    fold._prepare = slow
    step = threading.Thread(target=lambda: fold.step(range(world.log.partitions(TRACKING))))
    step.start()
    assert prepared.wait(60)
    Trial(world.tools(), lambda *_: None).apply({"kinds": {"loyalty": {"blocked": ["l-7"]}}})
    assert world.facts(REGROUPED)
    world.follow("profile.people")
    go.set()
    step.join(60)
    fold._prepare = inner
    world.follow()
    world.verify_profiles()


def test_following_goes_on_where_what_was_given_is_by_an_older_fold(world):
    """Its subject is folded again, by today's."""
    shared_tablet(world)
    first = world.happens(TABLET, GUESTS)
    world.follow()
    second = world.sent(TABLET, GUESTS)
    world.follow(STATES)
    assert world.states.states.update_many({"of": {"$exists": True}}, {"$set": {"v": 1}}).modified_count == 1
    world.settle()
    people = world.followers["profile.people"]
    assert any(people.step([0]).handled for _ in range(20))
    world.follow()
    assert world.events_of(GUESTS) == {first, second}
    world.verify_profiles()


def corrects(world, event, name):
    """A correction of an event: it has another name, and names less; its id."""
    world.time += 1_000
    found = world.log.find(TRACKING, [event])[event]
    identity = world.keyring.event_id("correction", "1", event)
    body = {
        "type": "track", "time": found.time, "party": "first", "source_name": "web", "event": name,
        "identifiers": [list(TABLET)], "properties": {}, "traits": {},
    }  # fmt: skip
    [sealed] = world.keyring.seal([Sealing(found.subject, ORDINARY, identity, orjson.dumps(body))])
    new = NewEvent(
        id=identity, type=CORRECTED, source="web", subject=found.subject, time=world.time,
        data={"corrects": event, "number": 1, "cleaning": 1}, sealed={ORDINARY: sealed},
    )  # fmt: skip
    world.log.append(TRACKING, [new])
    return identity


def test_what_is_given_late_counts_as_it_was_corrected(world):
    """Identity comes to the event after both it and its correction were handled."""
    shared_tablet(world)
    world.follow()
    corrects(world, world.sent(TABLET, GUESTS), "Corrected")
    world.follow(STATES)
    world.settle()
    world.follow()
    profile = world.profile(GUESTS)
    assert set(world.reading.facts([profile])[profile]["facts"]["events"]) == {"Corrected"}
    world.verify_profiles()


@pytest.mark.parametrize("rest", [SENSITIVE, "agreement-1"])
def test_a_subjects_states_are_bounded_together(world, rest):
    """Each class of data alone is within the bound; all of them stand in one document."""
    subject = world.subject(ANN, create=True)
    text = "x" * (BIGGEST_STATE * 2 // 3)
    state = {**empty(), "traits": {"t": {"first": [1, "e" * 32, text, "web"]}}}
    world.transactor.run(lambda within: world.states.save({subject: {ORDINARY: state}}, within))
    with pytest.raises(Poison):
        world.transactor.run(lambda within: world.states.save({subject: {rest: state}}, within))
    world.transactor.run(lambda within: world.states.save({subject: {rest: state}}, within, whole=True))
    world.transactor.run(lambda within: world.states.save({subject: {rest: state}}, within))


def test_following_goes_on_though_events_keep_coming(world):
    """Of a device that is folded again since it is shared: what was handled meanwhile is added, and not all folded once
    more."""
    world.happens(ANN, TABLET)
    world.follow()
    world.happens(BO, TABLET)
    people = world.followers["profile.people"]
    folding = people._prepare.__self__
    inner, folded = folding._folded, []

    def busy(*arguments):
        found = inner(*arguments)
        folded.append(world.sent(TABLET, at=1_000_500))
        world.follow(STATES)
        return found

    folding._folded = busy
    assert any(people.step([0]).handled for _ in range(3))
    folding._folded = inner
    world.settle()
    world.follow()
    assert len(folded) == 1 and set(folded) < world.events_of(ANN)
    world.verify_profiles()
