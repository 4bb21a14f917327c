"""Servers that go away, processes that are killed: nothing is lost, nothing counts twice."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from contracts.streams import TRACKING
from shared.local import mongod
from shared.local.suite import ROOT, Suite
from tests.system.world import eventually

USERS = 30
ROUNDS = 8


class Stream:
    """Users order, a batch a round, from a thread; message ids make repeats harmless."""

    def __init__(self, world, users):
        self.world, self.users = world, users
        self.half = threading.Event()
        self.failed = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            for number in range(ROUNDS):
                batch = [
                    {"type": "track", "userId": user, "event": self.world.event, "messageId": f"{user}-{number}"}
                    for user in self.users
                ]
                self.world.insist("/v1/batch", {"batch": batch})
                if number == ROUNDS // 2:
                    self.half.set()
        except BaseException as error:
            self.failed = error
            self.half.set()

    def __enter__(self):
        self.thread.start()
        assert self.half.wait(60)
        return self

    def __exit__(self, *error):
        self.thread.join(90)
        assert self.failed is None, self.failed


@pytest.mark.parametrize(
    "victim", ["edge", "identity", "profile", "segmentation", "activation", "privacy", "collector"]
)
def test_a_process_that_is_killed_and_started_again_leaves_no_trace(world, sink, victim):
    """SIGKILL in the middle of a run: the same profiles as without, every webhook, and live equals rebuilt."""
    world.buyers(sink, count=ROUNDS)
    users = [world.fresh() for _ in range(USERS)]
    for user in users:
        world.agrees(user)
    with Stream(world, users):
        world.suite.process(victim).kill()
        world.restart(victim)
    world.quiet()
    assert {user: world.count(user, world.event) for user in users} == dict.fromkeys(users, ROUNDS)
    eventually(lambda: len({each.id for each in sink.accepted}) == USERS, 60, "not every webhook came")
    told = [each.message["data"]["identifiers"]["user"][0] for each in {one.id: one for one in sink.accepted}.values()]
    assert sorted(told) == sorted(users)
    world.verify()


def test_two_instances_share_the_work_and_one_may_be_killed(world, tmp_path):
    """Each event counts once, however many instances there are and whenever they go."""
    port = world.suite.settings.health_port
    environment = world.suite.environment | {"SAMLA_HEALTH_PORT": str(port + 300)}
    command = [sys.executable, "-m", "shared.runner", "profile"]
    with (tmp_path / "second.log").open("wb") as log:
        second = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=log)
    instances = world.client[world.settings.database("profile")]["instances"]
    try:
        eventually(lambda: instances.count_documents({}) == 2, 30, "the second instance did not come")
        users = [world.fresh() for _ in range(USERS)]
        with Stream(world, users):
            os.kill(second.pid, signal.SIGKILL)
        world.quiet()
    finally:
        second.kill()
        second.wait()
    assert {user: world.count(user, world.event) for user in users} == dict.fromkeys(users, ROUNDS)


def test_without_rabbitmq_the_collector_still_takes_events_and_all_catch_up(world, sink):
    """RabbitMQ only wakes; the log feeds."""
    world.buyers(sink)
    user = world.fresh()
    world.agrees(user)
    world.quiet()
    world.suite.stop_rabbitmq()
    try:
        for _ in range(5):
            world.orders(user)
    finally:
        world.suite.start_rabbitmq()
    eventually(lambda: sink.accepted, 90, "no webhook came after RabbitMQ was back")
    world.quiet()
    assert world.count(user, world.event) == 5


def test_without_mongodb_nothing_is_acknowledged_and_all_recover(world):
    """503 with Retry-After, promptly; once MongoDB is back, so is everything."""
    user = world.fresh()
    world.orders(user)
    world.quiet()
    before = sum(world.log.heads(TRACKING).values())
    mongod.process(world.suite.home).stop()
    try:
        answer = world.send("/v1/track", {"userId": user, "event": world.event})
        assert answer.status == 503
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        world.suite.start_mongodb()
    assert sum(world.log.heads(TRACKING).values()) == before
    world.insist("/v1/track", {"userId": user, "event": world.event})
    world.quiet()
    assert world.count(user, world.event) == 2
    world.suite.wait()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COLLECTOR_PORT", "eighty"),
        ("MONGODB_URL", "http://example.org"),
        ("SAMLA_MASTER_KEY", "short"),
        ("SAMLA_KEY_CACHE_SECONDS", "3600"),
        ("SAMLA_PREFIX", "Not A Prefix"),
    ],
)
@pytest.mark.parametrize("command", [["shared.runner", "profile"], ["services.collector.edge"]])
def test_a_wrong_setting_is_one_clear_line_at_start(tmp_path, name, value, command):
    """Which, and what would be right; exit code 2."""
    environment = Suite.apart(tmp_path).environment | {name: value}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"samla: {name} ")


def test_logs_are_structured_and_say_nothing_personal(world):
    """JSON lines, without the identifiers that went through."""
    user = f"logged-{world.fresh()}"
    world.agrees(user)
    world.orders(user)
    world.quiet()
    for path in (world.suite.home / "log").glob("*.log"):
        text = path.read_text(errors="replace")
        assert user not in text, path
        if path.stem not in ("mongod", "rabbitmq"):
            for line in text.splitlines():
                if line.startswith("{"):
                    assert {"event", "level", "timestamp"} <= set(json.loads(line)), path
