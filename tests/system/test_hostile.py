"""The door under clients that mean no good, or are many: it stays up, within bounds, and others are served."""

import contextlib
import gzip
import resource
import socket
import threading
import time

import pytest

from services.collector import answers, patience
from tests.bench import load
from tests.system.world import eventually

MANY = 10_000
TINY = 10_000


@pytest.fixture
def memory(world):
    """How many MB the edge has grown by, most, since the test began."""
    world.post("/v1/track", {"userId": world.fresh(), "event": "E"})
    before = world.suite.memory_mb()["edge"]
    return lambda: world.suite.memory_mb()["edge"] - before


@pytest.fixture(autouse=True)
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def opened(world, beginning=b""):
    """A connection on which so much has been sent."""
    connection = socket.create_connection(("127.0.0.1", world.settings.collector_port), timeout=10)
    if beginning:
        connection.sendall(beginning)
    return connection


def is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(4_096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def head(world, length):
    return load.request("/v1/batch", b"", world.key).replace(b"Content-Length: 0", b"Content-Length: %d" % length)


def test_a_gzip_bomb_is_refused_and_costs_little(world, memory):
    """A gigabyte of nothing, in a megabyte; and bombs within the size of a body, many at once."""
    bomb = gzip.compress(bytes(400_000_000), 9)
    for body in (bomb, gzip.compress(bomb)):
        assert len(body) < 500_000
        for _ in range(10):
            answer = world.send("/v1/batch", body)
            assert answer.status == 400 and answer.json()["code"] in ("too_large", "bad_json")
    assert memory() < 60


def test_very_many_tiny_batches_leave_memory_as_it_was(world, memory):
    """Good ones, empty ones, and ones whose only message is nothing."""
    bodies = [b'{"batch":[{"type":"track","userId":"u%d","event":"E"}]}' % (n % 50) for n in range(TINY // 2)]
    bodies += [b'{"batch":[]}', b'{"batch":[{}]}', b'{"batch":[null]}', b"{}"] * (TINY // 8)
    requests = [load.request("/v1/batch", each, world.key) for each in bodies]
    result = load.drive(world.settings.collector_port, requests, 64)
    assert len(result.latencies) == len(requests) and set(result.statuses) == {200, 400}
    assert memory() < 60


def test_slow_clients_are_given_up_and_hold_up_nobody(world, memory, monkeypatch):
    """Those that send a body, or a head, a byte at a time."""
    bodies = [opened(world, head(world, 400_000) + b'{"batch":[') for _ in range(200)]
    heads = [opened(world, b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(200)]
    stopping = threading.Event()

    def trickle():
        while not stopping.wait(0.5):
            for each in (*bodies, *heads):
                with contextlib.suppress(OSError):
                    each.send(b"1")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        for _ in range(20):
            started = time.monotonic()
            world.post("/v1/track", {"userId": world.fresh(), "event": "E"})
            assert time.monotonic() - started < 2
        assert memory() < 100
    finally:
        patient = max(answers.BODY_SECONDS, patience.HEAD_SECONDS) + 15
        eventually(lambda: all(map(is_closed, heads)), patient, "slow heads are still waited for", 0.5)
        refused = dict.fromkeys(bodies, b"")

        def answered():
            for each in bodies:
                each.setblocking(False)
                with contextlib.suppress(OSError):
                    refused[each] += each.recv(4_096)
            return all(b" 408 " in text for text in refused.values())

        eventually(answered, patient, "slow bodies are still waited for", 0.5)
        stopping.set()
        thread.join()
        for each in (*bodies, *heads):
            each.close()


def test_ten_thousand_idle_connections_hold_up_nobody(world, memory):
    """Those that have been served once and those that never said anything; these are closed."""
    request = load.request("/v1/track", b'{"userId":"u","event":"E"}', world.key)
    idle = []
    try:
        for number in range(MANY):
            idle.append(opened(world, request if number % 10 == 0 else b""))
        for _ in range(20):
            started = time.monotonic()
            world.post("/v1/track", {"userId": world.fresh(), "event": "E"})
            assert time.monotonic() - started < 2
        assert memory() < 400
        silent = [each for number, each in enumerate(idle) if number % 10]
        eventually(lambda: all(map(is_closed, silent)), patience.HEAD_SECONDS + 20, "they are still held", 1)
    finally:
        for each in idle:
            each.close()
