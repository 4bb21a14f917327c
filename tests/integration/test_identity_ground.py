"""What regroupings stand on: who is near, who is being erased, and events that keep coming; on a real MongoDB."""

import random
import threading

import pytest

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from services.identity.domain.graph import SIDES
from services.identity.domain.regrouping import cut_of_identifier
from services.identity.trial import Trial
from shared.keyring import new_id
from tests.integration.identity_world import World

ANN, BO = ("user", "ann"), ("user", "bo")
OLD, NEW, PHONE, IDFA = ("email", "ann@x.se"), ("email", "a.n.n@x.se"), ("anonymous", "phone"), ("idfa", "d-1")
KINDS = [ANN, BO, NEW, OLD, IDFA, ("anonymous", "tablet"), ("loyalty", "L-7")]


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def known_on_anothers(world):
    """Ann's phone named Bo, who is being erased, and is glued to somebody with it; the merge that glued them."""
    world.happens(BO)
    world.happens(ANN, OLD)
    world.happens(NEW)
    world.happens(PHONE, NEW)
    world.happens(ANN, NEW)
    world.happens(BO, PHONE)
    world.follow()
    return world.merges(ANN)[0]["id"]


def erase(world, person):
    """The rest of an erasure, once the fences are up."""
    world.keyring.destroy([*person["profiles"], *person["subjects"]])
    request = {"request": new_id(), "mode": "forget"} | {
        each: person[each] for each in ("profile", "profiles", "subjects")
    }
    for kind in (SUBJECTS_ERASED, ERASURE_COMPLETED):
        world.tells(kind, request)
        world.forgets()
    world.follow()


@pytest.mark.parametrize("how", ["split", "rules"])
def test_nobody_is_put_together_with_who_is_being_erased(world, how):
    """From the fence until identity hears of it; they would be lost with them."""
    merge = known_on_anothers(world)
    bos = world.profile(BO)
    person = world.members(bos)
    world.keyring.fence([*person["profiles"], *person["subjects"]])
    if how == "split":
        world.regrouping.split_merge(merge)
    else:
        Trial(world.tools(), lambda *_: None).apply({"kinds": {"email": {"limit": 1}}})
    assert not world.together(NEW, ANN) and not world.together(NEW, BO) and not world.together(PHONE, BO)
    world.follow()
    erase(world, person)
    assert world.profile(NEW) and world.profile(BO) is None and world.reading.facts([bos])[bos] is None
    assert world.reading.facts([world.profile(NEW)])[world.profile(NEW)]
    world.verify()
    world.verify_profiles()


def test_who_begins_to_be_erased_while_somebody_is_split_is_left_out_too(world):
    """Between the reading and the writing."""
    merge = known_on_anothers(world)
    bos = world.profile(BO)
    person = world.members(bos)
    happens = world.regrouping._happens

    def late(*arguments):
        world.keyring.fence([*person["profiles"], *person["subjects"]])
        happens(*arguments)

    world.regrouping._happens = late
    world.regrouping.split_merge(merge)
    assert not world.together(NEW, ANN) and not world.together(NEW, BO)
    erase(world, person)
    assert world.profile(NEW)
    world.verify()
    world.verify_profiles()


def test_who_owns_a_device_that_a_split_person_was_second_on_is_decided_again(world):
    """As if the two had never been one: the device had not told them apart then."""
    world.happens(ANN, IDFA)
    for each in ((NEW,), (BO,), (BO, NEW), (NEW, IDFA)):
        world.happens(*each)
    assert not world.together(ANN, NEW)
    world.regrouping.split_merge(world.merges(BO)[0]["id"])
    assert world.together(NEW, ANN, IDFA) and not world.together(NEW, BO)
    world.verify()


def outcome(world, person, cut, everybody):
    """Who is who, what is shared and what is given, were this split."""
    regrouping = world.regrouping
    if everybody:
        regrouping._near = lambda whom: list(world.store.people_by_id(world.store.groups()).values())
    data = {"decision": "d" * 32, **dict(zip(SIDES, cut, strict=True))}
    try:
        _, again, *_ = regrouping._again([person], person.members, regrouping._ground(), None, data)
    finally:
        vars(regrouping).pop("_near", None)
    data |= {"dissolved": again.dissolved, "facts": again.facts}
    links = [each["_id"] for each in world.store.links.find({}, {"_id": 1})]
    whole = world.store.load(links, [each["_id"] for each in world.store.people.find({}, {"_id": 1})])
    given = {each.event: (each.subject, each.to) for each in world.store.all_given()}
    whole.evolve("identity.split.v1", data, 1)
    given = {event: pair for event, pair in given.items() if whole.ungiven.isdisjoint(pair)}
    people = [each for each in whole.people.values() if each.into is None]
    return (
        {(each.id, frozenset(each.members)) for each in people},
        {(each.id, subject, shared.since) for each in people for subject, shared in each.shared.items()},
        given | {event: (each.subject, each.to) for event, each in whole.given.items()},
    )


@pytest.mark.parametrize("seed", [252, *range(8)])
def test_deciding_again_about_who_is_near_is_deciding_again_about_everybody(world, seed):
    """For each identifier of each person, after random events."""
    world.store.version()
    chance = random.Random(seed)
    for _ in range(8):
        world.happens(*chance.sample(KINDS, chance.choice([1, 2, 2])))
    for profile, group in sorted(world.store.groups().items()):
        person = world.store.people_by_id([profile])[profile]
        for subject in sorted(group) if len(group) > 1 else ():
            cut = cut_of_identifier(person, subject)
            assert outcome(world, person, cut, False) == outcome(world, person, cut, True)


def test_a_person_is_split_though_others_are_decided_about_without_a_pause(world, mongodb_url, prefix):
    """Each attempt finds that the graph has moved on; after some, events are held off until the split is done."""
    merge = known_on_anothers(world)
    other, steps = World(mongodb_url, prefix), []
    happens = world.regrouping._happens

    def busy(*arguments):
        """Somebody new comes between the reading and the writing."""
        other.time += 1_000_000
        other.sent(("anonymous", f"visitor-{len(steps)}"))
        steps.append(threading.Thread(target=other.settle))
        steps[-1].start()
        steps[-1].join(1.0)
        happens(*arguments)

    world.regrouping._happens = busy
    try:
        world.regrouping.split_merge(merge)
    finally:
        for step in steps:
            step.join(60)
        other.client.close()
    assert len(steps) < 10 and not world.together(ANN, NEW)
    world.settle()
    assert all(world.profile(("anonymous", f"visitor-{number}")) for number in range(len(steps)))
    world.verify()
