"""Rules are tried on what came last, without holding anybody up."""

import json

import pytest

from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import PIECE, take_in
from services.collector.domain.plan import plan_of
from services.collector.domain.raw import received_of, request_of
from services.collector.domain.rules import Rules
from services.collector.domain.source import Source
from services.collector.raw import Entry
from services.collector.trying import Trying
from shared.errors import SamlaError
from shared.policy import POLICY

SOURCE = Source("s", "web", "first", True, 0)
RECEIVED = 1_750_000_000_000
STEPS = {"clean": {"traits.email": "email", "context.traits.email": "email"}}
STRICT = {"mode": "warn", "traits": {"type": "object", "properties": {"email": {"type": "string"}}}}


class Kept:
    """What a source has sent, and the source: as the stores give them."""

    def __init__(self, messages, source=SOURCE, beside=None):
        self.source = source
        arrival = source.arrival(RECEIVED, False, Sender())
        intake = take_in(Batch(messages, beside or {}), arrival, POLICY, lambda: "m")
        texts = [(str(at), each.raw) for at, each in enumerate(intake.accepted)]
        request = received_of(request_of(intake), "request", RECEIVED, texts)
        self.entry = Entry("s", ["subject"] * len(texts), request)

    def latest(self, source, messages):
        return [(self.entry, at) for at in range(len(self.entry.subjects))][:messages]

    def one(self, source):
        return self.source


def trying(kept, pause=lambda: None):
    return Trying(kept, kept, POLICY, pause)


def identify(email, **more):
    return {"type": "identify", "userId": "u", "traits": {"email": email, **more}}


def test_what_rules_would_make_of_messages_is_told():
    """As the door would: what a batch said is part of each of its messages."""
    sent = [identify("a@example.org"), identify("none"), identify("no")]
    kept = Kept(sent, beside={"context": {"traits": {"email": "x"}}})
    strict = {**STEPS["clean"], "traits.email": {"steps": "email", "else": "reject"}}
    report = trying(kept).test("s", "cleaning", {"clean": strict}, 10)
    assert report["messages"] == 3 and report["set_aside"] == {"not_clean": 2} and report["newly_set_aside"] == 2
    assert report["uncleaned"] == {"traits.email": 2, "context.traits.email": 3}
    assert {"event": "1", "code": "not_clean", "path": "traits.email"} in report["examples"]
    planned = Kept([identify("a@example.org"), identify(7)], SOURCE._replace(rules=Rules(plan=plan_of(1, {}))))
    assert trying(planned).test("s", "plan", STRICT, 10)["violations"] == [
        {"event": "identify", "path": "traits.email", "rule": "type", "count": 1}
    ]


def test_the_names_of_special_traits_are_told_to_who_tries_rules():
    """Who looks after the source knows them: it is in what is sealed as ordinary that they may not stand."""
    report = trying(Kept([identify("a@example.org", religion="r")])).test(
        "s", "cleaning", {"clean": {"traits.religion": "email"}}, 10
    )
    assert report["uncleaned"] == {"traits.religion": 1}


@pytest.mark.parametrize("kind", ["cleaning", "plan", "learn"])
def test_others_have_their_turn_while_rules_are_tried(kind):
    """After each few messages: the service's other work, its heartbeats among it, goes on."""
    kept, pauses = Kept([identify("a@example.org")] * PIECE * 8), []
    tried = trying(kept, lambda: pauses.append(1))
    if kind == "learn":
        assert json.dumps(tried.learn("s", PIECE * 8, "warn"))
    else:
        assert tried.test("s", kind, STEPS if kind == "cleaning" else STRICT, PIECE * 8)["messages"] == PIECE * 8
    assert len(pauses) == 8


def test_rules_of_an_unknown_kind_are_refused():
    with pytest.raises(SamlaError, match="cleaning or plan"):
        trying(Kept([])).test("s", "agreement", {}, 10)
