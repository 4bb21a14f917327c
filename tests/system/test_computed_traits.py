"""Computed traits, and whom to believe, by the command line."""

import json
import subprocess
import sys

import pytest

from services.profile.domain.believing import SHIPPED
from shared.local.suite import ROOT
from tests.system.world import eventually


def failing(world, *arguments):
    """What a command says that does not succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "services.console.cli", *arguments], env=world.suite.environment, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


def test_a_trait_is_defined_filled_shown_listed_and_removed(world):
    """It has what happened before, and what happens since; a second one by its name is refused."""
    ada, key = world.fresh(), f"spent-{world.fresh()}"
    definition = {
        "event": world.event, "measure": "sum", "value": "revenue", "within": "30d",
        "where": [{"property": "currency", "is": "EUR"}],
    }  # fmt: skip
    for _ in range(2):
        world.orders(ada)
    world.quiet()
    row = world.samla("profile", "trait", "add", key, json.dumps(definition), "--json")
    assert (row["key"], row["filled"], row["left"]) == (key, True, 0)
    world.orders(ada)
    world.quiet()
    shown = world.samla("profile", "show", f"user:{ada}", "--json")["computed"][key]
    assert shown["value"] == 37.5 and shown["changes_at"] > 0
    assert "already" in failing(world, "profile", "trait", "add", key, json.dumps(definition))
    assert "trait.measure" in failing(world, "profile", "trait", "add", world.fresh(), '{"event": "E"}')
    assert "100%" in world.samla("profile", "trait", "list")
    assert definition in [each["definition"] for each in world.samla("profile", "trait", "list", "--json")]
    world.samla("profile", "trait", "remove", key)
    assert key not in world.samla("profile", "show", f"user:{ada}", "--json")["computed"]
    assert key in failing(world, "profile", "trait", "remove", key)


def test_a_trait_that_a_segment_uses_is_not_removed(world):
    """By the command line; the segment's key is told, and it stays as it was. When that is gone, the trait may go."""
    ada, key = world.fresh(), f"often-{world.fresh()}"
    world.orders(ada)
    world.quiet()
    world.samla("profile", "trait", "add", key, json.dumps({"event": world.event, "measure": "count"}))
    world.ask("segmentation", "create_segment", f"in-{key}", "", {"computed": key, "gte": 1})
    world.ask("segmentation", "create_segment", f"around-{key}", "", {"segment": f"in-{key}"})
    eventually(lambda: world.ask("segmentation", "members", f"around-{key}"), 30, "nobody came in")
    told = failing(world, "profile", "trait", "remove", key)
    assert f"in-{key}" in told and f"around-{key}" in told and "change or delete those first" in told
    assert key in [each["key"] for each in world.ask("profile", "traits")]
    for segment in (f"around-{key}", f"in-{key}"):
        world.ask("segmentation", "delete_segment", segment)
    world.samla("profile", "trait", "remove", key)
    assert key not in [each["key"] for each in world.ask("profile", "traits")]


def test_no_trait_is_removed_while_segmentation_does_not_say_whether_it_is_used(world):
    """It is down: nothing hangs, the error says so, and afterwards the trait may go."""
    key = f"idle-{world.fresh()}"
    world.samla("profile", "trait", "add", key, json.dumps({"event": world.event, "measure": "count"}), "--no-wait")
    world.suite.process("segmentation").kill()
    try:
        told = failing(world, "profile", "trait", "remove", key)
    finally:
        world.restart("segmentation")
    assert "segmentation does not say which segments use" in told
    assert key in [each["key"] for each in world.ask("profile", "traits")]
    world.samla("profile", "trait", "remove", key)


@pytest.fixture
def shipped(world):
    """The policy as it was, afterwards."""
    yield
    world.samla("profile", "policy", "set", json.dumps(SHIPPED))


def test_a_policy_takes_people_into_segments_and_out_of_them(world, shipped):
    """Who is of two plans, by two sources; nobody sends anything meanwhile."""
    ada, plan, key = world.fresh(), world.fresh(), f"on-{world.fresh()}"
    crm = world.ask("collector", "create_source", f"crm-{key}", "first")["write_key"]
    world.post("/v1/identify", {"userId": ada, "traits": {"plan": plan}}, key=crm)
    world.quiet()
    world.post("/v1/identify", {"userId": ada, "traits": {"plan": "another"}})
    world.quiet()
    segment = world.ask("segmentation", "create_segment", key, key, {"trait": "plan", "is": plan})["segment"]
    world.quiet()
    assert world.ask("segmentation", "members", segment) == []
    policy = {**SHIPPED, "traits": {"plan": [f"source:crm-{key}", "first"]}}
    told = world.samla("profile", "policy", "set", json.dumps(policy), "--json")
    assert told["policy"] == policy
    eventually(lambda: world.ask("segmentation", "members", segment), 30, "nobody came in")
    assert world.ask("segmentation", "members", segment) == [world.profile_of(ada)]
    shown = world.samla("profile", "show", f"user:{ada}", "--json")["descriptive"]["plan"]
    assert shown["value"] == plan and [each["value"] for each in shown["others"]] == ["another"]
    world.samla("profile", "policy", "set", json.dumps(SHIPPED))
    eventually(lambda: world.ask("segmentation", "members", segment) == [], 30, "somebody is still in")
    latest = world.samla("profile", "policy", "show", "--json")["versions"][0]
    assert latest["told"] and latest["changed"] == 1
    assert "policy.rank" in failing(world, "profile", "policy", "set", '{"rank": ["fourth"]}')
    world.verify()
