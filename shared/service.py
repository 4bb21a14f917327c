"""What every service has: health, metrics, progress and parked events.

    class ProfileService(Service):
        name = "profile"

        @classmethod
        def make_store(cls, runtime): ...

Each service's class adds its subscriptions, tickers and RPCs; the decisions are in its domain/.
"""

import json
import logging
from typing import Any

from nameko.rpc import rpc
from nameko.web.handlers import http
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pymongo.errors import PyMongoError
from werkzeug.wrappers import Request, Response

from shared.consumer import Consumer
from shared.errors import SamlaError
from shared.runtime import Runtime
from shared.subscription import LoopsProvider, RuntimeProvider, StoreProvider


class Service:
    """Base of the nameko services."""

    name: str
    runtime: Runtime = RuntimeProvider()
    store: Any = StoreProvider()
    consumers: dict[str, Consumer] = LoopsProvider()

    @classmethod
    def make_store(cls, runtime: Runtime) -> Any:
        """The service's collections, made (with their indexes) before anything starts."""
        return None

    @http("GET", "/health")
    def health(self, request: Request) -> Response:
        """200 with `{"status": "ok"}` while MongoDB answers, else 503."""
        try:
            self.runtime.ping()
        except PyMongoError as error:
            return _json(503, {"status": "unavailable", "service": self.name, "why": type(error).__name__})
        return _json(200, {"status": "ok", "service": self.name})

    @http("GET", "/metrics")
    def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    @rpc
    def progress(self) -> dict[str, dict[str, int]]:
        """Subscription -> `stream:partition` -> position handled."""
        progress: dict[str, dict[str, int]] = {name: {} for name in self.consumers}
        for place, position in self.runtime.checkpoints.all().items():
            progress.setdefault(place.subscription, {})[f"{place.stream}:{place.partition}"] = position
        return progress

    @rpc
    def parked_list(self) -> list[dict[str, Any]]:
        """The events that this service has set aside, oldest first."""
        fields = ("id", "subscription", "stream", "partition", "position", "event", "type", "error", "where", "time")
        return [{name: getattr(parked, name) for name in fields} for parked in self.runtime.checkpoints.parked()]

    @rpc
    def parked_retry(self, identity: str) -> dict[str, Any]:
        """Handles a parked event again: `{"done": bool, "why": text}`."""
        found = {parked.id: parked for parked in self.runtime.checkpoints.parked()}.get(identity)
        if found is None:
            return {"done": False, "why": "nothing is parked under this id"}
        consumer = self.consumers.get(found.subscription)
        if consumer is None:
            return {"done": False, "why": f"no subscription {found.subscription} here any more"}
        try:
            return {"done": consumer.retry(found), "why": ""}
        except Exception as error:
            why = f"{type(error).__name__}: {error}" if isinstance(error, SamlaError) else type(error).__name__
            return {"done": False, "why": why}


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


class _NoTexts(logging.Filter):
    """nameko logs the texts of workers' errors, which might quote a person's data: only their types stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        record.args = tuple(type(each).__name__ if isinstance(each, BaseException) else each for each in arguments)
        record.exc_info = None
        return True


logging.getLogger("nameko.containers").addFilter(_NoTexts())
