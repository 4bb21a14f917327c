"""What is different between two views of a profile."""

from services.profile.domain.believing import Believing
from services.profile.domain.comparing import differences, is_nothing
from services.profile.domain.computed import trait_of
from services.profile.domain.state import merged, state_of
from services.profile.domain.view import view_of

ORDERS = trait_of("t1", "orders", 1, {"event": "Order Completed", "measure": "count"})
CITY = trait_of("t2", "city", 1, {"event": "Order Completed", "measure": "last", "value": "city"})


def body(time, **more):
    return {"type": "track", "time": time, "party": "first", "source_name": "web", "identifiers": [], **more}


def order(time, total, city, currency="EUR"):
    properties = {"total": total, "currency": currency, "city": city}
    return body(time, event="Order Completed", properties=properties)


def identify(time, email, **traits):
    return body(time, type="identify", identifiers=[["email", email]], traits=traits, event=None, properties={})


def view(*bodies, now=100):
    state = merged(state_of(each, f"e{number}", [ORDERS, CITY]) for number, each in enumerate(bodies))
    return view_of("p", state, Believing(), [ORDERS, CITY], now)


BEFORE = [order(1, 10.5, "Lund"), identify(2, "a@x.se", plan="free", pet="cat", town="Lund")]
AFTER = [*BEFORE, order(3, 4, "Oslo"), order(4, 100, "Oslo", "SEK"), identify(5, "b@x.se", plan="pro", town="Lund")]


def test_what_came_went_and_is_another_is_told_by_part():
    """Counts and sums as how much more; numbers with by how much."""
    told = differences(view(*BEFORE), view(*AFTER))
    assert told["identity"] == {"added": {"email": ["b@x.se"]}, "removed": {}, "changed": {}}
    assert told["quantitative"]["changed"] == {
        "Order Completed": {"count": 2, "minor_units": {"EUR": 400, "SEK": 10000}}
    }
    assert told["descriptive"] == {"added": {}, "removed": {}, "changed": {"plan": {"from": "free", "to": "pro"}}}
    assert told["computed"]["changed"] == {
        "orders": {"from": 1, "to": 3, "by": 2},
        "city": {"from": "Lund", "to": "Oslo"},
    }


def test_backwards_it_is_the_other_way_round():
    told = differences(view(*AFTER), view(*BEFORE))
    assert told["identity"]["removed"] == {"email": ["b@x.se"]}
    assert told["quantitative"]["changed"]["Order Completed"] == {
        "count": -2,
        "minor_units": {"EUR": -400, "SEK": -10000},
    }
    assert told["computed"]["changed"]["orders"]["by"] == -2


def test_somebody_who_was_not_known_before_is_all_added():
    told = differences({}, view(*BEFORE))
    assert told["descriptive"]["added"] == {"plan": "free", "pet": "cat", "town": "Lund"}
    assert told["quantitative"]["added"] == {"Order Completed": {"count": 1, "minor_units": {"EUR": 1050}}}
    assert not any(part["removed"] or part["changed"] for part in told.values())


def test_true_is_not_one():
    """A value that compares alike and is another is told."""
    told = differences(view(identify(1, "a", flag=1)), view(identify(1, "a", flag=True)))
    assert told["descriptive"]["changed"] == {"flag": {"from": 1, "to": True}}


def test_nothing_is_different_from_itself():
    assert is_nothing(differences(view(*AFTER), view(*AFTER)))
    assert not is_nothing(differences(view(*BEFORE), view(*AFTER)))
