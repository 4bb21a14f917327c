"""A delivery's life: given what happened, when something is decided, then this follows."""

import pytest

from services.activation.domain.delivery import (
    Arrived,
    Hopeless,
    Missed,
    Redrive,
    Refused,
    decide,
    evolve,
)
from services.activation.domain.schedule import ATTEMPTS
from tests.unit.activation.support import NOW, given, pending, when

OUTCOMES = [Arrived(200), Refused("no_consent"), Missed("http_500", 0.0), Hopeless("gone")]


def after(*commands, state=None, now=NOW):
    """The state after commands, one decided after the other."""
    state = state or pending()
    for command in commands:
        for fact in decide(command, state, now):
            state = evolve(state, fact, now)
    return state


def test_a_scheduled_delivery_is_pending_and_due_at_once():
    state = pending()
    assert (state.status, state.next, state.attempts, state.version) == ("pending", NOW, 0, 1)
    assert state.causes == {"segmentation:1": 7, "tracking:3": 120}
    assert state.correlation == "c0ffee"


def test_a_2xx_delivers_it():
    assert when(Arrived(204), pending()) == [("delivered", {"attempt": 1, "status": 204})]
    state = after(Arrived(204))
    assert (state.status, state.attempts, state.next) == ("delivered", 1, None)


def test_a_no_of_the_gate_holds_it_with_the_reason():
    assert when(Refused("no_consent"), pending()) == [("held", {"reason": "no_consent"})]
    state = after(Refused("no_consent"))
    assert (state.status, state.reason, state.attempts) == ("held", "no_consent", 0)


def test_a_failed_attempt_is_made_again_later():
    assert when(Missed("http_500", 0.0), pending()) == [
        ("failed", {"attempt": 1, "reason": "http_500", "next": NOW + 5_000})
    ]
    state = after(Missed("http_500", 0.0))
    assert (state.status, state.attempts, state.next) == ("pending", 1, NOW + 5_000)


def test_retry_after_is_honoured():
    [(_, data)] = when(Missed("http_429", 0.0, retry_after=60_000), pending())
    assert data["next"] == NOW + 60_000


def test_the_last_attempt_that_fails_makes_it_dead():
    """As many attempts as the schedule has, then the dead letters."""
    state = after(*[Missed("timeout", 0.0)] * (ATTEMPTS - 1))
    assert state.status == "pending"
    assert when(Missed("timeout", 0.0), state) == [("dead", {"reason": "timeout"})]


def test_a_gone_destination_makes_it_dead_at_once():
    assert when(Hopeless("gone"), pending()) == [("dead", {"reason": "gone"})]


@pytest.mark.parametrize("command", OUTCOMES)
@pytest.mark.parametrize("ended", [Arrived(200), Refused("no_consent"), Hopeless("gone")])
def test_what_has_ended_is_not_decided_again(ended, command):
    """A late outcome, of an instance that was overtaken, changes nothing."""
    assert when(command, after(ended)) == []


@pytest.mark.parametrize("ended", [Refused("no_consent"), Hopeless("gone")])
def test_what_is_dead_or_held_can_be_redriven(ended):
    """It starts over: all attempts again, due at once, under the same id."""
    state = after(Missed("http_500", 0.0), ended)
    assert when(Redrive(), state) == [("redriven", {})]
    again = after(Redrive(), state=state, now=NOW + 9)
    assert (again.status, again.attempts, again.next, again.reason) == ("pending", 0, NOW + 9, "")
    assert again.id == state.id


@pytest.mark.parametrize("state", [pending(), after(Arrived(200))], ids=["pending", "delivered"])
def test_what_is_pending_or_delivered_is_not_redriven(state):
    assert when(Redrive(), state) == []


def test_an_event_of_a_later_version_counts_and_changes_nothing_else():
    """So that an older instance's state stays comparable by the number of its events."""
    from services.activation.domain.delivery import Fact

    state = given(Fact("activation.postponed.v1", {"delivery": "d" * 32}))
    assert state == pending(version=2)
