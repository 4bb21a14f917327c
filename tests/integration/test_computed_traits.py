"""Computed traits, and whom to believe, on a real MongoDB: filled while events stream in, by several instances."""

import random
import threading
import time

import orjson
import pytest

from contracts.identity import SHARED
from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED, EVERYTHING, signal_id
from contracts.streams import IDENTITY, PROFILE, TRACKING
from contracts.tracking import CORRECTED
from services.profile import filling, store
from services.profile.domain.computed import MEASURES
from services.profile.filling import Filling
from services.profile.folding import STATES, Folding
from services.profile.policy import TELL_SECONDS, PolicyStore, Telling
from services.profile.reading import Reading
from services.profile.store import ProfileStore
from services.profile.takeover import SUBSCRIPTIONS, Beside
from services.profile.traits import MOST_TRAITS, TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.consumer import Consumer
from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError, Unavailable
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY, Keyring, Sealing
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.transaction import Again
from tests.integration.identity_world import World
from tests.integration.test_rebuilding import take_over, tools_of

ANN, BO, TABLET, ANNS, BOS = (
    ("user", "ann"), ("user", "bo"), ("anonymous", "tablet"), ("email", "ann@x.se"), ("email", "bo@x.se"),
)  # fmt: skip
DAY = 86_400_000
NOW = Clock().now_ms()
DEFINITIONS = {
    f"{measure}-{within or 'ever'}".replace("_", "-"): {
        "event": "E",
        "measure": measure,
        **({} if measure == "count" else {"value": "v"}),
        **({"within": within} if within else {}),
    }
    for measure in MEASURES
    for within in ("", "1d", "30d")
}


class Instance:
    """Profile's parts of a process of its own."""

    def __init__(self, world):
        self.client = connect(world.url)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, world.keyring_name), b"m" * 32)
        log = MongoEventLog(self.client, world.log_name, self.transactor, self.keyring.fenced)
        db = self.client[world.profiles.name]
        marks = MongoCheckpoints(db)
        self.states = ProfileStore(db, self.keyring)
        self.traits = TraitStore(db, self.transactor)
        self.traits.refresh()
        self.folding = Folding(self.states, log, self.keyring, marks, self.traits)
        self.filling = Filling(self.states, self.traits, self.folding, self.transactor, marks)
        self.reading = Reading(self.states, log, self.keyring, self.traits, Clock())
        feeds = {STATES: (TRACKING, self.folding.fold), "profile.people": (IDENTITY, self.folding.follow)}
        self.consumers = {
            stream: Consumer(name, stream, log, self.transactor, marks, prepare, world.now)
            for name, (stream, prepare) in feeds.items()
        }
        self.log = log

    def follow(self):
        for stream, consumer in self.consumers.items():
            while consumer.step(range(self.log.partitions(stream))).more:
                pass


class Filled(World):
    """With computed traits."""

    def __init__(self, mongodb_url, prefix):
        super().__init__(mongodb_url, prefix)
        self.url, self.log_name = mongodb_url, f"{prefix}_log"
        self.instances = []
        self.me = self.instance()

    def instance(self):
        made = Instance(self)
        self.instances.append(made)
        return made

    def does(self, *identifiers, value=1, at=NOW, corrects=None, traits=None, source="web", party="first"):
        """An event in the log with a value, or a correction of one; its id."""
        self.time += 1_000
        subject = self.subject(identifiers[0], create=True)
        body = {
            "type": "identify" if traits else "track", "time": at, "party": party, "source_name": source,
            "identifiers": [list(each) for each in identifiers], "traits": traits or {},
            **({} if traits else {"event": "E", "properties": {"v": value}}),
        }  # fmt: skip
        identity = derive_id("event", self.time)
        [sealed] = self.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
        new = NewEvent(
            id=identity, type=CORRECTED if corrects else "tracking.track.v1", source="web", subject=subject,
            time=self.time, sealed={ORDINARY: sealed},
            data={"corrects": corrects, "number": self.time, "cleaning": 1} if corrects else {},
        )  # fmt: skip
        self.log.append(TRACKING, [new])
        return identity

    def fill(self):
        while self.me.filling.step():
            pass

    def computed(self):
        """Profile -> what is computed of it."""
        return {
            profile: self.me.reading.facts([profile])[profile]["facts"]["computed"] for profile in self.store.groups()
        }

    def erases(self, identifier):
        """Everybody hears of it, from the first to the last."""
        request = self.fences(self.profile(identifier))
        for kind in (SUBJECTS_ERASED, ERASURE_COMPLETED):
            self.tells(kind, request)
            self.forgets()


@pytest.fixture
def world(mongodb_url, prefix):
    made = Filled(mongodb_url, prefix)
    yield made
    for each in made.instances:
        each.client.close()
    made.client.close()


def value(world, identifier, key):
    return world.computed()[world.profile(identifier)][key][0]


@pytest.mark.parametrize("seed", range(3))
def test_a_trait_defined_while_events_stream_in_equals_one_that_was_there_from_the_start(world, seed):
    """Late, early and corrected events, merges, splits, a shared device, an erasure; two instances that consume and
    fill side by side, which have not heard of the new ones. And a rebuild gives the same."""
    chance = random.Random(seed)
    for key, definition in DEFINITIONS.items():
        world.me.traits.add(f"early-{key}", definition, 1)
    world.fill()
    others = [world.instance(), world.instance()]
    stopping, failures = threading.Event(), []

    def works(instance):
        try:
            while not stopping.is_set():
                instance.follow()
                instance.filling.step()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=works, args=(each,)) for each in others]
    for each in threads:
        each.start()
    try:
        pairs = [(ANN,), (BO,), (ANN, ANNS), (BO, BOS), (TABLET, ANN), (TABLET, BO), (TABLET,), (("anonymous", "p1"),)]
        sent = []
        for number in range(240):
            who = chance.choice(pairs)
            amount = chance.choice([chance.randrange(-5, 50), 2.5, "x", "7.25", True])
            sent.append((who, world.does(*who, value=amount, at=NOW - chance.randrange(40 * DAY))))
            if number % 7 == 0:
                whose, event = chance.choice(sent)
                world.does(*whose, value=chance.randrange(100), at=NOW - chance.randrange(40 * DAY), corrects=event)
            if number % 3 == 0:
                world.settle()
            if number == 80:
                for key, definition in DEFINITIONS.items():
                    world.me.traits.add(f"late-{key}", definition, 1)
            if number == 120:
                world.does(("crm", "c"), ANNS, BOS)
            if number == 150:
                world.settle()
                world.regrouping.split_identifier(world.profile(BOS), world.subject(BOS))
            if number == 200:
                world.does(("user", "cia"), ("email", "cia@x.se"))
                world.settle()
                world.erases(("user", "cia"))
    finally:
        stopping.set()
        for each in threads:
            each.join(60)
    assert not failures
    world.settle()
    world.me.follow()
    world.fill()
    assert all(row["filled"] for row in world.me.traits.rows())
    people = world.computed()
    assert len(people) >= 3
    for told in people.values():
        assert told and all(told[f"late-{key}"] == told[f"early-{key}"] for key in DEFINITIONS)
    world.verify_profiles()


def test_nothing_is_folded_without_a_trait_once_it_is_defined(world):
    """A batch that was prepared by an instance before it was defined cannot commit any more: new people come with it,
    and what is filled stays filled."""
    world.happens(ANN)
    stale = world.instance()
    stale.follow()
    world.sent(BO)
    bos = [each for p in range(8) for each in world.log.read(TRACKING, p, 0, 99) if each.subject == world.subject(BO)]
    prepared = stale.folding.fold(bos)
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    world.fill()
    with pytest.raises(CheckpointMoved):
        stale.transactor.run(prepared)
    stale.follow()
    world.settle()
    stale.follow()
    assert world.states.lacking(1, 9) == []
    assert value(world, BO, "often") == 1


def test_a_trait_is_not_filled_while_a_batch_is_under_way_that_lacks_it(world):
    """Though that one's snapshot is from before, and it has looked at the definitions already."""
    world.sent(ANN)
    stale = world.instance()
    fold, threads = stale.folding.fold, []

    def defines():
        world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
        world.fill()

    def slow(events):
        finish = fold(events)

        def whole(within):
            outputs = finish(within)
            if not threads:
                threads.append(threading.Thread(target=defines))
                threads[0].start()
                # It cannot end before this transaction has.
                threads[0].join(2)
            return outputs

        return whole

    stale.consumers[TRACKING]._prepare = slow
    stale.follow()
    threads[0].join(30)
    assert world.me.filling.rows()[0]["filled"] and world.states.lacking(1, 9) == []
    world.settle()
    stale.follow()
    assert value(world, ANN, "often") == 1


def test_states_by_an_older_fold_lack_every_trait(world):
    """They are folded again before a trait is told to be filled."""
    world.happens(ANN)
    world.follow()
    world.states.states.update_one({"_id": world.subject(ANN)}, {"$set": {"v": 2}, "$unset": {"d": ""}})
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    assert world.me.filling.rows()[0]["left"] == 1
    world.fill()
    assert value(world, ANN, "often") == 1


def test_who_is_being_erased_holds_up_nobody(world):
    """Their states cannot be read any more, and are still there."""
    for who in (ANN, BO):
        world.happens(who)
    world.follow()
    world.fences(world.profile(ANN))
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    for _ in range(5):
        world.me.filling.step()
    assert world.me.filling.rows()[0]["filled"]
    assert value(world, BO, "often") == 1


def test_who_is_erased_in_the_midst_of_a_step_holds_up_nobody(world, monkeypatch):
    """Between the look at the fences and the sealing."""
    for who in (ANN, BO):
        world.happens(who)
    world.follow()
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    ann, prints, done = world.subject(ANN), world.me.states.prints, []

    def erased(subjects, within=None):
        if within is not None and not done:
            done.append(world.fences(world.profile(ANN)))
            world.keyring.destroy([ann])
            world.me.keyring.evict([ann])
        return prints(subjects, within)

    monkeypatch.setattr(world.me.states, "prints", erased)
    world.fill()
    assert done and value(world, BO, "often") == 1


def test_who_would_be_too_large_with_it_goes_without_and_holds_up_nobody(world, monkeypatch):
    """Later events of theirs are handled as before."""
    for who in (ANN, BO):
        world.does(who, value="x" * 150)
    for number in range(30):
        world.does(ANN, value=f"{number}" + "x" * 150)
    world.settle()
    world.follow()
    largest = max(len(orjson.dumps(each.states)) for each in world.states.load([world.subject(ANN)]).values())
    monkeypatch.setattr(store, "BIGGEST_STATE", largest + 600)
    world.me.traits.add("different", {"event": "E", "measure": "distinct", "value": "v"}, 1)
    for _ in range(10):
        world.me.filling.step()
    assert world.me.filling.rows()[0]["filled"]
    assert value(world, BO, "different") == 1
    world.me.traits.add("different-too", {"event": "E", "measure": "distinct", "value": "v"}, 1)
    assert world.me.filling.rows()[1]["left"] == 2
    for _ in range(10):
        world.me.filling.step()
    assert world.me.filling.rows()[1]["filled"]
    world.does(ANN, value="more")
    world.follow()
    assert world.states.load([world.subject(ANN)])[world.subject(ANN)].states[ORDINARY]["events"]["E"][0] == 32
    assert not world.marks.parked()


def bound(world, monkeypatch, who, more=600):
    """A state may be by so much larger than this one's is."""
    held = world.states.load([world.subject(who)])[world.subject(who)].states
    monkeypatch.setattr(store, "BIGGEST_STATE", len(orjson.dumps(held)) + more)


def goes_without(world, monkeypatch, who=ANN):
    """Somebody whose state would be too large with a trait; it is filled."""
    for number in range(30):
        world.does(who, value=f"{number}" + "x" * 150)
    world.settle()
    world.follow()
    bound(world, monkeypatch, who)
    world.me.traits.add("different", {"event": "E", "measure": "distinct", "value": "v"}, 1)
    world.me.traits.watch("someone", {SIGNAL: {"event": "E", "measure": "count"}}, 1)
    for _ in range(10):
        world.me.filling.step()
    assert all(row["filled"] for row in world.me.traits.rows(None))


SIGNAL = signal_id({"event": "E", "measure": "count"})


def shown(world, who):
    return world.me.reading.show(world.profile(who))["computed"]["different"]


def test_who_goes_without_is_shown_as_too_large_and_not_as_nothing(world, monkeypatch):
    """Nor are signals none."""
    world.does(BO)
    goes_without(world, monkeypatch)
    assert shown(world, ANN) == {"value": None, "too_large": True} and shown(world, BO) == {"value": 1}
    for who, signal in ((ANN, None), (BO, {"0": 1})):
        facts = world.me.reading.facts([world.profile(who)], [SIGNAL])[world.profile(who)]["facts"]
        assert facts["signals"] == {SIGNAL: signal}
    assert value(world, ANN, "different") is None
    world.does(ANN, value="more")
    world.follow()
    assert shown(world, ANN) == {"value": None, "too_large": True}


def test_who_goes_without_is_rebuilt_as_live(world, monkeypatch):
    """And with what happened since, which adds nothing that is computed."""
    goes_without(world, monkeypatch)
    world.verify_profiles()
    world.does(ANN, value="more")
    world.follow()
    assert not any(each["computed"] for each in states_of(world, ANN))
    world.verify_profiles()
    take_over(tools_of(world)).run()
    assert not any(each["computed"] for each in states_of(world, ANN))
    assert shown(world, ANN) == {"value": None, "too_large": True}


def test_whose_traits_go_for_a_new_one_is_told_as_changed_and_nobody_else(world, monkeypatch):
    """Else a segment by a trait that was known would go by it for ever."""
    world.does(BO)
    for number in range(30):
        world.does(ANN, value=f"{number}" + "x" * 150)
    world.settle()
    world.follow()
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    world.fill()
    assert value(world, ANN, "often") == 30
    bound(world, monkeypatch, ANN)
    before = len(told_of(world))
    for key in ("different", "different-too"):
        world.me.traits.add(key, {"event": "E", "measure": "distinct", "value": "v"}, 1)
        world.fill()
    assert value(world, ANN, "often") is None
    assert told_of(world)[before:] == [(world.profile(ANN), [EVERYTHING])]
    monkeypatch.undo()
    world.me.traits.add("more", {"event": "E", "measure": "count"}, 1)
    world.fill()
    assert value(world, ANN, "often") == 30
    assert told_of(world)[before:] == [(world.profile(ANN), [EVERYTHING])] * 2


def told_of(world):
    """(profile, names) of what profile has told in one partition after the other."""
    events = [
        each
        for partition in range(world.log.partitions(PROFILE))
        for each in world.log.read(PROFILE, partition, 0, 1_000)
        if each.type == CHANGED
    ]
    events.sort(key=lambda each: each.time)
    return [
        (each.subject, body["names"]) for each, body in zip(events, open_events(world.keyring, events), strict=True)
    ]


def states_of(world, who):
    return world.states.load([world.subject(who)])[world.subject(who)].states.values()


def test_what_is_corrected_of_who_goes_without_is_handled(world, monkeypatch):
    """Where it makes the state small enough, the traits are there again."""
    goes_without(world, monkeypatch)
    event = world.does(ANN, value="new")
    world.follow()
    world.does(ANN, value="short", corrects=event)
    world.follow()
    assert not world.marks.parked() and shown(world, ANN)["too_large"]
    monkeypatch.undo()
    world.does(ANN, value="shorter", corrects=event)
    world.follow()
    assert shown(world, ANN) == {"value": 31}


def test_a_device_that_goes_without_is_shared_all_the_same(world, monkeypatch):
    """What identity decides of it is followed; and who is erased of those who use it is."""
    world.does(ANN, TABLET)
    goes_without(world, monkeypatch, TABLET)
    world.does(BO, TABLET, at=NOW + 1)
    world.settle()
    world.follow()
    assert not world.marks.parked() and any(each.type == SHARED for each in world.facts())
    world.verify_profiles()
    world.does(TABLET, BO, at=NOW + 1)
    world.settle()
    world.follow()
    assert world.states.given.count_documents({}) > 0
    world.erases(BO)
    assert not world.marks.parked() and world.states.given.count_documents({}) == 0
    world.verify_profiles()


def test_what_would_make_a_state_too_large_only_by_its_traits_is_handled_without_them(world, monkeypatch):
    """It is told that everything has changed; and it is as it is rebuilt."""
    world.me.traits.add("different", {"event": "E", "measure": "distinct", "value": "v"}, 1)
    world.does(ANN, value="a")
    world.settle()
    world.follow()
    world.fill()
    bound(world, monkeypatch, ANN)
    for number in range(5):
        world.does(ANN, value=f"{number}" + "x" * 150)
        world.follow()
    assert not world.marks.parked() and shown(world, ANN) == {"value": None, "too_large": True}
    [state] = states_of(world, ANN)
    assert state["events"]["E"][0] == 6
    world.verify_profiles()
    monkeypatch.setattr(store, "BIGGEST_STATE", 100)
    world.does(ANN, value=1)
    world.follow()
    assert len(world.marks.parked()) == 1, "too large without them, too"


def test_a_trait_that_is_defined_while_a_rebuild_fills_does_not_end_it(world):
    """It looks again."""
    world.does(ANN)
    world.settle()
    world.follow()
    tools = tools_of(world)
    beside = Beside(tools, "_rebuilt_x")
    beside.setup()
    beside.advance({place: at for place, at in world.marks.all().items() if place.subscription in SUBSCRIPTIONS})
    world.me.traits.add("one", {"event": "E", "measure": "count"}, 1)
    inner = beside._folding.again

    def busy(subjects):
        made = inner(subjects)
        if len(world.me.traits.rows()) == 1:
            world.me.traits.add("two", {"event": "E", "measure": "count"}, 1)
        return made

    beside._folding.again = busy
    assert beside.fill() == 1 and beside.store.lacking(2, 9) == []


def test_a_long_history_is_filled_though_something_happens_to_it_all_the_time(world, monkeypatch):
    """What happens while it is folded again is added; it is not begun anew each time."""
    for number in range(30):
        world.does(ANN, value=number)
    world.settle()
    world.follow()
    world.me.traits.add("sum", {"event": "E", "measure": "sum", "value": "v"}, 1)
    again, folds = world.me.folding.again, []

    def busy(subjects, enough):
        made = again(subjects, enough)
        folds.append(subjects)
        world.does(ANN, value=100)
        world.follow()
        return made

    monkeypatch.setattr(world.me.folding, "again", busy)
    world.me.filling.step()
    assert len(folds) == 1 and world.states.lacking(1, 9) == []
    world.fill()
    assert value(world, ANN, "sum") == sum(range(30)) + 100


def test_a_step_is_bounded_by_events(world, monkeypatch):
    """Nobody waits for fifty long histories."""
    monkeypatch.setattr(filling, "MOST_EVENTS", 5)
    for who in ("a", "b", "c"):
        for _ in range(4):
            world.does(("user", who))
    world.settle()
    world.follow()
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    lefts = []
    while world.me.filling.step():
        lefts.append(world.me.filling.rows()[0]["left"])
    assert lefts == [1, 0]


def test_progress_is_honest_and_a_trait_is_shown_once_it_is_filled(world):
    """`left` of `of` are those with states; nobody reads half of it."""
    for who in ("a", "b", "c"):
        world.happens(("user", who))
    world.follow()
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)
    [row] = world.me.filling.rows()
    assert (row["left"], row["of"], row["filled"]) == (3, 3, False)
    assert set(map(len, world.computed().values())) == {0}
    world.fill()
    [row] = world.me.filling.rows()
    assert (row["left"], row["of"], row["filled"]) == (0, 0, True)
    assert all(told["often"] == [1, None] for told in world.computed().values())


def nobody(name):
    """No segment uses it."""
    return []


def test_a_trait_that_a_segment_uses_or_may_use_stays(world):
    """Where segments do not say whether they do, it stays too, and one that there is not is not asked for."""
    world.me.traits.add("it", {"event": "E", "measure": "count"}, 1)
    asked = []

    def big(name):
        asked.append(name)
        return ["big", "rich"]

    def silent(name):
        raise Unavailable("segmentation does not answer")

    with pytest.raises(Conflict, match="the segments big, rich use the computed trait it"):
        world.me.traits.remove("it", big)
    with pytest.raises(Unavailable, match="segmentation"):
        world.me.traits.remove("it", silent)
    with pytest.raises(NotFound, match="no computed trait them"):
        world.me.traits.remove("them", big)
    assert asked == ["computed.it"] and [row["key"] for row in world.me.traits.rows()] == ["it"]
    world.me.traits.remove("it", nobody)
    assert world.me.traits.rows() == []


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"measure": "last", "value": "deep.diagnosis"}, "trait.value: deep.diagnosis"),
        ({"measure": "last", "value": "bloodType.rh"}, "trait.value: bloodType.rh"),
        ({"where": [{"property": "page", "is": 1}, {"property": "a.Religion.b", "is": 1}]}, r"trait.where\[1\]: a.Rel"),
    ],
)
def test_nothing_is_computed_of_a_path_that_names_a_special_category(world, more, place):
    """Any part of it, however it is spelt; the part and the law are told."""
    with pytest.raises(SamlaError, match=f"{place}.* tells of .*GDPR Art. 9"):
        world.me.traits.add("it", {"event": "E", "measure": "count", **more}, 1)
    world.me.traits.add("it", {"event": "E", "measure": "last", "value": "deep.diagnosed_by"}, 1)


def test_removing_a_trait_and_defining_another_by_its_name(world):
    """The new one has nothing of the old one's."""
    world.does(ANN, value=5)
    world.settle()
    world.follow()
    world.me.traits.add("it", {"event": "E", "measure": "count"}, 1)
    world.fill()
    world.me.traits.remove("it", nobody)
    assert world.computed()[world.profile(ANN)] == {}
    with pytest.raises(NotFound, match="no computed trait it"):
        world.me.traits.remove("it", nobody)
    world.verify_profiles()
    world.me.traits.add("it", {"event": "E", "measure": "sum", "value": "v"}, 1)
    world.fill()
    assert value(world, ANN, "it") == 5
    world.verify_profiles()


def test_none_is_defined_while_states_are_rebuilt(world):
    """The rebuilt ones would lack it."""
    world.marks.hold()
    with pytest.raises(Unavailable, match="rebuild"):
        world.me.traits.add("it", {"event": "E", "measure": "count"}, 1)
    world.marks.release()
    world.me.traits.add("it", {"event": "E", "measure": "count"}, 1)


def test_a_hundred_traits_and_not_one_more(world):
    """All are filled in one go."""
    world.does(ANN, value=5)
    world.settle()
    world.follow()
    for number in range(MOST_TRAITS):
        world.me.traits.add(f"t{number}", {"event": "E", "measure": "sum", "value": "v"}, 1)
    with pytest.raises(SamlaError, match="the most"):
        world.me.traits.add("more", {"event": "E", "measure": "count"}, 1)
    with pytest.raises(Conflict, match="already"):
        world.me.traits.add("t1", {"event": "E", "measure": "count"}, 1)
    world.fill()
    assert set(map(tuple, world.computed()[world.profile(ANN)].values())) == {(5, None)}
    world.verify_profiles()


def test_definitions_at_the_same_time_each_have_a_version(world):
    """Of two with one key, one is refused."""
    refused = []

    def defines(instance, key):
        try:
            instance.traits.add(key, {"event": "E", "measure": "count"}, 1)
        except SamlaError as error:
            refused.append(str(error))

    keys = ["a", "b", "c", "c"]
    threads = [threading.Thread(target=defines, args=(world.instance(), key)) for key in keys]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    rows = world.me.traits.rows()
    assert sorted(row["key"] for row in rows) == ["a", "b", "c"] and len({row["since"] for row in rows}) == 3
    assert refused == ["there is a computed trait c already"]


def test_what_is_cut_off_while_it_is_filled_goes_on(world, monkeypatch):
    """Between any two writes of a step: nothing of it is there, and nothing is lost."""
    for who in ("a", "b", "c"):
        world.happens(("user", who))
    world.follow()
    world.me.traits.add("often", {"event": "E", "measure": "count"}, 1)

    class Killed(BaseException):
        pass

    for name in ("save", "settle", "drop_slots", "let_be"):
        cut = world.instance()

        def dies(*_, **__):
            raise Killed

        monkeypatch.setattr(cut.states, name, dies)
        with pytest.raises(Killed):
            cut.filling.step()
        assert world.me.filling.rows()[0]["left"] == 3
    world.fill()
    assert all(told["often"] == [1, None] for told in world.computed().values())
    world.verify_profiles()


def test_events_given_to_somebody_count_once_though_the_transaction_is_tried_again(world):
    """Of a shared device, two at once."""
    world.happens(ANN, TABLET)
    world.happens(BO, TABLET)
    world.follow()
    for _ in range(2):
        world.does(TABLET, BO)
    world.settle()
    world.follow(STATES)
    facts = [each for each in world.facts() if each.position > world.followers["profile.people"].position(0)]
    finish = world.me.folding.follow(facts)

    def twice(within):
        made = finish(within)
        if within.attempt == 1:
            raise Again
        return made

    world.me.transactor.run(twice)
    events = [
        state["events"]["E"]
        for each in world.states.load(
            [doc["_id"] for doc in world.states.states.find({"of": world.subject(TABLET)})]
        ).values()
        for state in each.states.values()
    ]
    assert events and all(sum(minutes.values()) == count for count, _, _, minutes, *_ in events)


# Whom to believe


class Believed:
    """A policy, told in its own time."""

    def __init__(self, world):
        instance = world.instance()
        db = instance.client[world.profiles.name]
        self.policies = PolicyStore(db, instance.transactor)
        self.policies.setup()
        self.now = 0.0
        self.telling = Telling(
            self.policies, instance.states, instance.log, instance.keyring, instance.transactor,
            MongoCheckpoints(db), Clock(), lambda: self.now,
        )  # fmt: skip

    def tell(self):
        while self.telling.step():
            pass
        self.now += TELL_SECONDS
        while self.telling.step():
            pass


def told_names(world, before):
    """Profile -> the names that were told of it, but for the events before."""
    events = [each for each in world.told(CHANGED) if each.id not in before]
    return {
        event.subject: body["names"] for event, body in zip(events, open_events(world.keyring, events), strict=True)
    }


def test_a_policy_tells_of_those_of_whom_something_else_is_believed_and_of_nobody_else(world):
    """Once each, with the traits' names."""
    for who, said in ((ANN, {"plan": "pro"}), (BO, {"plan": "free"}), (("user", "cia"), {"city": "Umea"})):
        world.does(who, traits=said, source="web")
    world.does(ANN, traits={"plan": "gold"}, source="crm", at=NOW - DAY)
    world.does(BO, traits={"plan": "free"}, source="crm", at=NOW - DAY)
    world.settle()
    world.follow()
    before = {each.id for each in world.told(CHANGED)}
    believed = Believed(world)
    reading = Reading(world.states, world.log, world.keyring, world.traits, Clock(), believed.policies)
    ann = world.profile(ANN)
    assert reading.facts([ann])[ann]["facts"]["traits"]["plan"][2] == "pro"
    shown = believed.policies.set({"rank": ["source:crm", "first"]}, 5)
    assert (shown["version"], shown["versions"][0]["told"]) == (1, False)
    assert reading.facts([ann])[ann]["facts"]["traits"]["plan"][2] == "gold"
    assert [each["value"] for each in reading.show(ann)["descriptive"]["plan"]["others"]] == ["pro"]
    assert told_names(world, before) == {}
    believed.tell()
    assert told_names(world, before) == {ann: ["traits.plan"]}
    [version] = believed.policies.shown()["versions"]
    assert (version["told"], version["looked"], version["changed"]) == (True, 3, 1)
    believed.policies.set({"rank": ["source:crm", "first"]}, 6)
    assert believed.policies.shown()["version"] == 1


def test_other_instances_read_by_a_new_policy_within_a_second(world):
    """And nothing is told before."""
    one, other = Believed(world), Believed(world)
    assert other.policies.current().document["rank"][0] == "first"
    one.policies.set({"rank": ["third"]}, 1)
    deadline = time.monotonic() + 1
    while other.policies.current().document["rank"] != ["third"]:
        assert time.monotonic() < deadline
    one.policies.set({"rank": ["second"]}, 1)
    assert not one.telling.step() and one.policies.shown()["versions"][1]["told"] is False


def test_telling_goes_on_where_it_was_cut_off_and_tells_nobody_twice(world, monkeypatch):
    """Two instances, a page of one each, and a policy that comes while the one before it is told."""
    monkeypatch.setattr("services.profile.policy.PAGE", 1)
    whose = [("user", f"u{number}") for number in range(4)]
    for who in whose:
        world.does(who, traits={"plan": "a"}, source="web")
        world.does(who, traits={"plan": "b"}, source="crm", at=NOW - DAY)
    world.settle()
    world.follow()
    before = {each.id for each in world.told(CHANGED)}
    one, other = Believed(world), Believed(world)
    one.policies.set({"rank": ["source:crm"]}, 1)
    for each in (one, other):
        each.telling.step()
        each.now += TELL_SECONDS
    one.telling.step()
    other.telling.step()
    one.policies.set({"rank": ["source:web"]}, 2)
    other.tell()
    told = [each.subject for each in world.told(CHANGED) if each.id not in before]
    assert sorted(told) == sorted([world.profile(who) for who in whose] * 2)
    assert [each["changed"] for each in one.policies.shown()["versions"]] == [4, 4]
