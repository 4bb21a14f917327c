"""Sources' settings: addresses, rates, and what is no setting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.client import address
from services.collector.domain.source import Bucket, Limits, Source, checked, named
from shared.errors import SamlaError

SOURCE = Source("s", "web", "first", True, 0)


@pytest.mark.parametrize(
    ("written", "policy", "kept"),
    [
        ("203.0.113.77", "keep", "203.0.113.77"),
        ("203.0.113.77", "truncate", "203.0.113.0"),
        (" 2001:db8:1:2:3:4:5:6 ", "truncate", "2001:db8:1::"),
        ("203.0.113.77", "drop", None),
        ("not an address", "keep", None),
        ("::ffff:203.0.113.77%eth0", "drop", None),
        (7, "keep", None),
        (None, "truncate", None),
    ],
)
def test_an_address_is_kept_as_the_source_says(written, policy, kept):
    """Truncated to a neighbourhood; what is no address is not kept at all."""
    assert address(written, policy) == kept


@given(st.ip_addresses())
def test_truncating_twice_changes_nothing(written):
    once = address(str(written), "truncate")
    assert address(once, "truncate") == once


@given(
    rate=st.integers(1, 50),
    requests=st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 120)), max_size=60),
)
def test_over_any_time_a_source_gets_its_rate_and_one_burst(rate, requests):
    """However requests come: what passes is at most what the rate gives, a second's worth, and one request."""
    bucket, now, passed = Bucket(rate, 0.0), 0.0, 0
    for pause, events in requests:
        now += pause
        if bucket.take(events, now) == 0:
            passed += events
        assert passed <= rate * now + rate + 120


def test_who_waits_as_long_as_it_is_told_passes():
    bucket = Bucket(10, 0.0)
    assert bucket.take(10, 0.0) == 0
    wait = bucket.take(5, 0.0)
    assert wait == 0.5
    assert bucket.take(5, wait) == 0


def test_a_source_without_a_rate_never_waits_and_a_changed_rate_counts_at_once():
    limits = Limits()
    assert limits.wait(SOURCE, 10**6, 0.0) == 0
    slow, fast = SOURCE._replace(rate=1), SOURCE._replace(rate=100)
    assert limits.wait(slow, 1, 0.0) == 0 and limits.wait(slow, 1, 0.0) == 1
    assert limits.wait(fast, 50, 0.0) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"ip": "sell"},
        {"bots": None},
        {"rate": -1},
        {"rate": 1.5},
        {"rate": True},
        {"enabled": "no"},
        {"party": "first"},
    ],
)
def test_what_is_no_setting_is_refused_by_name(changes):
    with pytest.raises(SamlaError, match=next(iter(changes))):
        checked(changes)


@pytest.mark.parametrize(("name", "party"), [("", "first"), (" ", "first"), ("x" * 101, "first"), ("web", "fourth")])
def test_a_source_needs_a_name_and_a_party(name, party):
    with pytest.raises(SamlaError):
        named(name, party)
