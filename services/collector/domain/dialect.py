"""Dialects: what tools say in webhooks of their own, as messages of the tracking protocol. A dialect is data.

    {"name": "shop",
     "body": "json",
     "probe": false,
     "signature": {"header": "X-Shop-Hmac", "encoding": "base64"},
     "topic": "@header.X-Shop-Topic",
     "id": "@header.X-Shop-Delivery",
     "digits": {"*": 2, "JPY": 0},
     "parts": {"buyer": {"fields": {"anonymousId": {"text": "shop:{customer.id}"}, "context.traits.email": "email"},
                         "external_ids": {"shop_customer_id": "customer.id"}}},
     "rules": {"order/new": [{"type": "track", "event": "Order Completed", "parts": ["buyer"],
                              "fields": {"timestamp": "created_at", "properties.revenue": "total"},
                              "consent": {"marketing": "accepts_marketing"}}],
               "order/imported": "order/new"}}

| name | what it says |
| --- | --- |
| `name` | what the tool is called: a-z, 0-9 and hyphens |
| `body` | how the body is read: `json`, or `form` (application/x-www-form-urlencoded, nested by brackets) |
| `probe` | whether the tool asks for the address by GET before it uses it; it is answered 200 |
| `signature` | how it signs, see signatures |
| `topic` | an expression (see expressions): which rule counts; what no rule knows is ignored |
| `id` | an expression: what a delivery is known by, so that it counts once; where it is nothing, a hash of the body |
| `digits` | digits of currencies' minor units where the tool's are not ISO 4217's; `*`: of those not named |
| `parts` | fields, external_ids and consent that several messages share |
| `rules` | topic -> the messages that it becomes, or another topic whose rule is this one's too |

A message says `type`, `event` (of a track), `parts`, and of its own, above those of its parts:

| name | what it says |
| --- | --- |
| `fields` | where in the message (`properties.revenue`) -> an expression |
| `external_ids` | kind -> an expression; they become context.externalIds of the collection `users` |
| `consent` | purpose -> an expression; only true and false count, anything else says nothing |
| `when` | only where this holds, see expressions |
| `each` | an expression that gives a list: a message for each item of it (`@item`) |
| `needs` | a list of places in the message, such as `traits`: none, where nothing stands at any of them |

Message ids follow from the delivery's; a message may have one of its own (`fields.messageId`) where the same thing is
said by several deliveries.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from contracts.tracking import KINDS, LONGEST_MESSAGE_ID
from services.collector.domain import decode
from services.collector.domain.decode import MOST_EVENTS, Message, Refused
from services.collector.domain.expressions import (
    MOST_FIELDS,
    Condition,
    Expression,
    Fields,
    View,
    built,
    condition,
    expression,
    fields_of,
    path,
    table,
    written,
)
from services.collector.domain.forms import form_of
from services.collector.domain.signatures import Scheme, Webhook, scheme_of
from shared.errors import SamlaError

BODIES: Final = ("json", "form")
NEEDED: Final = ("name", "signature", "topic", "rules")
OPTIONAL: Final = ("body", "probe", "id", "digits", "parts")
ROOTS: Final = (
    "userId", "anonymousId", "previousId", "groupId", "messageId", "event", "name", "timestamp", "properties", "traits",
    "context",
)  # fmt: skip
"""What a dialect may write in a message."""
LONGEST_NAME: Final = 40
MOST_RULES: Final = 200
MOST_MESSAGES: Final = 20
"""Of one rule."""
NO_TOPIC: Final = "no_topic"
NO_RULE: Final = "no_rule"
NO_MESSAGE: Final = "no_message"
"""Why a webhook is ignored: it says no topic, no rule knows it, or the rule has nothing to say."""


class Making(NamedTuple):
    """How a message is made."""

    fixed: Message
    fields: Fields
    external_ids: Fields
    consent: Fields
    when: Condition | None
    each: Expression | None
    needs: Fields


class Dialect(NamedTuple):
    """A dialect, compiled."""

    name: str
    body: str
    probe: bool
    scheme: Scheme
    topic: Expression
    id: Expression | None
    digits: Mapping[str, int]
    rules: Mapping[str, tuple[Making, ...]]


class Translated(NamedTuple):
    """What came of a webhook."""

    messages: list[Message]
    ignored: str = ""
    """Why there are none: NO_TOPIC, NO_RULE or NO_MESSAGE."""
    topic: str = ""


# Reading a dialect


def dialect_of(document: object) -> Dialect:
    """The dialect, compiled. Raises SamlaError that says what is wrong, and where."""
    given = _known(document, "a dialect", NEEDED, OPTIONAL)
    name, body, probe = given["name"], given.get("body", "json"), given.get("probe", False)
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or name.strip(_LETTERS):
        raise SamlaError(f"name: 1 to {LONGEST_NAME} of a-z, 0-9 and hyphens")
    if body not in BODIES:
        raise SamlaError(f"body: is one of {', '.join(BODIES)}")
    if not isinstance(probe, bool):
        raise SamlaError("probe: is true or false")
    parts = {part: _said(said, f"parts.{part}") for part, said in table(given.get("parts", {}), "parts").items()}
    return Dialect(
        name=name,
        body=body,
        probe=probe,
        scheme=scheme_of(given["signature"]),
        topic=expression(given["topic"], "topic"),
        id=expression(given["id"], "id") if "id" in given else None,
        digits=_digits(given.get("digits", {})),
        rules=_rules(given["rules"], parts),
    )


_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789-"


def _known(given: object, place: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> Mapping[str, Any]:
    """An object that has what it must have, and nothing else than it may."""
    if not isinstance(given, dict):
        raise SamlaError(f"{place}: must be an object")
    for name in needed:
        if name not in given:
            raise SamlaError(f"{place}: needs {name}")
    if unknown := set(given) - {*needed, *optional}:
        raise SamlaError(f"{place}: knows {', '.join((*needed, *optional))}; not {min(unknown)}")
    return given


def _digits(given: object) -> Mapping[str, int]:
    for currency, digits in table(given, "digits").items():
        if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= 4:
            raise SamlaError(f"digits.{currency}: is 0 to 4")
    return dict(table(given, "digits"))


SAID: Final = ("fields", "external_ids", "consent")
Said = dict[str, dict[str, Expression]]


def _said(given: object, place: str) -> Said:
    """Of a part or a message: name -> where -> what."""
    _known(given, place, (), SAID)
    said = {name: dict(fields_of(table(given, place).get(name, {}), f"{place}.{name}")) for name in SAID}
    for field in said["fields"]:
        if field.split(".")[0] not in ROOTS:
            raise SamlaError(f"{place}.fields: {field} is no place in a message: {', '.join(ROOTS)}")
    return said


def _rules(given: object, parts: Mapping[str, Said]) -> Mapping[str, tuple[Making, ...]]:
    if not isinstance(given, dict) or not 0 < len(given) <= MOST_RULES:
        raise SamlaError(f"rules: must be an object of 1 to {MOST_RULES} topics")
    found: dict[str, tuple[Making, ...]] = {}
    for topic, rule in given.items():
        same = given.get(rule) if isinstance(rule, str) else rule
        if not isinstance(same, list) or not 0 < len(same) <= MOST_MESSAGES:
            raise SamlaError(f"rules.{topic}: must be 1 to {MOST_MESSAGES} messages, or a topic that has some")
        found[topic] = tuple(_making(each, parts, f"rules.{topic}.{n}") for n, each in enumerate(same))
    return found


def _making(given: object, parts: Mapping[str, Said], place: str) -> Making:
    made = _known(given, place, ("type",), (*SAID, "event", "parts", "when", "each", "needs"))
    if made["type"] not in KINDS:
        raise SamlaError(f"{place}: type is one of {', '.join(KINDS)}")
    named = made.get("parts", [])
    if not isinstance(named, list) or not all(isinstance(each, str) and each in parts for each in named):
        raise SamlaError(f"{place}: parts is a list of {', '.join(parts) or 'parts, and there are none'}")
    own = _said({name: made[name] for name in SAID if name in made}, place)
    said = {name: tuple(_over([parts[each][name] for each in named], own[name])) for name in SAID}
    return Making(
        fixed=_fixed(made, "event" in own["fields"], place),
        fields=said["fields"],
        external_ids=said["external_ids"],
        consent=said["consent"],
        when=condition(made["when"], f"{place}.when") if "when" in made else None,
        each=expression(made["each"], f"{place}.each") if "each" in made else None,
        needs=_needs(made.get("needs", []), f"{place}.needs"),
    )


def _needs(given: object, place: str) -> Fields:
    if not isinstance(given, list) or len(given) > MOST_FIELDS:
        raise SamlaError(f"{place}: is a list of places in the message")
    return tuple((str(each), path(each, place)) for each in given)


def _fixed(made: Mapping[str, Any], names_event: bool, place: str) -> Message:
    event = made.get("event")
    if event is None:
        if made["type"] == "track" and not names_event:
            raise SamlaError(f"{place}: a track needs event")
        return {"type": made["type"]}
    if not isinstance(event, str) or not event.strip():
        raise SamlaError(f"{place}: event is a name")
    return {"type": made["type"], "event": event}


def _over(parts: list[dict[str, Expression]], own: dict[str, Expression]) -> Iterator[tuple[str, Expression]]:
    whole: dict[str, Expression] = {}
    for each in (*parts, own):
        whole |= each
    if len(whole) > MOST_FIELDS:
        raise SamlaError(f"a message may have {MOST_FIELDS} fields")
    yield from whole.items()


# Reading a webhook


def translated(dialect: Dialect, webhook: Webhook) -> Translated | Refused:
    """The messages of a webhook whose signature is right, or why it has none."""
    body = _read(dialect, webhook.body)
    if isinstance(body, Refused):
        return body
    view = View(body, webhook.headers, dialect.digits)
    topic = dialect.topic(view)
    if topic is None or isinstance(topic, (dict, list)):
        return Translated([], NO_TOPIC)
    topic = written(topic)
    rule = dialect.rules.get(topic)
    if rule is None:
        return Translated([], NO_RULE, topic)
    delivery = f"{dialect.name}:{_delivery(dialect, view, webhook.body)}"
    made = (each for n, making in enumerate(rule) for each in _messages(making, view, f"{delivery}:{n}"))
    messages = list(islice(made, MOST_EVENTS + 1))
    if len(messages) > MOST_EVENTS:
        return Refused(400, "too_many", f"a webhook may become {MOST_EVENTS} messages")
    return Translated(messages, "" if messages else NO_MESSAGE, topic)


def _read(dialect: Dialect, raw: bytes) -> Message | Refused:
    text = decode.inflated(raw)
    if isinstance(text, Refused):
        return text
    return form_of(text) if dialect.body == "form" else decode.parsed(text)


def _delivery(dialect: Dialect, view: View, raw: bytes) -> str:
    known = dialect.id(view) if dialect.id else None
    if known is None or isinstance(known, (dict, list)):
        return hashlib.sha256(raw).hexdigest()
    return written(known)


def _messages(making: Making, view: View, identity: str) -> Iterator[Message]:
    for within, known in _views(making, view, identity):
        if making.when is None or making.when(within):
            message = _message(making, within, known)
            made = View(message, {}, {})
            if not making.needs or any(at(made) is not None for _, at in making.needs):
                yield message


def _views(making: Making, view: View, identity: str) -> Iterator[tuple[View, str]]:
    """What each of a rule's messages is made of, and what it is known by."""
    if making.each is None:
        yield view, identity
        return
    items = making.each(view)
    for n, item in enumerate(items if isinstance(items, list) else []):
        yield view._replace(item=item), f"{identity}:{n}"


def _message(making: Making, view: View, identity: str) -> Message:
    message = {**making.fixed, **built(making.fields, view)}
    message["messageId"] = _short(message.get("messageId", identity))
    beside: Message = {}
    if external := _external_ids(making, view):
        beside["externalIds"] = external
    consent = {name: said for name, make in making.consent if isinstance(said := make(view), bool)}
    if consent:
        beside["consent"] = {"categoryPreferences": consent}
    if beside:
        context = message.get("context")
        message["context"] = {**(context if isinstance(context, dict) else {}), **beside}
    return message


def _external_ids(making: Making, view: View) -> list[Message]:
    found = ((kind, make(view)) for kind, make in making.external_ids)
    return [
        {"type": kind, "collection": "users", "encoding": "none", "id": written(value)}
        for kind, value in found
        if value is not None and not isinstance(value, (dict, list))
    ]


def _short(identity: object) -> str:
    """A message id; one that is too long gives its hash, so that it is still the same each time."""
    text = written(identity)
    return text if len(text) <= LONGEST_MESSAGE_ID else hashlib.sha256(text.encode(errors="replace")).hexdigest()
