"""A load generator: keep-alive connections that each send the next request when the last is answered.

Requests are bytes made beforehand, so that what is measured is the server. Every run ends by itself: after
its requests, or at its deadline.
"""

import asyncio
import base64
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson


class Result(NamedTuple):
    """What a run saw."""

    seconds: float
    latencies: list[float]
    """Seconds of each answered request, in the order of the answers."""
    statuses: Counter[int]

    def percentile(self, share: float) -> float:
        """Seconds that this share (0..1) of the requests took at most."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def request(path: str, body: bytes, write_key: str = "", host: str = "127.0.0.1") -> bytes:
    """One HTTP/1.1 POST."""
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    if write_key:
        head.append("Authorization: Basic " + base64.b64encode(f"{write_key}:".encode()).decode())
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def batches(messages: Sequence[dict], size: int, write_key: str) -> list[bytes]:
    """The messages as /v1/batch requests of `size`."""
    return [
        request("/v1/batch", orjson.dumps({"batch": messages[at : at + size]}), write_key)
        for at in range(0, len(messages), size)
    ]


def singles(messages: Sequence[dict], write_key: str) -> list[bytes]:
    """Each message as a request of its own."""
    return [request(f"/v1/{each['type']}", orjson.dumps(each), write_key) for each in messages]


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future, latencies: list, statuses: Counter):
        self.requests, self.done = requests, done
        self.latencies, self.statuses = latencies, statuses
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        following = next(self.requests, None)
        if following is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent = time.perf_counter()
        self.transport.write(following)

    def data_received(self, data):
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self.buffer = body[length:]
        self.latencies.append(time.perf_counter() - self.sent)
        self.statuses[int(head[9:12])] += 1
        self.send()

    def connection_lost(self, error):
        if not self.done.done():
            self.done.set_result(error)


async def _drive(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    queue = iter(requests)
    ends = []
    started = time.perf_counter()
    for _ in range(connections):
        done = loop.create_future()
        ends.append(done)
        await loop.create_connection(lambda done=done: _Client(queue, done, latencies, statuses), "127.0.0.1", port)
    await asyncio.wait(ends, timeout=seconds)
    return Result(time.perf_counter() - started, latencies, statuses)


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float = 120) -> Result:
    """Sends all requests over so many connections, as fast as they are answered."""
    return asyncio.run(_drive(port, requests, connections, seconds))


class _Paced(asyncio.Protocol):
    """A keep-alive connection that sends when it is told; answers come in the order of the requests."""

    def __init__(self, accepted: list[float], statuses: Counter):
        self.accepted, self.statuses = accepted, statuses
        self.sent: deque[int] = deque()
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport

    def send(self, number: int, request: bytes):
        self.sent.append(number)
        self.transport.write(request)

    def data_received(self, data):
        self.buffer += data
        while True:
            head, found, body = self.buffer.partition(b"\r\n\r\n")
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if not found or len(body) < length:
                return
            self.buffer = body[length:]
            self.accepted[self.sent.popleft()] = time.time()
            self.statuses[int(head[9:12])] += 1


async def _pace(
    port: int, requests: Sequence[bytes], rate: float, accepted: list[float], due: list[float] | None = None
) -> Counter[int]:
    """Open loop: request n is sent at n / rate, whether or not the earlier ones are answered."""
    loop = asyncio.get_running_loop()
    statuses: Counter[int] = Counter()
    clients = [
        (await loop.create_connection(lambda: _Paced(accepted, statuses), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    started = loop.time()
    for number, each in enumerate(requests):
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        if due is not None:
            due.append(time.time() - max(0.0, loop.time() - started - number / rate))
        min(clients, key=lambda client: len(client.sent)).send(number, each)
    deadline = loop.time() + 60
    while any(client.sent for client in clients) and loop.time() < deadline:
        await asyncio.sleep(0.01)
    for client in clients:
        client.transport.close()
    return statuses


CONNECTIONS = 32
"""Of an open loop."""


def pace(port: int, requests: Sequence[bytes], rate: float) -> tuple[list[float], Counter[int]]:
    """Sends the requests at a steady rate a second; gives the time of day each was answered."""
    accepted = [float("nan")] * len(requests)
    statuses = asyncio.run(_pace(port, requests, rate, accepted))
    return accepted, statuses


def waits(port: int, requests: Sequence[bytes], rate: float) -> tuple[list[float], Counter[int]]:
    """Seconds from the instant at which each request was due, at a steady rate a second, to its answer."""
    accepted, due = [float("inf")] * len(requests), list[float]()
    statuses = asyncio.run(_pace(port, requests, rate, accepted, due))
    return [answered - when for answered, when in zip(accepted, due, strict=True)], statuses
