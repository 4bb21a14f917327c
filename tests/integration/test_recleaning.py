"""What was received on a real MongoDB: newer rules for older messages, what is kept as received, and its end."""

import base64
import random
import threading

import orjson
import pytest
from msgspec.structs import replace

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED, REPLAYED
from services.collector import relay
from services.collector.domain import quarantine as quarantined
from services.collector.domain.agreement import checked
from services.collector.domain.client import MOST_READ, Sender
from services.collector.domain.decode import Batch
from services.collector.domain.intake import PIECE, Accepted, take_in
from services.collector.domain.quarantine import Kept
from services.collector.domain.raw import again, encoded, message_of, packed, request_id, unpacked
from services.collector.raw import Place, RawStore
from services.collector.recleaning import Recleaning
from services.collector.replaying import Replaying
from services.collector.rulebook import CLEANING, PLAN
from services.collector.store import Chosen, QuarantineStore, SourceStore
from services.collector.writer import Appender, Outcome, Work, Writer
from services.profile.correcting import as_they_stand
from shared.errors import Conflict, NotFound
from shared.eventlog import MongoEventLog
from shared.eventlog.sealed import open_events
from shared.keyring import Keyring, new_id
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.policy import POLICY

START = Place(0, "")
NOON = 1_700_000_000_000


class World:
    """The collector's parts, driven by hand."""

    def __init__(self, mongodb_url, prefix, party="first"):
        self.client = connect(mongodb_url)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        self.db = self.client[f"{prefix}_collector"]
        self.sources = SourceStore(self.db)
        self.sources.setup()
        self.quarantine = quarantine = QuarantineStore(self.db, self.keyring)
        quarantine.setup()
        self.raw = RawStore(self.db, self.keyring, self.log)
        self.raw.setup()
        self.appender = Appender(self.log, self.transactor, self.keyring, quarantine, self.raw)
        self.now = NOON
        self.recleaning = self.another()
        self.source = self.sources.create("s", party, NOON)[0].id

    def another(self):
        """As another process has it."""
        return Recleaning(self.raw, self.sources, self.log, self.keyring, POLICY, lambda: self.now)

    def send(self, *messages, shared=None, bad=False, exact=False):
        """One request; its id. `bad`: its messages cannot be taken in."""
        self.now += 1_000
        work = self.work(*messages, shared=shared, exact=exact)
        assert not (work.intake.accepted if bad else work.intake.set_aside)
        self.appender.write([work])
        return work.correlation

    def work(self, *messages, shared=None, waiting=None, exact=False):
        """One request on its way, as it comes now."""
        arrival = self.sources.one(self.source).arrival(self.now, False, Sender(), exact=exact)
        intake = take_in(Batch(list(messages), shared or {}), arrival, POLICY, new_id)
        return Work(self.source, self.now, request_id(self.now, new_id()), intake, intake.size, waiting)

    def replay(self, rule):
        """All of the quarantine, mended by a rule; how many went through."""
        replaying = Replaying(self.quarantine, self.sources, self.appender, POLICY, lambda: self.now)
        return replaying.page(Chosen(self.source), rule, "", 1_000, False)["replayed"]

    def rules(self, rule, kind=CLEANING):
        self.sources.rules.add(self.source, kind, rule, self.now)

    def reclean(self, dry=False):
        """Uses the rules of now on all that was received; what came of it, without what came of nothing."""
        report = self.recleaning.page(self.source, START, 1_000, dry)
        assert report["after"] is None
        return {name: value for name, value in report.items() if value and name not in ("requests", "examples")}

    def subject(self, user, kind="user"):
        return self.keyring.subjects_of([(kind, user)], create=False)[kind, user]

    def events(self, user):
        return self.log.read_subject(TRACKING, self.subject(user))

    def corrections(self, user):
        return [each for each in self.events(user) if each.type == CORRECTED]

    def stand(self, user):
        """A user's events as they stand corrected: (event's id, body)."""
        said = [each for page in as_they_stand(self.log, self.subject(user)) for each in page]
        bodies = open_events(self.keyring, [holder for holder, _ in said])
        return [(identity, body) for (_, identity), body in zip(said, bodies, strict=True)]

    def properties(self, user):
        return [body["properties"] for _, body in self.stand(user)]

    def everybody(self):
        return sum(self.log.heads(TRACKING).values())


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def bought(user, number=1, **properties):
    return {
        "type": "track",
        "event": "Bought",
        "userId": user,
        "messageId": f"{user}-{number}",
        "properties": properties,
    }


def test_rules_that_come_back_are_as_good_as_rules_that_are_new(world):
    """A, B, A, C: each is a correction of what stands; doing one twice changes nothing."""
    world.send(bought("ada", n="1,5"))
    comma, point = ({"clean": {"properties.n": {"number": {"decimal": each}}}} for each in ",.")
    for rule, n in ((comma, 1.5), ({}, "1,5"), (comma, 1.5), (point, 15), (comma, 1.5)):
        world.rules(rule)
        before = world.properties("ada")
        done = world.reclean()
        assert world.properties("ada") == [{"n": n}]
        assert done == ({"corrected": 1} if before != [{"n": n}] else {"unchanged": 1})
        assert world.reclean() == {"unchanged": 1}
    [first, *corrections] = world.events("ada")
    assert [each.data["number"] for each in corrections] == list(range(1, len(corrections) + 1))
    assert {each.data["corrects"] for each in corrections} == {first.id}


def test_another_outcome_of_the_same_version_is_a_correction_too(world):
    """The plan decides with the cleaning rules; once it says otherwise, what stands is corrected again, once."""
    world.send(bought("ada", a=1, b="secret"))
    world.rules({"default": {"properties.c": 1}})
    assert world.reclean() == {"corrected": 1}
    schema = {"additionalProperties": False, "properties": {"a": {}, "c": {}}}
    world.rules({"mode": "drop", "events": {"Bought": {"properties": schema}}}, PLAN)
    assert world.reclean() == {"corrected": 1}
    assert world.properties("ada") == [{"a": 1, "c": 1}]
    assert world.reclean() == {"unchanged": 1}


def test_many_corrections_of_an_event_are_looked_for_in_few_steps(world):
    """Each is found, however many there are: the number of queries grows with the logarithm."""
    world.send(bought("ada"))
    for n in range(20):
        world.rules({"default": {"properties.n": n}})
        assert world.reclean() == {"corrected": 1}
    asked = []
    find = world.log.find
    world.log.find = lambda stream, ids: asked.append(len(ids)) or find(stream, ids)
    assert world.reclean() == {"unchanged": 1}
    assert len(asked) <= 12 and sum(asked) <= 20
    assert world.properties("ada") == [{"n": 19}]


def test_recleaning_twice_at_once_is_recleaning_once(world):
    """Two processes that have both read what stands: one correction an event, and what both tell adds up."""
    world.send(*(bought("ada", number) for number in range(50)))
    world.rules({"default": {"properties.n": 1}})
    both = [world.another(), world.another()]
    meet = threading.Barrier(2)
    reports = []

    def run(recleaning):
        append = recleaning._log.append

        class Log:
            """Waits for the other before it appends the first time."""

            def __init__(self):
                self.waited = False

            def __getattr__(self, name):
                return getattr(world.log, name)

            def append(self, *arguments):
                if not self.waited:
                    self.waited = True
                    meet.wait(10)
                return append(*arguments)

        recleaning._log = Log()
        reports.append(recleaning.page(world.source, START, 1_000, False))

    threads = [threading.Thread(target=run, args=(each,)) for each in both]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert sorted((each["corrected"], each["unchanged"]) for each in reports) == [(0, 50), (50, 0)]
    assert len(world.corrections("ada")) == 50


def test_others_get_their_turn_while_much_is_judged(world):
    """In between messages, a few at a time, not after all of a page."""
    world.send(*(bought("ada", number) for number in range(4 * PIECE)))
    pauses = []
    recleaning = Recleaning(
        world.raw, world.sources, world.log, world.keyring, POLICY, lambda: world.now, lambda: pauses.append(1)
    )
    assert recleaning.page(world.source, START, 1_000, True)["unchanged"] == 4 * PIECE
    assert len(pauses) == 4


def test_without_rules_nothing_is_corrected(world):
    """Also of what depends on its request: that its numbers are exact, and how many of its user agents were read."""
    world.send({**bought("ada", n=1e300)}, exact=True)
    fresh = [f"Mozilla/5.0 (X11; rv:{n}.0) Gecko/20100101 Firefox/{n}.0" for n in range(3_000, 3_000 + 2 * MOST_READ)]
    fresh += [f"Mozilla/5.0 (compatible; Nobodysbot/{n}; +https://example.org/bot)" for n in range(5)]
    world.send(*({**bought("ada", 10 + n), "context": {"userAgent": each}} for n, each in enumerate(fresh)))
    assert sum("client" in body for _, body in world.stand("ada")) == MOST_READ
    assert world.reclean(dry=True) == world.reclean() == {"unchanged": 1 + len(fresh)}
    world.rules({"default": {"properties.a": 1}})
    assert world.reclean() == {"corrected": 1 + len(fresh)}
    assert world.reclean() == {"unchanged": 1 + len(fresh)}


def test_what_was_kept_before_it_was_known_to_be_exact_is_asked(world):
    """A number that may have been rounded is then looked for, as at a replay of what was mended by hand."""
    world.send({**bought("ada", n=1e300)}, exact=True)
    [entry] = world.raw.page(world.source, START, 10)[0]
    assert entry.request.exact
    source = world.sources.one(world.source)
    [(_, text)] = entry.request.messages
    older = unpacked(packed([encoded(entry.request).replace(b'"exact":true,', b"")]))[0]
    assert not older.exact
    assert isinstance(again(message_of(text), entry.request, NOON, source, POLICY, "m"), Accepted)
    assert again(message_of(text), older, NOON, source, POLICY, "m").code == "number_too_large"
    kept = Kept(raw=bytes(text).decode(), exact=True)
    assert isinstance(quarantined.again(kept, "e", NOON, source, None, POLICY), Accepted)
    by_hand = replace(kept, mended=message_of(text))
    assert quarantined.again(by_hand, "e", NOON, source, None, POLICY).code == "number_too_large"


def test_whom_a_message_is_about_is_not_corrected(world):
    """It is told, and nothing is appended: what stands under somebody's key cannot be erased for another."""
    world.send(bought("shop17", shop="17", customer="ada"))
    world.send({"type": "identify", "anonymousId": "a1", "messageId": "m", "traits": {"login": "bea"}})
    before = world.everybody()
    for rule in (
        {"set": {"userId": "ada"}},
        {"rename": {"traits.login": "userId"}},
        {"rename": {"userId": "anonymousId"}},
    ):
        world.rules(rule)
        assert world.reclean(dry=True).get("moved") and not world.reclean(dry=True).get("corrected")
        assert world.reclean().get("moved") and world.everybody() == before
    world.rules({})
    assert world.reclean() == {"unchanged": 2}
    assert len(world.stand("shop17")) == 1


def test_after_a_rule_that_moves_came_and_went_no_event_is_lost(world):
    """Nor after a third rule: the event stands where it was, as the last rules say."""
    world.send(bought("real", shop="shop17"))
    for rule, done in (
        ({"set": {"userId": "shop17"}}, {"moved": 1}),
        ({}, {"unchanged": 1}),
        ({"set": {"userId": "shop17"}}, {"moved": 1}),
        ({"default": {"properties.a": 1}}, {"corrected": 1}),
    ):
        world.rules(rule)
        assert world.reclean() == done
    assert world.properties("real") == [{"shop": "shop17", "a": 1}]
    assert world.subject("shop17") is None


def test_who_is_suppressed_or_erased_is_counted_and_not_corrected(world):
    """In a dry run too."""
    world.send({"type": "identify", "anonymousId": "a1", "messageId": "m1", "traits": {"mejl": "ada@exempel.se"}})
    world.send(bought("bea"))
    world.keyring.suppress([("email", "ada@exempel.se")])
    world.keyring.fence([world.subject("bea")])
    world.rules({"rename": {"traits.mejl": "traits.email"}, "default": {"properties.a": 1}})
    before = world.everybody()
    assert world.reclean(dry=True) == world.reclean() == {"suppressed": 2}
    assert world.everybody() == before


def test_who_is_being_erased_meanwhile_does_not_hold_up_the_others(world):
    """A fence that comes between looking and appending."""
    world.send(bought("ada"), bought("bea"))
    world.rules({"default": {"properties.a": 1}})
    fenced = world.keyring.fenced

    def late(subjects, within=None):
        found = fenced(subjects, within)
        if within is None:
            world.keyring.fence([world.subject("bea")])
        return found

    world.keyring.fenced = late
    assert world.reclean() == {"corrected": 1, "suppressed": 1}
    assert len(world.corrections("ada")) == 1


def test_an_erasure_takes_corrections_along(world):
    """They are sealed under the same key as what they correct, whatever the rules have said since."""
    world.send(bought("shop17", customer="ada"), bought("bea"))
    for rule in ({"default": {"properties.a": 1}}, {"set": {"userId": "ada"}}, {"default": {"properties.a": 2}}):
        world.rules(rule)
        world.reclean()
    erased = world.subject("shop17")
    events = world.log.read_subject(TRACKING, erased)
    assert len(events) == 3
    world.keyring.fence([erased])
    world.raw.forget([erased])
    world.keyring.destroy([erased])
    assert open_events(world.keyring, events) == [None] * 3
    world.rules({})
    assert world.reclean() == {"corrected": 1}
    assert world.properties("bea") == [{}]
    assert [subjects for subjects, _ in kept(world)] == [[world.subject("bea")]]


def test_an_agreement_that_has_ended_yields_no_corrections(mongodb_url, prefix):
    """Not in a dry run either; nor does another agreement that has come since."""
    world = World(mongodb_url, prefix, "second")
    first, other = (
        checked(name, "second", "The Hotel", ["marketing"], ["properties.*"], NOON, NOON + 86_400_000)
        for name in ("first", "other")
    )
    for each in (first, other):
        world.sources.agreements.add(each)
    world.sources.sign(world.source, first)
    world.send(bought("ada", b=1))
    world.rules({"default": {"properties.a": 1}})
    before = world.everybody()
    world.sources.agreements.end("first", world.now)
    for dry in (True, False):
        with pytest.raises(Conflict, match="no agreement or licence that holds"):
            world.reclean(dry)
    world.sources.sign(world.source, other)
    assert world.reclean() == {"other_agreement": 1}
    assert world.everybody() == before
    world.client.close()


def test_a_request_that_is_not_kept_is_not_found(world):
    for unknown in ("nosuch", request_id(NOON, new_id())):
        with pytest.raises(NotFound, match="received"):
            world.recleaning.received(unknown)
    request = world.send(bought("ada"))
    assert world.recleaning.received(request)["messages"][0]["message"]["userId"] == "ada"


# What is kept as received


def kept(world):
    """What is kept of whom: (subjects, message ids) of each document."""
    found = []
    for doc in world.raw._raw.find():
        [*entries] = world.raw._opened([doc])
        texts = [orjson.loads(bytes(text)) for each in entries for _, text in each.request.messages]
        found.append((doc["subjects"], [each["messageId"] for each in texts]))
    return found


def test_what_is_sent_again_beside_something_new_is_kept_once(world):
    """So an erasure, which finds what is kept by the log's times, leaves nothing of it."""
    world.send(bought("ada"))
    request = world.send(bought("ada"), bought("bea"))
    assert sorted(messages for _, messages in kept(world)) == [["ada-1"], ["bea-1"]]
    assert [each["message"]["userId"] for each in world.recleaning.received(request)["messages"]] == ["bea"]
    ada = world.subject("ada")
    assert len(world.raw.of_subjects([ada])) == 1
    assert world.raw.forget([ada]) == 1
    assert kept(world) == [([world.subject("bea")], ["bea-1"])]


def test_two_erasures_at_once_lose_nothing_of_each_other(world):
    """Both rewrite the same document: whoever is second does it again on what the first has left."""
    world.send(bought("ada"), bought("bea"), bought("cleo"))
    ada, bea = world.subject("ada"), world.subject("bea")
    opened = world.raw._opened
    meanwhile = [lambda: world.another_raw.forget([bea])]
    world.another_raw = RawStore(world.db, world.keyring, world.log)

    def interrupted(documents):
        found = opened(documents)
        if meanwhile:
            meanwhile.pop()()
        return found

    world.raw._opened = interrupted
    assert world.raw.forget([ada]) == 1
    assert kept(world) == [([world.subject("cleo")], ["cleo-1"])]


def images(count, make=bought):
    """Messages of which each is nearly as large as it may be, and cannot be compressed by much."""
    chance = random.Random(1)
    return [make("ada", n, image=base64.b64encode(chance.randbytes(23_000)).decode()) for n in range(count)]


def test_large_messages_that_arrive_together_are_all_taken_in(world):
    """However many MB they are: what is kept of them as received is as many documents as are needed."""
    told = []
    writer = Writer(world.appender, told.extend)
    messages = images(880)
    requests = [world.work(*messages[at : at + 16], waiting=at) for at in range(0, 880, 16)]
    assert all(writer.submit(each) for each in requests)
    writer.start()
    writer.stop(60)
    assert [outcome for _, outcome in told] == [Outcome.DURABLE] * len(requests)
    assert world.everybody() == 880


def test_what_is_too_large_for_one_document_is_kept_as_several(world):
    """A replay of the quarantine's largest page, too; every request is found."""
    messages = images(1_000, misnamed)
    for at in range(0, len(messages), 10):
        world.send(*messages[at : at + 10], bad=True)
    assert world.replay(MEND) == len(messages)
    documents = list(world.raw._raw.find())
    assert len(documents) > 3 and max(len(each["sealed"]) for each in documents) < 8_000_000
    assert world.everybody() == len(messages) == sum(each["requests"] for each in documents)
    assert all(world.raw.find(each.correlation) for each in world.events("ada")[::100])


def test_a_document_that_mongodb_refuses_is_no_server_that_is_away(world):
    """Whoever is in one group with it is taken in."""
    told = []
    writer = Writer(world.appender, told.extend)
    documents = world.raw.documents

    def grown(entries):
        swollen = any("swollen" in entry.request.shared for entry in entries)
        return [{**each, "more": b"x" * 17_000_000} if swollen else each for each in documents(entries)]

    world.raw.documents = grown
    for name, shared in (("a", {}), ("bad", {"context": {}, "integrations": {}}), ("b", {})):
        work = world.work(bought(name), shared=shared, waiting=name)
        beside = {"swollen": 1} if name == "bad" else {}
        writer.submit(work._replace(intake=work.intake._replace(shared=beside)))
    writer.start()
    writer.stop(60)
    outcomes = {work.waiting: outcome for work, outcome in told}
    assert outcomes == {"a": Outcome.DURABLE, "bad": Outcome.FAILED, "b": Outcome.DURABLE}


# What came out of the quarantine


def misnamed(user, number=1, **properties):
    """A purchase that is set aside for the wrong name of a field."""
    message = bought(user, number, **properties)
    return {"name": message.pop("event"), **message}


MEND = {"rename": {"name": "event"}}


def consents(world, user):
    """What each event of somebody's says of marketing."""
    return sorted((body.get("consent") or {}).get("marketing", True) for _, body in world.stand(user))


OBJECTING = {"context": {"consent": {"categoryPreferences": {"marketing": False}}}}


def test_messages_without_an_id_that_are_set_aside_count_as_often_as_they_came(world):
    """As those that are taken in do: from one request or several, whatever stood beside each."""
    message = misnamed("ada")
    del message["messageId"]
    for shared in ({}, {}, OBJECTING):
        world.send(message, shared=shared, bad=True)
    world.send(message, message, bad=True)
    assert world.replay(MEND) == 5
    assert consents(world, "ada") == [False, True, True, True, True]


def test_a_replayed_event_says_when_it_was_replayed_and_others_say_nothing(world):
    """It has the time of its receipt, and stands behind what was received since."""
    world.send(misnamed("ada"), bad=True)
    world.send(bought("ada", 2))
    world.now += 1_000_000
    assert world.replay(MEND) == 1
    plain, replayed = world.events("ada")
    assert replayed.time < plain.time
    assert (plain.data, replayed.data) == ({}, {REPLAYED: world.now})


def test_a_message_that_is_set_aside_again_is_kept_once(world):
    """Sent again by a client, it has its message id; over the line between two processes, its request's id."""
    for sent_at in ("2025-01-01T00:00:00Z", "2025-01-01T00:00:09Z"):
        world.send(misnamed("ada"), shared={"sentAt": sent_at}, bad=True)
    nameless = {**misnamed("bea"), "messageId": None, "properties": {"a": 1.0, "b": [{}], "c": "å"}}
    work = world.work(nameless, nameless, shared={**OBJECTING, "integrations": {"b": True, "a": 2}})
    for each in (work, relay.unpacked(relay.packed(work), None)):
        world.appender.write([each])
    assert world.quarantine.count(Chosen(reason="missing_field")) == 3
    assert world.replay(MEND) == 3
    assert len(world.events("ada")) == 1 and consents(world, "bea") == [False, False]


def test_what_stood_beside_a_message_makes_another_of_it(world):
    """Whether it is what was sent before is told at its replay, by its message id; nothing is thrown away before."""
    world.send(misnamed("ada"), bad=True)
    world.send(misnamed("ada"), shared=OBJECTING, bad=True)
    assert world.quarantine.count(Chosen()) == 2
    assert world.replay(MEND) == 2 and len(world.events("ada")) == 1


@pytest.mark.parametrize(
    ("message", "shared"),
    [
        ({"userId": "ada"}, {}),
        ({"user_id": " ada "}, {}),
        ({"anonymousId": "a", "traits": {"email": "ADA@exempel.se"}}, {}),
        ({"anonymousId": "a", "traits": {"phone": "070-123 45 67"}}, {}),
        ({"anonymousId": "a"}, {"context": {"traits": {"email": "ada@exempel.se"}}}),
        ({"anonymousId": "a", "kund": "ada"}, {}),
    ],
)
def test_nobody_who_is_suppressed_is_kept_in_quarantine(world, message, shared):
    """By whatever says whose a message is, the source's rules among it, in every process; others in its request are."""
    world.sources.change(world.source, {"region": "SE"})
    world.rules({"rename": {"kund": "userId"}})
    world.keyring.suppress([("user", "ada"), ("email", "ada@exempel.se"), ("phone", "+46701234567")])
    work = world.work({"type": "track", **message}, shared=shared)
    assert len(work.intake.set_aside) == 1
    for each in (work, relay.unpacked(relay.packed(work), None)):
        world.appender.write([each])
    assert world.quarantine.count(Chosen()) == 0
    world.send({"type": "track", **message}, misnamed("bea"), shared=shared, bad=True)
    assert world.quarantine.count(Chosen()) == (0 if shared else 1)


def test_what_a_replay_brought_of_different_hours_is_found_exported_and_erased(world):
    """As if each had come through the door: nobody's message hides behind an older one, and each ends with its own
    retention."""
    world.send(misnamed("old"), bad=True)
    world.now += 10 * 60_000
    world.send(misnamed("ada"), misnamed("bea"), bad=True)
    assert world.replay(MEND) == 3
    ada = world.subject("ada")
    [event] = world.events("ada")
    assert world.recleaning.received(event.correlation)["messages"][0]["message"]["userId"] == "ada"
    assert world.recleaning.trace(event.id)["message"]["userId"] == "ada"
    assert [each["message"]["userId"] for each in world.raw.of_subjects([ada])] == ["ada"]
    assert world.raw.forget([ada]) == 1
    assert sorted(messages for _, messages in kept(world)) == [["bea-1"], ["old-1"]]
    assert world.raw.expire(world.source, world.now - 60_000) == 1
    assert [messages for _, messages in kept(world)] == [["bea-1"]]
