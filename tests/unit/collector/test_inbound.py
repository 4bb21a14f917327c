"""The door for webhooks, without a database; and what its documentation shows."""

import asyncio
import json
import re
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.collector import dialects, inbound
from services.collector.connections import Before, Connection, _checked, _path
from services.collector.domain.dialect import dialect_of, translated
from services.collector.domain.signatures import Webhook
from services.collector.domain.source import Source
from services.collector.inbound import FRESH_SECONDS, Inbound
from services.collector.writer import Outcome
from shared.errors import SamlaError, Unavailable
from tests.unit.collector.test_dialect import hear
from tests.unit.collector.webhooks import SECRET, payload, signed, written

SOURCE = Source("s1", "shop", "first", True, 0)
DOC = (Path(__file__).resolve().parents[3] / "docs/inbound.md").read_text()
EXAMPLES = [json.loads(each) for each in re.findall(r"```json\n(.+?)```", DOC, re.DOTALL)]


class Door:
    """An Inbound whose messages end up in `taken`."""

    def __init__(self, source=SOURCE, opened=True):
        self.taken, self.notes, self.asked, self.source, self.broken = [], [], [], source, False
        self.inbound = Inbound(self.take, self.tell, lambda *given, **counts: self.notes.append(counts))
        if opened:
            self.inbound.open(self)

    def find(self, source, name):
        self.asked.append((source, name))
        if self.broken:
            raise Unavailable("not now")
        known = source == self.source.id and name in dialects.names()
        return Connection(self.source, dialects.dialect(name), SECRET) if known else None

    async def take(self, source, batch, text, received, scope, headers):
        self.taken += batch.messages
        return Outcome.DURABLE, None, "c"

    async def tell(self, send, outcome, intake, correlation, single):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"{}"})

    def call(self, path, body=b"", headers=None, method="POST", query=""):
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        rows = [(name.title().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"method": method, "path": path, "query_string": query.encode(), "headers": rows}
        asyncio.run(self.inbound.serve(scope, receive, send))
        return sent[0]["status"], json.loads(sent[1]["body"])

    def stripe(self, value, **more):
        body = value if isinstance(value, bytes) else written("stripe", value)
        return self.call("/v1/inbound/stripe/s1", body, signed("stripe", body, now=int(time.time())), **more)


def test_a_signed_webhook_is_taken_and_one_that_says_nothing_is_only_noted():
    door = Door()
    assert door.stripe(payload("stripe_charge_succeeded"))[0] == 200
    assert door.taken[0]["event"] == "Payment Succeeded" and door.notes == []
    status, told = door.stripe({"id": "evt_1", "type": "balance.available"})
    assert (status, told["ignored"], told["topic"]) == (200, "no_rule", "balance.available")
    assert len(door.taken) == 1 and door.notes == [{}]
    assert door.asked == [("s1", "stripe")]


def test_a_secret_before_is_taken_until_its_time_is_over():
    """And no other."""
    door, now = Door(), int(time.time() * 1000)
    body = written("stripe", payload("stripe_charge_succeeded"))
    for until, status in ((now + 60_000, 200), (now - 1, 401)):
        known = Connection(SOURCE, dialects.dialect("stripe"), "a newer secret", (Before(SECRET, until),))
        door.find = lambda source, name, known=known: known
        door.inbound.open(door)
        door.inbound._known.clear()
        assert door.call("/v1/inbound/stripe/s1", body, signed("stripe", body, now=now // 1000))[0] == status


def test_what_is_refused_is_noted_and_taken_by_nobody():
    door = Door()
    assert door.call("/v1/inbound/stripe/s1", b"{}")[0] == 401
    assert door.stripe(b"{")[0] == 400
    assert door.notes == [{"refused": 1}] * 2
    assert door.stripe({}, method="GET")[0] == 405
    for path in (
        "/v1/inbound/stripe/s2",
        "/v1/inbound/fax/s1",
        "/v1/inbound/",
        "/v1/inbound/stripe",
        "/v1/inbound/a/b/c",
    ):
        assert door.call(path)[0] == 404
    assert Door(SOURCE._replace(enabled=False)).stripe({})[1]["code"] == "source_disabled"
    assert door.taken == []


def test_while_the_database_is_away_a_tool_is_told_to_come_again():
    door = Door(opened=False)
    assert door.stripe({})[0] == 503
    door = Door()
    door.broken = True
    assert door.stripe({})[0] == 503
    door.broken = False
    assert door.stripe({"type": "x"})[0] == 200


def test_what_stands_in_an_address_is_not_logged_for_a_source(monkeypatch):
    """Anything may stand there; an id that was found before is told."""
    door, now = Door(), time.monotonic()
    door.stripe({"type": "x"})
    door.broken = True
    monkeypatch.setattr("services.collector.inbound.time.monotonic", lambda: now + FRESH_SECONDS + 1)
    with capture_logs() as logs:
        assert door.call("/v1/inbound/stripe/ada@example.org")[0] == 503
        assert door.stripe({"type": "x"})[0] == 503
    assert [each["source"] for each in logs] == ["unknown", "s1"]


def test_a_connection_is_looked_at_again_now_and_then(monkeypatch):
    door, now = Door(), time.monotonic()
    for later in (0, 1, FRESH_SECONDS + 1, FRESH_SECONDS + 2):
        monkeypatch.setattr("services.collector.inbound.time.monotonic", lambda later=later: now + later)
        door.stripe({"type": "x"})
    assert len(door.asked) == 2


def test_mailchimp_asks_for_the_address_first():
    door, query = Door(), f"secret={SECRET}"
    assert door.call("/v1/inbound/mailchimp/s1", method="GET", query=query) == (200, {"success": True})
    assert door.call("/v1/inbound/mailchimp/s1", method="GET")[0] == 401
    assert door.call("/v1/inbound/mailchimp/s1", query=query)[1]["ignored"] == "no_topic"
    assert door.call("/v1/inbound/mailchimp/s1", query=query + "&a=1" * 200)[0] == 401


def test_secrets_are_long_enough_and_in_the_address_only_where_they_must_be():
    stripe, mailchimp = dialects.dialect("stripe"), dialects.dialect("mailchimp")
    assert _path("s", stripe, SECRET) == "/v1/inbound/stripe/s"
    assert _path("s", mailchimp, "a&b=c d/ehijklmno") == "/v1/inbound/mailchimp/s?secret=a%26b%3Dc%20d%2Fehijklmno"
    for secret, dialect in (
        ("short", stripe),
        ("only-twelve-", mailchimp),
        (" " + SECRET, stripe),
        ("x" * 501, stripe),
    ):
        with pytest.raises(SamlaError):
            _checked(secret, dialect)


def within(part, whole):
    """Whether everything of the part stands in the whole."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and within(each, whole[name]) for name, each in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(within(each, other) for other in whole) for each in part)
    return part == whole


CASES = [("shopify", "shopify_orders_create", "orders/create"), ("stripe", "stripe_charge_succeeded", ""),
         ("mailchimp", "mailchimp_unsubscribe", ""), ("typeform", "typeform_form_response", "")]  # fmt: skip


@pytest.mark.parametrize(("case", "shown"), list(zip(CASES, EXAMPLES, strict=False)), ids=[each[0] for each in CASES])
def test_the_messages_that_the_documentation_shows_are_what_comes_of_the_payloads(case, shown):
    tool, name, topic = case
    assert any(within(shown, message) for message in hear(tool, payload(name), topic).messages)


def test_the_dialect_that_the_documentation_shows_is_one():
    dialect = dialect_of(EXAMPLES[-1])
    body = {"kind": "booked", "delivery": "d1", "at": 1769864709, "price": 9900, "currency": "SEK",
            "guest": {"id": 7, "mail": " Ada@Example.org", "newsletter": False}}  # fmt: skip
    [message] = translated(dialect, Webhook({}, {}, json.dumps(body).encode())).messages
    assert message == {
        "type": "track", "event": "Visit Booked", "messageId": "booking:d1:0", "anonymousId": "booking:7",
        "timestamp": "2026-01-31T13:05:09+00:00", "properties": {"price": 99, "currency": "SEK"},
        "context": {"traits": {"email": "ada@example.org"}, "consent": {"categoryPreferences": {"marketing": False}}},
    }  # fmt: skip


def test_the_documentation_names_every_topic():
    """Of the four dialects."""
    for tool in dialects.names():
        for topic in dialects.dialect(tool).rules:
            last = "." + topic.rpartition(".")[2]
            assert f"`{topic}`" in DOC or f"`{last}`" in DOC, topic


def test_names_that_are_made_up_are_neither_looked_for_nor_kept_without_end(monkeypatch):
    """Too long to be a name; and so many that a connection would be forgotten for them."""
    monkeypatch.setattr(inbound, "MOST_KNOWN", 20)
    door = Door()
    for number in range(100):
        assert door.call(f"/v1/inbound/stripe/{'x' * 60_000}{number}")[0] == 404
    assert door.asked == [] and not door.inbound._known
    door.stripe({})
    for number in range(19):
        door.call(f"/v1/inbound/stripe/{number}")
    door.stripe({})
    assert door.asked.count(("s1", "stripe")) == 1
    for number in range(100):
        door.call(f"/v1/inbound/fax/{number}")
    assert len(door.inbound._known) == 20
