"""The collector's door: what clients really send, and what nobody should."""

import gzip
import json

import pytest
import segment.analytics

from tests.system.world import eventually


def event(**more):
    return {"type": "track", "userId": "door", "event": "E", **more}


def test_segments_own_python_sdk_sends_to_it_unmodified(world):
    """segment-analytics-python, as it comes from PyPI."""
    user = world.fresh()
    client = segment.analytics.Client(world.key, host=world.url, sync_mode=False, max_retries=2)
    client.identify(user, {"plan": "pro"})
    for _ in range(10):
        client.track(user, "Sdk Event", {"n": 1})
    client.group(user, "g1", {"name": "Group"})
    client.page(user, "Docs", "Home")
    client.screen(user, "App", "Start")
    client.alias(world.fresh(), user)
    client.shutdown()
    world.quiet()
    assert world.count(user, "Sdk Event") == 10
    assert world.count(user, "Page Viewed") == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [("t", "track"), ("i", "identify"), ("p", "page"), ("s", "screen"), ("g", "group"), ("a", "alias")],
)
def test_short_and_long_paths_take_the_same(world, path, kind):
    """Browsers send the first letter of the type."""
    body = {"userId": world.fresh(), "event": "E", "groupId": "g", "previousId": world.fresh()}
    assert world.post(f"/v1/{path}", body) == {"success": True}
    assert world.post(f"/v1/{kind}", body) == {"success": True}


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-8"},
        {},
    ],
)
def test_content_types_do_not_matter_and_gzip_is_told_by_its_magic(world, headers):
    """SDKs send gzip with and without saying so."""
    body = gzip.compress(json.dumps({"batch": [event()]}).encode())
    assert world.post("/v1/batch", body, headers=headers) == {"success": True}
    assert world.post("/v1/batch", body, headers={**headers, "Content-Encoding": "gzip"}) == {"success": True}


def test_the_write_key_may_stand_in_the_body(world):
    """No header at all, or Bearer beside it."""
    body = {**event(), "writeKey": world.key}
    for headers in ({}, {"Authorization": "Bearer x"}):
        answer = world.pool.request("POST", f"{world.url}/v1/track", body=json.dumps(body).encode(), headers=headers)
        assert answer.status == 200


BAD = {
    "not JSON": b"{bad",
    "empty": b"",
    "a list": b"[]",
    "not UTF-8": b'{"userId": "\xff\xfe"}',
    "UTF-16": json.dumps(event()).encode("utf-16"),
    "a lone surrogate": b'{"type":"track","userId":"u","event":"\\ud800"}',
    "NaN": b'{"type":"track","userId":"u","event":"E","properties":{"x":NaN}}',
    "too deep": b'{"type":"track","userId":"u","event":"E","properties":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
    "very deep": b"[" * 100_000,
    "a huge integer": b'{"type":"track","userId":"u","event":"E","properties":{"x":' + b"9" * 400 + b"}}",
    "an integer over 64 bits": b'{"type":"track","userId":"u","event":"E","properties":{"x":123456789012345678901234}}',
    "an absurd date": json.dumps(event(timestamp="0000-13-45")).encode(),
    "a date before 1970": json.dumps(event(timestamp="1066-10-14T09:00:00Z")).encode(),
    "a year of five digits": json.dumps(event(timestamp="99999-01-01T00:00:00Z")).encode(),
    "half a gzip": gzip.compress(json.dumps(event()).encode())[:-9],
    "no gzip": b"\x1f\x8b rubbish",
    "a gzip bomb": gzip.compress(b" " * 50_000_000),
    "a large event": json.dumps(event(properties={"x": "y" * 40_000})).encode(),
    "a large body": b" " * 600_000,
    "an event of another type": json.dumps(event(event=7)).encode(),
    "properties of another type": json.dumps(event(properties=[1])).encode(),
    "nobody": b'{"event":"E"}',
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_taken_in_is_a_400_that_says_why(world, what):
    """With a code and a message; never a 500, and no other status, since SDKs give up on 400 only."""
    answer = world.send("/v1/track", BAD[what])
    assert answer.status == 400, (answer.status, answer.data)
    assert answer.json()["code"] and answer.json()["message"]


@pytest.mark.parametrize(
    "odd",
    [
        {"$set": {"a.b": 1}, "": 2, "nul\0nul": 3},
        {"a.b": [1, {"$where": "x"}]},
        {"n": -9223372036854775808, "m": 18446744073709551615},
        {"f": 1e300, "g": -1e-300, "h": 0.1},
        {"emoji": "\U0001f600", "rtl": "\u202e", "long": "x" * 5_000},
        {"__proto__": {"x": 1}, "constructor": None},
    ],
)
def test_odd_keys_and_values_are_kept_as_they_are(world, odd):
    """Nothing that is legal JSON is refused for its names, and it comes out as it went in."""
    user = world.fresh()
    world.post("/v1/identify", {"userId": user, "traits": odd})
    world.quiet()
    shown = world.ask("profile", "show", world.profile_of(user))["descriptive"]
    assert {name: shown[name]["value"] for name in odd if odd[name] is not None} == {
        name: value for name, value in odd.items() if value is not None
    }


def test_a_bad_event_does_not_sink_its_batch_and_is_kept_in_quarantine(world):
    """The good ones are in; the answer says which were set aside; what was sent can be looked at."""
    user, odd = world.fresh(), world.fresh()
    batch = [event(userId=user), {"type": "track", "event": f"odd {odd}"}, "rubbish", event(userId=user)]
    answer = world.post("/v1/batch", {"batch": batch})
    assert answer["success"] is True
    assert [(row["index"], row["code"]) for row in answer["set_aside"]] == [(1, "no_identifier"), (2, "not_an_object")]
    world.quiet()
    assert world.count(user, "E") == 2
    rows = world.samla("quarantine", "list", "--reason", "no_identifier", "--json")
    kept = [world.ask("collector", "quarantine_show", row["id"])["message"] for row in rows]
    assert any(odd in message for message in kept)


@pytest.mark.parametrize(("key", "status", "code"), [("", 401, "no_write_key"), ("nobodys", 401, "unknown_write_key")])
def test_who_is_not_known_is_told_so(world, key, status, code):
    """401, with code and message."""
    answer = world.send("/v1/track", event(), key=key)
    assert (answer.status, answer.json()["code"]) == (status, code)


def test_a_disabled_source_is_refused(world):
    """404, as soon as the edge has looked at its sources again."""
    made = world.ask("collector", "create_source", f"gone-{world.fresh()}", "first")
    assert world.send("/v1/track", event(), key=made["write_key"]).status == 200
    world.ask("collector", "disable_source", made["source"])
    eventually(lambda: world.send("/v1/track", event(), key=made["write_key"]).status == 404, 15, "it is still taken")


def test_browsers_may_send_from_anywhere(world):
    """CORS: preflights are answered, and Retry-After may be read."""
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Headers": "authorization,x-retry-count"}
    answer = world.pool.request("OPTIONS", f"{world.url}/v1/t", headers=headers)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-retry-count"
    assert "Retry-After" in world.send("/v1/track", event()).headers["Access-Control-Expose-Headers"]


def test_every_process_tells_its_health_and_metrics(world):
    """/health and Prometheus' /metrics, with no label about a person."""
    ports = [
        world.suite.port(name)
        for name in ("edge", "collector", "identity", "profile", "segmentation", "activation", "privacy")
    ]
    for port in ports:
        health = world.pool.request("GET", f"http://127.0.0.1:{port}/health")
        assert (health.status, health.json()["status"]) == (200, "ok")
        metrics = world.pool.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
        assert "samla_" in metrics and "@example.org" not in metrics
