"""What is kept of consents: enough to decide by, however often the same is said; and too much is no."""

import pytest

from services.privacy.domain.belonging import Belonging
from services.privacy.domain.consents import (
    MOST_SAID,
    TOO_MUCH,
    WEEK_MS,
    changes,
    empty,
    history,
    merge,
    merged,
    of,
    part,
    purposes,
    state_of,
)
from services.privacy.domain.gate import decide

TABLET = [["anonymous", "tablet"]]


def said(time, consent, event=None, gpc=False, identifiers=TABLET):
    body = {"time": time, "source_name": "web", "consent": consent, "gpc": gpc, "identifiers": identifiers}
    return state_of(body, event or f"{time:032x}")


def rows(state):
    return sum(map(len, state["said"].values())) + len(state["gpc"])


def verdict(state, purpose="ads"):
    return decide(state, purpose, segment_sensitive=False).reason


def test_what_is_stamped_on_every_event_is_kept_twice_a_week():
    """The first and the last; what changed stands in the history as it did."""
    state = merged(said(n * 60_000, {"ads": n < 5_000, "mail": True}) for n in range(10_080))
    assert rows(state) == 6
    assert [(each.time, each.agreed) for each in changes(history(state, "ads"))] == [(0, True), (5_000 * 60_000, False)]
    assert verdict(state) == "consent_withdrawn" and verdict(state, "mail") == "consent"


def test_weeks_purposes_answers_and_who_says_it_are_apart():
    pairs = [("ads", True, TABLET), ("ads", False, TABLET), ("mail", True, TABLET), ("ads", True, [["user", "ann"]])]
    states = [
        said(week * WEEK_MS + 10 * n + k, {purpose: agreed}, f"{week}-{n}-{k}".rjust(32), identifiers=who)
        for week in range(3)
        for n in range(5)
        for k, (purpose, agreed, who) in enumerate(pairs)
    ]
    assert rows(merged(states)) == 2 * 3 * len(pairs)


def test_objections_by_gpc_are_kept_alike():
    state = merged([*(said(n, None, gpc=True) for n in range(100)), said(50, {"ads": True}, "e" * 32)])
    assert len(state["gpc"]) == 2 and verdict(state) == "objected_by_gpc"


def test_too_much_is_no_and_stays_so():
    """Whatever is said later."""
    many = merged(said(n, {"ads": True}, identifiers=[["user", str(n)]]) for n in range(MOST_SAID))
    assert verdict(many) == "consent"
    merge(many, said(MOST_SAID, {"ads": True}, identifiers=[["user", "one more"]]))
    merge(many, said(MOST_SAID + 1, {"ads": True}))
    assert verdict(many) == "too_much_said" and rows(many) == 0 and purposes(many) == []
    assert merge(said(1, {"ads": True}), many) == merge(merge(empty(), many), said(1, {"ads": True})) == many


def test_too_much_under_one_identifier_is_too_much_of_who_is_known_by_it():
    one, other = said(1, {"ads": True}), {**empty(), TOO_MUCH: True}
    state = of({"a": one, "b": other}, Belonging(frozenset("ab"), {}, {}, {}))
    assert verdict(state) == "too_much_said"


@pytest.mark.parametrize("last", ["refusal", "objection"])
def test_a_refusal_that_was_not_kept_closes_the_gate(last):
    """A device is somebody else's since 50: of the owner's refusals before only the first was kept."""

    def no(time):
        return said(time, {"ads": False}) if last == "refusal" else said(time, None, gpc=True)

    state = merged([no(10), said(20, {"ads": True}), no(30), no(60)])
    mine = part(state, lambda _, time: time < 50)
    assert verdict(mine) != "consent"
    assert verdict(part(merged([no(10), said(20, {"ads": True}), no(60)]), lambda _, time: time < 50)) == "consent"


def test_a_refusal_of_everything_that_was_not_kept_closes_the_gate():
    """For every purpose."""
    state = merged([said(10, {}), said(20, {"ads": True}), said(30, {}), said(60, {})])
    assert verdict(part(state, lambda _, time: time < 50)) == "consent_refused"


def test_statements_of_the_first_form_are_read_and_kept():
    """They do not say by whom."""
    old = {
        "said": {"ads": {f"{n:015d} {n:032x}": [n < 5, "web"] for n in range(9)}},
        "gpc": {f"{9:015d} {9:032x}": "web"},
    }
    state = merged([old, said(20, {"mail": True}, gpc=True)])
    assert rows(state) == 12 and verdict(state) == "consent_withdrawn"
