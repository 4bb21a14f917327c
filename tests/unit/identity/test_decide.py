"""Who is one person: the rules, on cases that have hurt others, and as laws."""

import time

import pytest

from services.identity.domain.decide import DAY_MS
from services.identity.domain.rules import SHIPPED, rules_of
from shared.errors import SamlaError
from tests.unit.identity.playing import Play

U1, U2, A1, A2, E1, E2 = (
    ("user", "1"), ("user", "2"), ("anonymous", "1"), ("anonymous", "2"), ("email", "1@x.se"), ("email", "2@x.se"),
)  # fmt: skip


def reasons(facts):
    return [fact.data["reason"] for fact in facts if fact.type == "identity.set_aside.v1"]


def told(facts):
    return [fact.type.split(".")[1] for fact in facts]


def test_a_visitor_who_logs_in_is_the_same_person():
    """What was done before the login is theirs, too."""
    play = Play().take([A1], [U1, A1, E1])
    assert play.groups() == {frozenset({"user:1", "anonymous:1", "email:1@x.se"})}


def test_two_devices_and_a_login_are_merged_into_the_older_profile():
    """The first profile stays; the other is a part of it."""
    play = Play().take([A1], [A2], [U1, A1])
    first = play.person("anonymous:1").id
    [merge] = play.happens([U1, A2])
    assert merge.type == "identity.merged.v1" and merge.data["into"] == first
    assert play.graph.people[merge.data["profile"]].into == first


def test_a_second_event_of_the_same_person_decides_nothing():
    """Nor does one with fewer identifiers."""
    play = Play().take([U1, A1])
    assert [play.happens(each) for each in ([U1, A1], [A1], [U1])] == [[], [], []]


def test_every_decision_says_by_which_event_and_rules():
    """So that it can be explained, and taken back."""
    rules = rules_of(7, {})
    play = Play(rules).take([A1], [U1, A1], [U2, A1])
    assert {(data["event"], data["rules"]) for _, data, _ in play.facts} == {
        (f"event-{number:04}", 7) for number in (1, 2, 3)
    }


# Limits


def test_two_users_are_two_people_though_they_share_an_email():
    """The e-mail stays with the first."""
    play = Play().take([U1, E1])
    assert reasons(play.happens([U2, E1])) == ["limit_of_user"]
    assert play.together("user:1", "email:1@x.se") and not play.together("user:1", "user:2")


def test_where_a_limit_would_break_the_identifier_of_lowest_priority_is_set_aside_and_the_rest_is_tried():
    """A sixth e-mail does not keep the phone from being theirs."""
    play = Play().take(*[[U1, ("email", f"{number}@x.se")] for number in range(5)])
    facts = play.happens([U1, ("email", "6@x.se"), ("phone", "+46701234567")])
    assert reasons(facts) == ["limit_of_email"] and play.together("user:1", "phone:+46701234567")
    assert "email:6@x.se" not in play.graph.links


def test_what_was_set_aside_is_said_once_a_person():
    """Not at each event."""
    play = Play().take([U1, E1], [U2, E1])
    assert play.happens([U2, E1]) == []


def test_a_limit_in_a_window_lets_go_with_time():
    """At most two devices in 30 days: the third is theirs a month later."""
    rules = rules_of(1, {"kinds": {"anonymous": {"window": {"limit": 2, "days": 30}}}})
    play = Play(rules).take([U1, A1], [U1, A2])
    assert reasons(play.happens([U1, ("anonymous", "3")])) == ["limit_of_anonymous_in_30_days"]
    play.passed += 30 * DAY_MS
    play.happens([U1, ("anonymous", "3")])
    assert play.together("user:1", "anonymous:3")


# Devices


def test_a_family_tablet_is_the_first_persons_and_from_the_second_login_on_nobodys():
    """Visits before the first login are that first person's."""
    play = Play().take([A1], [U1, A1], [A1])
    assert told(play.happens([U2, A1], time=50)) == ["created", "shared"]
    assert not play.together("user:1", "user:2") and play.together("user:1", "anonymous:1")
    person = play.person("user:1")
    assert not person.shares("anonymous:1", 49) and person.shares("anonymous:1", 50)


def test_what_is_done_on_a_shared_device_is_whose_name_it_says():
    """A guest's order on another's tablet lies under the tablet, and is the guest's."""
    play = Play().take([U1, E1, A1])
    facts = play.happens([A1, E2], time=50)
    [given] = [fact.data for fact in facts if fact.type == "identity.given.v1"]
    assert given["profile"] == play.person("email:2@x.se").id and given["subject"] == "anonymous:1"
    assert play.happens([A1], time=51) == []


def test_a_late_event_from_before_the_second_login_is_the_first_persons():
    """It is the event's own time that counts."""
    play = Play().take([U1, A1])
    play.happens([U2, A1], time=50)
    assert not play.person("user:1").shares("anonymous:1", 49)
    play.happens([("user", "3"), A1], time=20)
    assert play.person("user:1").shares("anonymous:1", 20)


def test_two_guests_who_turn_out_to_be_one_share_no_device():
    """It tells the person's again."""
    play = Play().take([A1, E1], [A1, E2])
    assert play.person("email:1@x.se").shared
    facts = play.take([U1, E1]).happens([U1, E2])
    assert told(facts) == ["merged", "unshared"] and not play.person("user:1").shared


def test_an_agent_who_acts_for_customers_is_none_of_them():
    """They log in on one machine, one after the other."""
    play = Play().take([("user", "agent"), A1], *[[("user", f"c{number}"), A1] for number in range(5)])
    assert len(play.groups()) == 6


def test_a_bot_with_ten_thousand_anonymous_ids_is_bounded():
    """It costs no more the longer it lasts."""
    play = Play()
    for number in range(10_000):
        play.happens([("user", "bot"), ("anonymous", f"b{number}")])
    person = play.person("user:bot")
    assert person.count("anonymous") == SHIPPED.of("anonymous").most and len(person.aside) <= 100


# Names


def test_a_typo_in_an_email_that_is_corrected_later_leaves_one_person():
    """Both are theirs; where the typo is somebody else's address, that can be split."""
    play = Play().take([U1, ("email", "jnae@x.se")], [U1, ("email", "jane@x.se")])
    assert len(play.groups()) == 1
    play.split_identifier("email:jnae@x.se")
    assert play.together("user:1", "email:jane@x.se") and not play.together("user:1", "email:jnae@x.se")
    play.happens([U1, ("email", "jnae@x.se")])
    assert not play.together("user:1", "email:jnae@x.se")


def test_dots_in_a_gmail_address_make_two_addresses_unless_a_rule_says_otherwise():
    """Only Google knows that they are one; whoever wants that maps them."""
    dots = [("email", "j.ane@gmail.com")], [("email", "jane@gmail.com")]
    assert len(Play().take(*dots).groups()) == 2
    rules = rules_of(1, {"kinds": {"email": {"clean": [{"map": {"j.ane@gmail.com": "jane@gmail.com"}}]}}})
    assert len(Play(rules).take(*dots).groups()) == 1


def test_a_user_id_that_changes_case_is_another_unless_a_rule_says_otherwise():
    """Ids are compared as they are; with `lower` they are one."""
    names = [("user", "Jane")], [("user", "jane")]
    assert len(Play().take(*names).groups()) == 2
    assert len(Play(rules_of(1, {"kinds": {"user": {"clean": ["lower"]}}})).take(*names).groups()) == 1


def test_alias_loops_end():
    """A is B, B is C, C is A: anonymous ids of one person, however often it is said."""
    play = Play().take([A1, A2], [A2, ("anonymous", "3")], [("anonymous", "3"), A1], [A1, A2])
    assert len(play.groups()) == 1


def test_values_and_patterns_that_are_blocked_are_nobodys():
    """In any case of letters; all zeros, and telephone numbers of one digit, too."""
    rules = rules_of(1, {"kinds": {"user": {"blocked": ["Demo"], "patterns": ["qa-*"]}}})
    assert [rules.of("user").value(each) for each in ("demo", "DEMO", "qa-7", "aq-7")] == [None, None, None, "aq-7"]
    assert rules.of("user").value("0000") is None
    assert [SHIPPED.of("phone").value(each) for each in ("+111 11 11", "0000", "+46701234567")] == [
        None, None, "+46701234567",
    ]  # fmt: skip


# Parties


def test_a_suppliers_identifiers_never_merge_and_a_partners_only_where_the_rules_say():
    """They may be wrong, and nobody can ask them."""
    people = [U1, E1], [("email", "2@x.se")]
    for party, allowed, groups in (("third", True, 2), ("second", False, 2), ("second", True, 1)):
        play = Play(rules_of(1, {"second_party_merges": allowed})).take(*people)
        play.happens([E1, E2], party=party)
        assert len(play.groups()) == groups, (party, allowed)
    for party, groups in (("third", 2), ("second", 1)):
        play = Play().take(*people)
        play.happens([E1, E2], party=party, merges=True)
        assert len(play.groups()) == groups, party


# Rules


@pytest.mark.parametrize(
    "document",
    [
        [], {"kinds": []}, {"kinds": {"user": {"priority": "first"}}}, {"others": {"limit": 0}}, {"kind": {}},
        {"kinds": {"user": {"uniqe": True}}}, {"kinds": {"x": {"nobody": ["stars"]}}},
        {"kinds": {"x": {"patterns": ["*" * 300]}}}, {"kinds": {"x": {"clean": ["nosuch"]}}},
        {"kinds": {"x": {"window": {"limit": 1}}}},
    ],
)  # fmt: skip
def test_wrong_rules_are_refused(document):
    """With a word of what is wrong."""
    with pytest.raises(SamlaError) as refused:
        rules_of(1, document)
    assert str(refused.value)


def test_no_pattern_takes_long_on_any_value():
    """What would take a regular expression for ever is a matter of its length."""
    rules = rules_of(1, {"kinds": {"user": {"patterns": ["*a" * 99 + "b"] * 100}}})
    started = time.process_time()
    assert rules.of("user").value("a" * 512) == "a" * 512
    assert time.process_time() - started < 5


def test_who_has_more_identifiers_than_newer_rules_allow_keeps_their_events():
    """Nothing is added by an event that names what is theirs already; only what is new is set aside."""
    play = Play().take([("user", "ann"), ("email", "a@x.se")], [("user", "ann"), ("phone", "+46701234567")])
    play.happens([("user", "ann"), ("loyalty", "L")])
    play.rules = rules_of(1, {"most": 3})
    facts = play.happens([("user", "ann"), ("email", "new@x.se")])
    assert told(facts) == ["set_aside"] and reasons(facts) == ["limit_of_identifiers"]
