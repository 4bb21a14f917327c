"""Consents: what somebody has agreed to and refused, with history. Folded like every state: order is nothing.

The state of a subject is {"said": {purpose: {"TIME EVENT": [agreed, source]}}, "gpc": {"TIME EVENT": source}}: a
set of statements. What holds is the last of them by (event time, event id).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from services.privacy.domain.belonging import Belonging

State = dict[str, dict[str, Any]]

ALL: Final = "*"
"""An empty object of preferences: all is refused."""


class Said(NamedTuple):
    """A statement."""

    time: int
    event: str
    agreed: bool
    source: str


def empty() -> State:
    """Nothing has been said."""
    return {"said": {}, "gpc": {}}


def state_of(body: Mapping[str, Any], event: str) -> State | None:
    """What one event says about consent; None where it says nothing."""
    consent, gpc = body.get("consent"), body.get("gpc")
    if consent is None and not gpc:
        return None
    when, source = _when(body["time"], event), body["source_name"]
    state = empty()
    if consent is not None:
        preferences = consent or {ALL: False}
        state["said"] = {purpose: {when: [bool(agreed), source]} for purpose, agreed in preferences.items()}
    if gpc:
        state["gpc"] = {when: source}
    return state


def merge(into: State, more: State) -> State:
    """Both together, in `into`. A union of sets."""
    for purpose, said in more["said"].items():
        into["said"].setdefault(purpose, {}).update(said)
    into["gpc"].update(more["gpc"])
    return into


def merged(states: Iterable[State]) -> State:
    """All of them together; they are left as they are."""
    whole = empty()
    for state in states:
        merge(whole, state)
    return whole


def of(states: Mapping[str, State], belonging: Belonging) -> State:
    """What of these subjects' states a person has said."""
    return merged(
        part(state, partial(belonging.holds, subject))
        for subject, state in states.items()
        if subject in belonging.places
    )


def part(state: State, holds: Callable[[str, int], bool]) -> State:
    """The statements of (event, time) that hold."""

    def kept(said: Mapping[str, Any]) -> dict[str, Any]:
        return {when: each for when, each in said.items() if holds(when[16:], int(when[:15]))}

    said = {purpose: held for purpose, each in state["said"].items() if (held := kept(each))}
    return {"said": said, "gpc": kept(state["gpc"])}


def _when(time: int, event: str) -> str:
    """Sorts as (time, event) does."""
    return f"{time:015d} {event}"


def history(state: State, purpose: str) -> list[Said]:
    """What was said about a purpose, oldest first; refusals of everything are about every purpose."""
    said = {**state["said"].get(ALL, {}), **state["said"].get(purpose, {})}
    return [Said(int(when[:15]), when[16:], agreed, source) for when, (agreed, source) in sorted(said.items())]


def purposes(state: State) -> list[str]:
    """What anything was said about."""
    return sorted(set(state["said"]) - {ALL}) or sorted(state["said"])


def objected_at(state: State) -> int | None:
    """When a browser last said `Sec-GPC: 1` (ms)."""
    return max((int(when[:15]) for when in state["gpc"]), default=None)


def changes(said: list[Said]) -> list[Said]:
    """The statements that changed something."""
    return [each for number, each in enumerate(said) if not number or said[number - 1].agreed != each.agreed]
