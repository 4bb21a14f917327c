"""Bodies of events: sealing them on the way in, opening them on the way out."""

from collections.abc import Sequence

import orjson

from shared.errors import Poison
from shared.eventlog.event import Event
from shared.eventlog.upcast import UPCASTERS, Upcasters
from shared.keyring import ORDINARY, Keyring, Sealed

Body = dict[str, object]


def open_raw(keyring: Keyring, events: Sequence[Event], cls: str = ORDINARY) -> list[bytes | None]:
    """Each event's plaintext of one class, in order; None where it has none or it was erased."""
    holding = [index for index, event in enumerate(events) if cls in event.sealed]
    items = [Sealed(e.subject, cls, e.id, e.sealed[cls]) for e in (events[index] for index in holding)]
    plain: list[bytes | None] = [None] * len(events)
    for index, text in zip(holding, keyring.open(items), strict=True):
        plain[index] = text
    return plain


def open_events(
    keyring: Keyring, events: Sequence[Event], cls: str = ORDINARY, upcasters: Upcasters = UPCASTERS
) -> list[Body | None]:
    """Each event's body of one class, lifted to its newest version; None where none or erased.

    Raises Poison where a body is not a JSON object, MissingKey as Keyring.open does.
    """
    return [
        None if text is None else upcasters.body(event, _decoded(event, text))
        for event, text in zip(events, open_raw(keyring, events, cls), strict=True)
    ]


def _decoded(event: Event, text: bytes) -> Body:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Poison(f"the body of event {event.id} is not JSON") from error
    if not isinstance(body, dict):
        raise Poison(f"the body of event {event.id} is not a JSON object")
    return body
