"""The pure core of look-alikes: records, levels, what families share, groups, and what speaks for a pair."""

import json
from importlib.resources import files

import pytest
from msgspec.structs import replace

from services.identity.likeness.assign import Pair, assigned, families_among, groups, objection, plausible
from services.identity.likeness.explain import explained
from services.identity.likeness.job import told
from services.identity.likeness.linking import Linking, alikes
from services.identity.likeness.model import COMPARISONS, blocking, level_name, settings
from services.identity.likeness.records import TRAITS, Record, Use, born, plain, record, record_of
from shared.errors import SamlaError

LIKE_ALL = {"given": "same", "surname": "same", "street": "same", "number": "same", "birth": "same"}


def pair(left="a", right="b", weight=20.0, **levels):
    return Pair(left=left, right=right, weight=weight, weights={}, levels=LIKE_ALL | levels)


def people(*names, source="crm", **written):
    return {name: record(name, source, written) for name in names}


# Records


def test_traits_are_found_in_swedish_and_english():
    facts = {
        "ids": {"email": {"Old@x.se": [1, 1, "e", "first::s"], "New@x.se": [1, 2, "e", "first::s"]}},
        "said": {
            "Förnamn": {"first::crm": [1, "e", "Åsa"]},
            "lastName": {"third::list": [9, "e", "Bought"], "first::crm": [1, "e", "Öberg"]},
            "address": {"first::crm": [1, "e", {"street": "Storgatan 12 B", "postalCode": "123 45", "city": "Malmö"}]},
            "telefon": {"first::crm": [1, "e", "+46 (0)70-123 45 67"]},
            "personnummer": {"first::crm": [1, "e", "19640823-3234"]},
            "plan": {"first::shop": [1, "e", "gold"]},
        },
    }
    found = record_of("p", facts)
    assert (found.id, found.source, found.given, found.surname) == ("p", "crm", "asa", "oberg")
    assert (found.street, found.number, found.postal, found.city) == ("storgatan", "12b", "12345", "malmo")
    assert (found.phone, found.email) == ("701234567", "new@x.se")
    assert (found.national, found.birth) == ("6408233234", "19640823")


def test_what_others_supply_is_compared_only_where_it_is_said_of_the_source():
    """Traits by their party, identifiers by their source's."""
    facts = {
        "ids": {"email": {"own@x.se": [1, 1, "e", "first::crm"], "sold@x.se": [1, 9, "e", "third::list"]}},
        "said": {
            "firstName": {"third::list": [9, "e", "Ada"]},
            "lastName": {"second::shop": [9, "e", "Berg"]},
            "city": {"first::crm": [1, "e", "Malmö"], "third::list": [9, "e", "Lund"]},
        },
    }
    others = frozenset({"list", "shop"})
    own = record_of("p", facts, Use(others))
    assert (own.given, own.surname, own.email, own.city, own.source) == ("", "", "own@x.se", "malmo", "crm")
    more = record_of("p", facts, Use(others, frozenset({"list"})))
    assert (more.given, more.surname, more.email, more.city) == ("ada", "", "sold@x.se", "malmo")


def test_a_pair_is_of_all_the_sources_of_what_was_compared():
    """So that one that has no threshold keeps it from merging by itself; one that is not known has none."""
    traits = {"firstName": {"first::crm": [1, "e", "Ada"]}, "city": {"first::crm": [1, "e", "Lund"]}}
    facts = {"ids": {"email": {"a@x.se": [1, 1, "e", "first::web"]}}, "said": traits}
    known = record_of("a", facts)
    assert (known.source, known.said_by) == ("crm", ("crm", "web"))
    unknown = Record(id="b", said_by=("",))
    assert told(pair(), {"a": known, "b": unknown})["sources"] == ["", "crm", "web"]


def test_what_is_streamed_is_found():
    """Through DuckDB and back: who they are, and that they look alike."""
    same = {"given": "Margareta", "surname": "Öberg", "birth": "1964-08-23", "city": "Lund"}
    one, other = record("a", "north", same), record("b", "south", {**same, "given": "Greta"})
    third = record("c", "south", {"given": "Bo", "surname": "Ek", "birth": "1950-01-02", "city": "Ystad"})
    found = alikes((replace(each, said_by=(each.source, "web")) for each in (one, other, third)), 3.0)
    assert [(each.left, each.right) for each in found.pairs] == [("a", "b")]
    assert found.pairs[0].levels["given"] == "short form" and found.pairs[0].probability > 0.99
    assert {name: (each.source, each.said_by) for name, each in found.records.items()} == {
        "a": ("north", ("north", "web")), "b": ("south", ("south", "web")),
    }  # fmt: skip
    assert alikes([], 3.0) == alikes([one], 3.0) == ([], {})


def test_too_little_memory_is_told_without_what_was_compared():
    """Nothing is put aside on disk instead."""
    people = [record(f"{n}", "north", {"given": "Ada", "surname": "Berg", "city": f"Lund {n}"}) for n in range(5_000)]
    with pytest.raises(SamlaError, match="too little memory") as raised, Linking(memory="20MB") as linking:
        linking.add(people)
        linking.alikes(3.0)
    assert "Ada" not in str(raised.value) and raised.value.__cause__ is None


def test_no_trait_of_a_special_category_is_compared():
    """By the data policy, which the door goes by as well; what is sealed as sensitive is not asked for at all."""
    policy = json.loads(files("contracts").joinpath("data_policy.json").read_text())
    special = {"".join(name.split("_")) for each in policy["categories"].values() for name in each["traits"]}
    assert special and not special & {part for names in TRAITS.values() for name in names for part in name.split(".")}


@pytest.mark.parametrize(
    ("field", "value"),
    [("email", "NoReply@example.com"), ("phone", "000 00 00"), ("phone", "1111111"), ("national", "000000-0000")],
)
def test_what_is_nobodys_is_unknown(field, value):
    """It would make one person of all who have it."""
    assert getattr(record("p", "", {field: value}), field) == ""


def test_nothing_is_known_of_nobody():
    assert record_of("p", {}) == record("p", "", {})
    assert record("p", "", {"given": "Resident", "surname": "N/A", "birth": "?"}).says() == 0


@pytest.mark.parametrize(
    ("written", "digits"),
    [
        ("1990-05-03", "19900503"), ("19900503", "19900503"), ("1990-05-03T00:00:00Z", "19900503"),
        ("3.5.1990", "19900305"), ("31/5/1990", "19900531"), ("05/31/1990", "19900531"), ("1990", ""), ("", ""),
    ],
)  # fmt: skip
def test_dates_in_any_usual_order(written, digits):
    assert born(written) == digits


def test_names_in_one_piece_and_suffixes():
    assert (record("p", "", {"name": "Lovelace, Ada"}).given, record("p", "", {"name": "Ada Lovelace"}).surname) == (
        "ada",
        "lovelace",
    )
    assert record("p", "", {"surname": "Berg Jr."}).suffix == "jr"
    assert record("p", "", {"given": "Bob"}).root == record("p", "", {"given": "Robert"}).root == "robert"
    assert plain("  O'Brien-Smith, ÅÄÖ ") == "obrien smith aao"


def test_a_number_stands_before_or_behind_the_street():
    for written in ("12 Wallaby Place", "Wallaby Place 12"):
        found = record("p", "", {"street": written})
        assert (found.street, found.number) == ("wallaby place", "12")


# The model


def test_settings_name_only_what_is_known():
    made = settings(["given", "surname", "birth"], learned=False)
    assert [each["output_column_name"] for each in made["comparisons"]] == ["given", "surname", "birth"]
    rules = " ".join(blocking(["given", "surname", "birth"]))
    assert "l.birth = r.birth" in rules and "postal" not in rules


def test_the_shares_of_each_comparison_add_up_to_one():
    for name, levels in COMPARISONS.items():
        assert sum(each.m for each in levels) == pytest.approx(1, abs=0.021), name
        assert sum(each.u for each in levels) == pytest.approx(1, abs=0.021), name
        assert levels[-1].condition == "ELSE"
        assert (level_name(name, len(levels) - 1), level_name(name, 0), level_name(name, -1)) == (
            levels[0].name,
            "different",
            "unknown",
        )


# Families


def test_twins_and_father_and_son_are_two():
    nobody = people("a", "b")["a"]
    assert objection(pair(given="different"), nobody, nobody) == "another given name in one household"
    assert objection(pair(birth="different"), nobody, nobody) == "another birth date in one household"
    assert (
        objection(pair(given="unknown", middle="different"), nobody, nobody) == "another second name in one household"
    )
    assert objection(pair(), nobody, nobody) == ""


def test_a_national_id_is_stronger_and_a_second_name_tells_twins():
    nobody = people("a")["a"]
    assert objection(pair(given="different", national="same"), nobody, nobody) == ""
    assert objection(pair(given="different", middle="same"), nobody, nobody) == ""
    assert objection(pair(given="different", middle="same", birth="different"), nobody, nobody)


def test_senior_and_junior_are_two():
    old, young = record("a", "", {"surname": "Berg Sr"}), record("b", "", {"surname": "Berg Jr"})
    assert objection(pair(birth="unknown"), old, young, families=False) == "another generation"


def test_where_nobody_has_a_family_another_given_name_is_an_error():
    single = [pair(birth="a typo") for _ in range(90)] + [pair(birth="a typo", given="different") for _ in range(10)]
    married = [pair(birth="different", given="different") for _ in range(60)] + single[:60]
    assert not families_among(single)
    assert families_among(married)
    assert families_among(single[-5:]), "too few to tell"
    assert len(plausible(single, people("a", "b"), families=False)) == len(single)


# Groups


def test_a_file_holds_a_person_once_unless_it_is_told_to():
    records = people("a1", "a2", source="a") | people("b1", source="b")
    found = [pair("a1", "b1", 9.0), pair("a2", "b1", 8.0), pair("a1", "a2", 7.0)]
    assert groups(found, records, 6.0) == [["a1", "b1"]]
    assert [sorted(each) for each in groups(found, records, 6.0, {"a"})] == [["a1", "a2", "b1"]]
    assert assigned(found, records, 6.0) == found[:1]
    assert assigned([*found[:2], pair("a1", "a2", 5.0)], records, 6.0, {"a"}) == found[:2], "too unlike to be proposed"


def test_a_group_does_not_grow_by_a_chain():
    records = people("a", "b", "c", source="")
    assert groups([pair("a", "b", 9.0), pair("b", "c", 8.0)], records, 6.0) == [["a", "b"]]


def test_what_no_source_is_known_of_may_be_anybody():
    records = people("a", "b", source="")
    assert groups([pair()], records, 6.0) == [["a", "b"]]


# What is told of a pair


def test_fields_for_and_against_the_strongest_first():
    found = Pair(
        left="a", right="b", weight=6.0,
        levels={"given": "different", "surname": "same", "city": "same", "birth": "same"},
        weights={"given": -4.4, "surname": 8.0, "city": 0.2, "birth": 11.0},
    )  # fmt: skip
    assert explained(found) == {
        "for": [
            {"field": "birth", "how": "same", "weight": 11.0},
            {"field": "surname", "how": "same", "weight": 8.0},
        ],
        "against": [{"field": "given", "how": "different", "weight": -4.4}],
    }
    assert 0.98 < found.probability < 0.99
