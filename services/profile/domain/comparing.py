"""What is different between two views of a profile (domain/view.py): of two instants, by part."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from shared.conditions import is_number, same

View = Mapping[str, Any]


def differences(before: View, after: View) -> dict[str, Any]:
    """Part -> {added, removed, changed}, by name; a view may lack parts.

    identity      {kind: [values]} that came and went
    quantitative  {event: {count, minor_units: {currency: amount}}}: what there is, and of `changed` how much more
    descriptive, qualitative, computed   {name: value}; `changed`: {from, to}, and `by` of numbers
    """
    return {part: read(before.get(part) or {}, after.get(part) or {}) for part, read in _READERS.items()}


def is_nothing(found: Mapping[str, Any]) -> bool:
    """Whether nothing is different."""
    return not any(each for part in found.values() for each in part.values())


def _identity(before: View, after: View) -> dict[str, Any]:
    def beyond(some: View, others: View) -> dict[str, list[Any]]:
        values = {kind: [each["value"] for each in some[kind]] for kind in sorted(some)}
        known = {kind: {each["value"] for each in of} for kind, of in others.items()}
        fresh = {kind: [each for each in of if each not in known.get(kind, ())] for kind, of in values.items()}
        return {kind: of for kind, of in fresh.items() if of}

    return {"added": beyond(after, before), "removed": beyond(before, after), "changed": {}}


def _quantitative(before: View, after: View) -> dict[str, Any]:
    return _apart(before, after, _counted, _counted_more)


def _values(before: View, after: View) -> dict[str, Any]:
    return _apart(before, after, lambda held: held["value"], _moved)


def _apart(
    before: View, after: View, shown: Callable[[View], Any], compared: Callable[[View, View], Any]
) -> dict[str, Any]:
    """`compared` gives None where nothing is different."""
    both = sorted(before.keys() & after.keys())
    changed = {name: compared(before[name], after[name]) for name in both}
    return {
        "added": {name: shown(after[name]) for name in sorted(after.keys() - before.keys())},
        "removed": {name: shown(before[name]) for name in sorted(before.keys() - after.keys())},
        "changed": {name: each for name, each in changed.items() if each is not None},
    }


def _counted(held: View) -> dict[str, Any]:
    return {"count": held["count"], "minor_units": dict(held.get("minor_units") or {})}


def _counted_more(before: View, after: View) -> dict[str, Any] | None:
    old, new = _counted(before), _counted(after)
    currencies = sorted(old["minor_units"].keys() | new["minor_units"].keys())
    sums = {each: new["minor_units"].get(each, 0) - old["minor_units"].get(each, 0) for each in currencies}
    more = {"count": new["count"] - old["count"], "minor_units": {each: by for each, by in sums.items() if by}}
    return more if any(more.values()) else None


def _moved(before: View, after: View) -> dict[str, Any] | None:
    old, new = before["value"], after["value"]
    if same(old, new):
        return None
    by = {"by": new - old} if is_number(old) and is_number(new) else {}
    return {"from": old, "to": new, **by}


_READERS: Final[Mapping[str, Callable[[View, View], dict[str, Any]]]] = {
    "identity": _identity,
    "quantitative": _quantitative,
    "descriptive": _values,
    "qualitative": _values,
    "computed": _values,
}
