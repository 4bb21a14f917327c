"""Laws 4, 5 and 7: the consumer loop counts each event exactly once, whatever happens between its steps."""

import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.streams import TRACKING
from shared.checkpoints import MemoryCheckpoints
from shared.consumer import Consumer
from shared.errors import CheckpointMoved, Unavailable
from shared.eventlog import MemoryEventLog, NewEvent, derive_id
from shared.memory import MemoryTransactor

OUT = "profile"
STREAMS = {TRACKING: 2, OUT: 1}
PARTITIONS = range(STREAMS[TRACKING])
FAULTS = ("none", "read fails", "prepare fails", "finish fails", "commit fails", "commit is not told")


class Crash(BaseException):
    """The process is gone: nothing catches it, and what was in memory is lost."""


class World:
    """A log, a projection that counts events, and two instances that may fail or crash at any step."""

    def __init__(self):
        self.fault = "none"
        self.transactor = FaultyTransactor(self)
        self.log = FaultyLog(self, self.transactor)
        self.checkpoints = MemoryCheckpoints(self.transactor)
        self.counted: Counter[str] = Counter()
        self.poison: set[str] = set()
        self.instances = [self.instance(), self.instance()]

    def instance(self) -> Consumer:
        return Consumer(
            "counting", TRACKING, self.log, self.transactor, self.checkpoints, self.prepare, lambda: 7, biggest=8
        )

    def strike(self, step: str, error: BaseException | None = None) -> None:
        if self.fault == step:
            self.fault = "none"
            raise error or Unavailable(step)

    def prepare(self, events):
        self.strike("prepare fails")
        if bad := [each.id for each in events if each.id in self.poison]:
            raise ValueError(bad)

        def finish(within):
            for each in events:
                self.counted[each.id] += 1
                self.transactor.undo(within, lambda each=each: self.counted.subtract([each.id]))
            self.strike("finish fails")
            derived = [
                NewEvent(id=derive_id("out", e.id), type="out.v1", source="test", subject="x", time=1) for e in events
            ]
            return [(OUT, derived)]

        return finish

    def settle(self) -> None:
        self.fault = "none"
        for consumer in self.instances:
            while consumer.step(PARTITIONS).more:
                pass


class FaultyTransactor(MemoryTransactor):
    def __init__(self, world: World):
        super().__init__()
        self.world = world

    def run(self, work, seconds=10.0):
        def until_commit(within):
            result = work(within)
            self.world.strike("commit fails", Crash())
            return result

        result = super().run(until_commit, seconds)
        self.world.strike("commit is not told")
        return result


class FaultyLog(MemoryEventLog):
    def __init__(self, world: World, transactor: MemoryTransactor):
        super().__init__(transactor, streams=STREAMS)
        self.world = world

    def read(self, stream, partition, after, limit):
        self.world.strike("read fails")
        return super().read(stream, partition, after, limit)


def events_named(names):
    return [
        NewEvent(id=derive_id(n), type="tracking.track.v1", source="web", subject=f"s{n % 5}", time=1) for n in names
    ]


APPENDS = st.tuples(st.just("append"), st.lists(st.integers(0, 60), min_size=1, max_size=20))
STEPS = st.tuples(
    st.just("step"),
    st.integers(0, 1),
    st.lists(st.sampled_from(PARTITIONS), unique=True).map(sorted),
    st.sampled_from(FAULTS),
)
RESTARTS = st.tuples(st.just("restart"), st.integers(0, 1))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(APPENDS, STEPS, STEPS, RESTARTS), max_size=40), st.sets(st.integers(0, 60), max_size=4))
def test_each_event_counts_exactly_once(story, poison):
    """Two instances over the same partitions, appends with duplicates in between, failures and crashes at
    any step, instances started again: each event is counted once and gives one output, or is parked once."""
    world = World()
    world.poison = {derive_id(n) for n in poison}
    appended: set[str] = set()
    for kind, *details in story:
        if kind == "append":
            world.fault = "none"
            batch = events_named(details[0])
            world.log.append(TRACKING, batch)
            appended |= {each.id for each in batch}
        elif kind == "restart":
            world.instances[details[0]] = world.instance()
        else:
            instance, partitions, world.fault = details
            with contextlib.suppress(Unavailable, Crash):
                world.instances[instance].step(partitions)
    world.settle()
    good = appended - world.poison
    assert +world.counted == Counter(good)
    assert Counter(each.id for each in world.log.read(OUT, 0, 0, 999)) == Counter(derive_id("out", e) for e in good)
    assert Counter(each.event for each in world.checkpoints.parked()) == Counter(appended & world.poison)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, unique=True), st.data())
def test_a_parked_event_that_is_mended_counts_once(names, data):
    """Retrying a parked event handles it and takes it off the list; a second retry does nothing."""
    world = World()
    bad = data.draw(st.sets(st.sampled_from(names), min_size=1))
    world.poison = {derive_id(n) for n in bad}
    world.log.append(TRACKING, events_named(names))
    world.settle()
    world.poison = set()
    for parked in world.checkpoints.parked():
        assert world.instances[0].retry(parked)
        assert not world.instances[0].retry(parked)
    assert +world.counted == Counter(derive_id(n) for n in names)
    assert world.checkpoints.parked() == []


def test_a_parked_entry_says_where_and_nothing_of_what():
    """The error's text might quote the event, so only its type and the lines of code are kept."""
    world = World()
    world.poison = {derive_id(1)}
    world.log.append(TRACKING, events_named([1]))
    world.settle()
    [parked] = world.checkpoints.parked()
    assert parked.error == "ValueError"
    assert "prepare" in parked.where
    assert derive_id(1) not in parked.where


def test_an_outage_parks_nothing():
    """A failing dependency stops the loop before the batch; when it is back, the batch is handled."""
    world = World()
    world.log.append(TRACKING, events_named([1, 2, 3]))
    for fault in ("read fails", "prepare fails", "finish fails"):
        world.fault = fault
        with pytest.raises(Unavailable):
            world.instances[0].step(PARTITIONS)
    world.settle()
    assert world.checkpoints.parked() == []
    assert sum(world.counted.values()) == 3


def test_an_instance_that_was_overtaken_goes_on_from_the_checkpoint():
    """The slower of two instances writes nothing of the batch that the other has handled."""
    world = World()
    slow, fast = world.instances
    slow.position(0), slow.position(1)
    world.log.append(TRACKING, events_named(range(9)))
    while fast.step(PARTITIONS).more:
        pass
    assert slow.step(PARTITIONS).handled == 0
    assert slow.step(PARTITIONS) == (0, False)
    assert set(world.counted.values()) == {1}


class Foreign(Exception):
    """An error of some library that nobody has thought of."""


@pytest.mark.parametrize("error", [Foreign(), Unavailable("away"), OSError(), MemoryError()])
def test_what_is_not_the_events_fault_parks_nothing(error):
    """The batch stops, stays where it was, and is handled once the cause is gone."""
    world = World()
    world.log.append(TRACKING, events_named(range(5)))
    prepare, failing = world.prepare, [error]

    def failing_once(events):
        if failing:
            raise failing.pop()
        return prepare(events)

    world.instances[0]._prepare = failing_once
    with pytest.raises(type(error)):
        world.instances[0].step(PARTITIONS)
    world.settle()
    assert world.checkpoints.parked() == []
    assert sum(world.counted.values()) == 5


def test_a_batch_from_which_nothing_follows_moves_on():
    """Without a transaction, and without being handled again."""
    world = World()
    world.log.append(TRACKING, events_named(range(5)))
    seen = []
    world.instances[0]._prepare = seen.extend
    world.instances[0].step(PARTITIONS)
    world.settle()
    assert len(seen) == 5
    assert not world.counted


class Watch:
    """A clock that the work moves on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("shared.consumer.time", self)

    def monotonic(self):
        return self.now


def sizes_of_batches(monkeypatch, cost, events=400):
    """In the order of the batches, of what costs so many seconds."""
    world, watch, sizes = World(), Watch(monkeypatch), []
    for number in range(events):
        world.log.append(TRACKING, [NewEvent(id=f"e{number}", type="t.v1", source="web", subject="s", time=1)])

    def prepare(events):
        sizes.append(len(events))
        watch.now += cost(len(events))

    consumer = Consumer(
        "slow", TRACKING, world.log, world.transactor, world.checkpoints, prepare, lambda: 7, biggest=64
    )
    while consumer.step(PARTITIONS).more:
        pass
    return sizes


def test_batches_get_smaller_where_events_take_long(monkeypatch):
    """So that heartbeats get their turn."""
    assert min(sizes_of_batches(monkeypatch, lambda events: events * 0.1)) < 10


def test_batches_stay_large_where_smaller_ones_are_no_quicker(monkeypatch):
    """A long history that is read again a batch costs the same for one event as for many."""
    sizes = sizes_of_batches(monkeypatch, lambda events: 8.0)
    assert min(sizes[:-1]) >= 16 and len(sizes) < 20


def test_what_does_not_get_through_is_tried_with_fewer_events():
    """A transaction that is too long for its deadline, say."""
    world = World()
    world.log.append(TRACKING, events_named(range(60)))
    prepare = world.prepare

    def bounded(events):
        if len(events) > 2:
            raise Unavailable("too long")
        return prepare(events)

    world.instances[0]._prepare = bounded
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            world.instances[0].step(PARTITIONS)
    assert sum(world.counted.values()) > 0
    world.instances[0]._prepare = prepare
    world.settle()
    assert set(world.counted.values()) == {1}


def test_a_retry_that_was_overtaken_is_prepared_again():
    """A few times; then it may be tried again later, and the event is still parked."""
    world = World()
    world.poison = {derive_id(1)}
    world.log.append(TRACKING, events_named([1]))
    world.settle()
    [parked] = world.checkpoints.parked()
    world.poison = set()
    prepare, overtaken = world.prepare, [3]

    def late(events):
        finish = prepare(events)

        def overtaken_first(within):
            if overtaken[0]:
                overtaken[0] -= 1
                raise CheckpointMoved("somebody else was faster")
            return finish(within)

        return overtaken_first

    world.instances[0]._prepare = late
    assert world.instances[0].retry(parked)
    assert world.counted[derive_id(1)] == 1 and not world.checkpoints.parked()
