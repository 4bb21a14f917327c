"""Consents: what somebody has agreed to and refused, with history. Folded like every state: order is nothing.

The state of a subject is {"said": {purpose: {"TIME EVENT": ROW}}, "gpc": {"TIME EVENT": ROW}}: a set of statements. A
row is [agreed, source, by whom]. What holds is the last of them by (event time, event id).

Many sites stamp what was agreed to on every event. So of statements that say the same, by the same identifiers in the
same week, the first and the last are kept, and that there were others in between ([..., True]); what is kept of a union
follows from what is kept of its parts. Of more than MOST_SAID nothing is kept but that it was too much
(docs/decisions/0024-what-is-kept-of-consents.md).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from services.privacy.domain.belonging import Belonging

State = dict[str, Any]
Rows = dict[str, Any]
"""By "TIME EVENT"."""

WEEK_MS: Final = 7 * 86_400_000
MOST_SAID: Final = 40_000
"""Statements that are kept of a subject: they stand in one document, and MongoDB takes 16 MB."""
TOO_MUCH: Final = "too_much"

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
    whom = hashlib.sha256(orjson.dumps(body.get("identifiers") or ())).hexdigest()[:12]
    state = empty()
    if consent is not None:
        preferences = consent or {ALL: False}
        state["said"] = {purpose: {when: [bool(agreed), source, whom]} for purpose, agreed in preferences.items()}
    if gpc:
        state["gpc"] = {when: [True, source, whom]}
    return state


def merge(into: State, more: State) -> State:
    """Both together, in `into`: what is kept of the union."""
    _unite(into, more)
    for rows in (*into["said"].values(), into["gpc"]):
        for _, *between, last in _alike(rows):
            if between:
                rows[last] = [*rows[last][:3], True]
            for each in between:
                del rows[each]
    if sum(len(rows) + len(purpose) // 100 for purpose, rows in into["said"].items()) + len(into["gpc"]) > MOST_SAID:
        into[TOO_MUCH] = True
    if TOO_MUCH in into:
        into["said"], into["gpc"] = {}, {}
    return into


def _unite(into: State, more: State) -> None:
    for purpose, said in more["said"].items():
        _unite_rows(into["said"].setdefault(purpose, {}), said)
    _unite_rows(into["gpc"], more["gpc"])
    if TOO_MUCH in more:
        into[TOO_MUCH] = True


def _unite_rows(into: Rows, more: Rows) -> None:
    """The longer row knows more."""
    into.update((when, row) for when, row in more.items() if len(row) >= len(into.get(when, ())))


def _alike(rows: Rows) -> list[list[str]]:
    """Two statements and more that say the same, by the same identifiers in the same week, in order. Rows of the first
    form do not say by whom."""
    found: dict[Any, list[str]] = {}
    for when, row in rows.items():
        if isinstance(row, list) and len(row) > 2:
            found.setdefault((row[0], row[2], int(when[:15]) // WEEK_MS), []).append(when)
    return [sorted(each) for each in found.values() if len(each) > 1]


def merged(states: Iterable[State]) -> State:
    """All of them together; they are left as they are."""
    whole = empty()
    for state in states:
        _unite(whole, state)
    return merge(whole, empty())


def of(states: Mapping[str, State], belonging: Belonging) -> State:
    """What of these subjects' states a person has said."""
    whole = empty()
    for subject, state in states.items():
        if subject in belonging.places:
            _unite(whole, part(state, partial(belonging.holds, subject)))
    return whole


def part(state: State, holds: Callable[[str, int], bool]) -> State:
    """The statements of (event, time) that hold. Where the last of many refusals does not, one that was not kept may
    have been the last that does: what was agreed to meanwhile is left out."""

    def held(when: str) -> bool:
        return holds(when[16:], int(when[:15]))

    said = {purpose: {when: row for when, row in rows.items() if held(when)} for purpose, rows in state["said"].items()}
    for purpose, rows in state["said"].items():
        for first, last in _doubtful({when: row for when, row in rows.items() if not row[0]}, held):
            for other in list(said) if purpose == ALL else [purpose]:
                said[other] = {at: row for at, row in said[other].items() if not (row[0] and first < at < last)}
    objections = {last for _, last in _doubtful(state["gpc"], held)}
    gpc = {when: row for when, row in state["gpc"].items() if when in objections or held(when)}
    kept = {"said": {purpose: rows for purpose, rows in said.items() if rows}, "gpc": gpc}
    return {**kept, TOO_MUCH: True} if TOO_MUCH in state else kept


def _doubtful(rows: Rows, held: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """First and last of what was said alike, where the last is not held and of some in between that is not known."""
    for each in _alike(rows):
        first, last = each[0], each[-1]
        if len(rows[last]) > 3 and held(first) and not held(last):
            yield first, last


def _when(time: int, event: str) -> str:
    """Sorts as (time, event) does."""
    return f"{time:015d} {event}"


def history(state: State, purpose: str) -> list[Said]:
    """What was said about a purpose, oldest first; refusals of everything are about every purpose."""
    said = {**state["said"].get(ALL, {}), **state["said"].get(purpose, {})}
    return [Said(int(when[:15]), when[16:], row[0], row[1]) for when, row in sorted(said.items())]


def purposes(state: State) -> list[str]:
    """What anything was said about."""
    return sorted(set(state["said"]) - {ALL}) or sorted(state["said"])


def objected_at(state: State) -> int | None:
    """When a browser last said `Sec-GPC: 1` (ms)."""
    return max((int(when[:15]) for when in state["gpc"]), default=None)


def changes(said: list[Said]) -> list[Said]:
    """The statements that changed something."""
    return [each for number, each in enumerate(said) if not number or said[number - 1].agreed != each.agreed]
