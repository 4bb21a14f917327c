"""Deliveries to try things on."""

from msgspec.structs import replace

from services.activation.domain.delivery import Delivery, Fact, begin, decide, evolve

NOW = 1_700_000_000_000
DATA = {
    "delivery": "d" * 32,
    "destination": "e" * 32,
    "profile": "a" * 32,
    "segment": "b" * 32,
    "segment_version": 2,
    "subscription": "c" * 32,
    "change": "entered",
    "at": NOW - 5_000,
    "reason": "event",
    "purpose": "marketing",
}


class Envelope:
    time = NOW
    causes = {"segmentation:1": 7, "tracking:3": 120}
    correlation = "c0ffee"


def pending(**fields) -> Delivery:
    """A delivery that was just scheduled, with other fields where given."""
    return replace(begin(DATA, Envelope), **fields)


def given(*facts: Fact, state: Delivery | None = None, now: int = NOW) -> Delivery:
    """The state after the facts."""
    state = state or pending()
    for fact in facts:
        state = evolve(state, fact, now)
    return state


def when(command, state: Delivery, now: int = NOW) -> list[tuple[str, dict]]:
    """What follows from the command: [(type without stream and version, data without the delivery)]."""
    return [
        (fact.type.split(".")[1], {name: value for name, value in fact.data.items() if name != "delivery"})
        for fact in decide(command, state, now)
    ]
