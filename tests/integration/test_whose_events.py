"""Whose each event is: shared devices and splits, from identity's decisions to profiles, on a real MongoDB."""

import random

import pytest

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED, SPLIT
from contracts.streams import TRACKING
from services.identity.trial import Trial
from services.privacy.domain.belonging import belonging_of
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
    assert world.events_of(NEW) == {line["event"] for line in world.reading.timeline(world.profile(NEW), 99)["lines"]}
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


@pytest.mark.parametrize("seed", range(12))
def test_profiles_are_what_identity_says_after_any_history(world, seed):
    """Events, late ones too, of all parties; splits of identifiers and merges, rules for what was decided, erasures;
    each service catches up at any time. Live is what a rebuild gives, each event is one person's at most, and consents
    are of just the events that a profile has."""
    chance = random.Random(seed)
    history = History(world, chance)
    for _ in range(30):
        history.goes_on()
        if chance.random() < 0.15:
            history.holds()
    history.holds()


class History:
    """What happens, at random."""

    def __init__(self, world, chance):
        self.world, self.chance = world, chance
        self.times = {}
        """Event -> when it happened."""

    def goes_on(self):
        """One more event, and perhaps something else."""
        world, chance = self.world, self.chance
        named = chance.sample(KINDS, chance.choice([1, 1, 2, 2, 3]))
        at = chance.choice([None, None, min(1_000_000 + chance.randrange(30_000), world.time)])
        send = chance.choice([world.sent, world.happens, world.happens])
        event = send(*named, at=at, party=chance.choice(["first"] * 6 + ["second", "third"]))
        self.times[event] = at or world.time
        if chance.random() < 0.3:
            world.follow(chance.choice([STATES, "profile.people"]))
        what = chance.random()
        if what < 0.15:
            world.settle()
            world.splits_something(chance)
        elif what < 0.2:
            world.settle()
            Trial(world.tools(), lambda *_: None).apply(chance.choice(RULES))
        elif what < 0.27 and (people := sorted(world.store.groups())):
            self._erases(chance.choice(people))

    def _erases(self, profile):
        world, chance = self.world, self.chance
        request = world.fences(profile)
        world.tells(SUBJECTS_ERASED, request)
        if chance.random() < 0.5:
            world.forgets(chance.choice([0, 1]))
            world.follow(chance.choice([STATES, "profile.people"]))
        if chance.random() < 0.5:
            world.settle()
        world.forgets()
        world.tells(ERASURE_COMPLETED, request)
        world.forgets()

    def holds(self):
        """What must, once all have caught up."""
        world = self.world
        world.settle()
        world.follow()
        world.verify()
        world.verify_profiles()
        assert not world.checkpoints.parked() and not world.marks.parked()
        events = world.log.find(TRACKING, set(self.times)).values()
        alive = [event for event in events if not world.keyring.fenced([event.subject])]
        told = {}
        for profile in world.store.groups():
            lines = {line["event"] for line in world.reading.timeline(profile, 10_000)["lines"]}
            belonging = belonging_of(world.members(profile))
            assert lines == {e.id for e in alive if belonging.holds(e.subject, e.id, self.times[e.id])}
            for each in lines:
                told.setdefault(each, set()).add(profile)
        assert all(len(each) == 1 for each in told.values())


RULES = [
    {},
    {"others": {"limit": 1}, "kinds": {"email": {"limit": 1}, "anonymous": {"limit": 1}}},
    {"kinds": {"loyalty": {"blocked": ["l-7"]}}},
]
