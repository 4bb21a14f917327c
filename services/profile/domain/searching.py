"""Searching profiles by what is known of them: conditions, all of which must hold.

    [{"trait": "plan", "is": "pro"}, {"identifier": "email", "exists": true}, {"computed": "spent", "gte": 100}]

A trait is the value that is believed; a dotted name reaches into one (`address.city`). An identifier is any value of
its kind, as the log has it; e-mails that it `is`, or is `in`, are looked for in lower case, as the log has them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from contracts.profile import Facts
from shared.conditions import check_condition, holds, values_at
from shared.errors import SamlaError
from shared.policy import POLICY

HEADS: Final = ("trait", "identifier", "computed")
MOST_CONDITIONS: Final = 20


class Condition(NamedTuple):
    """One that was checked."""

    head: str
    name: str
    op: str
    wanted: Any

    @property
    def asked(self) -> str:
        """What it is about: `trait.plan`."""
        return f"{self.head}.{self.name}"


def conditions_of(where: object, computed: Collection[str]) -> list[Condition]:
    """Ready to search by; `computed`: the keys of the computed traits that there are. Raises SamlaError, saying where
    and what."""
    several = where if isinstance(where, list) else [where]
    if not 0 < len(several) <= MOST_CONDITIONS:
        raise SamlaError(f"where: a condition, or a list of {MOST_CONDITIONS} at most")
    places = [f"where[{number}]" if isinstance(where, list) else "where" for number in range(len(several))]
    return [_condition(each, place, computed) for each, place in zip(several, places, strict=True)]


def _condition(given: object, place: str, computed: Collection[str]) -> Condition:
    if not isinstance(given, dict):
        raise SamlaError(f'{place}: must be an object such as {{"trait": "plan", "is": "pro"}}')
    heads = [head for head in HEADS if head in given]
    if len(heads) != 1:
        raise SamlaError(f"{place}: needs just one of {', '.join(HEADS)}")
    [head] = heads
    name = given[head]
    if not isinstance(name, str) or not name:
        raise SamlaError(f"{place}.{head}: must be a name")
    rest = {word: value for word, value in given.items() if word != head}
    check_condition(rest, place, "a condition")
    if head == "computed" and name not in computed:
        raise SamlaError(f"{place}.computed: {_no_computed(name)}")
    if head == "trait":
        POLICY.check_path(name, f"{place}.trait", "searches")
    [(op, wanted)] = rest.items()
    return Condition(head, name, op, _in_lower_case(op, wanted) if (head, name) == ("identifier", "email") else wanted)


def _in_lower_case(op: str, wanted: Any) -> Any:
    """What e-mails are to equal, as identity compares them; what other operators take is left as it is."""
    if op in ("in", "not_in"):
        return [_in_lower_case("is", each) for each in wanted]
    return wanted.strip().lower() if op in ("is", "is_not") and isinstance(wanted, str) else wanted


def _no_computed(key: str) -> str:
    return f"there is no computed trait {key}, or it is still being filled"


def found_in(facts: Facts, conditions: Sequence[Condition]) -> dict[str, list[Any]] | None:
    """What of a profile is as the conditions say: {what was asked about: values}; None where one does not hold. Raises
    SamlaError where a computed trait was removed since the conditions were checked."""
    found: dict[str, list[Any]] = {}
    for each in conditions:
        values = _VALUES[each.head](facts, each.name)
        if not holds(each.op, each.wanted, values):
            return None
        found[each.asked] = values
    return found


def _trait(facts: Facts, name: str) -> list[Any]:
    traits: Mapping[str, Any] = facts["traits"]
    if name in traits:
        return [traits[name][2]]
    head, dot, path = name.partition(".")
    return list(values_at(traits[head][2], path)) if dot and head in traits else []


def _identifier(facts: Facts, kind: str) -> list[Any]:
    return sorted(facts["ids"].get(kind, ()))


def _computed(facts: Facts, key: str) -> list[Any]:
    if key not in facts["computed"]:
        raise SamlaError(f"where: {_no_computed(key)}")
    value = facts["computed"][key][0]
    return [] if value is None else [value]


_VALUES: Final = {"trait": _trait, "identifier": _identifier, "computed": _computed}
