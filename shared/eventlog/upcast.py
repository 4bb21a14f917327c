"""Upcasters: old events read as new ones. What is stored never changes; what readers see is lifted.

A step lifts one stored version to the next, for the clear data and for each opened body:

    UPCASTERS.add("tracking.track.v1", "tracking.track.v2", body=rename_price)
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from shared.errors import SamlaError
from shared.eventlog.event import Event

Lift = Callable[[dict[str, object]], dict[str, object]]


def _as_it_is(value: dict[str, object]) -> dict[str, object]:
    return value


class Step(NamedTuple):
    """From one version of an event type to the next; pure functions over plain data."""

    to: str
    data: Lift
    body: Lift


class Upcasters:
    """The steps known, by the type they lift."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def add(self, old: str, new: str, *, data: Lift = _as_it_is, body: Lift = _as_it_is) -> None:
        """Adds the one step from `old`; a second one, or a circle, is refused."""
        if old in self._steps:
            raise SamlaError(f"there is an upcaster from {old} already")
        if old in self._chain_types(new):
            raise SamlaError(f"an upcaster from {old} to {new} would close a circle")
        self._steps[old] = Step(new, data, body)

    def event(self, event: Event) -> Event:
        """The event as its newest type, with its data lifted."""
        if event.type not in self._steps:
            return event
        data, newest = event.data, event.type
        while step := self._steps.get(newest):
            data, newest = step.data(data), step.to
        return msgspec.structs.replace(event, type=newest, data=data, stored_type=event.type)

    def body(self, event: Event, body: dict[str, object]) -> dict[str, object]:
        """An opened body of the event, lifted the way its type was."""
        kind = event.stored_type
        while step := self._steps.get(kind):
            body, kind = step.body(body), step.to
        return body

    def _chain_types(self, start: str) -> set[str]:
        types = {start}
        while step := self._steps.get(start):
            start = step.to
            types.add(start)
        return types


UPCASTERS = Upcasters()
"""The ones in use; contracts that get a new version add their step here."""
