"""Whom to believe."""

import pytest

from services.profile.domain.believing import SHIPPED, Believing, check, differing
from shared.errors import SamlaError

CRM, WEB, PARTNER, BOUGHT = "first::crm", "first::web", "second:a1:hotel", "third:l1:lists"


def said(**times):
    """Each has said its own name, at a time (ms)."""
    origins = {"crm": CRM, "web": WEB, "partner": PARTNER, "bought": BOUGHT}
    return {origins[name]: [time, f"e-{name}", name] for name, time in times.items()}


def believed(document, **times):
    return [value for _, (_, _, value) in Believing(document).ordered("phone", said(**times))]


def test_as_shipped_what_the_person_said_beats_a_partner_and_that_what_was_bought():
    """Whatever was said later; of those alike, the later one. Nobody's value is lost."""
    assert believed(SHIPPED, bought=9, partner=8, web=1, crm=2) == ["crm", "web", "partner", "bought"]


def test_a_source_may_stand_before_its_party_and_behind_it():
    """Where it is named, that is its place, not its party's."""
    assert believed({"rank": ["source:crm", "first"]}, web=9, crm=1) == ["crm", "web"]
    assert believed({"rank": ["first", "second", "source:web"]}, web=9, crm=1, partner=5) == ["crm", "partner", "web"]


def test_who_is_not_named_comes_last():
    """The later one first."""
    assert believed({"rank": ["second"]}, web=9, crm=8, partner=1) == ["partner", "web", "crm"]


def test_a_trait_may_have_a_rank_of_its_own():
    """The others keep the one for all."""
    document = {"rank": ["first", "third"], "traits": {"phone": ["third", "first"]}}
    assert believed(document, web=9, bought=1) == ["bought", "web"]
    assert Believing(document).best("email", said(web=9, bought=1))[0] == WEB


def test_of_two_policies_those_values_differ_of_which_another_is_believed():
    """Not those where only the losers are in another order, or that one alone has said."""
    state = {
        "traits": {"phone": said(web=1, bought=2), "plan": said(web=1), "city": said(web=1, partner=2, bought=3)},
        "opinions": {"nps": said(crm=1, partner=2)},
    }
    first = Believing(SHIPPED)
    assert set(differing(state, first, Believing({"rank": ["first", "third", "second"]}))) == set()
    assert set(differing(state, first, Believing({"rank": ["third", "first"]}))) == {"traits.phone", "traits.city"}
    assert set(differing(state, first, Believing({"rank": ["second"]}))) == {
        "traits.phone", "traits.city", "opinions.nps",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "policy"),
        ({}, "policy"),
        ({"rank": []}, "policy.rank"),
        ({"rank": ["fourth"]}, r"policy.rank\[0\]"),
        ({"rank": ["first", "first"]}, "policy.rank"),
        ({"rank": ["source:"]}, r"policy.rank\[0\]"),
        ({"rank": ["first"], "traits": {"phone": "first"}}, "policy.traits.phone"),
        ({"rank": ["first"], "traits": {f"t{n}": [f"source:{m}" for m in range(999)] for n in range(11)}}, "10,000"),
    ],
)
def test_what_is_no_policy_is_refused_with_its_place(document, where):
    with pytest.raises(SamlaError, match=where):
        check(document)
