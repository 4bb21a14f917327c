"""Unmodified SDKs: what they were told to send stands in the log, field by field, each message once."""

import json
import subprocess
import threading

import pytest
import rudderstack.analytics as rudder
import segment.analytics as segment

from tests.system import sdks
from tests.system.world import eventually

TRICKY = {
    "text": 'Räksmörgås 🦐 "quoted" \\ back',
    "number": 12.5,
    "big": 9007199254740991,
    "none": None,
    "yes": True,
    "nested": {"list": [1, {"deep": ["a", None]}], "empty": {}},
    "date": "2026-05-17T10:00:00.000Z",
}
MANY = 40


@pytest.fixture(scope="module")
def packages(home):
    return sdks.npm_packages(home / "sdks")


@pytest.fixture(scope="module")
def chromium():
    with sdks.browser() as running:
        yield running


def calls_of(user, anonymous):
    """One call of every kind."""
    return [
        {"type": "identify", "userId": user, "traits": {"plan": "pro", **TRICKY}},
        {"type": "track", "userId": user, "event": "Ordered", "properties": {"revenue": 12.5, **TRICKY}},
        {"type": "page", "userId": user, "category": "Docs", "name": "Home", "properties": {"section": "ö"}},
        {"type": "screen", "userId": user, "name": "Start", "properties": {"tab": 2}},
        {"type": "group", "userId": user, "groupId": "g1", "traits": {"name": "Group"}},
        {"type": "alias", "userId": user, "previousId": anonymous},
    ]


def tracks(user, number=MANY):
    return [{"type": "track", "userId": user, "event": "Counted", "properties": {"n": n}} for n in range(number)]


class Node:
    """A Node process that makes calls."""

    def __init__(self, packages, script, world):
        self.process = subprocess.Popen(
            [sdks.BIN / "node", script, world.url, world.key], cwd=packages, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def call(self, one):
        self.process.stdin.write(json.dumps(one) + "\n")
        self.process.stdin.flush()

    def end(self):
        _, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors


class Python:
    """A Python SDK in this process: gzip on, small batches, its own retries."""

    NAMES = {"userId": "user_id", "anonymousId": "anonymous_id", "groupId": "group_id", "previousId": "previous_id"}

    def __init__(self, module, world):
        self.errors = []
        self.client = module.Client(
            world.key, host=world.url, gzip=True, upload_size=5, upload_interval=0.1,
            on_error=lambda error, batch: self.errors.append(error),
        )  # fmt: skip

    def call(self, one):
        named = {self.NAMES.get(name, name): value for name, value in one.items() if name != "type"}
        getattr(self.client, one["type"])(**named)

    def end(self):
        self.client.flush()
        self.client.join()
        assert not self.errors


class Page:
    """A page in a browser that makes calls."""

    def __init__(self, chromium, address, world, batching):
        self.page = chromium.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.evaluate("([url, key, batching]) => load(url, key, batching)", [world.url, world.key, batching])

    def call(self, one):
        self.page.evaluate("one => { call(one) }", one)

    def end(self):
        assert not self.errors
        self.page.close()


def holds(sent, body):
    """Whether a body in the log says all that a call said."""
    identifiers = {value for _, value in body["identifiers"]}
    return (
        body["type"] == sent["type"]
        and (sent["type"] != "track" or body["event"] == sent["event"])
        and sent.get("userId") in identifiers
        and (sent["type"] != "alias" or sent["previousId"] in identifiers)
        and body["group_id"] == sent.get("groupId")
        and says(body["properties"], sent.get("properties", {}))
        and says(body["traits"], sent.get("traits", {}) if sent["type"] == "identify" else {})
        and (sent["type"] not in ("page", "screen") or body["properties"]["name"] == sent["name"])
    )


def says(known, sent):
    """Whether all of it is there as it was sent. Some SDKs leave out nulls."""
    return all(known.get(name) == value for name, value in sent.items())


def arrived(world, sent):
    """What stands in the log, once there is as much as was sent."""
    eventually(lambda: len(world.logged()) >= len(sent), 60, "not all arrived", 0.3)
    bodies = world.logged()
    ids = [body["message_id"] for body in bodies]
    assert len(set(ids)) == len(ids)
    return bodies


def compare(world, sent):
    bodies = arrived(world, sent)
    missing = [each for each in sent if not any(holds(each, body) for body in bodies)]
    assert not missing, (missing, bodies)
    assert len(bodies) == len(sent)
    [row] = [each for each in world.ask("collector", "sources") if each["source"] == world.source]
    assert row["errors"] == 0


def interrupted(world, sender, user):
    """Sends, and kills the edge in the middle: each message stands once in the log."""
    sent = tracks(user)
    back = threading.Event()

    def restart():
        world.suite.process("edge").kill()
        world.restart("edge")
        back.set()

    for number, each in enumerate(sent):
        sender.call(each)
        if number == MANY // 2:
            eventually(world.logged, 30, "nothing has arrived", 0.1)
            threading.Thread(target=restart).start()
    assert back.wait(60)
    bodies = arrived(world, sent)
    assert sorted(body["properties"]["n"] for body in bodies) == list(range(MANY))


PYTHON = [segment, rudder]
NODE = ["segment_node.mjs", "rudder_node.mjs"]
PAGES = ["segment_browser.html", "rudder_browser.html"]


@pytest.mark.parametrize("module", PYTHON, ids=lambda module: module.__name__)
def test_an_sdk_for_python_sends_every_kind_of_call(world, module):
    """segment-analytics-python and rudder-sdk-python, as they come from PyPI."""
    sent = calls_of(world.fresh(), world.fresh())
    client = Python(module, world)
    for each in sent:
        client.call(each)
    client.end()
    compare(world, sent)


@pytest.mark.parametrize("module", PYTHON, ids=lambda module: module.__name__)
def test_an_sdk_for_python_loses_and_doubles_nothing_while_the_edge_is_killed(world, module):
    """Its own retries, our deduplication."""
    client = Python(module, world)
    interrupted(world, client, world.fresh())
    client.end()


@pytest.mark.parametrize("script", NODE)
def test_an_sdk_for_node_sends_every_kind_of_call(world, packages, script):
    """@segment/analytics-node and @rudderstack/rudder-sdk-node (gzip, as a form), as they come from npm."""
    sent = calls_of(world.fresh(), world.fresh())
    node = Node(packages, script, world)
    for each in sent:
        node.call(each)
    node.end()
    compare(world, sent)


@pytest.mark.parametrize("script", NODE)
def test_an_sdk_for_node_loses_and_doubles_nothing_while_the_edge_is_killed(world, packages, script):
    """Its own retries, our deduplication."""
    node = Node(packages, script, world)
    interrupted(world, node, world.fresh())
    node.end()


@pytest.mark.parametrize("batching", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_an_sdk_for_browsers_sends_every_kind_of_call(world, packages, chromium, name, batching):
    """@segment/analytics-next and @rudderstack/analytics-js in Chromium, settings and all from the collector."""
    sent = [each for each in calls_of(world.fresh(), world.fresh()) if each["type"] != "screen"]
    with sdks.web_server(packages) as web:
        page = Page(chromium, f"{web}/{name}", world, batching)
        for each in sent:
            page.call(each)
        compare(world, sent)
        page.end()


@pytest.mark.parametrize("name", PAGES)
def test_an_sdk_for_browsers_loses_and_doubles_nothing_while_the_edge_is_killed(world, packages, chromium, name):
    """Its own retries, our deduplication."""
    with sdks.web_server(packages) as web:
        page = Page(chromium, f"{web}/{name}", world, batching=False)
        user = world.fresh()
        page.call({"type": "identify", "userId": user, "traits": {}})
        eventually(world.logged, 30, "nothing has arrived", 0.1)
        # identify stands in the log already; what follows is counted apart.
        before = len(world.logged())
        sent = tracks(user)
        for each in sent[: MANY // 2]:
            page.call(each)
        world.suite.process("edge").kill()
        for each in sent[MANY // 2 :]:
            page.call(each)
        world.restart("edge")
        eventually(lambda: len(world.logged()) >= before + MANY, 90, "not all arrived", 0.5)
        counted = [each["properties"]["n"] for each in world.logged() if each["event"] == "Counted"]
        assert sorted(counted) == list(range(MANY))
        page.end()
