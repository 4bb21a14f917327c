"""Activation's promises under any input: deliveries, their rebuild, signatures, addresses, erasures."""

import ipaddress
import time
from collections import Counter

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from contracts import activation as contract
from services.activation.domain import signing
from services.activation.domain.delivery import (
    Arrived,
    Delivery,
    Fact,
    Hopeless,
    Missed,
    Redrive,
    Refused,
    begin,
    decide,
    evolve,
)
from services.activation.domain.plan import Change, Subscription, delivery_id, planned, scheduled
from services.activation.domain.replay import People, digest_of, digest_of_all, fold
from services.activation.domain.schedule import ATTEMPTS, LONGEST_RETRY_AFTER, WAITS, retry_after_ms, wait_after
from services.activation.domain.ssrf import refused

START = 1_700_000_000_000
REASONS = st.sampled_from(["http_500", "timeout", "no_consent", "gone"])
JITTERS = st.floats(0, 1, exclude_max=True)
COMMANDS = st.one_of(
    st.builds(Arrived, st.integers(200, 299)),
    st.builds(Refused, REASONS),
    st.builds(Missed, REASONS, JITTERS, st.none() | st.integers(0, 10**12)),
    st.builds(Hopeless, REASONS),
    st.just(Redrive()),
)
STORIES = st.lists(st.tuples(st.integers(0, 3), COMMANDS, st.integers(0, 10**8)), max_size=60)


class Event:
    """As a reader of the activation stream sees it."""

    causes = {"segmentation:0": 1}
    correlation = ""

    def __init__(self, type, data, time):
        self.type, self.data, self.time = type, data, time


def first(number: int) -> Event:
    change = Change(
        id=f"e{number}", change="entered", profile=f"p{number}", segment="s", segment_version=1, at=1, reason="event"
    )
    subscription = Subscription(id="u", destination="d", segment="s", on=("entered",), purpose="x")
    return Event(contract.SCHEDULED, scheduled(change, subscription), START)


def lived(story) -> tuple[dict[str, Delivery], list[Event]]:
    """Commands at deliveries, one after the other: their states, and the log."""
    log = [first(number) for number in range(4)]
    states = [begin(event.data, event) for event in log]
    now = START
    for number, command, passed in story:
        now += passed
        for fact in decide(command, states[number], now):
            states[number] = evolve(states[number], fact, now)
            log.append(Event(fact.type, fact.data, now))
    return {each.id: each for each in states}, log


@given(STORIES)
def test_what_is_rebuilt_from_the_log_is_what_was_live(story):
    """Digests equal; the number of events is the version."""
    live, log = lived(story)
    rebuilt = fold(log)
    assert rebuilt == live
    digests = [digest_of_all({name: digest_of(state) for name, state in each.items()}) for each in (live, rebuilt)]
    assert digests[0] == digests[1]
    assert {name: state.version for name, state in live.items()} == Counter(event.data["delivery"] for event in log)


@given(STORIES, st.randoms())
def test_partitions_may_be_read_in_any_order(story, random):
    """Only the order within one delivery counts, and its events lie in one partition."""
    live, log = lived(story)
    queues = {name: [event for event in log if event.data["delivery"] == name] for name in live}
    shuffled = []
    while any(queues.values()):
        shuffled.append(queues[random.choice([name for name, left in queues.items() if left])].pop(0))
    assert fold(shuffled) == live


@given(STORIES)
def test_a_live_delivery_that_is_behind_the_log_is_met_on_the_way(story):
    """So a rebuild can be compared while the suite works: every state passes by in the fold."""
    _, log = lived(story)
    passing = set()
    fold(log, lambda state: passing.add((state.id, state.version, digest_of(state))))
    for length in range(4, len(log) + 1):
        for state in fold(log[:length]).values():
            assert (state.id, state.version, digest_of(state)) in passing


@given(STORIES)
def test_a_delivery_is_attempted_so_often_and_no_more_and_never_too_early(story):
    """Between two redrives at most ATTEMPTS; each later attempt waits at least as the schedule says."""
    states, log = lived(story)
    attempts: Counter[str] = Counter()
    for event in log[4:]:
        name = event.data["delivery"]
        if event.type == contract.REDRIVEN:
            attempts[name] = 0
        elif event.type in (contract.FAILED, contract.DELIVERED):
            attempts[name] += 1
            assert event.data["attempt"] == attempts[name] <= ATTEMPTS
        if event.type == contract.FAILED:
            assert event.data["next"] >= event.time + WAITS[attempts[name] - 1]
    for state in states.values():
        assert (state.next is None) == (state.status != contract.PENDING)


@given(STORIES, COMMANDS.filter(lambda command: not isinstance(command, Redrive)))
def test_what_has_ended_ends_once(story, command):
    """No outcome changes a delivery that is delivered, held or dead; only a redrive does."""
    states, _ = lived(story)
    for state in states.values():
        if state.status != contract.PENDING:
            assert decide(command, state, START) == []


@given(st.integers(1, ATTEMPTS - 1), JITTERS, st.none() | st.integers(0, 10**15))
def test_a_wait_is_bounded_from_both_sides(attempt, jitter, asked):
    wait = wait_after(attempt, jitter, asked)
    assert WAITS[attempt - 1] <= wait <= max(WAITS[attempt - 1] * 1.2 + 1, LONGEST_RETRY_AFTER)


@given(st.text(max_size=60) | st.from_regex(r"[0-9]{1,40}", fullmatch=True))
def test_any_retry_after_is_read_or_says_nothing(header):
    """Whatever a server sends, it raises nothing and stays within a day."""
    wait = retry_after_ms(header, START)
    assert wait is None or 0 <= wait <= LONGEST_RETRY_AFTER


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3), st.text(max_size=200))
def test_every_signature_is_verified_by_every_secret(keys, text):
    """Any body, any number of secrets at a time: the reference package verifies with each."""
    body = orjson.dumps({"text": text})
    headers = signing.headers(keys, "m" * 32, int(time.time()), body)
    for key in keys:
        Webhook(signing.secret_of(key)).verify(body, headers)
        assert signing.key_of(signing.secret_of(key)) == key


@settings(max_examples=300)
@given(st.ip_addresses(v=4), st.booleans())
def test_an_ipv4_address_is_judged_alike_however_it_is_written(address, allow_local):
    """Plain, mapped into IPv6, or behind NAT64; 6to4 and the like are refused in any case."""
    number = int(address)
    plain = refused(str(address), allow_local)
    assert refused(f"::ffff:{address}", allow_local) == plain
    assert refused(str(ipaddress.IPv6Address((0x64FF9B << 96) | number)), allow_local) == plain
    assert refused(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))), allow_local)
    assert refused(str(ipaddress.IPv6Address(number)), allow_local) or (number == 1 and allow_local)


@settings(max_examples=500)
@given(st.ip_addresses())
def test_no_address_passes_that_is_not_public(address):
    """Without the setting, what passes is public by Python's registry too, and no multicast."""
    if not refused(str(address), allow_local=False):
        plain = address
        if address.version == 6:
            nat64 = ipaddress.ip_network("64:ff9b::/96")
            plain = address.ipv4_mapped or (
                ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in nat64 else address
            )
        assert plain.is_global
        assert not plain.is_multicast


CHANGES = st.builds(
    Change,
    id=st.sampled_from(["e1", "e2", "e3"]),
    change=st.sampled_from(contract.CHANGES),
    profile=st.just("p"),
    segment=st.sampled_from(["s1", "s2"]),
    segment_version=st.just(1),
    at=st.just(1),
    reason=st.sampled_from(["event", "time", "merged", "erased", "definition"]),
)
SUBSCRIPTIONS = st.lists(
    st.builds(
        Subscription,
        id=st.sampled_from(["u1", "u2", "u3", "u4"]),
        destination=st.sampled_from(["d1", "d2"]),
        segment=st.sampled_from(["s1", "s2"]),
        on=st.sampled_from([("entered",), ("left",), ("entered", "left")]),
        purpose=st.just("marketing"),
    ),
    unique_by=lambda each: each.id,
)


@given(CHANGES, SUBSCRIPTIONS, st.randoms())
def test_planning_does_not_depend_on_the_order_of_subscriptions(change, subscriptions, random):
    """And each planned delivery has an id of its own, that follows from cause and subscription alone."""
    chosen = planned(change, subscriptions)
    shuffled = list(subscriptions)
    random.shuffle(shuffled)
    assert planned(change, shuffled) == chosen
    assert len({delivery_id(change, each) for each in chosen}) == len(chosen)
    for each in chosen:
        assert each.segment == change.segment
        assert change.change in each.on
        assert not (change.change == "left" and change.reason in ("merged", "erased"))


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)), st.randoms())
def test_erasing_reaches_whatever_was_merged_into_the_person(order, erased, random):
    """Merges and erasures in any order say the same: profile n was merged into n // 2, up to 0."""
    merges = [("merge", n) for n in order if n > 0]
    story = merges + [("erase", n) for n in erased]
    random.shuffle(story)
    people = People()
    for what, n in story:
        if what == "merge":
            people.merged(str(n), str(n // 2), n)
        else:
            people.erased(str(n))
    for n in range(8):
        chain = {n, n // 2, n // 4, 0} if n else {0}
        assert people.is_erased(str(n)) == bool(chain & erased)


def test_a_fact_is_what_a_rebuild_reads():
    """The story tests above would be empty if decide gave nothing: here is one of each."""
    state = begin(first(0).data, first(0))
    kinds = {
        decide(command, state, START)[0].type for command in (Arrived(200), Refused("x"), Missed("x", 0), Hopeless("x"))
    }
    dead = evolve(state, Fact(contract.DEAD, {"reason": "x"}), START)
    assert kinds | {decide(Redrive(), dead, START)[0].type, contract.SCHEDULED} == set(contract.EVENTS)
