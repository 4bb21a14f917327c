"""Webhooks as tools send them: their payloads, and signatures made by each tool's own recipe, not by ours."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import urlencode

PAYLOADS = Path(__file__).parent / "payloads"
SECRET = "hush-this-is-a-secret"


def payload(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def signed(tool, body, topic="", delivery="", now=0, secret=SECRET):
    """The headers (in lower case) of a webhook of a tool."""
    if tool == "stripe":
        digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        return {"stripe-signature": f"t={now},v1={digest},v0={'6ffbb59b2300aae6' * 4}"}
    plain = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    if tool == "typeform":
        return {"typeform-signature": f"sha256={plain}"}
    if tool == "shopify":
        return {
            "x-shopify-hmac-sha256": plain,
            "x-shopify-topic": topic,
            "x-shopify-webhook-id": delivery or "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            "x-shopify-shop-domain": "wool.myshopify.com",
            "x-shopify-triggered-at": "2026-01-31T13:05:11.123456789Z",
        }
    return {}


def written(tool, value):
    """The body's bytes."""
    return urlencode(value).encode() if tool == "mailchimp" else json.dumps(value).encode()
