"""Bodies of events, opened to be shown: what cannot be read is passed over, as it is when states are folded."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.profile.correcting import Said
from services.profile.domain.computed import Trait
from services.profile.domain.state import State, state_of
from shared.errors import Poison
from shared.eventlog import Event
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY, Keyring

Opened = tuple[Event, str, dict[str, Any]]
"""(the event that holds the body, the id of the event that it is the body of, the body)."""

MALFORMED: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What folding a body that is not what it should be raises."""


def opened(keyring: Keyring, said: Sequence[Said], cls: str = ORDINARY) -> Iterator[Opened]:
    """Those that have a part of that class of data, can be read, and have not been erased."""
    try:
        bodies = open_events(keyring, [event for event, _ in said], cls)
    except Poison:
        if len(said) > 1:
            for each in said:
                yield from opened(keyring, [each], cls)
        return
    for (event, identity), body in zip(said, bodies, strict=True):
        if body is not None and isinstance(body.get("time"), int):
            yield event, identity, body


def folded(body: dict[str, Any], identity: str, traits: Sequence[Trait]) -> State | None:
    """What a body says; None where it is not what it should be."""
    try:
        return state_of(body, identity, traits)
    except MALFORMED:
        return None
