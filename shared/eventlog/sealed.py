"""Bodies of events: sealing them on the way in, opening them on the way out."""

from collections.abc import Sequence

import orjson

from shared.errors import Poison
from shared.eventlog.event import Event, NewEvent
from shared.eventlog.upcast import UPCASTERS, Upcasters
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealed

Body = dict[str, object]


def is_sensitive(cls: str) -> bool:
    """Whether a class of data is of special categories: `sensitive`, or an agreement's own such class."""
    return cls == SENSITIVE or cls.endswith(f"-{SENSITIVE}")


def held_class(event: NewEvent, cls: str) -> str | None:
    """The class under whose key the event's ordinary (or sensitive) part is sealed: that of an agreement where it
    came under one. None where it has no such part."""
    if cls in event.sealed:
        return cls
    return next((each for each in event.sealed if is_sensitive(each) == (cls == SENSITIVE)), None)


def open_raw(keyring: Keyring, events: Sequence[Event], cls: str = ORDINARY) -> list[bytes | None]:
    """Each event's ordinary (or sensitive) plaintext, in order; None where it has none or it was erased."""
    held = [held_class(event, cls) for event in events]
    holding = [index for index, each in enumerate(held) if each is not None]
    items = [Sealed(e.subject, str(held[at]), e.id, e.sealed[str(held[at])]) for at in holding if (e := events[at])]
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
