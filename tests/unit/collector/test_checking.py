"""Rules that users give: what is wrong with them is said when they are given, and where; what is taken never fails."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.collector.domain.cleaning import cleaned, cleaning_of
from services.collector.domain.dialect import dialect_of, translated
from services.collector.domain.expressions import View, expression
from services.collector.domain.forms import form_of
from services.collector.domain.mending import checked, mended
from services.collector.domain.plan import held_against, learned, plan_of
from services.collector.domain.signatures import Webhook
from services.collector.rulebook import CLEANING, PLAN, rules_of
from services.collector.trying import changed
from shared.errors import SamlaError
from shared.values import compiled


def deep(levels, leaf=1):
    value = leaf
    for _ in range(levels):
        value = {"a": value}
    return value


def clean(step):
    return {"clean": {"traits.a": step}}


WRONG = [
    (cleaning_of, {"clean": {"traits.a": {"steps": "trim", "esle": "drop"}}}, "traits.a.*esle.*else"),
    (cleaning_of, {"claen": {}}, "claen.*clean"),
    (cleaning_of, {"renmae": {"a": "b"}}, "renmae.*rename"),
    (cleaning_of, {"set": {"a": "x" * 5_000_000}}, "bytes"),
    (cleaning_of, {"set": {"a": deep(5_000)}}, "deep"),
    (cleaning_of, {"set": {"a": 2**70}}, "set.a.*64 bits"),
    (cleaning_of, {"set": {"a": [1, float("nan")]}}, "set.a.1"),
    (cleaning_of, {"set": {"a": "\ud800"}}, "set.a"),
    (cleaning_of, {"set": {1: 2}}, "text"),
    (cleaning_of, {"rename": {chr(97 + n): ".".join([chr(98 + n)] * 20) for n in range(20)}}, "rename.*deep"),
    (cleaning_of, {"drop": ["a..b"]}, "a..b"),
    (cleaning_of, clean({"unit": {"from": 5}}), "traits.a.*unit"),
    (cleaning_of, clean({"unit": {"from": 5, "to": "kg"}}), "traits.a.*from"),
    (cleaning_of, clean({"unit": {"from": "9**9**9", "to": "kg"}}), "traits.a.*from"),
    (cleaning_of, clean({"unit": {"from": "lb", "to": "m"}}), "traits.a.*unit"),
    (cleaning_of, clean({"date": {"format": "%Q"}}), "traits.a.*format"),
    (cleaning_of, clean({"date": {"format": "%d/%m"}}), "traits.a.*format"),
    (cleaning_of, clean({"date": {"format": "hello"}}), "traits.a.*format"),
    (cleaning_of, clean({"date": {"format": "%d %d %m %Y"}}), "traits.a.*format"),
    (cleaning_of, clean({"date": {"format": 5}}), "traits.a.*format"),
    (cleaning_of, clean({"date": {"language": "sv", "order": "XYZ"}}), "traits.a.*order"),
    (cleaning_of, clean({"date": {"fromat": "%Y"}}), "traits.a.*fromat.*format"),
    (cleaning_of, clean({"time": {"zone": "America"}}), "traits.a.*zone"),
    (cleaning_of, clean({"time": {"zone": 5}}), "traits.a.*zone"),
    (cleaning_of, clean({"phone": {"region": ["SE"]}}), "traits.a.*region"),
    (cleaning_of, clean({"country": {"language": "../sv"}}), "traits.a.*language"),
    (cleaning_of, clean({"number": {"locale": {"a": 1}}}), "traits.a.*locale"),
    (cleaning_of, clean({"number": {"decimal": [","]}}), "traits.a.*decimal"),
    (cleaning_of, clean({"unicode": {"form": ["NFC"]}}), "traits.a.*unicode"),
    (cleaning_of, clean({"map": {"a": {"b": 1}}}), "traits.a.*map"),
    (cleaning_of, clean({"map": 5}), "traits.a.*map"),
    (cleaning_of, clean({"number": {}, "else": "drop"}), "traits.a.*steps"),
    (cleaning_of, clean({"steps": "trim", "else": ["drop"]}), "traits.a.*else"),
    (cleaning_of, clean(deep(3)), "traits.a"),
    (plan_of, {"evnets": {}}, "evnets.*events"),
    (plan_of, {"events": {"E": {"propreties": {}}}}, "E.*propreties.*properties"),
    (plan_of, {"events": {"E": {"properties": {"properties": {"n": {"minimum": 2**70}}}}}}, "events.E.*64 bits"),
    (plan_of, {"events": {" E": {}}}, "space"),
    (plan_of, {"traits": deep(5_000)}, "deep"),
    (plan_of, {"mode": ["warn"]}, "mode"),
    (plan_of, {"traits": {"properties": {"a": {"type": "nmuber"}}}}, "traits.*properties.a.type"),
]


@pytest.mark.parametrize(("compile_", "rule", "said"), WRONG, ids=[each[2] for each in WRONG])
def test_what_is_wrong_with_rules_is_said_with_its_place(compile_, rule, said):
    """And in a few words, however large they are."""
    with pytest.raises(SamlaError, match=f"(?s){said}") as error:
        compile_(1, rule)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "rule",
    [{"sett": {"a": 1}}, {"set": {"a": 2**70}}, {"set": deep(5_000)}, {"set": {"a": "x" * 300_000}}],
    ids=["name", "number", "deep", "large"],
)
def test_a_rule_that_mends_is_looked_at_as_well(rule):
    with pytest.raises(SamlaError):
        checked(rule)


@pytest.mark.parametrize("kind", [CLEANING, PLAN])
def test_only_null_takes_rules_away(kind):
    """Anything else that is empty is a mistake."""
    rules = rules_of({CLEANING: (1, b'{"drop":["a"]}'), PLAN: (1, b'{"events":{}}')}, None)
    for nothing in ([], "", 0, False, {}, "null", 0.0):
        with pytest.raises(SamlaError, match="null"):
            changed(rules, kind, nothing)
    assert getattr(changed(rules, kind, None), kind) is None
    with pytest.raises(SamlaError, match="cleaning or plan"):
        changed(rules, "nosuch", None)


def test_rules_that_are_kept_and_cannot_be_used_any_more_set_aside_what_they_are_for():
    """They do not keep other sources from being read, and nothing passes as if it had been cleaned."""
    rules = rules_of({CLEANING: (3, b'{"clean":{"a":"no such step"}}'), PLAN: (4, b'{"nonsense":1}')}, None)
    track = {"type": "track", "userId": "u", "event": "E"}
    assert rules.cleaning.version == 3 and cleaned(track, rules.cleaning).rejected
    assert rules.plan.version == 4 and held_against(track, rules.plan).rejected
    assert held_against({"type": "identify", "userId": "u", "traits": {}}, rules.plan).rejected


# Any JSON

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["a", "traits.a", "*", "%d/%m %Y", "iso", "sv", "SE", "lb", "kg", "degC", "m**2", ".", "DMY", "UTC"]
    )
)
words = st.sampled_from(
    [
        "clean",
        "rename",
        "drop",
        "set",
        "default",
        "steps",
        "else",
        "a",
        "traits",
        "traits.a",
        "properties",
        "*",
        "events",
        "E",
        "mode",
        "type",
        "required",
        "format",
        "language",
        "unit",
        "from",
        "to",
        "date",
        "time",
        "zone",
        "number",
        "locale",
        "phone",
        "region",
        "map",
        "pattern",
        "items",
        "$ref",
        "anyOf",
        "enum",
        "minimum",
        "country",
        "order",
        "decimal",
    ]
) | st.text(max_size=4)
anything = st.recursive(
    leaves, lambda each: st.dictionaries(words, each, max_size=4) | st.lists(each, max_size=3), max_leaves=12
)
options = st.dictionaries(
    st.sampled_from(["format", "language", "order", "zone", "locale", "decimal", "region", "from", "to", "form"]),
    leaves,
)
names = (
    "trim",
    "collapse",
    "lower",
    "upper",
    "text",
    "unicode",
    "email",
    "phone",
    "country",
    "language",
    "currency",
    "number",
    "boolean",
    "date",
    "time",
    "unit",
    "map",
)
step = st.sampled_from(names) | st.builds(lambda name, given: {name: given}, st.sampled_from(names), options | leaves)
paths = st.sampled_from(["traits.a", "traits.*", "a", "*.a", "properties.a.*", "context", "userId", "*"])
cleanings = anything | st.fixed_dictionaries(
    {},
    optional={
        "clean": st.dictionaries(
            paths,
            step
            | st.lists(step, max_size=3)
            | st.fixed_dictionaries({"steps": step}, optional={"else": st.sampled_from(["drop", "reject"]) | leaves}),
            max_size=3,
        ),
        "rename": st.dictionaries(paths, paths, max_size=2) | anything,
        "drop": st.lists(paths) | anything,
        "set": st.dictionaries(paths, anything, max_size=2),
        "default": st.dictionaries(paths, anything, max_size=2),
    },
)
schemas = st.dictionaries(words, anything, max_size=4)
plans = anything | st.fixed_dictionaries(
    {
        "events": st.dictionaries(
            st.sampled_from(["E", "F"]), st.fixed_dictionaries({"properties": schemas}), max_size=2
        )
    },
    optional={"traits": schemas, "mode": st.sampled_from(["warn", "drop", "quarantine"])},
)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=12)
    | st.sampled_from(["1 200,5", "3 maj 1990", "070-1234567"]),
    lambda each: st.dictionaries(words, each, max_size=3) | st.lists(each, max_size=3),
    max_leaves=8,
)
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "identify"]), "event": st.sampled_from(["E", "F"])},
    optional={name: st.dictionaries(words, values, max_size=4) for name in ("traits", "properties", "context")},
) | st.dictionaries(words, values)
thorough = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(cleanings, messages)
def test_cleaning_rules_are_refused_or_run_on_any_message(rule, message):
    """Only with an error of ours; what comes of a message can be written as JSON."""
    try:
        made = cleaning_of(1, rule)
    except SamlaError:
        return
    orjson.dumps(cleaned(message, made, lambda change: None).message)
    orjson.dumps(rule)


@thorough
@given(plans, messages)
def test_plans_are_refused_or_run_on_any_message(rule, message):
    try:
        made = plan_of(1, rule)
    except SamlaError:
        return
    orjson.dumps(held_against(message, made).message)


@thorough
@given(cleanings, messages)
def test_rules_that_mend_are_refused_or_run_on_any_message(rule, message):
    try:
        made = checked(rule)
    except SamlaError:
        return
    orjson.dumps(mended(message, made))


@thorough
@given(step | anything, values)
def test_steps_are_refused_or_read_any_value_or_say_that_they_cannot(given_, value):
    try:
        made = compiled(given_)
    except SamlaError:
        return
    try:
        orjson.dumps(made(value))
    except (ValueError, ArithmeticError, TypeError) as error:
        assert not isinstance(error, orjson.JSONEncodeError)


expressions = st.recursive(
    st.sampled_from(["a", "a.b", "@item.a", "@header.X", "@x", ""]) | leaves,
    lambda each: (
        st.lists(each, max_size=3)
        | st.builds(
            lambda kind, first, more: {kind: first, **more},
            st.sampled_from(["from", "value", "text", "each", "lookup", "minor"]),
            each,
            st.dictionaries(
                st.sampled_from(["item", "where", "give", "currency", "less", "when", "steps", "choose"]),
                each | st.dictionaries(st.sampled_from(["a", "a.b"]), each, max_size=2),
                max_size=3,
            ),
        )
    ),
    max_leaves=8,
)


@thorough
@given(expressions, values)
def test_expressions_are_refused_or_read_any_webhook(spec, body):
    try:
        made = expression(spec, "place")
    except SamlaError:
        return
    made(View(body, {"x": "y"}, {}))


@thorough
@given(st.dictionaries(st.sampled_from(["userId", "properties.a", "traits"]), expressions, max_size=3), values)
def test_dialects_are_refused_or_read_any_webhook(fields, body):
    document = {
        "name": "tool",
        "signature": {"query": "secret"},
        "topic": {"value": "t"},
        "rules": {"t": [{"type": "identify", "fields": fields}]},
    }
    try:
        made = dialect_of(document)
    except SamlaError:
        return
    orjson.dumps(translated(made, Webhook({}, {}, orjson.dumps({"a": body}))).messages)


@given(anything)
def test_any_json_is_a_dialect_or_refused(document):
    with pytest.raises(SamlaError):
        dialect_of(document)


@given(st.binary(max_size=80) | st.text(alphabet="a[]=&%.0", max_size=40).map(str.encode))
def test_any_form_is_read_or_refused(body):
    form_of(body)


@given(st.lists(messages, max_size=6))
def test_what_is_learned_is_a_plan_that_may_be_put_in_force(found):
    plan_of(1, learned(found))


def test_what_is_learned_of_deep_messages_is_a_plan_too():
    plan_of(1, learned([{"type": "track", "event": "E", "properties": deep(90)}, {"type": "track", "event": "E"}]))
    with pytest.raises(SamlaError, match="mode"):
        learned([], "nosuch")
