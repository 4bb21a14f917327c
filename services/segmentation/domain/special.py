"""Special categories of data (GDPR Art. 9) in a definition: what it names, and what may be inferred from it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from services.segmentation.domain.definition import Definition, placed
from shared.conditions import TEXTS, compares
from shared.policy import CATEGORY_FIELDS, Policy, plain

PATTERNS: Final = ("contains", *TEXTS)


class Found(NamedTuple):
    """A part of a definition that is of a special category."""

    place: str
    name: str
    category: str


def special(definition: Definition, policy: Policy, computed: Mapping[str, Definition] | None = None) -> list[Found]:
    """All such parts. `computed`: key -> definition, of the computed traits that it may look at."""
    found = (
        Found(place, name, category)
        for place, leaf in placed(definition)
        for name, category in _of_leaf(leaf, policy, computed or {})
    )
    return list(dict.fromkeys(found))


def refusal(parts: list[Found], policy: Policy) -> str:
    """What is said of them: which part, which category, which law."""
    told = "; ".join(f"{each.place}: {each.name} tells of {each.category.replace('_', ' ')}" for each in parts)
    return (
        f"{told}. What is of a special category of data ({policy.law}) is not used for segments, also not of those who "
        "have agreed: see contracts/data_policy.json"
    )


def _of_leaf(leaf: Definition, policy: Policy, computed: Mapping[str, Definition]) -> Iterator[tuple[str, str]]:
    if "trait" in leaf:
        yield from _path(leaf["trait"], policy)
        yield from _values({op: value for op, value in leaf.items() if op != "trait"}, policy)
    if "computed" in leaf:
        of = computed.get(leaf["computed"], {})
        yield from _named(leaf["computed"], policy.trait(leaf["computed"]))
        names = of.get("event", [])
        for name in [names] if isinstance(names, str) else names:
            yield from _event({**of, "event": name}, policy)
    steps = [step.get("not", step) for step in leaf["sequence"]] if "sequence" in leaf else []
    for event in [leaf, *steps]:
        if "event" in event:
            yield from _event(event, policy)


def _named(name: str, category: str | None) -> Iterator[tuple[str, str]]:
    if category:
        yield name, category


def _event(event: Definition, policy: Policy) -> Iterator[tuple[str, str]]:
    yield from _named(event["event"], policy.event(event["event"]))
    for path in (event.get("of"), event.get("value")):
        yield from _path(path or "", policy)
    for condition in event.get("where", []):
        yield from _path(condition["property"], policy)
        said = {op: value for op, value in condition.items() if op != "property"}
        yield from _values(said, policy)
        if condition["property"].rpartition(".")[2] in CATEGORY_FIELDS:
            yield from _patterns(said, policy)


def _path(path: str, policy: Policy) -> Iterator[tuple[str, str]]:
    yield from _named(path, policy.path(path))


def _values(condition: Mapping[str, Any], policy: Policy) -> Iterator[tuple[str, str]]:
    """What is compared with may be the name of something special."""
    for wanted in condition.values():
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if isinstance(value, str):
                yield from _named(value, policy.trait(value) or policy.product(value))


def _patterns(condition: Mapping[str, Any], policy: Policy) -> Iterator[tuple[str, str]]:
    """A part of a category's name may take in special ones."""
    for op, wanted in condition.items():
        if op in PATTERNS and isinstance(wanted, str):
            for category, names in policy.document["categories"].items():
                taken = [name for name in names["products"] if compares(op, plain(name), _pattern(wanted))]
                yield from ((f"{wanted} ({name})", category) for name in taken[:1])


def _pattern(text: str) -> str:
    return text.lower().replace("_", " ").replace("-", " ").replace("/", " ")
