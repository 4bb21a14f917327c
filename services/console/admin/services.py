"""Asking the services over a bounded number of connections, from any thread.

nameko's standalone proxy belongs to one thread at a time and does not mend itself well: so a connection on which
anything went wrong is thrown away, and one that has been idle is looked at before it is used.
"""

import contextlib
import select
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import pymongo.errors
from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from nameko.exceptions import RemoteError, RpcTimeout, UnknownService
from nameko.standalone.rpc import ClusterRpcProxy

from shared import errors
from shared.config import Settings
from shared.errors import SamlaError, Unavailable
from shared.rpc import configure, nameko_config

CONNECTIONS: Final = 8
QUEUE_SECONDS: Final = 5.0
"""How long a request may wait for a connection."""
ASK_SECONDS: Final = 20.0
# RuntimeError is what nameko says of a proxy that was disconnected.
LOST: Final = (OSError, AMQPError, KombuError, RuntimeError)


OTHERS: Final[Mapping[str, type[SamlaError]]] = {"SubjectsFenced": errors.Conflict, "BeingErased": Unavailable}
"""Errors of ours that are made otherwise, or are a service's own -> what they are to who asks."""


class Broken(Exception):
    """A service failed within: a mistake of ours. Only the error's type is known; its text may quote a person."""

    def __init__(self, service: str, kind: str) -> None:
        self.service, self.kind = service, kind
        super().__init__(f"{service} failed within ({kind})")


class Services:
    """See the module's text."""

    def __init__(self, settings: Settings, connections: int = CONNECTIONS) -> None:
        configure()
        self._config = nameko_config(settings, "collector")
        self._free = threading.BoundedSemaphore(connections)
        self._idle: deque[_Connection] = deque()

    def ask(self, service: str, method: str, arguments: Mapping[str, Any], seconds: float = ASK_SECONDS) -> Any:
        """The answer of an RPC. Raises what the service raised of our own errors, Unavailable, or Broken."""
        with self._connection() as connection:
            try:
                return connection.ask(service, method, arguments, seconds)
            except (UnknownService, RpcTimeout) as error:
                raise Unavailable(f"{service} does not answer: see `make status`") from error
            except RemoteError as error:
                raise raised(service, error) from error

    def reach(self) -> None:
        """Raises Unavailable where the broker cannot be reached."""
        with self._connection():
            pass

    def close(self) -> None:
        """Closes those that are idle."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _connection(self) -> Any:
        if not self._free.acquire(timeout=QUEUE_SECONDS):
            raise Unavailable("too much is asked at once: ask again soon")
        try:
            connection = self._taken()
            try:
                yield connection
            except (SamlaError, Broken) as error:
                # What the service said came by a connection that works; a late answer would only lie about.
                self._put_back(connection, works=not isinstance(error, Unavailable))
                raise
            except BaseException:
                connection.close()
                raise
            self._put_back(connection, works=True)
        except LOST as error:
            raise Unavailable("RabbitMQ does not answer: see `make status`") from error
        finally:
            self._free.release()

    def _taken(self) -> "_Connection":
        while self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if connection.works():
                    return connection
                connection.close()
        return _Connection(self._config)

    def _put_back(self, connection: "_Connection", works: bool) -> None:
        if works:
            self._idle.append(connection)
        else:
            connection.close()


class _Connection:
    """One connection; used by one thread at a time."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._proxy = ClusterRpcProxy(config, timeout=ASK_SECONDS)
        self._services = self._proxy.start()
        self._replies = self._proxy._reply_listener.queue_consumer

    def ask(self, service: str, method: str, arguments: Mapping[str, Any], seconds: float) -> Any:
        self._replies.timeout = seconds
        return getattr(self._services[service], method)(**arguments)

    def works(self) -> bool:
        """Nothing comes to a connection that waits for nothing, but its end."""
        try:
            waiting = select.poll()
            waiting.register(self._replies.connection.connection.transport.sock, select.POLLIN)
            return self._replies.connection.connected and not waiting.poll(0)
        except (*LOST, AttributeError, ValueError):
            return False

    def close(self) -> None:
        with contextlib.suppress(*LOST, AttributeError):
            self._proxy.stop()


def raised(service: str, error: RemoteError) -> Exception:
    """An error of ours as it was raised; one of MongoDB's says that it is away; any other is a mistake."""
    kind = OTHERS.get(str(error.exc_type)) or getattr(errors, str(error.exc_type), None)
    if isinstance(kind, type) and issubclass(kind, SamlaError):
        return kind(str(error.value))
    kind = getattr(pymongo.errors, str(error.exc_type), None)
    if isinstance(kind, type) and issubclass(kind, (pymongo.errors.ConnectionFailure, pymongo.errors.ExecutionTimeout)):
        return Unavailable(f"{service} cannot reach MongoDB: see `make status`")
    return Broken(service, str(error.exc_type))
