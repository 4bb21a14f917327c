"""Identity on a real MongoDB and log: decisions, splits, explanations, and a rebuild that equals live."""

import threading

import pytest

from contracts.identity import CREATED, MERGED, SPLIT
from contracts.privacy import SUBJECTS_ERASED
from contracts.streams import IDENTITY, TRACKING
from services.identity.regrouping import RESOLVE
from services.identity.trial import Trial
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError
from tests.integration.identity_world import World

ANN, BO, TABLET, PHONE = ("user", "ann"), ("user", "bo"), ("anonymous", "tablet"), ("anonymous", "phone")
OLD, NEW = ("email", "ann@x.se"), ("email", "a.n.n@x.se")


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def glued(world):
    """Ann and a stranger are one person, by an event that named both."""
    world.happens(ANN, OLD)
    world.happens(NEW)
    world.happens(PHONE, NEW)
    world.happens(ANN, NEW)
    assert world.together(ANN, OLD, NEW, PHONE)


def test_a_merge_taken_back_leaves_the_people_that_there_were(world):
    """With their first profile ids, in one event; a rebuild gives the same."""
    world.happens(ANN, OLD)
    world.happens(NEW)
    world.happens(PHONE, NEW)
    before = [world.profile(each) for each in (ANN, NEW)]
    world.happens(ANN, NEW)
    [merge] = world.merges(ANN)
    told = world.regrouping.split_merge(merge["id"])
    assert [world.profile(each) for each in (ANN, NEW)] == before and not world.together(ANN, NEW)
    assert world.together(ANN, OLD) and world.together(NEW, PHONE)
    assert {each["profile"] for each in told["profiles"]} == set(before)
    assert len(world.facts(SPLIT)) == 1
    world.verify()


def test_what_was_split_does_not_merge_again_by_itself(world):
    """Not by the same event again, not by another."""
    glued(world)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    world.happens(ANN, NEW)
    world.happens(PHONE, OLD)
    assert not world.together(ANN, NEW) and not world.together(ANN, PHONE)
    world.verify()


def test_an_identifier_taken_back_leaves_the_rest_together(world):
    """It is somebody's of its own from then on, where events name it alone."""
    glued(world)
    world.regrouping.split_identifier(world.profile(ANN), world.subject(OLD))
    assert world.together(ANN, NEW, PHONE) and world.profile(OLD) is None
    world.happens(OLD)
    assert world.profile(OLD) and not world.together(ANN, OLD)
    world.verify()


def test_decisions_that_rested_on_a_merge_are_made_again(world):
    """A tablet that was known by the wrong person's identifier goes with that one."""
    glued(world)
    world.happens(TABLET, NEW)
    world.happens(BO, TABLET)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    assert not world.together(ANN, TABLET)
    assert world.together(NEW, TABLET)
    world.verify()


def test_a_split_takes_along_who_was_held_apart_by_the_merge(world):
    """Somebody met the glued person's device while that person had a user id: without the merge the two are one."""
    glued(world)
    world.happens(BO, PHONE)
    assert not world.together(BO, PHONE)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    assert world.together(BO, PHONE, NEW) and not world.together(ANN, BO)
    world.verify()


def test_splitting_twice_is_told_and_changes_nothing(world):
    """The merge holds no longer."""
    glued(world)
    [merge] = world.merges(ANN)
    world.regrouping.split_merge(merge["id"])
    with pytest.raises(SamlaError, match="taken back already"):
        world.regrouping.split_merge(merge["id"])
    with pytest.raises(NotFound):
        world.regrouping.split_merge("0" * 32)
    assert len(world.facts(SPLIT)) == 1


def test_a_second_split_goes_on_from_the_first(world):
    """Also of a merge that was decided again within it."""
    glued(world)
    third = ("email", "third@x.se")
    world.happens(third)
    world.happens(PHONE, third)
    world.happens(NEW, third)
    assert world.together(ANN, NEW, third)
    first = world.merges(ANN)[0]
    world.regrouping.split_merge(first["id"])
    assert world.together(NEW, third) and not world.together(ANN, NEW)
    again = world.merges(NEW)
    assert again and all("." in each["id"] for each in again)
    world.regrouping.split_merge(again[-1]["id"])
    assert not world.together(NEW, third) and not world.together(ANN, NEW)
    world.verify()


def test_a_profile_is_explained(world):
    """Which identifier, by which event of which source, when, by which rules; and what was set aside and why."""
    glued(world)
    world.happens(BO, OLD)
    told = world.explaining.explain(world.profile(ANN))
    assert {(each["kind"], each["value"]) for each in told["identifiers"]} == {ANN, OLD, NEW, PHONE}
    assert [each["decided"] for each in told["chain"]].count("merged") == 1
    for each in told["chain"]:
        assert each["source"] == "web" and each["rules"] == 0 and each["received"] and each["event"]
        assert each["value"] in {value for _, value in (ANN, OLD, NEW, PHONE)}
    [aside] = [each for each in world.explaining.explain(world.profile(BO))["chain"] if each["decided"] == "set_aside"]
    assert (aside["value"], aside["reason"]) == ("ann@x.se", "limit_of_user")
    assert world.explaining.explain("0" * 32) is None


def test_an_explanation_goes_on_after_a_split(world):
    """What stands in the split's place tells each part's own story."""
    glued(world)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    world.happens(ANN, ("phone", "+46701234567"))
    chain = world.explaining.explain(world.profile(ANN))["chain"]
    assert [(each["decided"], each["value"]) for each in chain] == [
        ("created", "ann"), ("attached", "ann@x.se"), ("set_aside", "a.n.n@x.se"), ("attached", "+46701234567"),
    ]  # fmt: skip


def test_an_event_that_is_under_way_while_a_split_happens_is_decided_after_it(world):
    """A batch from which nothing followed is void too: it was decided on a person that is no more."""
    glued(world)
    [merge] = world.merges(ANN)
    world.sent(ANN, ("anonymous", "late"))
    under_way, split = threading.Event(), threading.Event()

    def slow(events):
        finish = world.resolver.resolve(events)
        under_way.set()
        assert split.wait(30)
        return finish

    other = world.consumes(slow)
    thread = threading.Thread(target=lambda: other.step(range(world.log.partitions(TRACKING))))
    thread.start()
    assert under_way.wait(30)
    world.regrouping.split_merge(merge["id"])
    split.set()
    thread.join(30)
    world.settle()
    assert world.together(ANN, ("anonymous", "late")) and not world.together(NEW, ("anonymous", "late"))
    world.verify()


def test_a_batch_from_which_nothing_follows_is_void_after_a_turn(world):
    """Its checkpoint does not move on."""
    glued(world)
    world.sent(ANN)
    partitions = range(world.log.partitions(TRACKING))
    other = world.consumes(lambda events: None)
    positions = {place: at for place, at in world.checkpoints.all().items() if place.subscription == RESOLVE}
    [other.position(each) for each in partitions]
    world.transactor.run(lambda within: world.checkpoints.turn(within, positions))
    assert other.step(partitions).handled == 0
    assert other.step(partitions).handled == 1
    with pytest.raises(CheckpointMoved):
        world.transactor.run(lambda within: world.checkpoints.turn(within, positions))


def test_somebody_who_is_being_erased_is_not_split(world):
    """Nor decided again."""
    glued(world)
    [merge] = world.merges(ANN)
    world.keyring.fence([world.subject(OLD)])
    with pytest.raises(Conflict):
        world.regrouping.split_merge(merge["id"])


def test_rules_change_what_is_decided_from_then_on(world):
    """And a rebuild knows them."""
    world.happens(ANN, OLD)
    world.rules({"kinds": {"email": {"limit": 1}}})
    world.happens(ANN, NEW)
    assert not world.together(ANN, NEW) and world.together(ANN, OLD)
    assert [
        each.data["rules"] for each in world.facts() if "rules" in each.data and each.type == "identity.set_aside.v1"
    ] == [1]
    world.verify()


def test_a_split_decides_by_the_rules_of_then(world):
    """Newer, stricter rules do not part what they did not part when they came."""
    glued(world)
    world.rules({"kinds": {"email": {"limit": 1}, "anonymous": {"blocked": ["phone"]}}})
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    assert world.together(NEW, PHONE)
    world.verify()


def test_the_graph_is_what_its_facts_say_after_everything(world):
    """Created and merged facts as they stand, splits among them."""
    glued(world)
    world.happens(BO, TABLET)
    world.happens(TABLET, OLD)
    world.regrouping.split_identifier(world.profile(ANN), world.subject(NEW))
    world.happens(("user", "cia"), TABLET)
    assert world.facts(CREATED) and world.facts(MERGED)
    world.verify()


# Other rules, tried and applied

ONE_EMAIL = {"kinds": {"email": {"limit": 1}}}


def test_a_trial_tells_who_would_part_and_touches_nothing(world):
    """With examples by name; the log and the graph stay as they are."""
    glued(world)
    world.happens(BO, TABLET)
    heads, version = dict(world.log.heads(IDENTITY)), world.store.version()
    told = Trial(world.tools(), lambda *_: None).run(ONE_EMAIL)
    assert (told["merging"], told["parting"], told["people"]) == (0, 1, {"before": 2, "after": 3})
    [example] = told["examples"]["parting"]
    assert example["before"][0]["identifiers"] == 4
    assert {"user:ann", "email:ann@x.se"} in [set(each["some"]) for each in example["after"]]
    assert told["biggest"]["before"][0]["identifiers"] == 4
    assert (dict(world.log.heads(IDENTITY)), world.store.version()) == (heads, version)


def test_a_trial_of_a_span_decides_what_was_received_in_it(world):
    """Nothing of what was before it."""
    glued(world)
    told = Trial(world.tools(), lambda *_: None).run(ONE_EMAIL, since=world.time + 1)
    assert told["people"] == {"before": 0, "after": 0}


def test_rules_applied_to_the_past_give_what_they_would_have_given(world):
    """As one decision to which every regrouping refers; those nobody is concerned by stay as they are."""
    glued(world)
    world.happens(BO, TABLET)
    before = world.store.people_by_id([world.profile(BO)])
    told = Trial(world.tools(), lambda *_: None).apply(ONE_EMAIL)
    assert not world.together(ANN, NEW) and world.together(NEW, PHONE) and world.together(ANN, OLD)
    assert told["regrouped"] == 1 and world.store.people_by_id([world.profile(BO)]) == before
    [regrouped] = world.facts("identity.regrouped.v1")
    assert regrouped.data["decision"] == told["decision"]
    world.verify()
    assert Trial(world.tools(), lambda *_: None).apply(ONE_EMAIL)["regrouped"] == 0
    assert world.store.version()[1] == told["version"] == 1


def test_an_explanation_goes_on_after_rules_were_applied_to_the_past(world):
    """What stands in the regrouping's place is told, and a merge of it can be taken back."""
    world.rules({"kinds": {"crm": {"blocked": ["c-1"]}}})
    world.happens(("crm", "c-1"), OLD)
    world.happens(PHONE)
    world.happens(("crm", "c-1"), PHONE)
    Trial(world.tools(), lambda *_: None).apply({})
    world.happens(PHONE, ANN)
    chain = world.explaining.explain(world.profile(ANN))["chain"]
    assert [each["decided"] for each in chain].count("created") == 2 and chain[-1]["value"] == "ann"
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    assert not world.together(PHONE, OLD)
    world.verify()


def test_rules_applied_to_the_past_merge_what_was_blocked(world):
    """Also people who had nothing to do with one another until then."""
    world.rules({"kinds": {"crm": {"blocked": ["c-1"]}}})
    world.happens(("crm", "c-1"), OLD)
    world.happens(("crm", "c-1"), PHONE)
    assert not world.together(OLD, PHONE)
    Trial(world.tools(), lambda *_: None).apply({})
    assert world.together(OLD, PHONE, ("crm", "c-1"))
    world.verify()


def test_a_split_holds_under_other_rules(world):
    """What somebody has decided by hand is not undone by rules."""
    glued(world)
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    Trial(world.tools(), lambda *_: None).apply({"kinds": {"email": {"limit": 50}}})
    assert not world.together(ANN, NEW)
    world.verify()


# Bounds, and what was before


def test_nobody_has_more_identifiers_than_the_rules_allow(world):
    """Of whatever many kinds: a person is one document."""
    world.rules({"most": 5})
    world.happens(ANN, OLD)
    for number in range(8):
        world.happens(ANN, (f"kind{number}", "x"))
    [person] = world.store.people_by_id([world.profile(ANN)]).values()
    assert len(person.members) == 5
    assert {each.data["reason"] for each in world.facts("identity.set_aside.v1")} == {"limit_of_identifiers"}


def test_a_device_stays_shared_with_somebody_who_was_forgotten(world):
    """Of whom no event can be decided again."""
    world.happens(ANN, TABLET)
    world.happens(BO, TABLET)
    request = world.fences(world.profile(BO))
    world.tells(SUBJECTS_ERASED, request)
    world.forgets()
    world.happens(ANN, OLD)
    world.regrouping.split_identifier(world.profile(ANN), world.subject(OLD))
    [person] = world.store.people_by_id([world.profile(ANN)]).values()
    assert set(person.shared) == {world.subject(TABLET)}
    world.verify()


def test_what_was_decided_late_is_decided_again_by_the_rules_that_decided_it(world):
    """Not by those that were in force when it was received."""
    world.happens(ANN, OLD)
    world.sent(ANN, NEW)
    world.time += 5
    world.rules(ONE_EMAIL)
    world.settle()
    phone = ("phone", "+46701234567")
    world.happens(ANN, phone)
    world.regrouping.split_identifier(world.profile(ANN), world.subject(phone))
    assert not world.together(ANN, NEW)
    world.verify()


def test_a_trial_makes_nothing_to_stand_for_an_identifier(world):
    """Also where other rules compare it in another form."""
    world.happens(("user", "Ann"), OLD)
    tokens = world.client.get_database(world.keyring_name)["tokens"]
    before = tokens.count_documents({})
    told = Trial(world.tools(), lambda *_: None).run({"kinds": {"email": {"clean": ["upper"]}}})
    assert told["people"]["after"] and tokens.count_documents({}) == before


def test_rules_are_applied_to_single_events_too(world):
    """Where everybody stays who they are, and an event is another's."""
    world.happens(BO, ("phone", "+46701234567"))
    world.happens(ANN, OLD)
    world.happens(TABLET, ("user", "cia"))
    event = world.happens(TABLET, OLD, ("phone", "+46701234567"))
    Trial(world.tools(), lambda *_: None).apply({"kinds": {"phone": {"priority": 5}}})
    [given] = [each for each in world.store.all_given() if each.event == event]
    assert given.to == world.subject(("phone", "+46701234567"))
    world.verify()


def test_rules_that_some_are_too_many_for_are_applied_to_the_others(world, monkeypatch):
    """And who they are not applied to is told."""
    glued(world)
    for _ in range(9):
        world.happens(ANN)
    world.happens(BO, ("email", "bo@x.se"))
    world.happens(BO, ("email", "b.o@x.se"))
    monkeypatch.setattr("services.identity.regrouping.MOST_EVENTS", 8)
    told = Trial(world.tools(), lambda *_: None).apply(ONE_EMAIL)
    assert told["regrouped"] == 1 and len(told["skipped"]) == 1
    assert not world.together(("email", "bo@x.se"), ("email", "b.o@x.se")) and world.together(OLD, NEW)


def test_people_of_the_version_before_are_read(world):
    """Without the fields that there are since."""
    world.happens(ANN, TABLET)
    world.store.people.update_many({}, {"$unset": {"shared": "", "apart": "", "regrouped": ""}})
    assert world.store.shared([world.profile(ANN)]) == set()
    world.happens(BO, TABLET)
    assert world.store.shared([world.profile(ANN)]) == {world.subject(TABLET)}
