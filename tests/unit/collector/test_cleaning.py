"""From raw to clean by rules that are data."""

from copy import deepcopy

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from services.collector.domain import cleaning as cleaning_
from services.collector.domain.cleaning import MOST_PARTS, MOST_VALUES, Change, cleaned, cleaning_of
from services.collector.domain.rules import TOO_MANY_VALUES, Rules, prepared
from shared.errors import SamlaError

names = st.sampled_from(["a", "b", "email", "traits", "properties"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([" 1 234,5 ", "Ja", "SE"]),
    lambda each: st.dictionaries(names, each, max_size=3) | st.lists(each, max_size=3),
    max_leaves=8,
)
messages = st.dictionaries(names, values, max_size=4)
paths = st.lists(names | st.just("*"), min_size=1, max_size=3).map(".".join)
steps = st.sampled_from(["trim", "lower", "email", "boolean", "number", ["trim", "upper"], {"map": {"a": 1}}, "text"])
rules = st.fixed_dictionaries(
    {},
    optional={
        "clean": st.dictionaries(
            paths,
            steps | st.fixed_dictionaries({"steps": steps, "else": st.sampled_from(["keep", "drop", "reject"])}),
            max_size=3,
        ),
        "rename": st.dictionaries(names.filter(lambda n: n != "*"), names, max_size=2),
        "drop": st.lists(names, max_size=2),
        "default": st.dictionaries(names, st.integers(), max_size=2),
    },
)  # fmt: skip


def clean(message, **rule):
    return cleaned(message, cleaning_of(1, rule))


def test_the_steps_are_done_in_their_order():
    """rename, clean, drop, set, default."""
    found = clean(
        {
            "traits": {"E-post": " ADA@Example.org ", "debug": 1, "land": "Sverige"},
            "properties": {"pris": "1 200,50 kr"},
        },
        rename={
            "traits.E-post": "traits.email",
            "properties.pris": "properties.price",
            "traits.land": "traits.country",
        },
        clean={
            "traits.email": ["trim", "lower", "email"],
            "traits.country": {"country": {"language": "sv"}},
            "properties.price": {"number": {"locale": "sv_SE"}},
        },
        drop=["traits.debug"],
        set={"traits.origin": "shop"},
        default={"properties.currency": "SEK", "traits.origin": "other"},
    )
    assert found.message == {
        "traits": {"email": "ada@example.org", "country": "SE", "origin": "shop"},
        "properties": {"price": 1200.5, "currency": "SEK"},
    }
    assert found.uncleaned == [] and not found.rejected


def test_a_star_is_any_name_and_each_item_of_a_list():
    message = {"properties": {"products": [{"price": "1,5", "name": " x "}, {"price": "2"}], "name": " y "}}
    rule = {"properties.products.*.price": {"number": {"decimal": ","}}, "properties.*": "trim"}
    found = clean(message, clean=rule).message
    assert found == {"properties": {"products": [{"price": 1.5, "name": " x "}, {"price": 2}], "name": "y"}}


@pytest.mark.parametrize(
    ("otherwise", "left"), [("keep", {"email": "nobody"}), ("drop", {}), ("reject", {"email": "nobody"})]
)
def test_what_cannot_be_read_is_kept_dropped_or_rejects_the_message(otherwise, left):
    """It is named by its path; never is its value."""
    found = clean({"traits": {"email": "nobody"}}, clean={"traits.email": {"steps": "email", "else": otherwise}})
    assert found.message["traits"] == left and found.uncleaned == ["traits.email"]
    assert found.rejected == ("traits.email" if otherwise == "reject" else "")


def test_every_value_that_was_looked_at_is_told_raw_and_clean():
    """So each clean value can be traced to its raw one."""
    seen = []
    rule = {"clean": {"traits.a": "lower", "traits.b": {"steps": "email", "else": "drop"}}}
    cleaned({"traits": {"a": "A", "b": "x"}}, cleaning_of(1, rule), seen.append)
    assert seen == [Change("traits.a", "A", "a", ""), Change("traits.b", "x", None, "no e-mail address")]


@settings(deadline=None)
@given(messages, rules)
def test_a_message_is_never_changed_in_place_and_no_rule_breaks(message, rule):
    before = deepcopy(message)
    try:
        cleaning = cleaning_of(1, rule)
    except SamlaError:
        reject()
    cleaned(message, cleaning)
    assert message == before


@settings(deadline=None)
@given(messages, st.dictionaries(paths, st.sampled_from(["trim", "lower", ["collapse", "upper"]]), max_size=3))
def test_cleaning_twice_is_cleaning_once(message, rule):
    """Of steps that make a normal form, where no two of them touch one value."""
    if len({path.count(".") for path in rule}) == len(rule):
        once = clean(message, clean=rule)
        assert clean(once.message, clean=rule).message == once.message


@pytest.mark.parametrize(
    "rule",
    [
        {"clean": {"context.consent": "trim"}}, {"set": {"context.consent.categoryPreferences": {"marketing": True}}},
        {"default": {"context": {}}}, {"drop": ["context.consent"]}, {"rename": {"a": "context.consent"}},
        {"rename": {"context": "b"}}, {"set": {"messageId": "1"}}, {"clean": {"sentAt": "trim"}},
    ],
    ids=str,
)  # fmt: skip
def test_no_rule_may_touch_consent_or_what_a_message_is_known_by(rule):
    """Not even under another name."""
    with pytest.raises(SamlaError, match="may not be changed"):
        cleaning_of(1, rule)


def test_a_star_does_not_reach_consent():
    message = {
        "context": {"consent": {"categoryPreferences": {"marketing": " yes "}}, "locale": " sv "},
        "messageId": " m ",
    }
    found = clean(message, clean={"*": "trim", "context.*": "trim", "context.*.*.*": "boolean"}).message
    assert found == {**message, "context": {**message["context"], "locale": "sv"}}


@pytest.mark.parametrize(
    "rule",
    [5, {"wash": {}}, {"clean": []}, {"clean": {"": "trim"}}, {"clean": {"a..b": "trim"}}, {"clean": {"a": "nonsense"}},
     {"clean": {"a": {"steps": "trim", "else": "cry"}}}, {"clean": {str(n): "trim" for n in range(201)}}],
    ids=lambda rule: str(rule)[:40],
)  # fmt: skip
def test_rules_that_are_none_are_refused_when_they_are_written(rule):
    with pytest.raises(SamlaError):
        cleaning_of(1, rule)


def test_the_place_of_what_is_set_aside_tells_no_name_that_may_be_somebodys():
    """It stands in clear beside what was sent."""
    rules = Rules(cleaning=cleaning_of(1, {"clean": {"traits.*": {"steps": "email", "else": "reject"}}}))
    found = prepared({"type": "identify", "traits": {"ada@example.org": "x"}}, {}, rules)
    assert found.rejected is not None and found.rejected.place == "traits.*"
    assert prepared({"traits": {"19121212-1212": "x"}}, {}, rules).rejected.place == "traits.*"
    named = Rules(cleaning=cleaning_of(1, {"clean": {"traits.mail": {"steps": "email", "else": "reject"}}}))
    assert prepared({"traits": {"mail": "x"}}, {}, named).rejected.place == "traits.mail"


# What one message may cost


def counted(monkeypatch, step="trim"):
    """Rules whose steps count how often they are used."""
    used = []
    monkeypatch.setattr(cleaning_, "compiled", lambda steps: lambda value: used.append(value) or value)
    return used, lambda *paths: cleaning_of(1, {"clean": dict.fromkeys(paths, step)})


@pytest.mark.parametrize(
    ("message", "paths", "step", "most"),
    [
        ({"properties": {"products": ["x"] * 1_001}}, ["properties.products.*"], "trim", 1_000),
        ({"traits": {f"k{n}": "x" for n in range(501)}}, ["traits.*", "*.*"], "trim", 1_000),
        ({"traits": {f"k{n}": "x" for n in range(51)}}, ["traits.*"], {"date": {"language": "sv"}}, 50),
        ({"traits": {f"k{n}": "x" for n in range(51)}}, ["traits.*"], ["trim", {"time": {"language": "sv"}}], 50),
        ({"a": [[[]] * 99] * 99}, [f"a.*.*.x{n}" for n in range(6)], "trim", 0),
        ({"a": [[]] * 30_000}, ["b"], "trim", 0),
    ],
    ids=["items", "several rules", "dates in words", "times in words", "places", "parts"],
)  # fmt: skip
def test_a_message_with_more_values_than_are_cleaned_is_set_aside_as_it_came(message, paths, step, most, monkeypatch):
    """After so many values the work ends; it says neither where nor of what."""
    used, rules = counted(monkeypatch, step)
    made = rules(*paths)
    found = cleaned(message, made)
    assert found.too_many and len(used) <= most
    assert found.message is message and not found.uncleaned
    ready = prepared(message, {}, Rules(cleaning=made))
    assert ready.rejected == TOO_MANY_VALUES and ready.received is message


def test_as_many_values_as_are_allowed_are_cleaned():
    message = {"properties": {"products": [" x "] * MOST_VALUES}}
    found = clean(message, clean={"properties.products.*": "trim"})
    assert not found.too_many and found.message["properties"]["products"] == ["x"] * MOST_VALUES
    many = {"properties": {"a": list(range(MOST_PARTS - 2))}}
    assert not clean(many, clean={"b": "trim"}).too_many
