"""The timeline in pages, on a real MongoDB: no line is lost, wherever its event stands in the log."""

import orjson
import pytest

from contracts.streams import TRACKING
from contracts.tracking import REPLAYED
from shared.eventlog import NewEvent, derive_id
from shared.keyring import ORDINARY, Sealing
from tests.integration.identity_world import World

ANN = ("user", "ann")
HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_767_225_600_000


class Story(World):
    """What Ann did, as the log holds it."""

    told = 0

    def tells(self, received, happened, data=None):
        """One more event of hers; its id."""
        self.told += 1
        subject = self.subject(ANN, create=True)
        identity = derive_id("told", self.told)
        body = {
            "type": "track", "time": happened, "party": "first", "source_name": "web", "event": "E",
            "identifiers": [list(ANN)], "properties": {}, "traits": {},
        }  # fmt: skip
        [sealed] = self.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
        new = NewEvent(
            id=identity, type="tracking.track.v1", source="web", subject=subject, time=received,
            sealed={ORDINARY: sealed}, data=data or {},
        )  # fmt: skip
        self.log.append(TRACKING, [new])
        return identity

    def timeline(self, limit):
        """All the ids, page by page."""
        self.settle()
        self.follow()
        found, after = [], None
        while True:
            page = self.reading.timeline(self.profile(ANN), limit, after)
            found += [line["event"] for line in page["lines"]]
            after = page["next"]
            if after is None:
                return found


@pytest.fixture
def world(mongodb_url, prefix, monkeypatch):
    monkeypatch.setattr("services.profile.timeline.PAGE", 10)
    made = Story(mongodb_url, prefix)
    yield made
    made.client.close()


def lives(world):
    """Somebody's last three days, as they were."""
    return [world.tells(at, at) for at in range(NOW - 3 * DAY, NOW - 2 * DAY, 2 * HOUR)]


@pytest.mark.parametrize("data", [{}, {REPLAYED: NOW}], ids=["that does not say so", "that says so"])
def test_no_line_is_lost_behind_a_replayed_event(world, data):
    """It stands where it was replayed, and has the time at which it was received, long before those below it."""
    expected = lives(world)
    expected = [world.tells(NOW, NOW - 20 * DAY + n) for n in range(6)] + expected
    expected.append(world.tells(NOW - 25 * DAY, NOW - 25 * DAY, data))
    assert sorted(world.timeline(3)) == sorted(expected)


def test_no_line_is_lost_behind_many_replayed_events(world):
    """More than are read at a time."""
    expected = lives(world)
    expected += [world.tells(NOW - 25 * DAY + n, NOW - 25 * DAY + n, {REPLAYED: NOW}) for n in range(25)]
    expected += [world.tells(NOW, NOW - 20 * DAY + n) for n in range(10)]
    assert sorted(world.timeline(3)) == sorted(expected)
