"""Rules of identity that change, and are applied to what was decided, while other things happen, on a real MongoDB."""

import threading

import pytest

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.streams import TRACKING
from services.identity.rebuild import IdentityProjection
from services.identity.trial import Trial
from shared.errors import Conflict, Unavailable
from shared.rebuild import rebuild
from tests.integration.identity_world import World

ANN, CIA, CRM = ("user", "ann"), ("user", "cia"), ("crm", "c-1")
OLD, NEW, ANNS, GUESTS = ("email", "old@x.se"), ("email", "new@x.se"), ("email", "ann@x.se"), ("email", "guest@x.se")
ONE_EMAIL = {"kinds": {"email": {"limit": 1}}}


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def trial(world):
    return Trial(world.tools(), lambda *_: None)


class Meanwhile(IdentityProjection):
    """A rebuild during which something else happens."""

    def __init__(self, action):
        self._action = action

    def fold(self, tools, upto):
        count = super().fold(tools, upto)
        self._action()
        return count


def test_rules_do_not_change_during_a_rebuild(world):
    """Which would lose them: whoever asks is told, and they change afterwards."""
    world.happens(ANN, OLD)

    def change():
        with pytest.raises(Unavailable):
            world.rules(ONE_EMAIL)

    rebuild(Meanwhile(change), world.tools())
    world.rules(ONE_EMAIL)
    assert world.store.version()[1] == 1 and len(world.store.documents()) == 1
    world.verify()


def test_a_batch_under_way_while_rules_change_is_decided_by_the_new_ones(world):
    """Also where nothing follows from it by the old ones."""
    world.rules({"kinds": {"crm": {"blocked": ["c-1"]}}})
    world.happens(ANNS)
    world.happens(GUESTS)
    world.sent(GUESTS, CRM)
    prepared, go = threading.Event(), threading.Event()

    def slow(events):
        finish = world.resolver.resolve(events)
        prepared.set()
        assert go.wait(60)
        return finish

    other = world.consumes(slow)
    step = threading.Thread(target=lambda: other.step(range(world.log.partitions(TRACKING))))
    step.start()
    assert prepared.wait(60)
    trial(world).apply({})
    go.set()
    step.join(60)
    world.settle()
    assert world.together(GUESTS, CRM)
    world.verify()


def test_an_older_application_stops_where_newer_rules_are_in_force(world):
    """One that was cut off and goes on in another process."""
    world.happens(ANN, OLD)
    world.happens(ANN, NEW)
    older = trial(world)
    decided, done = older._decided, threading.Event()

    def late(*arguments):
        found = decided(*arguments)
        if not done.is_set():
            done.set()
            trial(world).apply({})
        return found

    older._decided = late
    with pytest.raises(Conflict, match="other rules"):
        older.apply(ONE_EMAIL)
    assert world.store.version()[1] == 2 and world.together(OLD, NEW)
    world.verify()


def test_rules_lie_sealed(world):
    """They may name people: what is blocked, say. They are read all the same, and a rebuild has them."""
    document = {"kinds": {"email": {"blocked": ["anna.andersson@example.se"]}}}
    world.rules(document)
    assert "anna.andersson" not in str(list(world.db["rules"].find()))
    assert [each["rules"] for each in world.store.documents()] == [document]
    world.happens(ANN, ("email", "Anna.Andersson@example.se"))
    assert world.profile(ANN) and not world.subject(("email", "anna.andersson@example.se"))
    world.verify()
    rebuild(IdentityProjection(), world.tools())
    assert [each["rules"] for each in world.store.documents()] == [document]


def test_rules_that_were_kept_in_clear_are_read(world):
    """As they were before."""
    world.rules(ONE_EMAIL)
    world.db["rules"].update_one({}, {"$set": {"rules": '{"kinds":{"email":{"limit":1}}}'}})
    assert [each["rules"] for each in world.store.documents()] == [ONE_EMAIL]
    world.verify()


def gone(world):
    """Cia, by whose CRM id others were known, too, is forgotten."""
    for number in range(5):
        world.happens(CIA, ("email", f"c{number}@x.se"))
    world.happens(CIA, CRM)
    for each in (ANNS, GUESTS):
        world.happens(each)
        world.happens(each, CRM)
    request = world.fences(world.profile(CIA))
    for kind in (SUBJECTS_ERASED, ERASURE_COMPLETED):
        world.tells(kind, request)
        world.forgets()


def test_rules_that_are_applied_do_not_bring_back_what_was_forgotten(world):
    """What is compared as it was then has had a subject; where it has none any more, it says nothing."""
    gone(world)
    assert world.subject(CRM) is None and not world.together(ANNS, GUESTS)
    trial(world).apply({"kinds": {"email": {"limit": 4}}})
    assert world.subject(CRM) is None and not world.together(ANNS, GUESTS)
    world.verify()


def test_rules_that_are_applied_do_not_bring_back_what_is_suppressed(world):
    """In no form that it is compared in."""
    world.keyring.suppress([CRM, ("crm", "C-1")])
    gone(world)
    trial(world).apply({"kinds": {"crm": {"clean": ["upper"]}}})
    assert world.subject(CRM) is None and world.subject(("crm", "C-1")) is None
    assert not world.together(ANNS, GUESTS)
    world.verify()


def test_rules_that_are_applied_compare_in_a_form_that_is_new(world):
    """Of which there was no subject then."""
    upper, lower = ("loyalty", "L-7"), ("loyalty", "l-7")
    world.happens(ANNS, upper)
    world.happens(GUESTS, lower)
    trial(world).apply({"kinds": {"loyalty": {"clean": ["trim", "upper"]}, "email": {"clean": ["upper"]}}})
    assert world.together(ANNS, GUESTS, upper)
    world.verify()
