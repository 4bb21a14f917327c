"""The table of calls: every row is an RPC that there is, with arguments that it takes; and its document."""

import ast
import re
from pathlib import Path

import pytest
from marshmallow import fields

from contracts.admin import Retrying
from services.console.admin.app import Admin
from services.console.admin.openapi import document
from services.console.admin.table import CALLS, PATTERNS
from shared.checkpoints import Place, parked_id

ROOT = Path(__file__).resolve().parents[3]
ONE_RPC = [each for each in CALLS if not each.own]


def signature(service, name):
    """(arguments, those that must be given) of an RPC, from the source."""
    path = ROOT / ("shared/service.py" if "{" in service else f"services/{service}/service.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            names = [each.arg for each in node.args.args if each.arg != "self"]
            return set(names), set(names[: len(names) - len(node.args.defaults)])
    raise AssertionError(f"{service} has no RPC {name}")


def given(call):
    """The names of arguments that a call may give, and of those that it always gives."""
    path = {"profile" if name == "who" else name for name in re.findall(r"\{(\w+)\}", call.path)}
    path -= set(re.findall(r"\{(\w+)\}", call.service))
    may, must = set(path), set(path)
    for schema in (call.query, call.takes):
        if schema is None:
            continue
        if call.whole:
            may, must = may | {call.whole}, must | {call.whole}
            continue
        for name, field in schema().fields.items():
            name = "profile" if name == "who" else field.attribute or name
            may.add(name)
            if field.required or not isinstance(field.load_default, type(fields.Field().load_default)):
                must.add(name)
    return may | set(call.fixed), must | set(call.fixed)


@pytest.mark.parametrize("call", ONE_RPC, ids=lambda call: f"{call.method} {call.path}")
def test_a_row_gives_an_rpc_what_it_takes(call):
    takes, needs = signature(call.service, call.rpc)
    may, must = given(call)
    if call.pick:
        may = must = set()
    assert may <= takes
    # A segment's name follows from its key.
    assert needs <= must | {"name"}


@pytest.mark.parametrize("call", [each for each in CALLS if each.own], ids=lambda call: call.path)
def test_a_row_of_our_own_has_its_method(call):
    assert callable(getattr(Admin, f"_{call.own}")) and not call.rpc


def test_the_id_of_any_parked_event_can_be_given_to_be_retried():
    """Whatever subscription it is of: it holds a slash, so it stands in the body and not in the path."""
    identity = parked_id(Place("profile.states", "tracking", 3), 17)
    assert "/" in identity and Retrying().load({"id": identity}) == {"identity": identity}
    assert [each.path for each in CALLS if each.rpc == "parked_retry"] == ["/parked/{service}/retry"]


def test_every_call_is_another_one():
    """And what stands in its path is described."""
    assert len({(each.method, each.path) for each in CALLS}) == len(CALLS)
    assert {name for each in CALLS for name in re.findall(r"\{(\w+)\}", each.path)} == set(PATTERNS)


def test_the_document_holds_every_call():
    """With what it answers, and an operation's name of its own."""
    paths = document()["paths"]
    for call in CALLS:
        operation = paths[f"/api/v1{call.path}"][call.method.lower()]
        assert {str(call.status), "400", "401", "403", "404", "503"} <= set(operation["responses"])
        assert len(operation["summary"]) > 5
    names = [each["operationId"] for operations in paths.values() for each in operations.values()]
    assert len(set(names)) == len(names) == len(CALLS)


def test_a_secret_is_told_only_where_it_is_made():
    """Of all answers only those of create, rotate and connect have a field for one."""
    tells = {call.path for call in CALLS if {"write_key", "secret"} & set(call.gives().fields)}
    assert tells == {
        "/sources", "/sources/{source}/rotate", "/destinations", "/destinations/{destination}/rotate",
        "/sources/{source}/connections/{dialect}",
    }  # fmt: skip
