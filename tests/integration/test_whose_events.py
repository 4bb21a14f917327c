"""Whose each event is: shared devices and splits, from identity's decisions to profiles, on a real MongoDB."""

import random

import pytest

from contracts.profile import CHANGED, SPLIT
from services.profile.folding import STATES
from tests.integration.identity_world import World

ANN, BO, CIA = ("user", "ann"), ("user", "bo"), ("user", "cia")
TABLET, PHONE = ("anonymous", "tablet"), ("anonymous", "phone")
ANNS, GUESTS, NEW = ("email", "ann@x.se"), ("email", "guest@x.se"), ("email", "new@x.se")


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


ORDERS = [(), (STATES, "profile.people"), ("profile.people", STATES)]


@pytest.mark.parametrize("order", ORDERS)
def test_a_family_tablets_visits_are_the_first_persons_until_somebody_else_logs_in(world, order):
    """Then they are nobody's: whichever of identity's decisions and the events profile comes to first."""
    before = [world.happens(TABLET), world.happens(ANN, TABLET), world.happens(TABLET)]
    world.follow(*order)
    mine = world.happens(BO, TABLET)
    nobodys = world.happens(TABLET)
    late = world.happens(TABLET, at=1_002_500)
    world.follow(*order)
    world.follow()
    assert world.events_of(ANN) == {*before, late}
    assert world.events_of(BO) == {mine}
    assert nobodys not in world.events_of(ANN) | world.events_of(BO)
    world.verify_profiles()


@pytest.mark.parametrize("order", ORDERS)
def test_a_guests_order_on_anothers_tablet_is_the_guests(world, order):
    """It lies under the tablet; and goes with the guest when that one turns out to be somebody."""
    visit = world.happens(ANN, ANNS, TABLET)
    world.follow(*order)
    ordered = [world.happens(TABLET, GUESTS), world.happens(TABLET, GUESTS)]
    world.follow(*order)
    world.follow()
    assert world.events_of(ANN) == {visit} and world.events_of(GUESTS) == set(ordered)
    login = world.happens(BO, GUESTS)
    world.follow()
    assert world.events_of(BO) == {*ordered, login}
    world.verify_profiles()


def test_two_guests_who_turn_out_to_be_one_get_the_tablet_back(world):
    """What was nobody's is theirs again."""
    sent = [world.happens(TABLET, ANNS), world.happens(TABLET, NEW), world.happens(TABLET)]
    world.follow()
    assert world.events_of(ANNS) == {sent[0]} and world.events_of(NEW) == {sent[1]}
    sent += [world.happens(ANN, ANNS), world.happens(ANN, NEW)]
    world.follow()
    assert world.events_of(ANN) == set(sent)
    world.verify_profiles()


def test_profiles_after_a_split_are_as_if_the_merge_had_never_been(world):
    """Facts equal those before, but for the event itself; told once, as one step."""
    world.happens(ANN, ANNS)
    world.happens(PHONE, NEW)
    world.happens(PHONE)
    world.follow()
    before = world.everything()
    names = {world.profile(ANN), world.profile(NEW)}
    glue = world.happens(ANN, NEW)
    world.follow()
    assert len(world.everything()) == 1
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    world.follow()
    after = world.everything()
    assert after.keys() == before.keys()
    assert world.events_of(NEW) == {line["event"] for line in world.reading.timeline(world.profile(NEW), 99)}
    anns = next(key for key in before if world.subject(ANN) in key)
    phones = next(key for key in before if world.subject(PHONE) in key)
    assert after[phones] == before[phones]
    assert after[anns]["events"]["E"][0] == before[anns]["events"]["E"][0] + 1 and glue in world.events_of(ANN)
    [split] = world.told(SPLIT)
    assert set(split.data["profiles"]) == names and split.data["merged"] == []
    assert names <= {
        each.subject for each in world.told(CHANGED) if each.causes.get("identity:0") == split.causes["identity:0"]
    }
    assert world.reading.facts(list(names)).keys() == names
    world.verify_profiles()


def test_a_split_gives_single_events_to_whom_they_belong(world):
    """A tablet that was thought to be the glued person's, with a guest's order on it."""
    world.happens(ANN, ANNS)
    world.happens(TABLET, NEW)
    world.happens(ANN, NEW)
    order = world.happens(TABLET, GUESTS)
    visit = world.happens(TABLET)
    world.follow()
    assert world.events_of(GUESTS) == {order} and visit not in world.events_of(ANN)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    world.follow()
    assert world.events_of(GUESTS) == {order} and visit not in world.events_of(NEW)
    world.regrouping.split_identifier(world.profile(NEW), world.subject(NEW))
    world.follow()
    assert {order, visit} <= world.events_of(GUESTS) and world.together(TABLET, GUESTS)
    world.verify()
    world.verify_profiles()


def test_a_shared_device_is_forgotten_with_one_who_used_it(world):
    """And its owner is somebody still, without it."""
    world.happens(ANN, ANNS, TABLET)
    world.happens(TABLET, GUESTS)
    world.follow()
    guest = world.store.people_by_id([world.profile(GUESTS)])[world.profile(GUESTS)]
    given = world.store.given_of([guest])
    assert {each.subject for each in given} == {world.subject(TABLET)}


KINDS = [ANN, BO, TABLET, PHONE, ANNS, GUESTS, NEW, ("phone", "+46701234567"), ("loyalty", "L-7")]


@pytest.mark.parametrize("seed", range(16))
def test_profiles_are_what_identity_says_after_any_history(world, seed):
    """Events, also late ones, splits of identifiers and of merges, in any order and catching up at any time: live is
    what a rebuild gives, and each event is one person's at most."""
    chance = random.Random(seed)
    sent = []
    for _ in range(30):
        named = chance.sample(KINDS, chance.choice([1, 1, 2, 2, 3]))
        at = chance.choice([None, None, 1_000_000 + chance.randrange(30_000)])
        send = chance.choice([world.sent, world.happens])
        sent.append(send(*named, at=at and min(at, world.time)))
        if chance.random() < 0.3:
            world.follow(chance.choice([STATES, "profile.people"]))
        if chance.random() < 0.15:
            world.settle()
            _split_something(world, chance)
    world.settle()
    world.follow()
    world.verify()
    world.verify_profiles()
    people = world.store.groups()
    told = [line["event"] for profile in people for line in world.reading.timeline(profile, 10_000)]
    assert len(told) == len(set(told)) and set(told) <= set(sent)
    for subjects, facts in world.everything().items():
        profile = world.store.profile_of(subjects)[min(subjects)]
        assert facts["events"].get("E", [0])[0] == len(world.reading.timeline(profile, 10_000))


def _split_something(world, chance):
    groups = [(profile, group) for profile, group in sorted(world.store.groups().items()) if len(group) > 1]
    if not groups:
        return
    profile, group = chance.choice(groups)
    merges = [each for each in world.explaining.explain(profile)["chain"] if each["decided"] == "merged"]
    if merges and chance.random() < 0.6:
        world.regrouping.split_merge(chance.choice(merges)["id"])
    else:
        world.regrouping.split_identifier(profile, chance.choice(sorted(group)))
