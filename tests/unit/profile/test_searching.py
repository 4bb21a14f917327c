"""Searching profiles: conditions, and of whom they hold."""

import pytest

from services.profile.domain.searching import conditions_of, found_in
from shared.errors import SamlaError

FACTS = {
    "ids": {"email": {"a@x.se": [1, 2, "e", "o"], "b@x.se": [1, 2, "e", "o"]}, "user": {"ada": [1, 2, "e", "o"]}},
    "traits": {
        "plan": [1, "e", "pro", "web", "first"],
        "tags": [1, "e", ["new", "vip"], "web", "first"],
        "address": [1, "e", {"city": "Lund", "lines": [{"no": 1}, {"no": 2}]}, "web", "first"],
        "a.b": [1, "e", True, "web", "first"],
    },
    "computed": {"spent": [12.5, None], "city": [None, None]},
}


def found(where):
    return found_in(FACTS, conditions_of(where, {"spent", "city"}))


@pytest.mark.parametrize(
    ("where", "values"),
    [
        ({"trait": "plan", "is": "pro"}, ["pro"]),
        ({"trait": "plan", "in": ["free", "pro"]}, ["pro"]),
        ({"trait": "tags", "contains": "vip"}, [["new", "vip"]]),
        ({"trait": "address.city", "is": "Lund"}, ["Lund"]),
        ({"trait": "address.lines.no", "gte": 2}, [1, 2]),
        ({"trait": "a.b", "is": True}, [True]),
        ({"trait": "nothing", "exists": False}, []),
        ({"trait": "nothing", "is_not": "x"}, []),
        ({"identifier": "email", "exists": True}, ["a@x.se", "b@x.se"]),
        ({"identifier": "email", "contains": "b@"}, ["a@x.se", "b@x.se"]),
        ({"identifier": "email", "is": " A@X.se"}, ["a@x.se", "b@x.se"]),
        ({"identifier": "email", "in": ["c@x.se", "B@x.se"]}, ["a@x.se", "b@x.se"]),
        ({"computed": "spent", "gt": 12}, [12.5]),
        ({"computed": "city", "exists": False}, []),
    ],
)
def test_a_condition_holds_and_says_of_what(where, values):
    assert list(found(where).values()) == [values]


@pytest.mark.parametrize(
    "where",
    [
        {"trait": "plan", "is": "free"}, {"trait": "nothing", "is": None}, {"identifier": "phone", "exists": True},
        {"computed": "city", "is": None}, {"trait": "a.b", "is": 1}, {"trait": "plan", "gt": 1},
        [{"trait": "plan", "is": "pro"}, {"identifier": "user", "is": "bo"}],
        {"identifier": "email", "is_not": "A@x.se"}, {"identifier": "email", "not_in": ["A@x.se", 1]},
        {"identifier": "email", "is": 1}, {"identifier": "user", "is": "Ada"},
    ],
)  # fmt: skip
def test_a_condition_does_not_hold(where):
    assert found(where) is None


def test_of_several_all_hold():
    where = [{"trait": "plan", "is": "pro"}, {"computed": "spent", "lt": 13}]
    assert found(where) == {"trait.plan": ["pro"], "computed.spent": [12.5]}


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ([], "20 at most"),
        ([{"trait": "a", "is": 1}] * 21, "20 at most"),
        ("plan", "must be an object"),
        ({"is": 1}, "just one of trait, identifier, computed"),
        ({"trait": "a", "computed": "spent", "is": 1}, "just one of trait"),
        ({"trait": 3, "is": 1}, "where.trait: must be a name"),
        ([{"trait": "a", "is": 1}, {"trait": "a"}], r"where\[1\]: a condition has just one of is"),
        ({"trait": "a", "gt": "x"}, "must be a number"),
        ({"computed": "lost", "is": 1}, "there is no computed trait lost"),
        ({"trait": "religion", "exists": True}, "special category"),
        ({"trait": "addr.religion", "is": "x"}, "where.trait: addr.religion tells of religion.*GDPR Art. 9"),
        ([{"trait": "profile.healthStatus.x", "exists": True}], r"where\[0\].trait: .* tells of health"),
    ],
)
def test_what_is_no_search_is_told_where_and_why(where, says):
    with pytest.raises(SamlaError, match=says):
        found(where)


def test_a_computed_trait_that_is_removed_during_a_search_is_told_so():
    """Those of whom it is asked have no value any more; that is not as if it did not hold of them."""
    conditions = conditions_of({"computed": "gone", "exists": False}, {"gone"})
    with pytest.raises(SamlaError, match="there is no computed trait gone"):
        found_in(FACTS, conditions)
