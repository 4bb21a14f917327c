"""People that two CRMs hold under ids of their own: found by a job, accepted or refused by a person."""

import pytest

HOME = {"street": "Storgatan 12", "postalCode": "123 45", "city": "Malmö"}


@pytest.fixture
def crm(world):
    """Sends somebody of a CRM's; gives the profile, by (source, id)."""
    sources = {}

    def send(source, **traits):
        if source not in sources:
            sources[source] = world.ask("collector", "create_source", f"{source}-{world.fresh()}", "first")["write_key"]
        user = f"{source}-{world.fresh()}"
        traits = {"address": HOME, **traits}
        world.post("/v1/identify", {"userId": user, "traits": traits}, key=sources[source])
        world.quiet()
        return user, world.profile_of(user)

    return send


def pair_of(rows, *profiles):
    return next((each for each in rows if set(each["profiles"]) == set(profiles)), None)


def test_look_alikes_are_found_accepted_and_refused(world, crm):
    surname = f"Öberg{world.fresh()}"
    ada, first = crm("north", firstName="Margareta", lastName=surname, birthday="1964-08-23", phone="+46701234567")
    other, second = crm("south", firstName="Greta", lastName=surname.upper(), birthday="23/8/1964")
    bo = f"Lind{world.fresh()}"
    _, third = crm("north", firstName="Bo", lastName=bo, birthday="1950-01-02", address={**HOME, "street": "Nygatan 3"})
    _, fourth = crm(
        "south", firstName="Bo", lastName=bo, birthday="1950-01-02", address={**HOME, "street": "Nygatan 3"}
    )
    found = world.samla("identity", "candidates", "--json")
    mine, theirs = pair_of(found, first, second), pair_of(found, third, fourth)
    assert mine and theirs and mine["probability"] > 0.99
    assert {"surname", "birth"} <= {each["field"] for each in mine["for"]}
    assert "Margareta" not in str(found) and surname not in str(found)
    assert first != second, "nothing merges by itself"

    # Accepted: one profile, with what each CRM knew, and the older one's id.
    done = world.samla("identity", "accept", mine["candidate"], "--json")
    assert done["status"] == "accepted"
    world.quiet()
    assert world.profile_of(ada) == world.profile_of(other) == first
    shown = world.samla("profile", "show", f"user:{other}", "--json")
    assert {each["value"] for each in shown["identity"]["user"]} == {ada, other}

    # Refused: not proposed again, and they stay two.
    world.samla("identity", "refuse", theirs["candidate"])
    again = world.samla("identity", "candidates", "--json")
    assert pair_of(again, third, fourth) is None and pair_of(again, first, second) is None
    refused = world.samla("identity", "candidates", "--known", "--status", "refused", "--json")
    assert pair_of(refused, third, fourth)["decided"]
    world.verify()


def test_twins_and_a_father_and_a_son_are_no_look_alikes(world, crm):
    surname = f"Ek{world.fresh()}"
    _, anna = crm("north", firstName="Anna", lastName=surname, birthday="2001-04-05", phone="+46700000001")
    _, emma = crm("south", firstName="Emma", lastName=surname, birthday="2001-04-05", phone="+46700000001")
    _, father = crm("north", firstName="Karl", lastName=surname, birthday="1960-11-30", phone="+46700000001")
    _, son = crm("south", firstName="Karl", lastName=surname, birthday="1992-02-17", phone="+46700000001")
    found = world.samla("identity", "candidates", "--least", "0.5", "--json")
    family = {anna, emma, father, son}
    assert not [each for each in found if set(each["profiles"]) <= family]


def test_a_threshold_merges_by_itself_and_only_where_all_sources_have_one(world, crm):
    surname = f"Holm{world.fresh()}"
    one = {"firstName": "Ulla", "lastName": surname, "birthday": "1971-06-07", "phone": "+46700000002"}
    first, profile = crm("north", **one)
    second, _ = crm("south", **one)
    names = [
        each["name"] for each in world.ask("collector", "sources") if each["name"].startswith(("north-", "south-"))
    ]
    world.samla("identity", "likeness", names[-2], "--threshold", "0.99")
    world.samla("identity", "candidates")
    world.quiet()
    # One source has no threshold yet.
    assert world.profile_of(first) != world.profile_of(second)
    world.samla("identity", "likeness", names[-1], "--threshold", "0.99")
    world.samla("identity", "candidates")
    world.quiet()
    assert world.profile_of(first) == world.profile_of(second) == profile
    log = world.samla("log", "read", "identity", "--limit", "10000", "--json")
    merged = next(each["data"] for each in log if each["data"].get("reason") == "threshold")
    assert merged["into"] == profile and merged["probability"] >= 0.99
