"""From a message as an SDK sent it to a body as the log keeps it, or a reason why not."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from contracts.tracking import BIGGEST_EVENT
from services.collector.domain.client import Agent, Agents, Sender, seen_by
from services.collector.domain.decode import Message, rounded
from services.collector.domain.identifiers import identifiers_of
from services.collector.domain.rules import NONE, Rejected, Rules
from shared.shape import Problem, is_nobodys, milliseconds, preferences_of, shape_problem

NAMED: Final = {"page": "Page Viewed", "screen": "Screen Viewed"}
"""A page or screen call is an event too; its own name stays in the properties."""
BOT: Final = "bot"
"""The code of what is set aside for its sender's sake: nothing is wrong with the message."""

Body = dict[str, Any]


class Arrival(NamedTuple):
    """What is known of a request apart from its messages."""

    received: int
    """Milliseconds since 1970 UTC."""
    party: str
    source_name: str
    gpc: bool
    """`Sec-GPC: 1`: an objection to sale, sharing and ads."""
    sized: bool
    """Whether each message is known to be within BIGGEST_EVENT."""
    exact: bool
    """Whether no number can have been rounded."""
    sender: Sender = Sender()
    rules: Rules = NONE
    region: str = ""
    """ISO 3166 alpha-2: where telephone numbers without a country code are."""
    biggest: int = BIGGEST_EVENT
    """Bytes that one message may hold."""
    keeps_raw: bool = False
    """Whether messages are kept as they were received, too."""


def normalized(
    message: object, shared: Mapping[str, Any], arrival: Arrival, fresh_id: str, agents: Agents | None = None
) -> Body | Rejected:
    """The body, see contracts/tracking.py. The message has what its batch says for all of them (rules.whole); of
    `shared` only sentAt is looked at. `fresh_id` becomes the message id where there is none; `agents` reads those of
    a request."""
    if not isinstance(message, dict):
        return Rejected("not_an_object", "", "a message must be a JSON object")
    if problem := _size_problem(message, arrival) or shape_problem(message):
        return Rejected(*problem)
    if is_nobodys(message):
        return Rejected("no_identifier", "userId", "userId or anonymousId is required")
    context, agent = seen_by(message.get("context") or {}, arrival.sender, agents or Agents())
    traits = _traits(message, context)
    time, consent = event_time(message, shared, arrival.received), _consent(context)
    for part in (time, consent, _bot(agent, arrival.sender)):
        if isinstance(part, Rejected):
            return part
    identifiers, aside = identifiers_of(message, traits, context, arrival.region or None)
    if not identifiers and not aside:
        return Rejected("no_identifier", "userId", "userId or anonymousId is required")
    body = _body(message, arrival, fresh_id, time, identifiers, context, traits)
    said: Body = {"consent": consent, "gpc": arrival.gpc or None, "set_aside": aside or None}
    said["client"] = agent.row() if agent else None
    return body | {name: value for name, value in said.items() if value is not None}


def _bot(agent: Agent | None, sender: Sender) -> Rejected | None:
    if agent is None or not agent.bot or sender.bots == "keep":
        return None
    # Which one stands in the sender's own words only, and those are sealed.
    return Rejected(BOT, "context.userAgent", "sent by a bot")


def _body(
    message: Message,
    arrival: Arrival,
    fresh_id: str,
    time: int | Rejected,
    identifiers: list[list[str]],
    context: Message,
    traits: Message,
) -> Body:
    kind = message["type"]
    properties = message.get("properties") or {}
    event = message["event"].strip() if kind == "track" else NAMED.get(kind)
    if kind in NAMED and isinstance(name := message.get("name"), str):
        properties = {"name": name, **properties}
    return {
        "type": kind,
        "message_id": message.get("messageId") or fresh_id,
        "event": event,
        "time": time,
        "party": arrival.party,
        "source_name": arrival.source_name,
        "identifiers": identifiers,
        "properties": properties,
        "traits": traits,
        "context": context,
        "integrations": message.get("integrations") or {},
        "group_id": message.get("groupId"),
    }


def _size_problem(message: Message, arrival: Arrival) -> Rejected | None:
    if not arrival.exact and rounded(message):
        return Rejected("number_too_large", "", "a number does not fit into 64 bits; send it as a string")
    if not arrival.sized and len(orjson.dumps(message)) > arrival.biggest:
        return too_large(arrival)
    return None


def too_large(arrival: Arrival) -> Rejected:
    """Why a message that is too large for its source is set aside."""
    why = f"an event may hold {arrival.biggest} bytes, with what its batch says for all of them"
    return Rejected("too_large", "", why)


def _traits(message: Message, context: Message) -> Message:
    """Some SDKs put identify's traits only in the context."""
    own = message.get("traits") or {}
    common = context.get("traits")
    return {**common, **own} if isinstance(common, dict) else own


def _consent(context: Message) -> dict[str, bool] | Rejected | None:
    said = preferences_of(context.get("consent"))
    return Rejected(*said) if isinstance(said, Problem) else said


def event_time(message: Message, shared: Mapping[str, Any], received: int) -> int | Rejected:
    """When it happened, by the server's clock: received - (sentAt - originalTimestamp); never in the future.

    Without sentAt the client's own time counts; without either, the time of receipt.
    """
    written = message.get("originalTimestamp") or message.get("timestamp")
    if written is None:
        return received
    original = milliseconds(written)
    if original is None:
        return Rejected("bad_time", "timestamp", "timestamp must be an ISO 8601 date and time")
    sent = message.get("sentAt") or shared.get("sentAt")
    if sent is not None:
        sent_at = milliseconds(sent)
        if sent_at is None:
            return Rejected("bad_time", "sentAt", "sentAt must be an ISO 8601 date and time")
        original = received - (sent_at - original)
    if original < 0:
        return Rejected("absurd_time", "timestamp", "the event would have happened before 1970")
    return min(original, received)
