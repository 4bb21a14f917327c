"""The edge as several processes: one appends, the others serve. Whichever is killed, nothing acknowledged is lost."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
import urllib3

from shared.local.processes import free_ports, is_open
from shared.local.suite import ROOT, Suite
from tests.system.world import eventually

SENDERS = 6
COUNT = 120
"""Messages of each sender."""
RATE = 30


class Several:
    """An edge of its own beside the suite's, on the same servers."""

    def __init__(self, world, folder, count=3, **settings):
        self.world, [self.port], self.log = world, free_ports(1), folder / "edge.log"
        own = {"COLLECTOR_PORT": str(self.port), "COLLECTOR_PROCESSES": str(count), "TMPDIR": str(folder)}
        self.folder, self.environment = folder, world.suite.environment | own | settings
        self.process = None

    def __enter__(self):
        self.start()
        eventually(self.is_well, 30, "the edge is not well")
        return self

    def __exit__(self, *error):
        self.process.terminate()
        assert self.process.wait(60) is not None

    def start(self):
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "services.collector.edge"]
            self.process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stderr=log)

    def is_well(self):
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def started(self, does):
        """Ids of all processes that were started for this."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [each["process"] for each in lines if each["event"] == "a process starts" and each["does"] == does]

    def get(self, path):
        """(status, text), over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def connection(self):
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def post(self, connection, message):
        """The status."""
        authorization = urllib3.make_headers(basic_auth=f"{self.world.key}:")
        connection.request("POST", "/v1/track", json.dumps(message), authorization)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def metric(self, line):
        [value] = re.findall(rf"^{re.escape(line)} (\S+)$", self.get("/metrics")[1], re.MULTILINE) or ["0"]
        return float(value)


@pytest.fixture
def edge(world, tmp_path):
    with Several(world, tmp_path) as made:
        yield made


class Sender(threading.Thread):
    """Sends one by one over a connection that it keeps; again, as SDKs do, what was not acknowledged."""

    def __init__(self, edge, user):
        super().__init__(daemon=True)
        self.edge, self.user = edge, user
        self.acknowledged, self.refused = [], 0

    def run(self):
        connection = self.edge.connection()
        for number in range(COUNT):
            identity = f"{self.user}-{number}"
            message = {"userId": self.user, "event": self.edge.world.event, "messageId": identity}
            while identity not in self.acknowledged[-1:]:
                try:
                    status = self.edge.post(connection, message)
                except ConnectionRefusedError:
                    self.refused += 1
                except (OSError, HTTPException):
                    connection.close()
                else:
                    assert status in (200, 503), status
                    if status == 200:
                        self.acknowledged.append(identity)


@pytest.mark.parametrize("does", ["append", "serve"])
def test_a_process_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(world, edge, does):
    """SIGKILL under load: no connection is refused, another takes its place, each message is in the log once."""
    senders = [Sender(edge, world.fresh()) for _ in range(SENDERS)]
    for each in senders:
        each.start()
    eventually(lambda: all(len(each.acknowledged) > COUNT // 4 for each in senders), 60, "nothing is sent")
    [victim] = edge.started(does)[-1:]
    os.kill(victim, signal.SIGKILL)
    for each in senders:
        each.join(90)
    assert [len(each.acknowledged) for each in senders] == [COUNT] * SENDERS
    assert [each.refused for each in senders] == [0] * SENDERS
    eventually(lambda: edge.started(does)[-1] != victim, 10, "it was not replaced")
    kept = sorted(body["message_id"] for body in world.logged())
    assert kept == sorted(identity for each in senders for identity in each.acknowledged)


def test_where_the_parent_is_killed_the_others_end_and_the_port_is_free(world, tmp_path):
    """Nobody is left behind, nor a file of theirs; the next edge starts."""
    edge = Several(world, tmp_path)
    edge.start()
    eventually(edge.is_well, 30, "the edge is not well")
    children = edge.started("append") + edge.started("serve")
    edge.process.kill()
    edge.process.wait()
    eventually(lambda: not is_open(edge.port), 20, "the port is still taken")
    eventually(lambda: not any(is_alive(each) for each in children), 50, "a process is left behind")
    assert not list(tmp_path.glob("samla-edge-*"))
    with edge:
        assert edge.get("/health")[0] == 200


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_a_rate_holds_over_all_processes(world, edge):
    """Whichever process a connection leads to: together they take what the rate gives and a second's worth at once."""
    world.ask("collector", "change_source", world.source, {"rate": RATE})
    body = {"userId": world.fresh(), "event": "Paced"}
    started = time.monotonic()
    statuses = []
    while len(statuses) < 8 * RATE:
        connection = edge.connection()
        statuses.append(edge.post(connection, body))
        connection.close()
    seconds = time.monotonic() - started
    assert set(statuses) == {200, 429}
    assert RATE <= statuses.count(200) <= RATE * (seconds + 1) + 1


def test_metrics_are_the_sum_over_all_processes_and_do_not_fall_when_one_is_replaced(world, edge):
    """A scrape leads to any of them."""
    requests = 'samla_collector_requests_total{status="200"}'
    before = edge.metric(requests)
    for _ in range(40):
        connection = edge.connection()
        assert edge.post(connection, {"userId": world.fresh(), "event": "E"}) == 200
        connection.close()
    assert edge.metric('samla_collector_events_total{outcome="accepted"}') == 40
    told = edge.metric(requests)
    # The scrapes are requests, too.
    assert 40 <= told - before <= 45
    os.kill(edge.started("serve")[-1], signal.SIGKILL)
    eventually(lambda: len(edge.started("serve")) == 3 and edge.is_well(), 10, "it was not replaced")
    assert edge.metric(requests) >= told


@pytest.mark.parametrize("count", [1, 3])
def test_asked_to_end_it_answers_what_has_begun_and_leaves_with_0(world, tmp_path, count):
    """SIGTERM: no connection is accepted any more, a request that is half there is waited for."""
    user = world.fresh()
    body = json.dumps({"userId": user, "event": world.event, "writeKey": world.key}).encode()
    with Several(world, tmp_path, count) as edge, socket.create_connection(("127.0.0.1", edge.port)) as half:
        half.sendall(b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        for _ in range(10):
            connection = edge.connection()
            assert edge.post(connection, {"userId": user, "event": world.event}) == 200
            connection.close()
        edge.process.terminate()
        eventually(lambda: not is_open(edge.port), 10, "it still accepts connections")
        half.sendall(body[10:])
        assert half.recv(1000).startswith(b"HTTP/1.1 200")
        assert edge.process.wait(30) == 0
    assert len(world.logged()) == 11
    assert not list(tmp_path.glob("samla-edge-*"))


def test_the_suite_starts_and_ends_it_as_one_and_counts_what_all_of_it_takes(world, tmp_path):
    """Processor time and memory of the parent and its processes are the edge's; none is left."""
    [port] = free_ports(1)
    own = {"COLLECTOR_PORT": str(port), "COLLECTOR_PROCESSES": "3", "SAMLA_HOME": str(tmp_path / "home")}
    suite = Suite(world.suite.environment | own | {"SAMLA_MASTER_KEY": world.settings.master_key().hex()})
    suite.up(("edge",))
    try:
        leader = suite.process("edge").pid
        processes = [
            int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and session(path) == leader
        ]
        assert len(processes) == 4
        assert suite.memory_mb()["edge"] > 80 and suite.cpu_seconds()["edge"] > 0
    finally:
        suite.down()
    assert not is_open(port)
    assert not any(is_alive(each) for each in processes)


def session(path):
    try:
        return os.getsid(int(path.name))
    except OSError:
        return None


CANNOT_OPEN = {
    "another key": ("SAMLA_MASTER_KEY", "SAMLA_MASTER_KEY is not the key"),
    "a port that is taken": ("COLLECTOR_PORT", "address already in use"),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("what", CANNOT_OPEN)
def test_an_edge_that_cannot_open_says_why_and_leaves_with_1(world, tmp_path, count, what):
    """All of its processes end."""
    name, why = CANNOT_OPEN[what]
    value = {"SAMLA_MASTER_KEY": "ab" * 32, "COLLECTOR_PORT": str(world.settings.collector_port)}[name]
    edge = Several(world, tmp_path, count, **{name: value})
    edge.start()
    assert edge.process.wait(60) == 1
    assert why.lower() in edge.log.read_text().lower()
    assert not any(is_alive(each) for each in edge.started("append") + edge.started("serve"))
    assert not list(tmp_path.glob("samla-edge-*"))


def test_a_wrong_number_of_processes_is_one_clear_line(world, tmp_path):
    edge = Several(world, tmp_path, 0)
    edge.start()
    assert edge.process.wait(30) == 2
    assert edge.log.read_text() == "samla: COLLECTOR_PROCESSES must be processes, 1 to 64\n"


def test_another_wrong_setting_leaves_nothing_behind(world, tmp_path):
    edge = Several(world, tmp_path, SAMLA_MASTER_KEY="short")
    edge.start()
    assert edge.process.wait(30) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["edge.log"]
