"""RPC between the services: nameko's, with messages that are not kept.

A request or a reply may hold personal data. So it is transient (never on the broker's disk) and expires
when nobody waits for it any more (DESIGN law 8).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import eventlet
import orjson
from kombu.serialization import register
from nameko.amqp.publish import Publisher
from nameko.constants import NON_PERSISTENT
from nameko.rpc import MethodProxy, Responder
from nameko.standalone.rpc import ClusterRpcProxy

from shared.config import Settings
from shared.errors import Unavailable

RPC_SECONDS: Final = 30
"""After this time an unanswered message is dropped by the broker."""
SERIALIZER: Final = "samla-json"


class TransientPublisher(Publisher):  # type: ignore[misc]
    """Publishes messages that live in memory, and not for long."""

    delivery_mode = NON_PERSISTENT
    expiration = RPC_SECONDS


class ReplyPublisher(TransientPublisher):
    """Replies are not confirmed: who waits for one has a deadline of its own."""

    use_confirms = False


def configure() -> None:
    """To be called once a process, before a container or a proxy is made."""
    register(SERIALIZER, _dumps, orjson.loads, content_type="application/json", content_encoding="utf-8")  # type: ignore[no-untyped-call]
    MethodProxy.publisher_cls = TransientPublisher
    Responder.publisher_cls = ReplyPublisher


def _dumps(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def nameko_config(settings: Settings, service: str) -> dict[str, Any]:
    """nameko's configuration of a service."""
    return {
        "AMQP_URI": settings.amqp_url,
        "WEB_SERVER_ADDRESS": f"{settings.bind}:{settings.port_of(service)}",
        "serializer": SERIALIZER,
        "ACCEPT": [SERIALIZER, "json"],
        "SERIALIZERS": {
            SERIALIZER: {
                "encoder": "shared.rpc._dumps",
                "decoder": "orjson.loads",
                "content_type": "application/json",
                "content_encoding": "utf-8",
            }
        },
        "max_workers": 30,
        "parent_calls_tracked": 3,
    }


def time_limit(who: str, seconds: float) -> eventlet.Timeout:
    """`with time_limit("privacy", 5): ...`: raises Unavailable where it takes longer."""
    return eventlet.Timeout(seconds, Unavailable(f"{who} did not answer within {seconds:g} s"))


@contextmanager
def rpc_cluster(settings: Settings, timeout: float = 20) -> Iterator[Any]:
    """The services, to be asked from a script: `with rpc_cluster(settings) as ask: ask.profile.show(...)`."""
    configure()
    config = nameko_config(settings, "collector")
    with ClusterRpcProxy(config, timeout=timeout) as services:
        yield services
