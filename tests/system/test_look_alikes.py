"""People that two CRMs hold under ids of their own: found by a job, accepted or refused by a person."""

import pytest

HOME = {"street": "Storgatan 12", "postalCode": "123 45", "city": "Malmö"}


class Crm:
    """Files of people, each with ids of its own kind, so that somebody may have one of each."""

    def __init__(self, world):
        self._world = world
        self.names = {}
        self._keys = {}

    def __call__(self, source, user=False, **traits):
        """Sends somebody; gives their identifier ([kind, value]) and profile."""
        if source not in self.names:
            self.names[source] = f"{source}-{self._world.fresh()}"
            made = self._world.ask("collector", "create_source", self.names[source], "first")
            self._keys[source] = made["write_key"]
        one = ["user" if user else f"crm_{source}", f"{source}-{self._world.fresh()}"]
        external = {"type": one[0], "id": one[1], "collection": "users", "encoding": "none"}
        named = {"userId": one[1]} if user else {"anonymousId": one[1], "context": {"externalIds": [external]}}
        self._world.post("/v1/identify", {**named, "traits": {"address": HOME, **traits}}, key=self._keys[source])
        self._world.quiet()
        return one, self.profile(one)

    def profile(self, one):
        return self._world.ask("identity", "resolve", [one])


@pytest.fixture
def crm(world):
    """See Crm."""
    return Crm(world)


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
    assert crm.profile(ada) == crm.profile(other) == first
    shown = world.samla("profile", "show", ":".join(other), "--json")
    assert [shown["identity"][kind][0]["value"] for kind, _ in (ada, other)] == [ada[1], other[1]]

    # Refused: not proposed again, and they stay two.
    world.samla("identity", "refuse", theirs["candidate"])
    again = world.samla("identity", "candidates", "--json")
    assert pair_of(again, third, fourth) is None and pair_of(again, first, second) is None
    refused = world.samla("identity", "candidates", "--known", "--status", "refused", "--json")
    assert pair_of(refused, third, fourth)["decided"]

    # Taken back: explained, split, and not proposed again.
    chain = world.samla("identity", "explain", first, "--json")["chain"]
    [merge] = [each for each in chain if each["decided"] == "merged"]
    assert (merge["candidate"], merge["reason"]) == (mine["candidate"], "accepted")
    world.samla("identity", "split", "--merge", merge["id"])
    world.quiet()
    assert (crm.profile(ada), crm.profile(other)) == (first, second)
    assert pair_of(world.samla("identity", "candidates", "--json"), first, second) is None
    world.verify()


def test_what_identitys_rules_do_not_let_be_one_is_shown_and_refused(world, crm):
    surname = f"Ask{world.fresh()}"
    one = {"firstName": "Sten", "lastName": surname, "birthday": "1955-09-10"}
    (_, first), (_, second) = crm("north", user=True, **one), crm("south", user=True, **one)
    pair = pair_of(world.samla("identity", "candidates", "--json"), first, second)
    assert pair["obstacle"] == "limit_of_user"
    with pytest.raises(Exception, match="limit_of_user"):
        world.ask("identity", "accept_candidate", pair["candidate"])
    assert world.ask("identity", "members", first)["profile"] == first


def test_twins_and_a_father_and_a_son_are_no_look_alikes(world, crm):
    surname = f"Ek{world.fresh()}"
    _, anna = crm("north", user=True, firstName="Anna", lastName=surname, birthday="2001-04-05", phone="+46700000001")
    _, emma = crm("south", user=True, firstName="Emma", lastName=surname, birthday="2001-04-05", phone="+46700000001")
    _, father = crm("north", user=True, firstName="Karl", lastName=surname, birthday="1960-11-30", phone="+46700000001")
    _, son = crm("south", user=True, firstName="Karl", lastName=surname, birthday="1992-02-17", phone="+46700000001")
    found = world.samla("identity", "candidates", "--least", "0.5", "--json")
    family = {anna, emma, father, son}
    assert not [each for each in found if set(each["profiles"]) <= family]


def test_a_threshold_merges_by_itself_and_only_where_all_sources_have_one(world, crm):
    surname = f"Holm{world.fresh()}"
    one = {"firstName": "Ulla", "lastName": surname, "birthday": "1971-06-07"}
    (first, profile), (second, _) = crm("north", **one), crm("south", **one)
    world.samla("identity", "likeness", crm.names["north"], "--threshold", "0.99")
    world.samla("identity", "candidates")
    world.quiet()
    # One source has no threshold yet.
    assert crm.profile(first) != crm.profile(second)
    world.samla("identity", "likeness", crm.names["south"], "--threshold", "0.99")
    world.samla("identity", "candidates")
    world.quiet()
    assert crm.profile(first) == crm.profile(second) == profile
    log = world.samla("log", "read", "identity", "--limit", "1000", "--json")
    merged = next(each["data"] for each in log if each["data"].get("reason") == "threshold")
    assert merged["into"] == profile and merged["probability"] >= 0.99
