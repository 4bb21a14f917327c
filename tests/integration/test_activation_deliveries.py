"""Deliveries on a real MongoDB, to a real sink: what goes out, when, and what must not."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import bson
import orjson
import pytest

from contracts.activation import EVENTS, WebhookBody
from contracts.streams import ACTIVATION, PRIVACY, PROFILE, SEGMENTATION
from services.activation.courier import AGAIN_PAUSES, LEASE_MS
from services.activation.domain.schedule import ATTEMPTS, WAITS
from services.activation.rebuild import compare, mend
from shared.errors import SamlaError
from tests.integration.activation_world import NOON, Instance, eventually, profile_id, world_on


@pytest.fixture
def world(mongodb_url, prefix):
    with world_on(mongodb_url, prefix) as made:
        yield made


# From the stream to the webhook


def test_who_enters_is_told_about_in_a_signed_webhook(world):
    """From the event in the log to a verified request; the log says scheduled and delivered."""
    world.destination()
    world.happens("anna")
    world.consume()
    world.deliver()
    [got] = world.sink.accepted
    delivery = world.of("anna")
    assert got.id == delivery.id
    assert WebhookBody().validate(got.message) == {}
    assert got.message["data"]["identifiers"] == {
        "user": [f"user-{profile_id('anna')[:4]}"],
        "email": [f"{profile_id('anna')[:4]}@example.org"],
    }
    assert got.headers["x-correlation-id"] == "c0ffee"
    assert (delivery.status, delivery.attempts) == ("delivered", 1)
    assert world.facts() == ["scheduled", "delivered"]


def test_it_starts_at_once_when_it_is_scheduled(world):
    """No ticker is needed: the commit hands it over."""
    world.destination()
    world.happens("anna")
    world.consume(SEGMENTATION)
    eventually(lambda: world.states() == {"delivered": 1})


def test_events_and_documents_hold_nothing_personal(world):
    """Bodies are made at the attempt and kept nowhere; the events fit their contracts."""
    world.destination()
    world.happens("anna")
    world.consume()
    world.deliver()
    events = [each for p in range(4) for each in world.log.read(ACTIVATION, p, 0, 100)]
    assert [EVENTS[each.type]().validate(each.data) for each in events] == [{}, {}]
    assert all(each.subject == profile_id("anna") and each.correlation == "c0ffee" for each in events)
    kept = b"".join(bson.encode(doc) for name in world.db.list_collection_names() for doc in world.db[name].find())
    assert b"example.org" not in kept
    assert b"user-" not in kept
    assert b"example.org" not in orjson.dumps([each.data for each in events])


def test_the_secret_stands_nowhere_in_clear(world):
    made = world.desk.create("shop", "webhook", world.sink.url, None, None)
    key = made["secret"].removeprefix("whsec_").encode()
    documents = b"".join(bson.encode(doc) for doc in world.store.destinations.find())
    assert key not in documents
    assert made["secret"] not in orjson.dumps(world.desk.rows()).decode()


def test_each_subscription_makes_its_own_delivery(world):
    world.destination("a", on=["entered"])
    world.destination("b", on=["entered", "left"], identifiers=["user"])
    world.happens("anna")
    world.happens("anna", change="left")
    world.happens("bert", change="left", reason="merged")
    world.consume()
    world.deliver()
    got = [
        (each.path, each.message["type"], sorted(each.message["data"]["identifiers"])) for each in world.sink.accepted
    ]
    assert sorted(got) == [
        ("/a", "segment.entered", ["email", "user"]),
        ("/b", "segment.entered", ["user"]),
        ("/b", "segment.left", ["user"]),
    ]


def test_an_event_handled_twice_makes_one_delivery(world):
    """Its id follows from its cause, so a retried or parked event schedules nothing more."""
    world.destination()
    world.happens("anna")
    events = [each for p in range(4) for each in world.log.read(SEGMENTATION, p, 0, 9)]
    for _ in range(2):
        finish = world.here.planner.plan(events, world.house)
        world.transactor.run(lambda within, finish=finish: [world.log.append(s, e, within) for s, e in finish(within)])
    world.deliver()
    assert world.facts() == ["scheduled", "delivered"]
    assert len(world.sink.received) == 1


def test_a_deleted_segment_is_called_what_it_was_called(world):
    world.destination()
    world.house.rows = []
    world.happens("anna", change="left", reason="definition")
    world.consume()
    world.deliver()
    assert world.sink.accepted[0].message["data"]["segment"]["name"] == "Buyers"


# The gate


def test_a_no_holds_it_back_with_the_reason(world):
    world.destination()
    world.house.refused[profile_id("anna")] = "no_consent"
    world.happens("anna", "bert")
    world.consume()
    world.deliver()
    assert [each.message["data"]["profile"] for each in world.sink.received] == [profile_id("bert")]
    assert (world.of("anna").status, world.of("anna").reason) == ("held", "no_consent")
    assert world.desk.stats()["held"] == {"no_consent": 1}


def test_the_gate_is_told_the_positions_that_caused_it(world):
    """Those of tracking too, so that it can wait for what privacy and identity have not seen."""
    world.destination()
    world.happens("anna")
    world.consume()
    world.deliver()
    [request] = world.house.asked
    assert request["causes"]["tracking:3"] == 17
    assert any(place.startswith("segmentation:") for place in request["causes"])
    assert (request["profile"], request["purpose"]) == (profile_id("anna"), "marketing")
    assert request["segment_sensitive"] is False


def test_a_gate_that_is_behind_is_asked_again_and_no_attempt_is_counted(world):
    world.destination()
    world.house.again[profile_id("anna")] = 3
    world.happens("anna", "bert")
    world.consume()
    world.deliver()
    assert world.states() == {"delivered": 2}
    assert world.of("anna").attempts == 1
    assert sorted(world.facts()) == ["delivered", "delivered", "scheduled", "scheduled"]


def test_a_gate_that_stays_behind_lets_nothing_out(world):
    world.destination()
    world.house.again[profile_id("anna")] = len(AGAIN_PAUSES) + 5
    world.schedule("anna")
    world.deliver()
    assert world.sink.received == []
    assert (world.of("anna").status, world.of("anna").attempts) == ("pending", 0)
    world.clock.move(seconds=1)
    world.deliver()
    assert world.states() == {"delivered": 1}


def test_a_gate_that_does_not_answer_is_closed(world):
    """Nothing is sent, no attempt is counted, and it goes out when the gate is back."""
    world.destination()
    world.house.away = True
    world.schedule("anna")
    world.deliver()
    assert world.sink.received == []
    assert world.of("anna").attempts == 0
    assert world.facts() == ["scheduled"]
    world.house.away = False
    world.clock.move(seconds=2)
    world.deliver()
    assert world.states() == {"delivered": 1}


@pytest.mark.parametrize("answer", [{}, {"allow": 1}, {"allow": "yes"}, {"allow": None, "reason": "x"}])
def test_only_a_plain_yes_is_a_yes(world, answer):
    world.destination()
    world.house._decision = lambda profile: answer
    world.happens("anna")
    world.consume()
    world.deliver()
    assert world.sink.received == []
    assert world.of("anna").status == "held"


def test_the_gate_is_asked_at_every_attempt(world):
    """Consent that is withdrawn between two attempts stops the second."""
    world.destination()
    world.sink.answers = [500]
    world.happens("anna")
    world.consume()
    world.deliver()
    world.house.refused[profile_id("anna")] = "withdrawn"
    world.clock.move(seconds=10)
    world.deliver()
    assert len(world.sink.received) == 1
    assert (world.of("anna").status, world.of("anna").reason) == ("held", "withdrawn")


# Retries


def test_failed_attempts_follow_the_schedule_to_the_dead_letters(world):
    """Not before its time, and under one id; then redrive starts over, and it arrives."""
    world.destination()
    world.sink.answers = [500] * ATTEMPTS
    world.happens("anna")
    world.consume()
    world.deliver()
    for wait in WAITS:
        assert world.of("anna").status == "pending"
        world.clock.move(seconds=wait / 1000 - 1)
        world.deliver()
        attempts = len(world.sink.received)
        world.clock.move(seconds=wait / 1000 * 0.2 + 2)
        world.deliver()
        assert len(world.sink.received) == attempts + 1
    assert len(world.sink.received) == ATTEMPTS
    assert (world.of("anna").status, world.of("anna").reason) == ("dead", "http_500")
    assert world.facts() == ["scheduled", *["failed"] * (ATTEMPTS - 1), "dead"]
    assert world.here.ledger.redrive([world.of("anna").id]) == 1
    world.deliver()
    assert world.states() == {"delivered": 1}
    assert {each.id for each in world.sink.received} == {world.of("anna").id}
    assert all(each.verified for each in world.sink.received)


def test_a_retry_survives_a_restart(world):
    """What is due later is in the database, not in a process."""
    world.destination()
    world.sink.answers = [503]
    world.happens("anna")
    world.consume()
    world.deliver()
    world.clock.move(seconds=10)
    world.deliver(Instance(world, "started again/2"))
    assert world.states() == {"delivered": 1}


def test_a_destination_that_is_gone_is_disabled(world):
    """410: its deliveries go to the dead letters unasked, until somebody enables it and redrives."""
    name = world.destination()
    world.sink.answers = [410]
    world.happens("anna")
    world.consume()
    world.deliver()
    world.happens("bert")
    world.consume()
    world.deliver()
    [row] = world.desk.rows()
    assert (row["enabled"], row["reason"]) == (False, "gone")
    assert (world.of("anna").reason, world.of("bert").reason) == ("gone", "destination_disabled")
    assert len(world.sink.received) == 1
    with pytest.raises(SamlaError, match="disabled"):
        list(world.desk.dead_pages(name))
    world.desk.enable(name, True, "")
    assert sum(map(world.here.ledger.redrive, world.desk.dead_pages(name))) == 2
    world.deliver()
    assert world.states() == {"delivered": 2}


@pytest.mark.parametrize("status", [429, 502, 504])
def test_a_destination_that_asks_to_slow_down_gets_a_pause(world, status):
    """Its other deliveries wait without being attempted; another destination's do not."""
    slow = world.destination("slow-one", on=["entered"])
    world.sink.answers = [status]
    world.happens("anna")
    world.consume()
    world.deliver()
    world.destination("other", on=["entered"])
    world.happens("bert")
    world.consume()
    world.deliver()
    assert [each.path for each in world.sink.received] == ["/slow-one", "/other"]
    waiting = [each for each in world.store.states() if each.destination == slow and each.profile == profile_id("bert")]
    assert [(each.status, each.attempts) for each in waiting] == [("pending", 0)]
    world.clock.move(seconds=7)
    world.deliver()
    assert world.states() == {"delivered": 3}


def test_retry_after_is_honoured(world):
    """For this delivery and for the destination as a whole."""
    world.destination("status/429?retry-after=120")
    world.happens("anna")
    world.consume()
    world.deliver()
    assert world.of("anna").next >= NOON + 120_000
    [destination] = world.store.all_destinations()
    assert destination["slow_until"] == NOON + 120_000


def test_a_slow_destination_does_not_hold_up_the_others(world):
    """It gets half of the room at most."""
    world.destination("slow/1.5", on=["left"])
    world.schedule(*[f"s{n}" for n in range(40)], change="left")
    world.destination("fast", on=["entered"])
    world.schedule(*[f"f{n}" for n in range(40)])
    thread = threading.Thread(target=world.here.courier.run, args=(world.house, 1.0))
    thread.start()
    eventually(lambda: sum(each.path == "/fast" for each in world.sink.received) == 40, seconds=1.4)
    thread.join()
    eventually(lambda: not world.here.courier._under_way)


def test_nobody_listens(world):
    """Counted as an attempt, with the reason."""
    made = world.desk.create("shop", "webhook", "http://127.0.0.1:1/", None, None)
    world.subscribe(made["destination"])
    world.happens("anna")
    world.consume()
    world.deliver()
    assert (world.of("anna").reason, world.of("anna").attempts) == ("connect_failed", 1)


# Instances


def test_two_instances_share_the_work_and_send_nothing_twice(world):
    world.destination()
    world.schedule(*[f"p{n}" for n in range(120)])
    both = [world.here, Instance(world, "there/2")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(world.deliver, both))
    assert world.states() == {"delivered": 120}
    assert Counter(each.id for each in world.sink.received) == {each.id: 1 for each in world.store.states()}
    assert Counter(world.facts()) == {"scheduled": 120, "delivered": 120}


def test_what_a_killed_instance_was_at_is_taken_over(world):
    """Not before its lease has ended; the webhook-id stays the same."""
    world.destination()
    world.schedule("anna")
    [found] = world.store.due(NOON, {world.of("anna").destination: 9}, 9)
    assert world.store.take([found], "killed/1", NOON + LEASE_MS, NOON) == [found]
    world.deliver()
    assert world.sink.received == []
    world.clock.move(seconds=LEASE_MS / 1000)
    world.deliver()
    assert world.states() == {"delivered": 1}


def test_an_outcome_of_an_instance_that_was_overtaken_is_void(world):
    """The second to record finds that the delivery has moved on, and writes nothing."""
    world.destination()
    world.sink.answers = [500]
    world.schedule("anna")
    before = world.of("anna")
    world.deliver()
    from services.activation.domain.delivery import Arrived
    from services.activation.ledger import Outcome

    assert world.here.ledger.record([Outcome(before, Arrived(200))]) == []
    assert world.facts() == ["scheduled", "failed"]


def test_an_outcome_waits_for_the_database(world):
    """A delivery that was sent is recorded once the transaction goes through; others are not held up for ever."""
    world.destination()
    run, failures = world.here.ledger._transactor.run, iter([True, True, False])
    from shared.errors import Unavailable

    class Failing:
        def run(self, work, seconds=10.0):
            if next(failures, False):
                raise Unavailable("no commit")
            return run(work, seconds)

    world.here.ledger._transactor = Failing()
    world.schedule("anna")
    world.deliver()
    assert world.facts() == ["scheduled", "delivered"]
    assert len(world.sink.received) == 1


# Merged and erased people


def test_a_pending_delivery_follows_a_merge(world):
    """It tells about the person under the profile that is left."""
    world.destination()
    world.schedule("anna")
    world.merge("anna", into="anna too")
    world.consume()
    world.deliver()
    assert world.sink.accepted[0].message["data"]["profile"] == profile_id("anna too")


def test_nobody_is_told_about_who_is_gone(world):
    world.destination()
    world.house.gone.add(profile_id("anna"))
    world.happens("anna")
    world.consume()
    world.deliver()
    assert world.sink.received == []
    assert world.of("anna").reason == "profile_gone"


@pytest.mark.parametrize("order", [(PROFILE, PRIVACY), (PRIVACY, PROFILE)])
def test_an_erasure_drops_all_deliveries_of_the_person(world, order):
    """Also those under a profile that was merged into the erased one, whichever is heard of first."""
    world.destination()
    world.happens("anna", "anna too", "bert")
    world.consume(SEGMENTATION)
    world.deliver()
    world.schedule("anna", "anna too")
    world.merge("anna", into="anna too")
    world.erase("anna too")
    world.consume(*order)
    world.deliver()
    assert [each.profile for each in world.store.states()] == [profile_id("bert")]
    assert len(world.sink.received) == 3
    assert compare(world.tools).equal


def test_an_erased_person_gets_no_new_delivery(world):
    world.destination()
    world.merge("anna", into="anna too")
    world.erase("anna too")
    world.consume()
    world.happens("anna", "anna too")
    world.consume()
    world.deliver()
    assert world.states() == {}
    assert world.facts() == []


def test_an_attempt_under_way_when_a_person_is_erased_leaves_nothing_behind(world):
    """The outcome finds no delivery, or a fence, and appends nothing."""
    world.destination()
    world.schedule("anna", "bert")
    from services.activation.domain.delivery import Arrived
    from services.activation.ledger import Outcome

    outcomes = [Outcome(state, Arrived(200)) for state in world.store.states()]
    world.keyring.fence([profile_id("anna")])
    assert len(world.here.ledger.record(outcomes)) == 1
    assert [each.profile for each in world.store.states()] == [profile_id("bert")]
    assert world.facts().count("delivered") == 1
    assert compare(world.tools).equal


# Destinations


def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(world):
    name = world.destination()
    old = world.sink.secrets.pop()
    new = world.desk.rotate(name, 1)["secret"]
    for secrets, hours in (([old], 0), ([new], 0), ([new], 2), ([old], 0)):
        world.clock.move(seconds=hours * 3600)
        world.sink.secrets[:] = secrets
        world.happens("anna")
        world.consume()
        world.deliver()
    assert [each.verified for each in world.sink.received] == [True, True, True, False]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "pigeon"}, "kind"),
        ({"url": "gopher://x/"}, "https"),
        ({"url": "http://169.254.169.254/"}, "addresses"),
        ({"name": ""}, "name"),
        ({"secret": "whsec_short"}, "secret"),
        ({"identifiers": ["e mail"]}, "identifiers"),
    ],
)
def test_a_destination_that_cannot_work_is_refused(world, fields, says):
    asked = {"name": "x", "kind": "webhook", "url": world.sink.url, "secret": None, "identifiers": None} | fields
    with pytest.raises(SamlaError, match=says):
        world.desk.create(**asked)
    assert world.desk.rows() == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"segment": "nobody"}, "segment"),
        ({"on": ["seen"]}, "entered"),
        ({"on": []}, "entered"),
        ({"purpose": ""}, "purpose"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused(world, fields, says):
    made = world.desk.create("shop", "webhook", world.sink.url, None, None)
    with pytest.raises(SamlaError, match=says):
        world.subscribe(made["destination"], **fields)
    with pytest.raises(SamlaError, match="destination"):
        world.subscribe("9" * 32)


# Rebuilding


def lived(world):
    """A world with deliveries in every status."""
    name = world.destination()
    world.house.refused[profile_id("held")] = "no_consent"
    world.sink.answers = [200, 500, 410]
    for each in ("a", "b", "held", "c", "d"):
        world.happens(each)
        world.consume()
        world.deliver()
    world.desk.enable(name, True, "")
    world.here.ledger.redrive([world.of("d").id])
    world.schedule("e", "gone")
    world.erase("gone")
    world.consume()


def test_rebuilt_deliveries_equal_the_live_ones(world):
    lived(world)
    found = compare(world.tools)
    assert found.report() == {
        "service": "activation",
        "equal": True,
        "live": found.report()["rebuilt"],
        "rebuilt": found.report()["live"],
        "deliveries": 6,
        "events": 13,
        "missing": 0,
        "different": 0,
        "unknown": 0,
        "lingering": 0,
    }


def test_a_lease_makes_no_difference(world):
    lived(world)
    before = compare(world.tools).report()["live"]
    world.store.deliveries.update_many({"status": "pending"}, {"$set": {"owner": "x", "due": 1}})
    assert compare(world.tools).report()["live"] == before


@pytest.mark.parametrize(
    ("tamper", "name"),
    [
        (
            lambda world: world.store.deliveries.update_one({"status": "delivered"}, {"$set": {"status": "held"}}),
            "different",
        ),
        (lambda world: world.store.deliveries.delete_one({"status": "held"}), "missing"),
        (
            lambda world: world.store.deliveries.insert_one({**world.store.deliveries.find_one(), "_id": "0" * 32}),
            "unknown",
        ),
    ],
)
def test_a_difference_is_found_and_mended(world, tamper, name):
    """A verification can fail; a rebuild puts it right."""
    lived(world)
    tamper(world)
    found = compare(world.tools)
    assert not found.equal
    assert len(getattr(found, name)) == 1
    assert mend(world.tools, found) == 1
    assert compare(world.tools).equal
