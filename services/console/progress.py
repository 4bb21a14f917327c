"""How far behind the log the suite is: what the demo, the tests and the benchmarks wait for."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.streams import IDENTITY, PRIVACY, PROFILE, SEGMENTATION, TRACKING
from shared.eventlog import EventLog

SUBSCRIPTIONS: Final = {
    "identity": {"identity.resolve": TRACKING, "identity.erasures": PRIVACY},
    "profile": {"profile.states": TRACKING, "profile.people": IDENTITY, "profile.erasures": PRIVACY},
    "segmentation": {"segmentation.evaluate": PROFILE, "segmentation.erasures": PRIVACY},
    "activation": {
        "activation.plan": SEGMENTATION,
        "activation.merges": PROFILE,
        "activation.erasures": PRIVACY,
    },
    "privacy": {"privacy.consents": TRACKING},
}
"""Service -> its subscriptions and the streams that they read."""


def behind(services: Any, log: EventLog) -> dict[str, int]:
    """Subscription -> events that it has not handled yet. `services` is a nameko cluster proxy.

    In the order in which events go through the suite: what a subscription is still to append is not seen
    in those before it, so zero everywhere, twice in a row, is quiet.
    """
    lags = {}
    for service, subscriptions in SUBSCRIPTIONS.items():
        progress: Mapping[str, Mapping[str, int]] = services[service].progress()
        for name, stream in subscriptions.items():
            lags[name] = lag(stream, progress.get(name, {}), log.heads(stream))
    return lags


def lag(stream: str, handled: Mapping[str, int], heads: Mapping[int, int]) -> int:
    """Events of a stream that are not handled yet. `handled`: `stream:partition` -> position."""
    return sum(max(0, head - handled.get(f"{stream}:{partition}", 0)) for partition, head in heads.items())


def is_quiet(services: Any, log: EventLog) -> bool:
    """Whether everything is handled, segments are filled, and no delivery waits."""
    if any(behind(services, log).values()) or not all(row["filled"] for row in services.segmentation.segments()):
        return False
    if services.activation.stats()["statuses"].get("pending"):
        return False
    return not any(behind(services, log).values())
