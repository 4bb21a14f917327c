"""Quarantined, mended and replayed is what a correct sender would have given, in whatever order."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.client import Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import Accepted, take_in
from services.collector.domain.quarantine import Kept, again, unpacked
from services.collector.domain.source import Source
from services.profile.domain.state import empty, merge, state_of
from shared.policy import POLICY

SOURCE = Source("s", "web", "first", True, 0)
RECEIVED = 1_790_000_000_000
WAYS = {
    "renamed": (lambda m: {("name" if k == "event" else k): v for k, v in m.items()}, {"rename": {"name": "event"}}),
    "untyped": (lambda m: {**m, "type": "click"}, {"set": {"type": "track"}}),
    "nameless": (lambda m: {**m, "event": None}, {"default": {"event": "E"}}),
    "odd": (
        lambda m: {**m, "messageId": 5, "id": m["messageId"]},
        {"rename": {"messageId": "wrong", "id": "messageId"}, "drop": ["wrong"]},
    ),
    "listed": (lambda m: {**m, "traits": []}, {"drop": ["traits"]}),
}
"""How messages go wrong, and the rule that mends them."""
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
rights = st.fixed_dictionaries(
    {
        "type": st.just("track"), "event": st.just("E"), "userId": st.sampled_from(["ada", "bob"]),
        "messageId": st.uuids().map(str),
        "properties": st.dictionaries(st.sampled_from(["revenue", "currency", "answer", "colour"]), values, max_size=3),
    },
    optional={
        "timestamp": st.sampled_from(["2026-01-01T10:00:00Z", "2025-06-01T00:00:00+02:00"]),
        "context": st.fixed_dictionaries({"locale": st.sampled_from(["sv", "en"])}),
    },
)  # fmt: skip
shared = st.fixed_dictionaries({}, optional={"sentAt": st.just("2026-01-02T00:00:00Z")})


def arrival(received):
    return SOURCE.arrival(received, False, Sender())


def state_after(accepted):
    whole = empty()
    for each in accepted:
        merge(whole, state_of(orjson.loads(each.ordinary), each.message_id))
    return whole


@given(st.data(), st.lists(rights, min_size=1, max_size=6, unique_by=lambda each: each["messageId"]), shared)
def test_a_round_trip_gives_what_a_correct_sender_would_have_given_in_whatever_order(data, messages, beside):
    """The very events; and so the same profile, whichever were good, whenever the others were replayed."""
    wanted = {}
    replayed = []
    for number, message in enumerate(messages):
        [right] = take_in(Batch([message], beside), arrival(RECEIVED + number), POLICY, lambda: "fresh").accepted
        wanted[right.message_id] = right
        spoil, rule = WAYS[data.draw(st.sampled_from(sorted(WAYS)))]
        intake = take_in(Batch([spoil(message)], beside), arrival(RECEIVED + number), POLICY, lambda: "fresh")
        [aside] = intake.set_aside
        kept = unpacked(Kept(raw=aside.raw.decode(), shared=dict(intake.shared)).packed(), 2)
        replayed.append((kept, RECEIVED + number, rule))
    found = [again(kept, "entry", at, SOURCE, rule, POLICY) for kept, at, rule in data.draw(st.permutations(replayed))]
    assert all(isinstance(each, Accepted) for each in found)
    assert {each.message_id: each._replace(raw=b"") for each in found} == {
        name: each._replace(raw=b"") for name, each in wanted.items()
    }
    assert state_after(found) == state_after(wanted.values())
