"""Names are promises: streams, event types, subscriptions, RPCs."""

import ast
import re
from pathlib import Path

import pytest

from contracts import activation, collector, identity, privacy, profile, segmentation, tracking
from contracts.envelope import Envelope
from contracts.streams import STREAMS
from services.console.progress import SUBSCRIPTIONS
from shared.eventlog import Event

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = {
    "collector": collector, "identity": identity, "profile": profile, "segmentation": segmentation,
    "activation": activation, "privacy": privacy,
}  # fmt: skip
OF_EVERY_SERVICE = {"progress", "parked_list", "parked_retry"}
NAMED = {
    "RESOLVE": "identity.resolve", "CONSENTS": "privacy.consents", "STATES": "profile.states",
    "PEOPLE": "profile.people", "ERASURES": "profile.erasures",
}  # fmt: skip
"""Constants that hold a subscription's name."""


def methods(service, decorator):
    """Method -> the decorator's call, of a service class."""
    tree = ast.parse((ROOT / f"services/{service}/service.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for each in node.decorator_list:
                name = each.func if isinstance(each, ast.Call) else each
                if isinstance(name, ast.Name) and name.id == decorator:
                    yield node.name, each


def test_streams_are_what_they_were():
    """Another number of partitions is another log."""
    assert STREAMS == {"tracking": 8, "identity": 1, "profile": 4, "segmentation": 4, "activation": 4, "privacy": 1}


@pytest.mark.parametrize("service", CONTRACTS)
def test_the_rpcs_of_a_service_are_those_of_its_contract(service):
    assert {name for name, _ in methods(service, "rpc")} == set(CONTRACTS[service].RPCS)


@pytest.mark.parametrize("service", [each for each in CONTRACTS if each != "collector"])
def test_subscriptions_are_known_to_those_who_wait_for_them(service):
    """Checkpoints are kept under these names."""
    found = set()
    for decorator in ("subscribe", "consume"):
        for _, call in methods(service, decorator):
            if isinstance(call, ast.Call):
                name = ast.unparse(call.args[0]).strip("'")
                found.add(NAMED.get(name, name))
    assert found == set(SUBSCRIPTIONS[service])


def test_the_table_of_events_names_just_the_events_that_there_are():
    table = (ROOT / "contracts/README.md").read_text()
    known = {kind for module in (*CONTRACTS.values(), tracking) for kind in getattr(module, "EVENTS", {})}
    assert set(re.findall(r"`([a-z]+\.[a-z_]+\.v\d+)`", table)) == known
    assert "tracking.{" + ",".join(tracking.KINDS) + "}.v1" in table


def test_an_event_is_its_envelope():
    """The fast struct and the schema hold the same fields."""
    assert set(Event.__struct_fields__) == set(Envelope().fields)
