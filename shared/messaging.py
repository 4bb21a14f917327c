"""What goes over RabbitMQ between the services besides RPC: nudges and evictions.

Neither carries a fact. A nudge says "stream s, partition p has reached n"; an eviction says "let go of
what you hold of these subjects". Losing one costs a moment (a timer looks anyway, caches have an end),
so nothing here is confirmed, persistent or redelivered, and nobody waits for the broker.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
import structlog
from amqp.exceptions import AMQPError
from kombu import Connection, Consumer, Exchange, Producer, Queue, binding
from kombu.exceptions import OperationalError

NUDGES: Final = Exchange("samla.nudges", type="topic", durable=True)
"""Routing key: the stream; the body is `{"stream", "reached": {partition: position}}`: one message a batch."""
EVICTIONS: Final = Exchange("samla.evictions", type="fanout", durable=True)
"""The body is `{"subjects": [...]}`."""

QUEUE_LENGTH: Final = 1_000
"""A nudge that is dropped at the head was older than those that stay."""
QUEUE_EXPIRES: Final = 60.0
"""Seconds after which the queue of an instance that is gone goes too."""
RECONNECT_SECONDS: Final = 1.0
BROKER_ERRORS: Final = (AMQPError, OperationalError, OSError)

Message = dict[str, Any]
logger = structlog.get_logger(__name__)


def broker(url: str) -> Connection:
    """A connection to the broker; it connects when it is first used, and gives up after 5 s."""
    return Connection(url, connect_timeout=5, heartbeat=30, transport_options={"read_timeout": 30, "write_timeout": 30})


class NudgePublisher(threading.Thread):
    """Publishes nudges and evictions from a thread of its own.

    `nudge` only notes the latest position of a partition and returns: a broker that is away, or that
    blocks its publishers, holds up this thread and nobody else. What piled up meanwhile is one nudge a
    partition.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="nudge-publisher", daemon=True)
        self._url = url
        self._latest: dict[tuple[str, int], int] = {}
        self._evicted: set[str] = set()
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._stopping = False

    def nudge(self, stream: str, partition: int, position: int) -> None:
        """Says that the partition has reached the position; never waits."""
        with self._lock:
            place = (stream, partition)
            self._latest[place] = max(position, self._latest.get(place, 0))
        self._something.set()

    def evict(self, subjects: Sequence[str]) -> None:
        """Tells every process to let go of what it holds of the subjects; never waits."""
        with self._lock:
            self._evicted.update(subjects)
        self._something.set()

    def stop(self) -> None:
        """Ends the thread; what is not published yet is left to the timers."""
        self._stopping = True
        self._something.set()

    def run(self) -> None:
        """Publishes until stopped, over as many connections as it takes."""
        while not self._stopping:
            try:
                with broker(self._url) as connection:
                    self._publish_over(connection)
            except BROKER_ERRORS as error:
                logger.warning("nudges wait for the broker", error=type(error).__name__)
                self._pause()

    def _publish_over(self, connection: Connection) -> None:
        producer = Producer(connection.channel())
        for exchange in (NUDGES, EVICTIONS):
            exchange.bind(producer.channel).declare()
        while not self._stopping:
            if not self._something.wait(timeout=5):
                connection.heartbeat_check()
                continue
            self._something.clear()
            self._publish_pending(producer)

    def _publish_pending(self, producer: Producer) -> None:
        with self._lock:
            latest, self._latest = self._latest, {}
            evicted, self._evicted = self._evicted, set()
        try:
            for stream, reached in _by_stream(latest).items():
                _publish(producer, NUDGES, stream, {"stream": stream, "reached": reached})
            if evicted:
                _publish(producer, EVICTIONS, "", {"subjects": sorted(evicted)})
        except BROKER_ERRORS:
            self._take_back(latest, evicted)
            raise

    def _take_back(self, latest: dict[tuple[str, int], int], evicted: set[str]) -> None:
        with self._lock:
            for place, position in latest.items():
                self._latest[place] = max(position, self._latest.get(place, 0))
            self._evicted |= evicted
        self._something.set()

    def _pause(self) -> None:
        threading.Event().wait(RECONNECT_SECONDS)


def _by_stream(latest: dict[tuple[str, int], int]) -> dict[str, dict[str, int]]:
    streams: dict[str, dict[str, int]] = {}
    for (stream, partition), position in latest.items():
        streams.setdefault(stream, {})[str(partition)] = position
    return streams


def _publish(producer: Producer, exchange: Exchange, key: str, body: Message) -> None:
    producer.publish(
        orjson.dumps(body),
        exchange=exchange,
        routing_key=key,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode="transient",
        expiration=QUEUE_EXPIRES,
        retry=False,
    )


class Listener(threading.Thread):
    """Hands the messages of one small queue of its own to `hear`, acknowledged before they are heard."""

    def __init__(
        self, url: str, queue: str, exchange: Exchange, keys: Sequence[str], hear: Callable[[Message], None]
    ) -> None:
        super().__init__(name=f"listener {queue}", daemon=True)
        self._url = url
        self._queue = listening_queue(queue, exchange, keys)
        self._hear = hear
        self._stopping = False

    def stop(self) -> None:
        """Ends the thread within a second or two."""
        self._stopping = True

    def run(self) -> None:
        """Listens until stopped, over as many connections as it takes."""
        while not self._stopping:
            try:
                with broker(self._url) as connection:
                    self._listen_over(connection)
            except BROKER_ERRORS as error:
                logger.warning("waiting for the broker", error=type(error).__name__)
                threading.Event().wait(RECONNECT_SECONDS)

    def _listen_over(self, connection: Connection) -> None:
        channel = connection.channel()
        consumer = Consumer(channel, self._queue, on_message=self._heard, no_ack=True)
        with consumer:
            while not self._stopping:
                with contextlib.suppress(socket.timeout):
                    connection.drain_events(timeout=1)
                connection.heartbeat_check()

    def _heard(self, message: Any) -> None:
        try:
            body = orjson.loads(message.body)
        except orjson.JSONDecodeError:
            logger.warning("a message that is not JSON was passed over")
            return
        if isinstance(body, dict):
            self._hear(body)


def listening_queue(name: str, exchange: Exchange, keys: Sequence[str]) -> Queue:
    """A small queue for one instance: bounded, dropped at the head, gone when the instance is."""
    return Queue(
        name,
        bindings=[binding(exchange, key) for key in keys],
        durable=False,
        auto_delete=True,
        expires=QUEUE_EXPIRES,
        max_length=QUEUE_LENGTH,
        queue_arguments={"x-overflow": "drop-head"},
    )
