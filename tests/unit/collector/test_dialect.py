"""What tools say in their own dialects, as messages of ours; and dialects of somebody's own."""

from copy import deepcopy

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector import dialects
from services.collector.domain.decode import Batch, Refused
from services.collector.domain.dialect import NO_MESSAGE, NO_RULE, NO_TOPIC, dialect_of, translated
from services.collector.domain.expressions import View, expression, major_units
from services.collector.domain.forms import form_of
from services.collector.domain.intake import take_in
from services.collector.domain.normalize import Arrival
from services.collector.domain.signatures import Webhook
from shared.errors import SamlaError
from shared.policy import POLICY
from tests.unit.collector.webhooks import payload, signed, written

RECEIVED = 1_798_761_600_000


def hear(tool, value, topic="", **more):
    """What a tool's dialect makes of a payload."""
    body = written(tool, value)
    return translated(dialects.dialect(tool), Webhook(signed(tool, body, topic, **more), {}, body))


def kept(messages):
    """The bodies as the log would keep them; nothing may be set aside."""
    intake = take_in(
        Batch(deepcopy(messages), {}), Arrival(RECEIVED, "first", "shop", False, False, False), POLICY, str
    )
    assert intake.set_aside == []
    return [orjson.loads(each.ordinary) for each in intake.accepted]


# Shopify


def test_a_shopify_order_is_a_completed_order_and_what_is_known_of_the_buyer():
    order, buyer = hear("shopify", payload("shopify_orders_create"), "orders/create").messages
    assert order == {
        "type": "track",
        "event": "Order Completed",
        "messageId": "shopify:b54557e4-bdd9-4b37-8a5f-bf7d70bcd043:0",
        "timestamp": "2026-01-31T14:05:09+01:00",
        "anonymousId": "shopify:207119551",
        "properties": {
            "order_id": "5678901234567", "order_number": "#1042", "checkout_id": "bd5a8aa1ecd019dd3520ff791ee3a24c",
            "currency": "SEK", "revenue": 1249.5, "subtotal": 1200.0, "tax": 240.0, "discount": 100.0, "shipping": 49.5,
            "coupon": "VINTER", "channel": "web", "payment_status": "pending", "test": False,
            "products": [
                {"product_id": "7513594", "variant_id": "4264112", "sku": "SOCK-GR-M", "name": "Wool socks",
                 "variant": "Grey / M", "brand": "Yllet", "price": 400.0, "quantity": 2},
                {"product_id": "7513595", "name": "Gift card", "brand": "Yllet", "price": 500.0, "quantity": 1},
            ],
        },
        "context": {
            "traits": {"email": "ada@example.org", "phone": "+46701740605"},
            "ip": "203.0.113.77", "locale": "sv-SE", "page": {"referrer": "https://search.example/"},
            "externalIds": [
                {"type": "shopify_customer_id", "collection": "users", "encoding": "none", "id": "207119551"}
            ],
            "consent": {"categoryPreferences": {"marketing": True}},
        },
    }  # fmt: skip
    assert buyer["traits"] == {
        "email": "ada@example.org", "phone": "+46701740605", "firstName": "Ada", "lastName": "Lind",
        "address": {"street": "Storgatan 1", "city": "Uppsala", "postalCode": "753 20", "country": "SE"},
    }  # fmt: skip
    assert "consent" not in buyer["context"]
    assert [each["identifiers"] for each in kept([order, buyer])] == [
        [["anonymous", "shopify:207119551"], ["email", "ada@example.org"], ["phone", "+46701740605"],
         ["shopify_customer_id", "207119551"]]
    ] * 2  # fmt: skip


@pytest.mark.parametrize(("topic", "event"), [("orders/paid", "Order Paid"), ("orders/cancelled", "Order Cancelled"),
                                              ("orders/fulfilled", "Order Fulfilled")])  # fmt: skip
def test_what_becomes_of_an_order_says_nothing_about_consent(topic, event):
    """It was given when the order was made, and may have been taken back since."""
    order = payload("shopify_orders_create") | {
        "cancelled_at": "2026-02-01T09:00:00+01:00",
        "cancel_reason": "customer",
    }
    [message] = hear("shopify", order, topic).messages
    assert message["event"] == event and "consent" not in message["context"]
    assert kept([message])[0]["properties"]["revenue"] == 1249.5


@pytest.mark.parametrize(("said", "consent"), [(True, True), (False, False), (None, None)])
def test_a_shopify_buyer_agrees_or_not_or_is_not_asked(said, consent):
    order = payload("shopify_orders_create") | {"buyer_accepts_marketing": said}
    first = hear("shopify", order, "orders/create").messages[0]["context"]
    assert first.get("consent", {}).get("categoryPreferences", {}).get("marketing") is consent


def test_a_guests_order_is_known_by_the_address_and_one_of_nobodys_by_itself():
    guest = payload("shopify_orders_create") | {"customer": None, "email": "Guest@Example.org", "contact_email": None}
    track, identify = hear("shopify", guest, "orders/create").messages
    assert track["anonymousId"] == identify["anonymousId"] == "shopify:guest@example.org"
    assert "externalIds" not in track["context"] and identify["traits"]["firstName"] == "Ada"
    nobody = guest | {"email": "", "billing_address": None}
    [only] = hear("shopify", nobody, "orders/create").messages
    assert only["anonymousId"] == "shopify:order:5678901234567" and kept([only])


def test_a_shop_may_pass_on_who_somebody_is_on_its_site():
    order = payload("shopify_orders_create")
    order["note_attributes"] = [{"name": "user_id", "value": "ada"}, {"name": "anonymous_id", "value": "a-1"}]
    message = hear("shopify", order, "orders/create").messages[0]
    assert (message["userId"], message["anonymousId"]) == ("ada", "a-1")


def test_a_shopify_customers_consent_counts_from_when_it_was_given_and_once():
    """Every later change of the customer says it again: it must not overrule what was said elsewhere since."""
    customer = payload("shopify_customers_update")
    identify, consent = hear("shopify", customer, "customers/update", delivery="one").messages
    _, again = hear(
        "shopify", customer | {"updated_at": "2026-03-01T00:00:00Z"}, "customers/update", delivery="two"
    ).messages
    assert consent["event"] == "Segment Consent Preference Updated"
    assert consent["timestamp"] == "2026-02-02T19:00:00+01:00"
    assert consent["context"]["consent"] == {"categoryPreferences": {"marketing": False}}
    assert consent["messageId"] == again["messageId"] and "consent" not in identify["context"]
    assert identify["traits"]["tags"] == "vip, newsletter" and identify["messageId"] == "shopify:one:0"
    kept([identify, consent])
    alone = {"customer_id": 207119551, "email_marketing_consent": customer["email_marketing_consent"]}
    [update] = hear("shopify", alone, "customers_email_marketing_consent/update").messages
    assert update["messageId"] == consent["messageId"] and update["anonymousId"] == consent["anonymousId"]


@pytest.mark.parametrize("state", ["not_subscribed", "pending", "invalid", "redacted", None])
def test_a_shopify_customer_who_was_never_asked_says_nothing(state):
    customer = payload("shopify_customers_update")
    customer["email_marketing_consent"]["state"] = state
    assert len(hear("shopify", customer, "customers/create").messages) == 1


# Stripe


def test_a_stripe_charge_is_a_payment_in_the_currency_itself():
    [message] = hear("stripe", payload("stripe_charge_succeeded")).messages
    assert message == {
        "type": "track",
        "event": "Payment Succeeded",
        "messageId": "stripe:evt_3PqRsT2eZvKYlo2C1a2b3c4d:0",
        "timestamp": "2026-01-31T13:05:09+00:00",
        "anonymousId": "stripe:cus_Q1w2E3r4T5y6U7",
        "properties": {
            "amount": 1249.5, "currency": "SEK", "charge_id": "ch_3PqRsT2eZvKYlo2C1UvWxYz0", "order_id": "1042",
            "payment_intent_id": "pi_3PqRsT2eZvKYlo2C1AbCdEfG", "description": "Order 1042", "payment_method": "card",
            "card_brand": "visa", "livemode": True,
        },
        "context": {
            "traits": {"email": "ada@example.org"},
            "externalIds": [
                {"type": "stripe_customer_id", "collection": "users", "encoding": "none", "id": "cus_Q1w2E3r4T5y6U7"}
            ],
        },
    }  # fmt: skip
    assert kept([message])[0]["time"] == 1_769_864_709_000


def test_of_a_stripe_refund_only_what_is_new_counts():
    """The charge tells the sum of all its refunds; yen have no minor unit."""
    [message] = hear("stripe", payload("stripe_charge_refunded")).messages
    assert message["event"] == "Payment Refunded" and message["anonymousId"] == "stripe:ken@example.org"
    said = message["properties"]
    assert (said["amount"], said["refunded"], said["charged"], said["currency"]) == (2000, 3000, 5000, "JPY")


def test_a_stripe_customer_is_who_the_shop_says():
    [message] = hear("stripe", payload("stripe_customer_updated")).messages
    assert (message["type"], message["userId"], message["anonymousId"]) == (
        "identify",
        "ada",
        "stripe:cus_Q1w2E3r4T5y6U7",
    )
    assert message["traits"]["name"] == "Ada Lind" and message["traits"]["address"]["country"] == "SE"
    assert kept([message])[0]["identifiers"][0] == ["user", "ada"]


def test_a_stripe_checkout_says_who_and_what_they_agree_to():
    [message] = hear("stripe", payload("stripe_checkout_session_completed")).messages
    assert message["userId"] == "ada" and message["properties"]["total"] == 12.84
    assert message["context"]["consent"] == {"categoryPreferences": {"marketing": True}}
    quiet = payload("stripe_checkout_session_completed")
    quiet["data"]["object"]["consent"] = None
    assert "consent" not in hear("stripe", quiet).messages[0]["context"]


@pytest.mark.parametrize(
    ("amount", "currency", "wanted"),
    [(1999, "usd", 19.99), (2000, "EUR", 20), (500, "jpy", 500), (500, "isk", 5), (500, "ugx", 5), (5120, "kwd", 5.12),
     (500, "mga", 500), (0, "usd", 0), (-250, "usd", -2.5), ("1999", "usd", 19.99), (10, None, None),
     (True, "usd", None), ("x", "usd", None), (10**30, "usd", None)],
)  # fmt: skip
def test_minor_units_are_those_of_the_tool(amount, currency, wanted):
    assert major_units(amount, None, currency, dialects.dialect("stripe").digits) == wanted


# Mailchimp


def test_a_mailchimp_subscription_is_a_consent():
    track, identify = hear("mailchimp", payload("mailchimp_subscribe")).messages
    assert track["event"] == "Email List Subscribed" and track["timestamp"] == "2026-01-31T13:05:09+00:00"
    assert track["messageId"] == "mailchimp:subscribe:a6b5da1054:8a25ff1d98:2026-01-31 13:05:09:0"
    assert track["context"]["consent"] == {"categoryPreferences": {"marketing": True}}
    assert identify["traits"] == {
        "email": "Ada@Example.org", "firstName": "Ada", "lastName": "Lind",
        "address": {"street": "Storgatan 1", "city": "Uppsala", "postalCode": "753 20", "country": "SE"},
    }  # fmt: skip
    assert kept([track, identify])[0]["identifiers"] == [
        ["anonymous", "mailchimp:8a25ff1d98"], ["email", "ada@example.org"], ["mailchimp_member_id", "8a25ff1d98"]
    ]  # fmt: skip


def test_a_mailchimp_unsubscription_takes_it_back_but_not_where_a_contact_is_deleted():
    [message] = hear("mailchimp", payload("mailchimp_unsubscribe")).messages
    assert message["context"]["consent"] == {"categoryPreferences": {"marketing": False}}
    [deleted] = hear("mailchimp", payload("mailchimp_unsubscribe") | {"data[action]": "delete"}).messages
    assert "consent" not in deleted["context"] and deleted["properties"]["action"] == "delete"


def test_a_new_address_at_mailchimp_is_the_same_persons():
    [message] = hear("mailchimp", payload("mailchimp_upemail")).messages
    assert kept([message])[0]["identifiers"] == [
        ["anonymous", "mailchimp:51da8c3259"], ["email", "ada.lind@example.org"],
        ["mailchimp_member_id", "51da8c3259"], ["email", "ada@example.org"],
    ]  # fmt: skip


def test_a_complaint_is_a_refusal_and_a_bounce_is_none():
    [bounce] = hear("mailchimp", payload("mailchimp_cleaned")).messages
    assert bounce["anonymousId"] == "mailchimp:ada@example.org" and "consent" not in bounce["context"]
    [abuse] = hear("mailchimp", payload("mailchimp_cleaned") | {"data[reason]": "abuse"}).messages
    assert abuse["context"]["consent"] == {"categoryPreferences": {"marketing": False}}
    kept([bounce, abuse])


# Typeform


def test_a_typeform_response_is_a_survey_completed_and_an_answer_each():
    whole, *answers, identify = hear("typeform", payload("typeform_form_response")).messages
    assert whole["event"] == "Survey Completed" and whole["properties"]["score"] == 9
    assert {each["event"] for each in answers} == {"Survey Answered"} and len(answers) == 5
    said = {each["properties"]["question_id"]: each["properties"] for each in answers}
    assert said["recommend"] == {
        "survey_id": "lT4Z3j", "survey": "How was your visit?", "response_id": "a3a12ec67a1365927098a606107fac15",
        "question": "Would you recommend us?", "question_id": "recommend", "question_type": "opinion_scale",
        "answer": 9, "score": 9, "scale": 11, "scale_from_one": False,
    }  # fmt: skip
    assert said["stars"]["rating"] == 4 and said["stars"]["scale"] == 5
    assert said["found"]["answer"] == ["Socks", "Hats"] and said["found"]["other"] == "Soap"
    assert said["again"]["answer"] is False and said["more"]["answer"] == "Warm inside!"
    assert identify["traits"] == {"email": "ada@example.org"}
    assert len({each["messageId"] for each in (whole, *answers, identify)}) == 7
    assert answers[0]["messageId"] == "typeform:a3a12ec67a1365927098a606107fac15:1:0"
    bodies = kept([whole, *answers, identify])
    assert {tuple(map(tuple, each["identifiers"])) for each in bodies} == {
        (("anonymous", "typeform:a3a12ec67a1365927098a606107fac15"), ("email", "ada@example.org"))
    }


def test_a_typeform_respondent_may_be_named_by_hidden_fields():
    form = payload("typeform_form_response")
    form["form_response"]["hidden"] = {"user_id": "ada", "email": "ada@example.net"}
    form["form_response"]["answers"] = form["form_response"]["answers"][:1]
    messages = hear("typeform", form).messages
    assert [each["type"] for each in messages] == ["track", "track"]
    assert all(each["userId"] == "ada" and "anonymousId" not in each for each in messages)
    assert messages[0]["context"]["traits"] == {"email": "ada@example.net"}


# All of them


CASES = [
    ("shopify", "shopify_orders_create", "orders/create"), ("shopify", "shopify_customers_update", "customers/update"),
    *[("stripe", f"stripe_{name}", "") for name in ("charge_succeeded", "charge_refunded", "customer_updated",
                                                    "checkout_session_completed")],
    *[("mailchimp", f"mailchimp_{name}", "") for name in ("subscribe", "unsubscribe", "upemail", "cleaned")],
    ("typeform", "typeform_form_response", ""),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "name", "topic"), CASES, ids=[name for _, name, _ in CASES])
def test_a_webhook_that_comes_again_is_the_same_messages(tool, name, topic):
    first, second = (hear(tool, payload(name), topic) for _ in range(2))
    assert first == second and first.messages and not first.ignored
    assert len({each["messageId"] for each in first.messages}) == len(first.messages)
    kept(first.messages)


def test_what_no_rule_knows_is_ignored_and_says_why():
    stripe = payload("stripe_charge_succeeded")
    assert hear("stripe", stripe | {"type": "balance.available"})[:2] == ([], NO_RULE)
    assert hear("stripe", {"id": "evt_1"})[:2] == ([], NO_TOPIC)
    assert hear("stripe", {"type": {"odd": 1}})[:2] == ([], NO_TOPIC)
    assert hear("mailchimp", {})[:2] == ([], NO_TOPIC)
    consent = {"customer_id": 1, "email_marketing_consent": {"state": "pending"}}
    assert hear("shopify", consent, "customers_email_marketing_consent/update")[:2] == ([], NO_MESSAGE)


@pytest.mark.parametrize(
    ("tool", "body"),
    [
        ("stripe", b""),
        ("stripe", b"{"),
        ("stripe", b"[1]"),
        ("mailchimp", b"a&b"),
        ("mailchimp", b"a[b=1"),
        ("mailchimp", b"\xff=1"),
        ("stripe", b"\x1f\x8bx"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(tool, body):
    found = translated(dialects.dialect(tool), Webhook({}, {}, body))
    assert isinstance(found, Refused) and found.status == 400


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.data())
def test_no_payload_breaks_a_dialect(data):
    """Whatever stands where something else is expected: messages, or nothing."""
    tool, name, topic = data.draw(st.sampled_from([case for case in CASES if case[0] != "mailchimp"]))
    value = payload(name)
    for _ in range(data.draw(st.integers(1, 6))):
        holder, key = value, data.draw(st.sampled_from(sorted(value)))
        while isinstance(holder[key], (dict, list)) and holder[key] and data.draw(st.integers(0, 3)):
            holder = holder[key]
            key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        holder[key] = data.draw(junk)
    found = hear(tool, value, topic)
    assert isinstance(found, Refused) or all(isinstance(each["messageId"], str) for each in found.messages)


@given(st.binary(max_size=200))
def test_no_form_breaks_the_reader(body):
    found = form_of(body)
    assert isinstance(found, (dict, Refused))


def test_a_forms_brackets_nest():
    assert form_of(b"a[b][c]=1&a[b][d]=&x=1&x=2&l[]=1&l[]=2&a[g][0][n]=q") == {
        "a": {"b": {"c": "1", "d": ""}, "g": {"0": {"n": "q"}}}, "x": "2", "l": ["1", "2"],
    }  # fmt: skip
    for bad in (b"a=1&a[b]=2", b"a[b]=1&a=2", b"=1", b"[a]=1", b"a[][b]=1", b"a[b]x=1", b"a[]=1&a=2"):
        assert isinstance(form_of(bad), Refused), bad
    assert isinstance(form_of(b"a" + b"[b]" * 30 + b"=1"), Refused)


# Dialects of somebody's own

OWN = {
    "name": "own",
    "signature": {"header": "X-Sign"},
    "topic": "kind",
    "rules": {"a": [{"type": "track", "event": "A", "fields": {"userId": "who"}}], "b": "a"},
}


def own(**more):
    return {**deepcopy(OWN), **more}


def test_a_dialect_of_ones_own_needs_little():
    """Without an id, the same body is the same delivery."""
    dialect = dialect_of(OWN)
    first, other = (Webhook({}, {}, b'{"kind": "%s", "who": "ada"}' % kind) for kind in (b"a", b"b"))
    [message] = translated(dialect, first).messages
    assert (message["userId"], message["event"]) == ("ada", "A")
    assert translated(dialect, first) == translated(dialect, first)
    assert translated(dialect, other).messages[0]["messageId"] != message["messageId"]


def test_a_message_id_that_is_too_long_is_cut_down_to_its_hash():
    body = b'{"kind": "a", "who": "ada", "id": "%s"}' % (b"x" * 200)
    [message] = translated(dialect_of(own(id="id")), Webhook({}, {}, body)).messages
    assert len(message["messageId"]) == 64


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "must be an object"),
        ({}, "needs name"),
        (own(more=1), "not more"),
        (own(name="Shop!"), "name: "),
        (own(body="xml"), "body: "),
        (own(probe=1), "probe: "),
        (own(digits={"SEK": 9}), "digits.SEK"),
        (own(topic=""), "topic: a path"),
        (own(topic="@query.x"), "there is no @query"),
        (own(topic={"form": "x"}), "topic: an expression"),
        (own(topic={"from": "x", "value": 1}), "topic: an expression"),
        (own(topic={"from": "x", "stepz": 1}), "stepz (is it steps?)"),
        (own(topic={"from": "x", "steps": ["sing"]}), "topic.steps: there is no step"),
        (own(topic={"from": "x", "when": {"y": "there"}}), "topic.when.y"),
        (own(topic={"text": 7}), "topic.text"),
        (own(topic={"each": "x"}), "each needs item"),
        (own(topic={"lookup": "x", "where": {}}), "lookup needs give"),
        (own(rules={}), "rules: "),
        (own(rules={"a": "b"}), "rules.a: "),
        (own(rules={"a": [{}]}), "rules.a.0: needs type"),
        (own(rules={"a": [{"type": "trace"}]}), "rules.a.0: type is one of"),
        (own(rules={"a": [{"type": "track"}]}), "rules.a.0: a track needs event"),
        (own(rules={"a": [{"type": "track", "event": "A", "parts": ["x"]}]}), "rules.a.0: parts"),
        (own(rules={"a": [{"type": "track", "event": "A", "fields": {"body.x": "x"}}]}), "body.x is no place"),
        (own(rules={"a": [{"type": "track", "event": "A", "fields": {"userId": ""}}]}), "rules.a.0.fields.userId"),
        (own(rules={"a": [{"type": "track", "event": "A", "needs": "x"}]}), "rules.a.0.needs"),
        (own(signature={}), "signature: header"),
        (own(signature={"header": "X", "hash": "md5"}), "signature: hash"),
        (own(signature={"header": "X", "encoding": "rot13"}), "signature: encoding"),
        (own(signature={"header": "X", "tolerance": 300}), "where the time stands"),
        (own(signature={"header": "X", "time": "T", "tolerance": 300}), "not signed proves nothing"),
        (own(signature={"header": "X", "signed": "none"}), "{body} is signed"),
        (own(signature={"header": "X", "pairs": {"time": "t"}}), "pairs are like"),
        (own(signature={"query": "s", "header": "X"}), "query is the name"),
    ],
)  # fmt: skip
def test_what_is_no_dialect_is_refused_with_the_place(document, why):
    with pytest.raises(SamlaError, match=".") as error:
        dialect_of(document)
    assert why in str(error.value)


def test_a_dialect_that_is_not_json_or_not_there_is_refused():
    for call in (lambda: dialects.own(b"{"), lambda: dialects.own(b" " * 300_000), lambda: dialects.dialect("fax")):
        with pytest.raises(SamlaError):
            call()


def test_expressions_may_not_be_nested_for_ever():
    spec = "x"
    for _ in range(30):
        spec = [spec]
    with pytest.raises(SamlaError):
        expression(spec, "x")


def test_expressions_give_what_their_table_says():
    view = View({"a": {"b": 1}, "l": [{"k": "x", "v": 1}, {"k": "y", "v": 2}], "t": "", "no": False}, {"x-h": "h"}, {})
    for spec, wanted in [
        ("a.b", 1), ("l.1.v", 2), ("l.9.v", None), ("t", None), ("no", False), ("@header.X-H", "h"), (["t", "a.b"], 1),
        ({"from": "no", "choose": {"false": 0}}, 0), ({"from": "a.b", "choose": {"2": 0}}, None),
        ({"value": 3, "when": {"a.b": ["1"]}}, 3), ({"value": 3, "when": {"a.b": {"not": [1]}}}, None),
        ({"value": 3, "when": {"t": "absent", "no": "present"}}, 3), ({"text": "{a.b}-{no}"}, "1-false"),
        ({"text": "{a.b}-{t}"}, None), ({"text": "plain"}, "plain"),
        ({"each": "l", "item": {"n.k": "@item.k"}}, [{"n": {"k": "x"}}, {"n": {"k": "y"}}]),
        ({"lookup": "l", "where": {"k": {"value": "y"}}, "give": "v"}, 2),
        ({"from": "@header.X-H", "steps": ["number"]}, "h"), ({"minor": "a.b", "currency": {"value": "SEK"}}, 0.01),
    ]:  # fmt: skip
        assert expression(spec, "here")(view) == wanted, spec
