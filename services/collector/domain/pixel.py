"""What clients ask for before they send anything, and the image that sends for those that cannot."""

from collections.abc import Iterable
from typing import Any, Final

from services.collector.domain.decode import Message

GIF: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""One transparent pixel."""
DEEPEST: Final = 10
CONSENT: Final = ["context", "consent", "categoryPreferences"]
SAID: Final = {"true": True, "false": False}
"""What somebody has agreed to is said so in an address; anything else stays a text, and is not guessed at."""
UNNAMED: Final = "Unknown Page"
"""What RudderStack calls a page that has no name."""


def message_of(kind: str, query: Iterable[tuple[str, str]]) -> Message:
    """The message of `GET /pixel/v1/{kind}?...`: each parameter is a field, with dots for fields of fields. Values are
    texts, but for what was agreed to."""
    message: Message = {"type": kind, "channel": "web"}
    for name, value in query:
        if name != "writeKey":
            path = name.split(".")
            _put(message, path, SAID.get(value, value) if path[:-1] == CONSENT else value)
    message["type"] = kind
    if kind == "page":
        message.setdefault("name", UNNAMED)
    return message


def _put(into: dict[str, Any], path: list[str], value: str | bool) -> None:
    for name in path[:-1][:DEEPEST]:
        inner = into.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        into = inner
    into[path[-1]] = value


def segment_settings(write_key: str, host: str, scheme: str) -> dict[str, Any]:
    """`GET /v1/projects/{writeKey}/settings`: without it Segment's browser and mobile SDKs send nothing."""
    integration = {"apiKey": write_key, "apiHost": f"{host}/v1", "protocol": scheme}
    return {"integrations": {"Segment.io": integration}, "plan": {"track": {"__default": {"enabled": True}}}}


def rudder_config(source: str, name: str, write_key: str) -> dict[str, Any]:
    """`GET /sourceConfig`: without it RudderStack's browser SDK sends nothing."""
    off = {"enabled": False}
    return {
        "source": {
            "id": source,
            "name": name,
            "writeKey": write_key,
            "enabled": True,
            "workspaceId": "samla",
            "config": {"statsCollection": {"errors": off, "metrics": off}},
            "connections": [],
            "destinations": [],
            "dataplanes": {},
        }
    }
