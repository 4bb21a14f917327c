"""What every event log promises (shared.eventlog.log), on the in-memory twin and on MongoDB."""

import threading
import time

import pytest

from contracts.streams import STREAMS
from shared.errors import SamlaError, SubjectsFenced
from shared.eventlog import MemoryEventLog, MongoEventLog, NewEvent, derive_id, partition_of
from shared.memory import MemoryTransactor
from shared.mongo import MongoTransactor, connect

STREAM = "tracking"


def event(identity: str, subject: str = "s1", **fields) -> NewEvent:
    return NewEvent(id=derive_id(identity), type="tracking.track.v1", source="web", subject=subject, time=1, **fields)


class World:
    """A log, its transactor, the nudges it gave and the subjects that are fenced."""

    def __init__(self, kind: str, mongodb_url: str, prefix: str):
        self.nudges = []
        self.fences = set()
        note = lambda *place: self.nudges.append(place)  # noqa: E731
        fenced = lambda subjects, within: self.fences & set(subjects)  # noqa: E731
        if kind == "memory":
            self.transactor = MemoryTransactor(note)
            self.log = MemoryEventLog(self.transactor, fenced)
        else:
            self.client = connect(mongodb_url)
            self.transactor = MongoTransactor(self.client, note)
            self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, fenced)
        self.log.setup()

    def everything(self) -> list:
        return [each for partition in range(STREAMS[STREAM]) for each in self.log.read(STREAM, partition, 0, 10_000)]


@pytest.fixture(params=["memory", "mongodb"])
def world(request, mongodb_url, prefix):
    return World(request.param, mongodb_url, prefix)


def test_positions_count_from_one_without_holes(world):
    """Given an empty partition, when events are appended, then they stand at 1, 2, 3."""
    places = world.log.append(STREAM, [event(str(n)) for n in range(3)])
    assert [place.position for place in places] == [1, 2, 3]
    assert world.log.heads(STREAM)[places[0].partition] == 3


def test_what_is_read_is_what_was_appended(world):
    """Every field comes back as it went in."""
    new = event(
        "a",
        data={"profile": "p"},
        sealed={"ordinary": b"\x00\xff"},
        causes={"tracking:1": 2**40},
        correlation="c" * 32,
    )
    [place] = world.log.append(STREAM, [new])
    [read] = world.log.read(STREAM, place.partition, 0, 10)
    assert {name: getattr(read, name) for name in NewEvent.__struct_fields__} == {
        name: getattr(new, name) for name in NewEvent.__struct_fields__
    }
    assert (read.stream, read.partition, read.position) == (STREAM, place.partition, 1)


def test_an_event_lies_in_the_partition_of_its_subject(world):
    """All events of one subject lie in one partition, whatever batch they came in."""
    for n in range(4):
        world.log.append(STREAM, [event(f"{n}-{s}", f"subject{s}") for s in range(20)])
    for each in world.everything():
        assert each.partition == partition_of(each.subject, STREAMS[STREAM])
        assert len(world.log.read_subject(STREAM, each.subject)) == 4


def test_a_duplicate_gives_the_first_position_back(world):
    """The same id again, in a later batch or in the same one, is not appended and says where it stands."""
    [first] = world.log.append(STREAM, [event("a")])
    again = world.log.append(STREAM, [event("b"), event("a"), event("b")])
    assert [(p.position, p.duplicate) for p in again] == [(2, False), (first.position, True), (2, True)]
    assert len(world.everything()) == 2


def test_events_are_found_by_their_ids(world):
    """Wherever they lie; those that are not there are left out."""
    world.log.append(STREAM, [event(f"e{n}", f"subject{n}") for n in range(20)])
    found = world.log.find(STREAM, [derive_id("e3"), derive_id("e17"), derive_id("nothing")])
    assert {name: each.subject for name, each in found.items()} == {
        derive_id("e3"): "subject3", derive_id("e17"): "subject17",
    }  # fmt: skip
    assert world.log.find(STREAM, []) == {} and world.log.find("identity", [derive_id("e3")]) == {}


def test_the_same_id_for_two_subjects_is_two_events(world):
    """Duplicates are found within a partition, where an id belongs to one subject."""
    subjects = ["s1", next(s for s in map(str, range(99)) if partition_of(s, 8) != partition_of("s1", 8))]
    places = world.log.append(STREAM, [event("a", subject) for subject in subjects])
    assert [place.duplicate for place in places] == [False, False]


def test_reading_pages_behind_a_position(world):
    """`after` and `limit` page through a partition and a subject."""
    world.log.append(STREAM, [event(str(n)) for n in range(5)])
    partition = partition_of("s1", 8)
    assert [e.position for e in world.log.read(STREAM, partition, 2, 2)] == [3, 4]
    assert [e.position for e in world.log.read_subject(STREAM, "s1", 3, 9)] == [4, 5]
    assert world.log.read(STREAM, partition, 5, 10) == []


@pytest.mark.parametrize("limit", [3, 40, 500])
def test_reading_behind_several_partitions_shares_the_room_and_skips_nothing(world, limit):
    """One long partition does not starve the others; reading on from what was seen gives every event once."""
    long = [event(f"long-{number}", "s1") for number in range(150)]
    world.log.append(STREAM, [*long, *(event(f"e-{number}", f"s{number}") for number in range(2, 30))])
    after, seen = dict.fromkeys(range(8), 0), []
    while found := world.log.read_behind(STREAM, after, limit):
        assert [(each.partition, each.position) for each in found] == sorted((e.partition, e.position) for e in found)
        for each in found:
            assert each.position == after[each.partition] + 1
            after[each.partition] = each.position
        if not seen and limit > 8:
            assert len({each.partition for each in found}) > 1
        seen += [each.id for each in found]
    assert len(seen) == len(set(seen)) == 178


def test_within_a_transaction_a_repeated_append_is_found_by_the_index(world):
    """A consumer's output is not looked for first; should it be there already, it is not appended twice."""
    [first] = world.log.append(STREAM, [event("a")])
    places = world.transactor.run(lambda within: world.log.append(STREAM, [event("a"), event("b")], within))
    assert places[0].position == first.position and places[0].duplicate
    assert [each.id for each in world.everything()] == [derive_id("a"), derive_id("b")]


def test_a_batch_is_appended_whole_or_not_at_all(world):
    """A fenced subject in a batch refuses the batch; nothing of it stands in the log."""
    world.fences.add("gone")
    with pytest.raises(SubjectsFenced) as refused:
        world.log.append(STREAM, [event("a"), event("b", "gone")])
    assert refused.value.subjects == {"gone"}
    assert world.everything() == []
    assert set(world.log.heads(STREAM).values()) == {0}


def test_within_a_transaction_that_fails_nothing_is_appended(world):
    """An append belongs to its transaction: events, positions and nudges go with it."""

    def work(within):
        world.log.append(STREAM, [event("a")], within)
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        world.transactor.run(work)
    assert world.everything() == []
    assert world.nudges == []
    [place] = world.log.append(STREAM, [event("b")])
    assert place.position == 1


def test_a_commit_nudges_each_partition_once_with_its_last_position(world):
    """Whoever listens is told once a batch and partition, and only after the commit."""
    world.log.append(STREAM, [event(str(n)) for n in range(5)])
    assert world.nudges == [(STREAM, partition_of("s1", 8), 5)]


def test_a_log_made_with_other_partitions_is_refused(mongodb_url, prefix):
    """Positions and places depend on the number of partitions, so it can't change under a log."""
    client = connect(mongodb_url)
    MongoEventLog(client, f"{prefix}_log", MongoTransactor(client), streams={"s": 2}).setup()
    with pytest.raises(SamlaError, match="made with 2 partitions, not 3"):
        MongoEventLog(client, f"{prefix}_log", MongoTransactor(client), streams={"s": 3}).setup()


def test_a_reader_never_skips_while_many_append(world):
    """Import-sized and single-event appenders at once, with duplicates: whoever follows a partition by
    "behind the last that I saw" sees every event once, in order, without a hole."""
    batches = [25, 1, 10, 1]
    rounds = 12
    written: list[str] = []
    errors: list[Exception] = []

    def appender(size: int, name: int) -> None:
        try:
            for turn in range(rounds):
                batch = [event(f"{name}/{turn}/{n}", f"subject{n % 9}") for n in range(size)]
                places = world.log.append(STREAM, batch + batch[:1])
                assert places[-1] == places[0]._replace(duplicate=True)
                written.extend(each.id for each in batch)
        except Exception as error:
            errors.append(error)

    seen: dict[int, list] = {partition: [] for partition in range(STREAMS[STREAM])}
    finished = threading.Event()

    def reader() -> None:
        while True:
            last = finished.is_set()
            for partition, held in seen.items():
                held += world.log.read(STREAM, partition, held[-1].position if held else 0, 7)
            if last and sum(map(len, seen.values())) >= len(written):
                return

    appenders = [threading.Thread(target=appender, args=(size, n)) for n, size in enumerate(batches)]
    following = threading.Thread(target=reader, daemon=True)
    for thread in [following, *appenders]:
        thread.start()
    for thread in appenders:
        thread.join(60)
    finished.set()
    following.join(timeout=30)
    assert errors == []
    assert not following.is_alive(), "the reader skipped events"
    for held in seen.values():
        assert [each.position for each in held] == list(range(1, len(held) + 1))
    assert sorted(each.id for held in seen.values() for each in held) == sorted(written)


def test_two_processes_worth_of_appenders_lose_nothing(mongodb_url, prefix):
    """Two logs with connections of their own (so no shared lock) append to the same partitions: what
    was acknowledged is there, once, at the acknowledged place."""
    logs = []
    for _ in range(2):
        client = connect(mongodb_url)
        logs.append(MongoEventLog(client, f"{prefix}_log", MongoTransactor(client)))
    logs[0].setup()
    acknowledged: dict[str, tuple[int, int]] = {}

    def appender(log: MongoEventLog, name: int) -> None:
        for turn in range(15):
            batch = [event(f"{turn}/{n}" if n < 3 else f"{name}/{turn}/{n}", f"s{n}") for n in range(6)]
            for each, place in zip(batch, log.append(STREAM, batch), strict=True):
                assert acknowledged.setdefault(each.id, place[:2]) == place[:2]

    threads = [threading.Thread(target=appender, args=(log, n)) for n, log in enumerate(logs)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert time.monotonic() - started < 60
    stored = {
        each.id: (partition, each.position)
        for partition in range(8)
        for each in logs[0].read(STREAM, partition, 0, 1_000)
    }
    assert stored == acknowledged
    assert len(stored) == 15 * (3 + 3 * 2)


def test_a_subjects_events_are_read_backwards(world):
    """From the end or from before a position, the last one first, in pages that together are all of them."""
    for number in range(7):
        world.log.append(STREAM, [event(f"{number}-{s}", s) for s in ("s1", "s2")])
    forwards = world.log.read_subject(STREAM, "s1")
    backwards, at = [], None
    while page := world.log.read_subject_back(STREAM, "s1", at, 3):
        backwards += page
        at = page[-1].position
    assert backwards == forwards[::-1]
    assert world.log.read_subject_back(STREAM, "nobody") == []


def test_merges_and_what_was_decided_again_are_found_by_whom_they_name(world):
    """By the fields that are named for it, in their order; what lacks them is not found, nor is anything by another."""
    said = [
        {"profile": "a", "subject": "s"},
        {"profile": "a", "into": "b"},
        {"profile": "b", "subject": "s", "to": "t"},
        {"dissolved": ["b"], "facts": [{"profile": "a", "subject": "u"}, {"profile": "c"}]},
        {"dissolved": ["c"], "facts": []},
    ]
    world.log.append("identity", [event(str(number), f"p{number}", data=data) for number, data in enumerate(said)])

    def found(field, *values):
        return [said.index(each.data) for each in world.log.find_by("identity", field, values)]

    assert found("profile", "a", "b") == [1]
    assert found("subject", "s") == [2]
    assert found("dissolved", "b", "c") == [3, 4]
    assert found("facts.profile", "c", "nobody") == [3]
    assert found("facts.subject", "s", "u") == [3]
    assert found("profile") == []
    with pytest.raises(KeyError, match="kind"):
        world.log.find_by("identity", "kind", ["x"])
