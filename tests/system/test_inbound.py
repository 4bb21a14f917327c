"""Webhooks of tools, signed as the tools sign them: taken in once, and in the profile of whom they are about."""

import json
import time

import pytest

from tests.system.world import eventually
from tests.unit.collector.webhooks import SECRET, payload, signed, written


@pytest.fixture
def connect(world):
    """Connects the test's source with a tool; gives the address, as the command line prints it."""

    def connected(tool, *options):
        given = () if tool == "mailchimp" or "--secret" in options else ("--secret", SECRET)
        made = world.samla("source", "connect", world.source, tool, *given, *options, "--json")
        assert (tool == "mailchimp") == ("secret" in made)
        return made["url"]

    return connected


def deliver(world, url, tool, value, method="POST", **more):
    body = value if isinstance(value, bytes) else written(tool, value)
    kind = "application/x-www-form-urlencoded" if tool == "mailchimp" else "application/json"
    headers = {"Content-Type": kind, **signed(tool, body, now=int(time.time()), **more)}
    return world.pool.request(method, url, body=body, headers=headers, timeout=20)


def personal(world, tool, name):
    """A payload of somebody of this test's own: (it, their address)."""
    word = world.fresh()
    address = f"{word}@example.org"
    text = json.dumps(payload(name)).replace("ada@example.org", address).replace("Ada@Example.org", address)
    for known in ("207119551", "cus_Q1w2E3r4T5y6U7", "8a25ff1d98", "a3a12ec67a1365927098a606107fac15"):
        text = text.replace(known, str(int(word, 16)) if known.isdigit() else word)
    return json.loads(text), address


def profile(world, address):
    world.quiet()
    return world.ask("identity", "resolve", [["email", address]])


def test_a_shopify_order_that_is_delivered_twice_is_one_event_of_one_person(world, connect):
    """And it is the same person as on the site, by the address."""
    url, (order, address) = connect("shopify"), personal(world, "shopify", "shopify_orders_create")
    user = world.fresh()
    world.post("/v1/identify", {"userId": user, "traits": {"email": address}})
    for _ in range(2):
        answer = deliver(world, url, "shopify", order, topic="orders/create")
        assert (answer.status, answer.json()) == (200, {"success": True})
    found = profile(world, address)
    assert found == world.profile_of(user) and world.count(user, "Order Completed") == 1
    bodies = world.logged()
    assert sorted(each["type"] for each in bodies) == ["identify", "identify", "track"]
    [placed] = [each for each in bodies if each["type"] == "track"]
    assert placed["properties"]["revenue"] == 1249.5 and len(placed["properties"]["products"]) == 2
    assert placed["context"]["ip"] == "203.0.113.0" and placed["consent"] == {"marketing": True}
    assert world.ask("privacy", "consents", found)["marketing"]["agreed"] is True


def test_stripe_and_shopify_tell_of_one_person_by_the_address(world, connect):
    """A refund in yen of somebody without a customer id, and a charge of one who has one."""
    url, (charge, address) = connect("stripe"), personal(world, "stripe", "stripe_charge_succeeded")
    assert deliver(world, url, "stripe", charge).status == 200
    shop, order = connect("shopify"), payload("shopify_orders_create") | {"email": address, "customer": None}
    assert deliver(world, shop, "shopify", order, topic="orders/paid").status == 200
    found = profile(world, address)
    facts = world.ask("profile", "facts", [found])[found]["facts"]["events"]
    assert facts["Payment Succeeded"][0] == facts["Order Paid"][0] == 1
    assert facts["Payment Succeeded"][4]["SEK"] != {}


def test_mailchimps_address_is_its_secret(world, connect):
    """It asks for it by GET; subscribed, then unsubscribed, is a consent withdrawn."""
    url, (subscribed, address) = connect("mailchimp"), personal(world, "mailchimp", "mailchimp_subscribe")
    assert world.pool.request("GET", url, timeout=20).status == 200
    wrong = url[:-1] + ("a" if url[-1] != "a" else "b")
    assert world.pool.request("GET", wrong, timeout=20).status == 401
    assert deliver(world, wrong, "mailchimp", subscribed).status == 401
    assert deliver(world, url, "mailchimp", subscribed).json() == {"success": True}
    found = profile(world, address)
    assert world.ask("privacy", "consents", found)["marketing"]["agreed"] is True
    left = payload("mailchimp_unsubscribe") | {"data[email]": address, "data[id]": subscribed["data[id]"]}
    assert deliver(world, url, "mailchimp", left).status == 200
    world.quiet()
    assert world.ask("privacy", "consents", found)["marketing"]["agreed"] is False


def test_a_typeform_response_is_opinions_in_the_profile(world, connect):
    url, (response, address) = connect("typeform"), personal(world, "typeform", "typeform_form_response")
    for _ in range(2):
        assert deliver(world, url, "typeform", response).status == 200
    found = profile(world, address)
    events = world.ask("profile", "facts", [found])[found]["facts"]["events"]
    assert (events["Survey Completed"][0], events["Survey Answered"][0]) == (1, 5)
    shown = json.dumps(world.ask("profile", "show", found, None))
    assert "Would you recommend us?" in shown and "Warm inside!" in shown


def test_what_is_not_signed_not_known_or_not_readable(world, connect):
    """401, 404, 400; what no rule knows is 200, ignored and counted. Nothing of it is in the log."""
    url, charge = connect("stripe"), payload("stripe_charge_succeeded")
    body = written("stripe", charge)
    assert world.pool.request("POST", url, body=body).status == 401
    assert deliver(world, url, "stripe", charge, secret="another secret").status == 401
    old = signed("stripe", body, now=int(time.time()) - 400)
    assert world.pool.request("POST", url, body=body, headers=old).status == 401
    assert deliver(world, url, "stripe", b"{").status == 400
    assert deliver(world, url, "stripe", b"x" * 600_000).status == 400
    assert deliver(world, url, "stripe", charge, method="GET").status == 405
    assert deliver(world, url.replace("stripe", "shopify"), "stripe", charge).status == 404
    assert deliver(world, url + "x", "stripe", charge).status == 404
    ignored = deliver(world, url, "stripe", charge | {"type": "balance.available"})
    assert (ignored.status, ignored.json()["ignored"]) == (200, "no_rule")
    metrics = world.pool.request("GET", world.url + "/metrics").data.decode()
    assert 'samla_inbound_ignored_total{dialect="stripe",reason="no_rule"}' in metrics
    assert world.logged() == []
    [row] = [each for each in world.ask("collector", "connections") if each["source"] == world.source]
    assert (row["dialect"], row["own"]) == ("stripe", False)
    world.samla("source", "disconnect", world.source, "stripe")
    eventually(lambda: deliver(world, url, "stripe", charge).status == 404, 15, "it is still connected")


def test_a_new_secret_ends_the_old_one_and_a_disabled_source_takes_nothing(world, connect):
    """At once where that is asked for; else both are good for a while."""
    url, charge = connect("stripe"), payload("stripe_charge_succeeded")
    assert deliver(world, url, "stripe", charge).status == 200
    assert connect("stripe", "--secret", "a newer secret") == url
    newer = {"secret": "a newer secret"}
    eventually(lambda: deliver(world, url, "stripe", charge, **newer).status == 200, 15, "the new one is not known")
    assert deliver(world, url, "stripe", charge).status == 200
    [row] = [each for each in world.ask("collector", "connections") if each["source"] == world.source]
    assert row["old_until"] > time.time() * 1000 + 3_600_000
    connect("stripe", "--secret", "a newer secret", "--overlap-hours", "0")
    eventually(lambda: deliver(world, url, "stripe", charge).status == 401, 15, "the old secret is good")
    assert deliver(world, url, "stripe", charge, secret="a newer secret").status == 200
    world.ask("collector", "disable_source", world.source)
    eventually(lambda: deliver(world, url, "stripe", charge, **newer).status == 404, 15, "it still takes")


def test_a_dialect_of_ones_own(world, connect):
    """As in docs/inbound.md; cleaning rules of the source count for it as for everything else."""
    document = {
        "name": "booking", "signature": {"header": "Typeform-Signature", "encoding": "base64", "prefix": "sha256="},
        "topic": "kind",
        "rules": {"booked": [{"type": "track", "event": "Visit Booked", "fields": {"userId": "guest"}}]},
    }  # fmt: skip
    world.samla("source", "clean", world.source, json.dumps({"set": {"properties.channel": "desk"}}))
    url = connect("booking", "--own", json.dumps(document))
    user = world.fresh()
    assert deliver(world, url, "typeform", {"kind": "booked", "guest": user}).json() == {"success": True}
    assert deliver(world, url, "typeform", {"kind": "booked"}).json()["set_aside"][0]["code"] == "no_identifier"
    assert world.logged()[0]["properties"] == {"channel": "desk"}
    world.quiet()
    assert world.count(user, "Visit Booked") == 1
