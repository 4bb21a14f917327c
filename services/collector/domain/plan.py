"""Tracking plans: which events a source is expected to send, with which properties, as JSON Schema.

    {"mode": "warn", "unknown_events": "allow",
     "events": {"Order Completed": {"mode": "quarantine", "properties": {"type": "object", "required": ["revenue"],
                "properties": {"revenue": {"type": "number"}}}}},
     "traits": {"type": "object", "properties": {"email": {"type": "string"}}}}

What to do with what is not as expected (`mode`): `warn` counts it, `drop` counts it and leaves out the property,
`quarantine` sets the message aside. Of one with very many values only the first is told, and `drop` sets it aside. A
plan is learned from messages by genson and checked by jsonschema-rs.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

import jsonschema_rs
import orjson
from genson import SchemaBuilder

from contracts.tracking import LONGEST_NAME
from services.collector.domain.decode import holds_more
from shared.checking import bounded, only, told
from shared.errors import SamlaError
from shared.policy import POLICY, Policy

WARN: Final = "warn"
DROP: Final = "drop"
QUARANTINE: Final = "quarantine"
MODES: Final = (WARN, DROP, QUARANTINE)
ALLOW: Final = "allow"
UNKNOWN: Final = (ALLOW, WARN, QUARANTINE)
FIELDS: Final = ("mode", "unknown_events", "events", "traits")
MOST_EVENTS: Final = 2_000
DEEPEST_LEARNED: Final = 12
"""Levels of a message that a plan is learned of: a level is up to four of a schema."""
MOST_VIOLATIONS: Final = 20
"""Of one message that are told apart."""
MOST_CHECKED: Final = 2_500
"""Values in the properties or traits of a message of which all that is wrong is told: the validator tells everything or
the first thing, and everything may take it thirty times as long as the rest of a message."""
IDENTIFY: Final = "identify"
"""What traits are counted under, beside the names of events."""

Message = dict[str, Any]


class Violation(NamedTuple):
    """Something that is not as the plan says. It names what the plan names and nothing else: a sender may put
    somebody's name, number or address where a name should be."""

    event: str
    path: str
    """Where in the message."""
    rule: str
    """The keyword of JSON Schema: type, required, enum ...; or `unknown_event`."""
    special: bool = False
    """Whether its message holds something of a special category: then nothing may lead to whose it was."""

    def row(self) -> dict[str, str]:
        """As it is shown."""
        return {"event": self.event, "path": self.path, "rule": self.rule}


class Expected(NamedTuple):
    """What one kind of message is expected to hold."""

    part: str
    """`properties` or `traits`."""
    schema: Mapping[str, Any]
    validator: Any
    mode: str
    names: frozenset[str] = frozenset()
    """Of properties, as far as the schema says them."""


class Plan(NamedTuple):
    """A plan, compiled."""

    version: int
    events: Mapping[str, Expected]
    traits: Expected | None
    unknown_events: str


class Checked(NamedTuple):
    """A message held against a plan."""

    message: Message
    violations: list[Violation]
    rejected: Violation | None
    """For whose sake the message is set aside."""


NO_PLAN: Final = Plan(0, {}, None, ALLOW)


def plan_of(version: int, document: object) -> Plan:
    """The plan, compiled. Raises SamlaError that says what is wrong."""
    bounded(document, "a plan")
    if not isinstance(document, dict):
        raise SamlaError(f"a plan is an object with some of: {', '.join(FIELDS)}")
    only(document, FIELDS, "a plan")
    mode = _one_of("mode", document.get("mode", WARN), MODES)
    unknown = _one_of("unknown_events", document.get("unknown_events", ALLOW), UNKNOWN)
    events = document.get("events", {})
    if not isinstance(events, dict) or len(events) > MOST_EVENTS:
        raise SamlaError(f"events is an object of {MOST_EVENTS} names at most")
    expected = {name: _expected(name, each, mode) for name, each in events.items()}
    traits = document.get("traits")
    return Plan(version, expected, None if traits is None else _compiled("traits", "traits", traits, mode), unknown)


def _expected(name: str, each: object, mode: str) -> Expected:
    place = f"events.{told(name)}"
    if not 0 < len(name) <= LONGEST_NAME or name != name.strip():
        raise SamlaError(f"{place}: an event's name has 1 to {LONGEST_NAME} characters, without space around it")
    if not isinstance(each, dict):
        raise SamlaError(f"{place}: an event has properties (a JSON Schema) and may have a mode")
    only(each, ("mode", "properties"), place)
    own = _one_of(f"{place}: mode", each.get("mode", mode), MODES)
    return _compiled(place, "properties", each.get("properties", {}), own)


def _compiled(name: str, part: str, schema: object, mode: str) -> Expected:
    if not isinstance(schema, dict) or _refers(schema):
        raise SamlaError(f"{name}: a JSON Schema is an object, and refers to nothing outside of it")
    try:
        return Expected(part, schema, _validator(orjson.dumps(schema)), mode, frozenset(_names(schema)))
    except ValueError as error:
        where = ".".join(map(told, getattr(error, "instance_path", ())))
        raise SamlaError(f"{name}: this is no JSON Schema{f', at {where}' if where else ''}") from error


def unusable(version: int) -> Plan:
    """In place of a plan that is kept and can be used no more: what it would have been asked about is set aside."""
    return Plan(version, {}, _compiled("traits", "traits", {"not": {}}, QUARANTINE), QUARANTINE)


@lru_cache(maxsize=4_096)
def _validator(schema: bytes) -> Any:
    """Plans are read again every few seconds; what has not changed is not compiled again."""
    return jsonschema_rs.validator_for(orjson.loads(schema))


def _refers(schema: Any) -> bool:
    """Whether something outside would have to be fetched."""
    if not isinstance(schema, dict):
        return isinstance(schema, list) and any(map(_refers, schema))
    for keyword, value in schema.items():
        if keyword in ("$ref", "$dynamicRef") and not str(value).startswith("#"):
            return True
        named = keyword in NAMING and isinstance(value, dict)
        if keyword not in VALUES and any(map(_refers, value.values() if named else [value])):
            return True
    return False


NAMING: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
"""Keywords of JSON Schema within which names are the plan's own words."""
VALUES: Final = ("const", "enum", "default", "examples")
"""Those within which there is no schema."""


def _names(schema: Any) -> Iterator[str]:
    """The names of properties in a schema."""
    if isinstance(schema, dict):
        for keyword in ("properties", "dependentRequired", "dependentSchemas"):
            yield from schema[keyword] if isinstance(schema.get(keyword), dict) else ()
        required, depends = schema.get("required"), schema.get("dependentRequired")
        for listed in (required, *(depends.values() if isinstance(depends, dict) else ())):
            yield from (each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for each in inner:
        yield from _names(each)


def _one_of(what: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise SamlaError(f"{what} is one of {', '.join(allowed)}")
    return str(value)


# Checking


def held_against(message: Message, plan: Plan, policy: Policy = POLICY) -> Checked:
    """The message by the plan; it is left as it is. `policy` says what belongs to a special category."""
    expected, name = _expectation(message, plan)
    if expected is None:
        if name is None or plan.unknown_events == ALLOW:
            return Checked(message, [], None)
        unknown = Violation(UNTOLD, "event", "unknown_event", _is_special(message, policy))
        return Checked(message, [unknown], unknown if plan.unknown_events == QUARANTINE else None)
    part = message.get(expected.part)
    value = part if isinstance(part, dict) else {}
    if expected.validator.is_valid(value):
        return Checked(message, [], None)
    large = holds_more(value, MOST_CHECKED)
    # All that is not as expected is left out; only of what is told there is an end.
    most = None if expected.mode == DROP else MOST_VIOLATIONS
    broken = list(islice(_broken(expected, value, large, str(name), _is_special(message, policy)), most))
    violations = [violation for violation, _ in broken[:MOST_VIOLATIONS]]
    if expected.mode == QUARANTINE or (large and expected.mode == DROP):
        return Checked(message, violations, violations[0])
    if expected.mode == DROP:
        message = {**message, expected.part: _without(value, [path for _, path in broken])}
    return Checked(message, violations, None)


def _expectation(message: Message, plan: Plan) -> tuple[Expected | None, str | None]:
    """(what is expected of it, under which name it is counted)."""
    kind, event = message.get("type"), message.get("event")
    if kind == IDENTIFY:
        return plan.traits, IDENTIFY if plan.traits else None
    if kind == "track" and isinstance(event, str):
        return plan.events.get(event.strip()), event.strip()
    return None, None


def _broken(
    expected: Expected, value: Mapping[str, Any], large: bool, name: str, special: bool
) -> Iterator[tuple[Violation, list[Any]]]:
    for error in _first(expected, value) if large else expected.validator.iter_errors(value):
        rule = str(error.schema_path[-1]) if error.schema_path else "false"
        place = list(error.instance_path)
        for path in _paths(error, place, rule):
            shown = ".".join(each if each in expected.names else UNTOLD for each in path)
            yield Violation(name, f"{expected.part}.{shown}" if shown else expected.part, rule, special), path


def _first(expected: Expected, value: Mapping[str, Any]) -> Iterator[Any]:
    try:
        expected.validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        yield error


def _is_special(message: Message, policy: Policy) -> bool:
    event, context = message.get("event"), message.get("context")
    said = {name: each for name in ("properties", "traits") if isinstance(each := message.get(name), dict)}
    common = context.get("traits") if isinstance(context, dict) else None
    traits = {**(common if isinstance(common, dict) else {}), **said.get("traits", {})}
    return bool(policy.classify(event if isinstance(event, str) else None, said.get("properties", {}), traits))


UNTOLD: Final = "*"
"""In place of a name that the plan does not say, and of an item's place in a list."""


def _paths(error: Any, place: list[Any], rule: str) -> list[list[Any]]:
    """Where the properties stand that the error is about: it names those that miss or are too many."""
    kind = error.kind
    if rule == "required":
        return [[*place, kind.property]]
    if rule in ("additionalProperties", "unevaluatedProperties"):
        # Where nothing at all may stand, jsonschema-rs names nothing.
        return [[*place, name] for name in getattr(kind, "unexpected", ())] or [place]
    return [place]


def _without(value: Mapping[str, Any], paths: Iterable[list[Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = deepcopy(dict(value))
    for path in sorted((path for path in paths if path), key=_last_first, reverse=True):
        inner: Any = kept
        for key in path[:-1]:
            inner = inner[key] if _has(inner, key) else None
        if _has(inner, path[-1]):
            del inner[path[-1]]
    return kept


def _last_first(path: list[Any]) -> list[tuple[int, str]]:
    """Items of lists from the end, so that taking one out does not move the next."""
    return [(each, "") if isinstance(each, int) else (0, str(each)) for each in path]


def _has(holder: Any, key: Any) -> bool:
    if isinstance(holder, dict):
        return key in holder
    return isinstance(holder, list) and isinstance(key, int) and key < len(holder)


# Learning


def learned(messages: Iterable[Message], mode: str = WARN) -> dict[str, Any]:
    """A plan that these messages fit: the types that were seen; required is what was always there. Raises SamlaError
    where there is no such mode."""
    _one_of("mode", mode, MODES)
    events: dict[str, SchemaBuilder] = {}
    traits: SchemaBuilder | None = None
    for message in messages:
        kind, event = message.get("type"), message.get("event")
        if kind == "track" and isinstance(event, str) and (name := event.strip()):
            if name in events or len(events) < MOST_EVENTS:
                _learn(events.setdefault(name, _builder()), message.get("properties"))
        elif kind == IDENTIFY:
            traits = traits or _builder()
            _learn(traits, message.get("traits"))
    document: dict[str, Any] = {"mode": mode, "unknown_events": ALLOW if mode == WARN else WARN, "events": {}}
    for name in sorted(events):
        document["events"][name] = {"properties": _schema(events[name])}
    return document | ({"traits": _schema(traits)} if traits else {})


def _builder() -> SchemaBuilder:
    return SchemaBuilder(schema_uri=None)


def _learn(builder: SchemaBuilder, part: object) -> None:
    builder.add_object(_shallow(part, DEEPEST_LEARNED) if isinstance(part, dict) else {})


def _shallow(value: Any, levels: int) -> Any:
    """Without what lies so deep that a schema of it would be none that may be put in force."""
    if isinstance(value, dict):
        return {name: _shallow(each, levels - 1) for name, each in value.items()} if levels else {}
    if isinstance(value, list):
        return [_shallow(each, levels - 1) for each in value] if levels else []
    return value


def _schema(builder: SchemaBuilder) -> dict[str, Any]:
    found: dict[str, Any] = builder.to_schema()
    return found
