"""RPCs of the collector: whatever they are asked with, a wrong value is named in an error of ours."""

import inspect
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.asked import asked
from services.collector.service import CollectorService
from shared.errors import SamlaError

RPCS = {
    name: method
    for name, method in inspect.getmembers(CollectorService, inspect.isfunction)
    if any(type(each).__name__ == "Rpc" for each in getattr(method, "nameko_entrypoints", ()))
    and name not in ("progress", "parked_list", "parked_retry")
}
ODD = [None, True, -1, 0, 10**30, float("nan"), "", "\0", "\ud800", "x" * 20_000, [], [1], [["a"]], {}, {"$ne": ""},
       {"a": 2**70}]  # fmt: skip


class Store:
    """Nothing is asked of it that has not been looked at: what comes here has passed."""

    def __getattr__(self, name):
        return Store()

    def __call__(self, *arguments, **named):
        raise Passed


class Passed(Exception):
    """The arguments are what they should be."""


def service():
    made = CollectorService()
    made.store = Store()
    made.runtime = SimpleNamespace(clock=SimpleNamespace(now_ms=lambda: 1), log=Store())
    return made


RIGHT = {
    "kind": "plan", "dialect": "stripe", "mode": "warn", "messages": 10, "limit": 10, "party": "second",
    "fields": ["traits.a"], "purposes": ["ads"], "since": 1, "until": 2, "rule": {"set": {"type": "track"}},
    "version": 1, "changes": {}, "identifiers": [["user", "u"]], "subjects": ["s"], "dry": True, "meant": False,
    "holders": ["source:s:2020-01-01"], "overlap_hours": 1, "ids": ["a"], "document": None, "message": None,
}  # fmt: skip


def some(parameter):
    """A value that is right."""
    if parameter.name == "after":
        return parameter.default
    return RIGHT.get(parameter.name, "a")


@pytest.mark.parametrize("name", RPCS)
def test_every_argument_of_every_rpc_is_looked_at(name):
    """Wherever it is odd: an error of ours, or it is something that may be asked."""
    parameters = list(inspect.signature(RPCS[name]).parameters.values())[1:]
    right = {each.name: some(each) for each in parameters}
    for each in parameters:
        for odd in ODD:
            with suppress(SamlaError, Passed):
                RPCS[name](service(), **{**right, each.name: odd})


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("learn_plan", {"source": "s", "mode": "nosuch"}, "mode"),
        ("learn_plan", {"source": "s", "messages": 10**30}, "messages"),
        ("learn_plan", {"source": "s", "messages": -1}, "messages"),
        ("test_rules", {"source": "s", "kind": "plan", "rule": {}, "messages": 0}, "messages"),
        ("quarantine_list", {"limit": -5}, "limit"),
        ("quarantine_list", {"limit": 10**30}, "limit"),
        ("quarantine_list", {"source": {"$ne": ""}}, "source"),
        ("quarantine_replay", {"limit": 1_001}, "limit"),
        ("reclean", {"source": "s", "after": ["x", 5]}, "after"),
        ("reclean", {"source": "s", "after": [1]}, "after"),
        ("reclean", {"source": "s", "limit": 0}, "limit"),
        ("rules_of_version", {"source": "s", "kind": "plan", "version": 10**30}, "version"),
        ("rotate_key", {"source": "s", "overlap_hours": float("nan")}, "overlap_hours"),
        ("rotate_key", {"source": "s", "overlap_hours": -1}, "overlap"),
        ("create_agreement", {"party": "second", "partner": "P", "purposes": "ads", "fields": ["traits.a"], "since": 1,
                              "until": 2}, "purposes"),
        ("quarantined_of", {"identifiers": [["user"]]}, "identifiers"),
        ("forget_quarantined", {"identifiers": [["user", 5]]}, "identifiers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(name, arguments, said):
    with pytest.raises(SamlaError, match=said):
        RPCS[name](service(), **arguments)


@pytest.mark.parametrize("name", ["quarantined_of", "forget_quarantined"])
def test_no_identifier_is_too_odd_to_be_erased(name):
    """What the door has taken for one is asked about as it is, or an erasure would never end."""
    with pytest.raises(Passed):
        RPCS[name](service(), [["anonymous", "a\0b"], ["user", "x" * 20_000]])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_types_are_told_from_one_another(value):
    """A number is no text, true is no number; None only where it may be."""

    @asked
    def method(self, a: str = "", b: int | None = None, c: list[str] | None = None):
        return a, b, c

    for name, fits in (
        ("a", isinstance(value, str)),
        ("b", value is None or (isinstance(value, int) and not isinstance(value, bool))),
        ("c", value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))),
    ):
        try:
            method(None, **{name: value})
        except SamlaError:
            continue
        assert fits
