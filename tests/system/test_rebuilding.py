"""Profiles rebuilt while the suite works, killed in the middle; and made anew by themselves after an upgrade."""

import json
import signal
import subprocess
import sys
import threading
import time

from contracts.streams import ACTIVATION, PROFILE, SEGMENTATION, TRACKING
from services.profile.domain.state import FOLD_VERSION
from shared.local.suite import ROOT
from tests.system.world import eventually

USERS = 40
LONGEST_WAIT = 10.0
"""Seconds from an event to its profile, while it is rebuilt: the hold, and the pauses after failures."""


class Load:
    """Users do something that no segment asks about, until it is over; how long each has waited for their profile."""

    def __init__(self, world, users):
        self.world, self.users = world, users
        self.over = threading.Event()
        self.waits, self.sent, self.failed = [], 0, None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.over.is_set():
                batch = [{"type": "track", "userId": user, "event": "Looked"} for user in self.users]
                self.world.insist("/v1/batch", {"batch": batch})
                self.sent += 1
                began = time.monotonic()
                eventually(self._seen, 60, "live has stopped")
                self.waits.append(time.monotonic() - began)
        except BaseException as error:
            self.failed = error

    def _seen(self):
        progress = self.world.ask("profile", "progress")["profile.states"]
        return all(progress.get(f"{TRACKING}:{each}", 0) >= at for each, at in self.world.log.heads(TRACKING).items())

    def __enter__(self):
        self.thread.start()
        eventually(lambda: self.sent or self.failed, 60, "nothing was taken")
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join(90)
        assert self.failed is None, self.failed


def heads(world, *streams):
    return {stream: world.log.heads(stream) for stream in streams}


def made_beside(db):
    return {name for name in db.list_collection_names() if name.startswith("states_rebuilt_")}


def rebuilding(world):
    return subprocess.Popen(
        [sys.executable, "-m", "services.profile.rebuild", "--json", "--processes", "2"], cwd=ROOT,
        env=world.suite.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_rebuild_under_load_that_is_killed_and_started_again_ends_equal_and_sends_nothing_again(world, sink):
    """Nobody enters, leaves or is written to; events go on to profiles all the time."""
    world.buyers(sink)
    users = [world.fresh() for _ in range(USERS)]
    for user in users:
        world.agrees(user)
        world.orders(user)
    world.quiet()
    eventually(lambda: len({each.id for each in sink.accepted}) == USERS, 60, "not every webhook came")
    decided = heads(world, SEGMENTATION, ACTIVATION)
    with Load(world, users) as load:
        db = world.client[world.settings.database("profile")]
        for seconds in (0, 0.2, 0.5, 1.0, 2.0):
            job = rebuilding(world)
            # The last one's are dropped at the beginning of the next.
            there = made_beside(db)
            eventually(lambda there=there, job=job: made_beside(db) - there or job.poll() is not None, 60, "no begin")
            threading.Event().wait(seconds)
            job.send_signal(signal.SIGKILL)
            job.communicate()
        said, errors = rebuilding(world).communicate(timeout=120)
        assert said, errors
        report = json.loads(said)
        rounds = load.sent
        eventually(lambda: load.sent > rounds + 1, 60, "live has stopped")
    assert report["held_seconds"] < 5
    assert max(load.waits) < LONGEST_WAIT
    world.quiet()
    assert heads(world, SEGMENTATION, ACTIVATION) == decided
    assert len({each.id for each in sink.accepted}) == USERS
    assert {world.count(user, "Looked") for user in users} == {load.sent}
    world.verify()


def test_after_an_upgrade_the_states_are_made_anew_by_themselves(world):
    """As an upgrade finds them: it is said that an older fold has made them. Nothing is told of it."""
    users = [world.fresh() for _ in range(5)]
    for user in users:
        world.orders(user)
    world.quiet()
    told = heads(world, PROFILE, SEGMENTATION, ACTIVATION)
    db = world.client[world.settings.database("profile")]
    # The version after today's is one that today's fold has not made either, and can be read.
    db["states"].update_many({"v": {"$exists": True}}, {"$set": {"v": FOLD_VERSION + 1}})
    db["rebuilds"].update_one({"_id": "live"}, {"$set": {"fold": FOLD_VERSION - 1}})

    def is_new():
        return not db["states"].count_documents({"v": FOLD_VERSION + 1})

    eventually(is_new, 60, "the states are not made anew")
    eventually(lambda: db["rebuilds"].find_one({"_id": "live"})["fold"] == FOLD_VERSION, 10, "nobody says so")
    world.quiet()
    assert heads(world, PROFILE, SEGMENTATION, ACTIVATION) == told
    assert {world.count(user, world.event) for user in users} == {1}
    world.verify()
