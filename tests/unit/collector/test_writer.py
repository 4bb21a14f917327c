"""The edge's writer: groups, bounds, and what it tells."""

import threading

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, DocumentTooLarge, OperationFailure, WTimeoutError

from services.collector.domain.intake import Accepted, Intake
from services.collector.domain.normalize import Arrival
from services.collector.writer import BIGGEST_GROUP_BYTES, MOST_WAITING, Outcome, Work, Writer
from shared.errors import Unavailable

SECONDS = 10


ARRIVAL = Arrival(received=0, party="first", source_name="web", gpc=False, sized=True, exact=True)


def work(name="w", events=1, size=2):
    one = Accepted("tracking.track.v1", "m", (("user", "u"),), b"{}", None)
    return Work("s", 0, name, Intake([one] * events, [], ARRIVAL, {}), size, name)


class Appender:
    """Stands where the log would: waits until it is let go, and fails for what it is told to."""

    def __init__(self, failing=()):
        self.groups, self.failing = [], failing
        self.go, self.entered = threading.Event(), threading.Event()

    def write(self, group):
        names = [each.waiting for each in group]
        self.entered.set()
        assert self.go.wait(SECONDS)
        self.groups.append(names)
        for name in names:
            if name in self.failing:
                raise self.failing[name]


class Told:
    def __init__(self, expected):
        self.outcomes, self.expected, self.all = {}, expected, threading.Event()

    def __call__(self, group):
        self.outcomes |= {work.waiting: outcome for work, outcome in group}
        if len(self.outcomes) == self.expected:
            self.all.set()


def outcomes_of(appender, requests):
    """What becomes of so many requests that wait when the writer starts."""
    told = Told(requests)
    appender.go.set()
    writer = Writer(appender, told)
    for number in range(requests):
        writer.submit(work(f"w{number}"))
    writer.start()
    assert told.all.wait(SECONDS)
    writer.stop(SECONDS)
    return told.outcomes


def test_what_arrives_during_an_append_goes_into_one():
    """The busier it is, the larger the groups are."""
    appender, told = Appender(), Told(11)
    writer = Writer(appender, told)
    writer.start()
    writer.submit(work("first"))
    assert appender.entered.wait(SECONDS)
    for number in range(10):
        writer.submit(work(f"w{number}"))
    appender.go.set()
    assert told.all.wait(SECONDS)
    assert appender.groups == [["first"], [f"w{number}" for number in range(10)]]
    assert set(told.outcomes.values()) == {Outcome.DURABLE}
    writer.stop(SECONDS)


def test_it_is_bounded_and_says_no_early():
    """Under overload nothing swells."""
    writer = Writer(Appender(), Told(1))
    assert writer.submit(work(events=MOST_WAITING))
    assert not writer.submit(work())


def test_a_group_is_bounded_in_bytes():
    """A request that is larger alone is a group of its own."""
    appender, told = Appender(), Told(6)
    appender.go.set()
    writer = Writer(appender, told)
    half = BIGGEST_GROUP_BYTES // 2
    for number, size in enumerate((half, half, half, 1, 3 * half, 1)):
        writer.submit(work(f"w{number}", size=size))
    writer.start()
    assert told.all.wait(SECONDS)
    assert appender.groups == [["w0", "w1"], ["w2", "w3"], ["w4"], ["w5"]]
    writer.stop(SECONDS)


@pytest.mark.parametrize("error", [ValueError(), DocumentTooLarge("x")])
def test_one_request_that_cannot_be_written_does_not_sink_the_others(error):
    appender = Appender({"w3": error})
    outcomes = outcomes_of(appender, 9)
    assert {name for name, outcome in outcomes.items() if outcome is Outcome.FAILED} == {"w3"}


def test_a_server_that_is_away_is_not_blamed_on_a_request():
    """All of the group may be sent again."""
    appender = Appender({"w0": Unavailable("away")})
    outcomes = outcomes_of(appender, 2)
    assert set(outcomes.values()) == {Outcome.UNAVAILABLE}


def unavailable(cause):
    """As a transaction says it."""
    error = Unavailable("refused")
    error.__cause__ = cause
    return error


def transient():
    return OperationFailure("conflict", 112, {"errorLabels": ["TransientTransactionError"]})


def bulk(code):
    return BulkWriteError({"writeErrors": [{"code": code}]})


@pytest.mark.parametrize(
    "error",
    [OperationFailure("x", 10334), bulk(10334), OperationFailure("x", 121)],
    ids=["too-large", "in-bulk", "not-valid"],
)
@pytest.mark.parametrize("as_is", [True, False], ids=["alone", "in-a-transaction"])
def test_what_mongodb_refuses_to_keep_sinks_no_others(error, as_is):
    """It would be refused again and again."""
    appender = Appender({"w3": error if as_is else unavailable(error)})
    outcomes = outcomes_of(appender, 9)
    assert {name for name, outcome in outcomes.items() if outcome is Outcome.FAILED} == {"w3"}
    assert Outcome.UNAVAILABLE not in outcomes.values()


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("x"),
        transient(),
        WTimeoutError("x"),
        OperationFailure("x", 13),
        OperationFailure("x", 14031),
        bulk(11000),
    ],
    ids=["connection", "conflict", "majority", "rights", "disk", "another-was-faster"],
)
@pytest.mark.parametrize("as_is", [True, False], ids=["alone", "in-a-transaction"])
def test_what_is_the_servers_is_told_to_come_again(error, as_is):
    """Without a trial of each."""
    appender = Appender({"w0": error if as_is else unavailable(error)})
    outcomes = outcomes_of(appender, 2)
    assert set(outcomes.values()) == {Outcome.UNAVAILABLE} and len(appender.groups) == 1


def test_stopping_writes_what_waits():
    appender, told = Appender(), Told(3)
    appender.go.set()
    writer = Writer(appender, told)
    for number in range(3):
        writer.submit(work(f"w{number}"))
    writer.start()
    writer.stop(SECONDS)
    assert len(told.outcomes) == 3
    assert not writer.submit(work())
