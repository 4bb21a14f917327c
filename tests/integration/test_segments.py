"""Segments on a real MongoDB, with all that stands before them: live, by time, filled, changed, tried and explained."""

import pytest

from contracts.segmentation import ENTERED
from services.segmentation.desk import Desk
from shared.errors import Conflict, NotFound, SamlaError, Unavailable
from tests.integration.segments_world import DAY, START, Segments

ANN, BO, CIA = ("user", "ann"), ("user", "bo"), ("user", "cia")
PHONE = ("anonymous", "phone")
MINUTE = 60_000
BOUGHT_DELI = {"event": "Bought", "where": [{"property": "department", "is": "DELI"}]}
NOT_BOUGHT = {
    "sequence": [{"event": "Viewed"}, {"event": "Viewed"}, {"not": {"event": "Bought"}, "within": "7d"}],
    "within": "30d",
}


@pytest.fixture
def world(mongodb_url, prefix):
    made = Segments(mongodb_url, prefix)
    yield made
    made.client.close()


def test_properties_sequences_and_recency_are_watched_filled_from_history_and_then_live(world):
    """What had happened before the segment was thought of counts, and what happens after."""
    world.does(ANN, event="Bought", department="DELI")
    world.does(BO, event="Bought", department="MEAT")
    world.makes("deli", {**BOUGHT_DELI, "count": {"gte": 1}})
    assert world.inside("deli") == {world.profile(ANN)}
    assert world.kept.find("deli").filled
    world.does(BO, event="Bought", department="DELI")
    world.evaluates()
    assert world.inside("deli") == {world.profile(ANN), world.profile(BO)}
    assert world.turns("deli", BO) == [(True, START, "event")]


def test_what_time_brings_is_told_with_the_instant_at_which_it_became_true(world):
    """Viewed twice and not bought for seven days: entered just then; left when the first look is 30 days old."""
    world.makes("abandoned", NOT_BOUGHT)
    world.does(ANN, event="Viewed", at=START - DAY)
    world.does(ANN, event="Viewed", at=START - 1)
    world.evaluates()
    assert world.turns("abandoned") == []
    world.moves(days=6)
    assert world.turns("abandoned") == []
    world.moves(days=1)
    assert world.turns("abandoned", ANN) == [(True, START - 1 + 7 * DAY, "time")]
    world.moves(days=60)
    assert world.turns("abandoned", ANN) == [
        (True, START - 1 + 7 * DAY, "time"),
        (False, START - DAY + 30 * DAY, "time"),
    ]


def test_what_was_due_while_it_stood_still_is_told_in_order_and_at_its_own_instants(world):
    """Months pass without anybody looking: several turns of one person, and of many."""
    world.makes("week", {"trait": "due", "within_next": "7d"})
    world.makes("recent", {"event": "Bought", "last": {"within": "30d"}})
    days = {ANN: "2023-12-24", BO: "2023-12-04", CIA: "2024-01-31"}
    for who, day in days.items():
        world.does(who, traits={"due": day})
        world.does(who, event="Bought", at=START - DAY * len(day))
    world.evaluates()
    world.clock.move(days=120)
    world.begins()
    world.evaluates()
    assert [entered for entered, _, _ in world.turns("week", ANN)] == [True, False]
    due = 1_703_376_000_000
    assert world.turns("week", ANN) == [(True, due - 7 * DAY, "time"), (False, due, "time")]
    told = [each for each in world.told_of() if each.data["reason"] == "time"]
    for partition in {each.partition for each in told}:
        instants = [each.data["at"] for each in told if each.partition == partition]
        assert instants == sorted(instants)
    assert len(told) == 9


def test_what_happened_while_it_stood_still_does_not_hide_what_time_brought_before(world):
    """They left when 30 days had passed, and came again with what they did on day 50."""
    world.makes("recent", {"event": "Bought", "count": {"gte": 1}, "within": "30d"})
    first = START // MINUTE * MINUTE
    world.does(ANN, event="Bought", at=first)
    world.evaluates()
    world.clock.move(days=50)
    world.does(ANN, event="Bought")
    world.clock.move(days=1)
    world.evaluates()
    turns = world.turns("recent", ANN)
    assert [entered for entered, _, _ in turns] == [True, False, True]
    assert turns[1][1] == first + 30 * DAY and turns[1][2] == "time"


def test_a_changed_definition_is_a_new_version_and_who_enters_and_leaves_by_it_does_so_once(world):
    """The versions are kept; what refers to it is looked at again, too."""
    world.does(ANN, event="Bought", department="DELI")
    world.does(BO, event="Bought", department="MEAT")
    world.does(CIA, event="Looked")
    world.makes("buyers", {"event": "Bought", "count": {"gte": 1}})
    world.makes("others", {"not": {"segment": "buyers"}})
    assert world.inside("others") == {world.profile(CIA)}
    row = world.desk.change("buyers", {**BOUGHT_DELI, "count": {"gte": 1}}, None, world)
    assert row.version == 1 and row.coming
    world.evaluates()
    world.evaluates()
    assert world.inside("buyers") == {world.profile(ANN)}
    assert world.inside("others") == {world.profile(BO), world.profile(CIA)}
    assert [entered for entered, _, _ in world.turns("buyers", BO)] == [True, False]
    assert [entered for entered, _, _ in world.turns("buyers", ANN)] == [True]
    assert [each["version"] for each in world.kept.versions_of(world.kept.find("buyers"))] == [2, 1]
    assert world.desk.change("buyers", {**BOUGHT_DELI, "count": {"gte": 1}}, None, world).version == 2
    world.verify_segments()


def test_while_a_change_waits_for_what_it_looks_at_the_version_before_holds(world):
    world.makes("buyers", {"event": "Bought", "count": {"gte": 1}})
    world.desk.change("buyers", {**BOUGHT_DELI, "count": {"gte": 1}}, None, world)
    world.does(BO, event="Bought", department="MEAT")
    world.settle()
    world.follow()
    world.evaluator.step(range(4))
    assert world.inside("buyers") == {world.profile(BO)}
    world.evaluates()
    world.evaluates()
    assert world.inside("buyers") == set()


def test_consents_are_asked_of_privacy_and_withdrawing_is_leaving(world):
    """As far as the event that says so has come; nothing is taken for granted before."""
    world.makes("asked", {"all": [{"event": "E", "count": {"gte": 1}}, {"consent": "ads", "is": True}]})
    world.does(ANN)
    world.evaluates()
    assert world.inside("asked") == set()
    world.does(ANN, event="Agreed", consent={"ads": True})
    world.settle()
    world.follow()
    with pytest.raises(Unavailable):
        world.evaluator.step(range(4))
    world.evaluates()
    assert world.inside("asked") == {world.profile(ANN)}
    world.clock.move(seconds=5)
    world.does(ANN, event="Thought again", consent={"ads": False})
    world.evaluates()
    assert world.inside("asked") == set()


def test_only_what_depends_on_what_changed_is_evaluated(world):
    """Of 60 segments the one that looks at it, and the one that refers to that."""
    for number in range(60):
        world.desk.create(f"s{number}", "", {"event": f"E{number}", "count": {"gte": 1}}, world)
    world.desk.create("nested", "", {"not": {"segment": "s7"}}, world)
    world.evaluates()
    world.does(ANN, event="Other")
    world.evaluates()
    index = world.evaluating.index()
    evaluated = {each.key for each in index.concerned({"events.E7", "ids.user"})}
    assert evaluated == {"s7", "nested"}
    world.desk.create("agreed", "", {"consent": "ads", "is": True}, world)
    assert "agreed" not in {each.key for each in world.evaluating.index().concerned({"events.E7", "ids.user"})}
    world.does(ANN, event="E7")
    world.evaluates()
    assert world.inside("s7") == {world.profile(ANN)} and world.inside("nested") == set()


def test_a_preview_counts_exactly_shows_some_and_the_overlap_and_explains(world):
    """Without saving anything, also by what is not watched yet."""
    for who, department in ((ANN, "DELI"), (BO, "DELI"), (CIA, "MEAT")):
        world.does(who, event="Bought", department=department)
    world.makes("deli", {**BOUGHT_DELI, "count": {"gte": 1}})
    told = world.desk.preview({**BOUGHT_DELI, "last": {"within": "7d"}}, 1, world)
    assert (told["count"], told["profiles"], len(told["sample"])) == (2, 3, 1)
    assert [(each["key"], each["size"], each["both"]) for each in told["overlap"]] == [("deli", 2, 2)]
    assert world.desk.preview({"segment": "deli"}, 10, world)["count"] == 2
    ann, cia = world.profile(ANN), world.profile(CIA)
    assert world.desk.explain(ann, "deli", None, world)["why"]["found"] == 1
    told = world.desk.explain(cia, None, {"all": [NOT_BOUGHT, {"segment": "deli"}]}, world)["why"]
    assert not told["holds"] and [each["holds"] for each in told["all"]] == [False, False]
    with pytest.raises(NotFound):
        world.desk.explain("0" * 32, "deli", None, world)


def test_a_segments_history_is_who_was_in_by_what_is_known_today(world):
    """Also where what is watched keeps no more than its window."""
    world.makes("deli", {**BOUGHT_DELI, "count": {"gte": 1}, "within": "30d"})
    world.makes("spent", {**BOUGHT_DELI, "sum": {"gte": 5}, "of": "total", "within": "30d"})
    for who, ago in ((ANN, 100), (ANN, 50), (BO, 45), (CIA, 1)):
        world.does(who, event="Bought", department="DELI", total=5, at=START - ago * DAY)
    world.evaluates()
    instants = [START - each * DAY for each in (99, 60, 44, 10, 0)]
    for key in ("deli", "spent"):
        assert [each["size"] for each in world.desk.history(key, instants, world)] == [1, 0, 2, 0, 1]


def test_segments_that_are_made_while_others_are_changed_are_made_all_the_same(world, monkeypatch):
    """What was checked against others is checked again when those have moved."""
    index, turns = world.desk._index, iter("ab")

    def moved():
        found = index()
        if other := next(turns, None):
            definition = {"event": "E", "count": {"gte": 1}}
            Desk(world.kept, world.transactor, world.clock).create(other, "", definition, world)
        return found

    monkeypatch.setattr(world.desk, "_index", moved)
    world.desk.create("mine", "", {"event": "E", "count": {"gte": 1}}, world)
    assert {each.key for each in world.kept.all()} == {"a", "b", "mine"}


def test_segments_that_cannot_be_are_refused_with_what_is_in_the_way(world):
    world.makes("one", {"event": "E", "count": {"gte": 1}})
    world.makes("two", {"segment": "one"})
    with pytest.raises(SamlaError, match="one -> two -> one"):
        world.desk.change("one", {"not": {"segment": "two"}}, None, world)
    with pytest.raises(SamlaError, match="there is no segment three"):
        world.desk.create("four", "", {"segment": "three"}, world)
    with pytest.raises(SamlaError, match="there is no computed trait spent"):
        world.desk.create("four", "", {"computed": "spent", "gte": 3}, world)
    with pytest.raises(Conflict, match="one is used by two"):
        world.desk.delete("one")
    with pytest.raises(Conflict, match="there is a segment one already"):
        world.desk.create("one", "", {"event": "E", "count": {"gte": 1}}, world)
    with pytest.raises(SamlaError, match="GDPR Art. 9"):
        world.desk.create("four", "", {"event": "Prescription filled", "count": {"gte": 1}}, world)
    world.desk.delete("two")
    world.desk.delete("one")
    world.evaluates()
    assert world.kept.all() == []


def test_computed_traits_are_conditions_and_say_when_they_change(world):
    """Spent this month: left when the month is over."""
    world.defined.add("spent", {"event": "Bought", "measure": "sum", "value": "total", "within": "30d"}, START)
    world.makes("big", {"computed": "spent", "gte": 100})
    world.does(ANN, event="Bought", total=70)
    world.does(ANN, event="Bought", total=40, at=START - DAY)
    world.evaluates()
    assert world.inside("big") == {world.profile(ANN)}
    world.moves(days=40)
    left = (START - DAY) // MINUTE * MINUTE + 30 * DAY
    assert world.turns("big", ANN)[1:] == [(False, left, "time")]


def test_what_uses_a_computed_trait_is_told_and_it_is_not_removed_while_anything_does(world):
    """By name, through other segments, and by a definition that is still to come, or to go; of signals nobody asks."""
    for key in ("spent", "often"):
        world.defined.add(key, {"event": "Bought", "measure": "count"}, START)
    world.makes("big", {"any": [{"computed": "spent", "gte": 1}, {"trait": "plan", "is": "pro"}]})
    world.makes("around", {"not": {"segment": "big"}})
    world.makes("other", {"trait": "plan", "is": "pro"})
    world.does(ANN, event="Bought")
    world.evaluates()
    assert world.desk.uses("computed.spent") == ["around", "big"]
    assert world.desk.uses("traits.plan") == ["around", "big", "other"]
    with pytest.raises(Conflict, match="the segments around, big use the computed trait spent: change or delete"):
        world.removes("spent")
    assert world.inside("big") == {world.profile(ANN)}
    # Not in force before what it looks at is filled.
    world.desk.change("big", {**BOUGHT_DELI, "count": {"gte": 1}}, None, world)
    world.desk.change("other", {"computed": "often", "gte": 1}, None, world)
    assert world.desk.uses("computed.spent") == ["around", "big"] and world.desk.uses("computed.often") == ["other"]
    world.evaluates()
    assert world.desk.uses("computed.spent") == []
    world.removes("spent")
    with pytest.raises(Conflict, match="other"):
        world.removes("often")
    world.desk.delete("other")
    world.removes("often")
    world.evaluates()
    assert world.inside("big") == set() and world.traits() == []


def test_amounts_beyond_what_json_holds_are_added_all_the_same(world):
    """A thousand million millions, twice, and one cent."""
    world.makes("rich", {**BOUGHT_DELI, "sum": {"gte": 1.5e15}, "of": "total"})
    for total in (9.9e14, 9.9e14, 0.01):
        world.does(ANN, event="Bought", department="DELI", total=total)
    world.evaluates()
    assert world.inside("rich") == {world.profile(ANN)}


def test_who_is_merged_is_in_once_and_who_is_erased_in_nothing(world):
    world.makes("abandoned", NOT_BOUGHT)
    world.does(PHONE, event="Viewed")
    world.does(ANN, event="Viewed", at=START + 1)
    world.does(BO, event="Viewed")
    world.does(BO, event="Viewed", at=START + 1)
    world.evaluates()
    world.does(ANN, PHONE, event="Logged in")
    world.moves(days=8)
    assert world.inside("abandoned") == {world.profile(ANN), world.profile(BO)}
    bo = world.profile(BO)
    world.forgets(BO)
    assert bo not in world.inside("abandoned")
    world.moves(days=60)
    assert world.inside("abandoned") == set()
    assert not [
        each
        for each in world.told_of()
        if each.subject == bo and each.type == ENTERED and each.data["at"] > START + 9 * DAY
    ]
    world.verify_segments()
