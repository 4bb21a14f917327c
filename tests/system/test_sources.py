"""A source's own rules at the door: keys, rates, addresses, bots; and the doors that need no SDK."""

import base64
import time

import pytest
import rudderstack.analytics as rudder

from tests.system.world import eventually

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture
def source(world):
    """A source of this test's own: (its id, its write key)."""
    made = world.ask("collector", "create_source", f"source-{world.fresh()}", "first")
    world.key = made["write_key"]
    return made["source"]


def row(world, source):
    [found] = [each for each in world.ask("collector", "sources") if each["source"] == source]
    return found


def bodies(world, user):
    """What stands in the log about a user."""
    world.quiet()
    return world.ask("profile", "everything", world.profile_of(user))["events"]


def get(world, path, **headers):
    return world.pool.request("GET", world.url + path, headers=headers, timeout=20)


def test_rudderstacks_own_python_sdk_sends_to_it_unmodified(world, source):
    """rudder-sdk-python, as it comes from PyPI: gzip on, traits in the context, null identifiers."""
    user = world.fresh()
    client = rudder.Client(world.key, host=world.url, max_retries=2, gzip=True)
    client.identify(user, {"plan": "pro"})
    for _ in range(10):
        client.track(user, "Sdk Event", {"n": 1})
    client.group(user, "g1", {"name": "Group"})
    client.page(user, "Docs", "Home")
    client.screen(user, "App", "Start")
    client.alias(world.fresh(), user)
    client.join()
    client.flush()
    eventually(lambda: row(world, source)["events"] >= 15, 20, "not all arrived")
    world.quiet()
    assert world.count(user, "Sdk Event") == 10
    assert row(world, source)["errors"] == 0


def test_a_rotated_key_is_good_at_once_and_the_old_one_for_as_long_as_was_said(world, source):
    """With an overlap both send; without one only the new key does."""
    old = world.key
    new = world.samla("source", "rotate", source, "--overlap-hours", "1", "--json")["write_key"]
    body = {"userId": world.fresh(), "event": "E"}
    world.post("/v1/track", body, key=new)
    world.post("/v1/track", body, key=old)
    newest = world.ask("collector", "rotate_key", source, 0)["write_key"]
    world.post("/v1/track", body, key=newest)
    for each in (old, new):
        eventually(lambda key=each: world.send("/v1/track", body, key=key).status == 401, 15, "an old key is good")


def test_a_source_that_sends_more_than_its_rate_is_told_when_to_come_again(world, source):
    """429 with Retry-After; nothing of the request is taken; who waits so long is taken. Others do not feel it."""
    world.ask("collector", "change_source", source, {"rate": 5})
    user = world.fresh()
    batch = {"batch": [{"type": "track", "userId": user, "event": "Paced"} for _ in range(5)]}

    def refused():
        answer = world.send("/v1/batch", batch)
        return answer if answer.status == 429 else None

    answer = eventually(refused, 20, "the rate does not count")
    assert answer.json()["code"] == "rate_limited"
    wait = int(answer.headers["Retry-After"])
    assert 1 <= wait <= 2 and abs(int(answer.headers["X-RateLimit-Reset"]) - time.time() - wait) < 3
    eventually(lambda: world.send("/v1/batch", batch).status == 200, wait + 1, "who waited is not taken")
    other = world.ask("collector", "create_source", f"source-{world.fresh()}", "first")["write_key"]
    world.post("/v1/batch", batch, key=other)


@pytest.mark.parametrize(("policy", "kept"), [("keep", "203.0.113.77"), ("truncate", "203.0.113.0"), ("drop", None)])
def test_an_address_is_stored_only_as_the_source_says(world, source, policy, kept):
    """Before it is in the log: neither a raw message nor an event holds more."""
    world.ask("collector", "change_source", source, {"ip": policy})
    user = world.fresh()

    def taken():
        world.post("/v1/track", {"userId": user, "event": "E", "context": {"ip": "203.0.113.77"}})
        return bodies(world, user)[-1]["context"].get("ip") == kept

    eventually(taken, 20, "the policy does not count", 0.5)


def test_a_browsers_connection_says_what_the_message_does_not(world, source):
    """Its user agent is read, its address kept as the source says; a server's own are not the person's."""
    user = world.fresh()
    world.post("/v1/track", {"userId": user, "event": "E"}, headers={"Origin": "http://shop", "User-Agent": CHROME})
    world.post("/v1/track", {"userId": user, "event": "E"}, headers={"User-Agent": CHROME})
    one, other = sorted(bodies(world, user), key=lambda body: "client" in body, reverse=True)
    assert one["client"] == {"browser": "Chrome 126", "os": "Windows 10"} and one["context"]["ip"] == "127.0.0.0"
    assert "client" not in other and "ip" not in other["context"]


def test_a_bots_messages_are_set_apart_and_not_called_an_error(world, source):
    """They are in quarantine, and nobody's profile."""
    user = world.fresh()
    message = {"userId": user, "event": "E", "context": {"userAgent": GOOGLE}}
    answer = world.post("/v1/track", message)
    assert answer["set_aside"][0]["code"] == "bot"
    world.quiet()
    assert world.profile_of(user) is None
    assert world.ask("collector", "quarantine_list", source)[0]["reason"] == "bot"
    path = f"/pixel/v1/track?writeKey={world.key}&userId={user}&event=Opened"
    assert get(world, path, **{"User-Agent": GOOGLE, "Referer": "http://shop"}).status == 200


def test_a_picture_sends_a_message(world, source):
    """It is a picture whatever becomes of it."""
    user = world.fresh()
    answer = get(world, f"/pixel/v1/track?writeKey={world.key}&userId={user}&event=Opened&properties.mail=m1")
    assert (answer.status, answer.headers["Content-Type"], answer.data[:6]) == (200, "image/gif", b"GIF89a")
    agreed = "context.consent.categoryPreferences.ads=false"
    assert get(world, f"/pixel/v1/page?writeKey={world.key}&userId={user}&{agreed}").status == 200
    # Its address has room for more than one message may hold.
    large = f"track?writeKey={world.key}&userId={user}&event=Large&properties.x={'x' * 40_000}"
    assert get(world, f"/pixel/v1/{large}").status == 400
    for path, status in ((f"track?writeKey={world.key}", 400), ("track?writeKey=nobody&userId=u", 401)):
        answer = get(world, f"/pixel/v1/{path}")
        assert (answer.status, answer.data[:6]) == (status, b"GIF89a")
    found = {each["event"]: (each["properties"], each.get("consent")) for each in bodies(world, user)}
    assert found == {"Opened": ({"mail": "m1"}, None), "Page Viewed": ({"name": "Unknown Page"}, {"ads": False})}


def test_a_beacon_has_its_write_key_in_the_address(world, source):
    """A page that is being left sends text/plain without any header."""
    user = world.fresh()
    body = b'{"batch": [{"type": "track", "userId": "%s", "event": "Left"}]}' % user.encode()
    path = f"{world.url}/beacon/v1/batch?writeKey={world.key}"
    answer = world.pool.request("POST", path, body=body, headers={"Content-Type": "text/plain"})
    assert answer.status == 200
    world.quiet()
    assert world.count(user, "Left") == 1


def test_browser_sdks_are_told_to_send_where_they_have_found_us(world, source):
    """Segment's and RudderStack's; each says nothing at all without this."""
    answer = get(world, f"/v1/projects/{world.key}/settings", Host="cdp.example:81", **{"X-Forwarded-Proto": "https"})
    assert answer.json()["integrations"]["Segment.io"] == {
        "apiKey": world.key, "apiHost": "cdp.example:81/v1", "protocol": "https",
    }  # fmt: skip
    basic = "Basic " + base64.b64encode(f"{world.key}:".encode()).decode()
    for path, headers in (
        (f"/sourceConfig/?p=web&writeKey={world.key}", {}),
        ("/sourceConfig", {"Authorization": basic}),
    ):
        told = get(world, path, **headers).json()["source"]
        assert told["id"] == source and told["enabled"] and told["destinations"] == [] and told["config"]
    assert get(world, "/sourceConfig?writeKey=nobody").status == 401


def test_a_source_shows_what_it_has_sent_and_when(world, source):
    """Messages, those set aside, requests refused; `samla source list` shows it."""
    good, bad = {"type": "track", "userId": "u", "event": "E"}, {"type": "track"}
    world.post("/v1/batch", {"batch": [good, good, bad]})
    found = eventually(lambda: (each := row(world, source))["events"] == 2 and each, 15, "it was not counted")
    assert found["errors"] == 1 and found["refused"] == 0 and time.time() * 1000 - found["last_seen"] < 30_000
    [listed] = [each for each in world.samla("source", "list", "--json") if each["source"] == source]
    assert listed["events"] == 2
