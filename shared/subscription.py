"""Subscriptions and tickers: how a nameko service takes part.

    @subscribe("profile.states", stream=TRACKING)
    def fold(self, events): ...            # what shared.consumer calls `prepare`

    @ticker("activation.deliver", seconds=1, wakes_on=(ACTIVATION,))
    def deliver_due(self): ...

nameko's own event handlers acknowledge a message whose handler raised, and keep no order. Here a
message is only a nudge: it wakes the loop, the log feeds it, and a timer looks anyway (DESIGN law 4).
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import eventlet
import structlog
from eventlet.event import Event as Result
from nameko.extensions import DependencyProvider, Entrypoint, SharedExtension
from pymongo.errors import PyMongoError

from shared.config import Settings
from shared.consumer import Consumer, Finish
from shared.errors import Unavailable
from shared.eventlog import Event
from shared.messaging import NUDGES, Listener, Message
from shared.metrics import LAG
from shared.runtime import BEAT_SECONDS, Runtime

ROUND_SECONDS: Final = 0.04
"""From the beginning of a round to that of the next, at least. A round costs much the same for one event as for
fifty: under load they come in groups, and when it is quiet the first one is not kept waiting."""
LOOK_SECONDS: Final = 1.0
"""How often a subscription looks by itself, should no nudge come."""
FAILURE_PAUSES: Final = (0.05, 0.2, 1.0, 2.0)
"""Seconds to wait after the first, second ... failure in a row."""
logger = structlog.get_logger(__name__)


class RuntimeExtension(SharedExtension):
    """One Runtime and one store a container, made before any entrypoint starts; the ear for nudges."""

    runtime: Runtime
    store: Any

    def __init__(self) -> None:
        super().__init__()
        self.loops: list[_Loop] = []
        self._stopping = threading.Event()

    def setup(self) -> None:
        """Opens the runtime and makes the service's store."""
        settings = Settings.from_env()
        self.runtime = Runtime.open(settings, self.container.service_name)
        self.store = self.container.service_cls.make_store(self.runtime)

    def start(self) -> None:
        """Starts to listen, and to say that this instance is here."""
        streams = sorted({stream for loop in self.loops for stream in loop.streams})
        if streams:
            queue = f"samla.nudges.{self.runtime.service}.{self.runtime.instances.name}"
            self._listener = Listener(self.runtime.settings.amqp_url, queue, NUDGES, streams, self._nudged)
            self._listener.start()
        self.container.spawn_managed_thread(self._beat, identifier="instances")

    def stop(self) -> None:
        """Ends what it started."""
        self._stopping.set()
        self.runtime.close()

    def _nudged(self, message: Message) -> None:
        for loop in self.loops:
            if message.get("stream") in loop.streams:
                loop.nudged(message)

    def _beat(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            try:
                self.runtime.instances.beat()
            except PyMongoError as error:
                logger.warning("this instance cannot be seen by others", error=type(error).__name__)


class _Loop(Entrypoint):
    """An entrypoint that works in a loop of its own: woken, or by the clock."""

    shared = RuntimeExtension()
    streams: Sequence[str] = ()
    seconds: float = LOOK_SECONDS
    spacing: float = ROUND_SECONDS
    _began = float("-inf")

    def setup(self) -> None:
        """Known to the container before anything starts."""
        self._woken = threading.Event()
        self._stopping = False
        self._done = Result()
        self.failures = 0
        self.shared.loops.append(self)

    def start(self) -> None:
        """Starts the loop. Setup of all extensions has ended by then."""
        self.container.spawn_managed_thread(self._run, identifier=self.method_name)

    def stop(self) -> None:
        """Ends the loop after the batch it is at."""
        self._stopping = True
        self.wake()
        self._done.wait()

    def nudged(self, message: Message) -> None:
        """A stream has grown."""
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    @property
    def runtime(self) -> Runtime:
        """The container's."""
        runtime: Runtime = self.shared.runtime
        return runtime

    def work(self) -> None:
        """One round."""
        raise NotImplementedError

    def call(self, *arguments: Any) -> Any:
        """Runs the decorated method in a nameko worker; gives its result or raises its error."""
        result = Result()

        def handle_result(context: Any, value: Any, exc_info: Any) -> tuple[Any, Any]:
            result.send((value, exc_info))
            return value, exc_info

        self.container.spawn_worker(self, arguments, {}, handle_result=handle_result)
        value, exc_info = result.wait()
        if exc_info:
            raise exc_info[1]
        return value

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._round()
        finally:
            self._done.send()

    def _round(self) -> None:
        early = self._began + self.spacing - time.monotonic()
        if early > 0:
            eventlet.sleep(early)
        self._began = time.monotonic()
        self._woken.clear()
        try:
            self.work()
            self.failures = 0
        except Exception as error:
            self.failures += 1
            pause = FAILURE_PAUSES[min(self.failures, len(FAILURE_PAUSES)) - 1]
            # Our own errors say nothing personal; the text of others might.
            text = str(error) if isinstance(error, Unavailable) else ""
            logger.warning(
                "a round failed and is tried again",
                loop=self.method_name,
                error=type(error).__name__,
                text=text,
                failures=self.failures,
            )
            eventlet.sleep(pause)
            self._woken.set()
        self._woken.wait(self.seconds * 1.01)


class Subscription(_Loop):
    """Feeds the decorated method with a stream's events; see shared.consumer for what it promises.

    `name` is the subscription's own: checkpoints are kept under it, so renaming the method is free.
    With `alone` one instance at a time takes all partitions. `spacing` is the time (s) from one batch to the
    next at least: more, where nobody waits for what follows.
    """

    def __init__(
        self, name: str, stream: str, alone: bool = False, spacing: float = ROUND_SECONDS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.spacing = spacing
        self.name = name
        self.stream = stream
        self.streams = (stream,)
        self.alone = alone
        self._heads: dict[int, int] = {}
        self._looked = float("-inf")

    consumer: Consumer | None = None

    def start(self) -> None:
        """Starts the loop over a consumer of the runtime's log."""
        runtime = self.runtime
        self.consumer = Consumer(
            self.name,
            self.stream,
            runtime.log,
            runtime.transactor,
            runtime.checkpoints,
            self._prepare,
            runtime.clock.now_ms,
        )
        super().start()

    def nudged(self, message: Message) -> None:
        """Remembers how far: the heads need not be asked for then."""
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            for partition, position in message["reached"].items():
                self._heads[int(partition)] = max(int(position), self._heads.get(int(partition), 0))
        self.wake()

    def _prepare(self, events: list[Event]) -> Finish | None:
        finish: Finish | None = self.call(events)
        return finish

    def work(self) -> None:
        """Every partition of this instance's that lags, until none does."""
        assert self.consumer is not None
        more = True
        while more and not self._stopping:
            lagging = self._lagging(self.consumer)
            more = bool(lagging) and self.consumer.step(lagging).more
            # Heartbeats and health checks get their turn between batches.
            eventlet.sleep(0)

    def _lagging(self, consumer: Consumer) -> list[int]:
        # By the nudges; the log itself is asked now and then, and after a failure.
        if self.failures or time.monotonic() - self._looked > self.seconds:
            self._heads = dict(self.runtime.log.heads(self.stream))
            self._looked = time.monotonic()
        heads = dict(self._heads)
        lags = {partition: heads[partition] - consumer.position(partition) for partition in self._mine(heads)}
        for partition, lag in lags.items():
            LAG.labels(self.name, str(partition)).set(lag)
        return [partition for partition, lag in sorted(lags.items()) if lag > 0]

    def _mine(self, partitions: Iterable[int]) -> list[int]:
        takes = self.runtime.instances.takes
        if self.alone:
            return list(partitions) if takes(self.name) else []
        return [each for each in partitions if takes(f"{self.name}/{each}")]


class Ticker(_Loop):
    """Calls the decorated method every `seconds`, and at once on a nudge of `wakes_on`, though never sooner
    than `spacing` (s) after the last.

    One call at a time an instance; several instances each have theirs.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        wakes_on: Sequence[str] = (),
        spacing: float = ROUND_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spacing = spacing
        self.name = name
        self.seconds = seconds
        self.streams = tuple(wakes_on)

    def work(self) -> None:
        """One call."""
        self.call()


class RuntimeProvider(DependencyProvider):
    """The container's Runtime."""

    shared = RuntimeExtension()

    def get_dependency(self, worker_ctx: Any) -> Runtime:
        """The same for every worker."""
        runtime: Runtime = self.shared.runtime
        return runtime


class StoreProvider(DependencyProvider):
    """What the service class's `make_store(runtime)` gave."""

    shared = RuntimeExtension()

    def get_dependency(self, worker_ctx: Any) -> Any:
        """The same for every worker."""
        return self.shared.store


class LoopsProvider(DependencyProvider):
    """The container's subscriptions, by name: for health, progress and parked events."""

    shared = RuntimeExtension()

    def get_dependency(self, worker_ctx: Any) -> dict[str, Consumer]:
        """Name -> consumer."""
        loops = self.shared.loops
        return {each.name: each.consumer for each in loops if isinstance(each, Subscription) and each.consumer}


subscribe = Subscription.decorator
ticker = Ticker.decorator
