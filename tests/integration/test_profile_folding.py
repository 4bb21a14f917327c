"""Profile's projection on a real MongoDB: states, whose they are, and a fold that has changed."""

import orjson
import pytest

from contracts.profile import CHANGED
from contracts.streams import IDENTITY, PROFILE, TRACKING
from contracts.tracking import CORRECTED
from services.profile.domain.believing import Believing
from services.profile.domain.state import merged, state_of
from services.profile.domain.view import facts_of
from services.profile.folding import STATES, Folding
from services.profile.reading import Reading
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.consumer import Consumer
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.keyring import ORDINARY, Keyring, Sealing
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect


class World:
    """The profile service's parts, driven by hand."""

    def __init__(self, mongodb_url, prefix):
        self.client = connect(mongodb_url)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        db = self.client[f"{prefix}_profile"]
        checkpoints = MongoCheckpoints(db)
        checkpoints.setup()
        self.store = ProfileStore(db, self.keyring)
        self.store.setup()
        traits = TraitStore(db)
        traits.setup()
        folding = Folding(self.store, self.log, self.keyring, checkpoints, traits)
        self.reading = Reading(self.store, self.log, self.keyring, traits, Clock())
        names = {TRACKING: STATES, IDENTITY: "profile.people"}
        feeds = {TRACKING: folding.fold, IDENTITY: folding.follow}
        self.consumers = {
            stream: Consumer(names[stream], stream, self.log, self.transactor, checkpoints, prepare, lambda: 1)
            for stream, prepare in feeds.items()
        }

    def happens(self, user, number, also=()):
        """An event of a user; what it says as a state."""
        [subject] = self.keyring.subjects_of([("user", user)], create=True).values()
        body = {
            "type": "track", "time": number * 60_000, "party": "first", "source_name": "s",
            "identifiers": [["user", user], *also], "event": "E", "properties": {}, "traits": {},
        }  # fmt: skip
        identity = derive_id(user, number)
        [sealed] = self.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
        new = NewEvent(
            id=identity, type="tracking.track.v1", source="s", subject=subject, time=1, sealed={ORDINARY: sealed}
        )
        self.log.append(TRACKING, [new])
        return subject, state_of(body, identity)

    def decides(self, fact, /, **data):
        """A fact of identity's."""
        subject = data.get("into", data["profile"])
        new = NewEvent(id=derive_id(fact, *data.values()), type=fact, source="i", subject=subject, time=1, data=data)
        self.log.append(IDENTITY, [new])

    def consume(self, stream):
        while self.consumers[stream].step(list(self.log.heads(stream))).more:
            pass

    def told(self):
        """Profiles that were told to have changed, with how often."""
        found = [e for p in range(4) for e in self.log.read(PROFILE, p, 0, 1000) if e.type == CHANGED]
        return {each.subject: sum(e.subject == each.subject for e in found) for each in found}


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def person(name):
    return derive_id("profile", name)


def test_a_state_that_an_older_fold_has_made_is_folded_again_from_the_log(world):
    """What the old one said is gone; the state is that of all events by today's fold."""
    said = [world.happens("ada", number)[1] for number in range(5)]
    world.consume(TRACKING)
    subject, _ = world.happens("ada", 5)
    world.store.save({subject: {ORDINARY: state_of_nonsense()}})
    world.store.states.update_one({"_id": subject}, {"$set": {"v": 0}})
    said.append(world.happens("ada", 6)[1])
    world.consume(TRACKING)
    assert world.store.load([subject])[subject].states[ORDINARY]["events"]["E"][0] == 7
    assert world.store.load([subject])[subject].version > 0


def state_of_nonsense():
    return {"ids": {}, "traits": {}, "events": {"E": [999, 0, 0, {}, {}]}, "opinions": {}, "computed": {}}


@pytest.mark.parametrize("first", [TRACKING, IDENTITY])
def test_events_and_identity_may_come_in_any_order(world, first):
    """Whoever is second tells that the profile has changed; the profile is the same."""
    subject, state = world.happens("ada", 1)
    world.decides("identity.created.v1", profile=person("ada"), subject=subject, kind="user")
    second = IDENTITY if first == TRACKING else TRACKING
    world.consume(first)
    world.consume(second)
    assert (
        world.reading.facts([person("ada")])[person("ada")]["facts"]["events"]["E"]
        == merged([state])["events"]["E"][:5]
    )
    assert world.told()[person("ada")] >= 1


def test_merged_people_are_the_merge_of_their_states(world):
    """And the old profile leads to the one that it is a part of."""
    states = []
    for name in ("ada", "bea"):
        subject, state = world.happens(name, 1)
        states.append(state)
        world.decides("identity.created.v1", profile=person(name), subject=subject, kind="user")
    world.decides("identity.merged.v1", into=person("ada"), profile=person("bea"))
    world.consume(TRACKING)
    world.consume(IDENTITY)
    found = world.reading.facts([person("ada"), person("bea")])
    assert found[person("ada")]["facts"] == facts_of(merged(states), Believing(), [], 0)
    assert found[person("bea")] == {"merged_into": person("ada")}


def test_an_identifier_that_is_somebody_elses_is_not_shown_as_ones_own(world):
    """What identity has set aside is in the events, but not among a profile's identifiers."""
    subject, _ = world.happens("ada", 1, also=[["email", "shared@example.org"]])
    [email] = world.keyring.subjects_of([("email", "shared@example.org")], create=True).values()
    world.decides("identity.created.v1", profile=person("ada"), subject=subject, kind="user")
    world.decides("identity.created.v1", profile=person("bea"), subject=email, kind="email")
    world.consume(TRACKING)
    world.consume(IDENTITY)
    assert set(world.reading.facts([person("ada")])[person("ada")]["facts"]["ids"]) == {"user"}


def test_an_export_holds_what_was_corrected_too(world):
    """It still is in the log, so it is the person's to see."""
    subject, _ = world.happens("ada", 1)
    world.decides("identity.created.v1", profile=person("ada"), subject=subject, kind="user")
    corrected = derive_id("correction")
    body = {
        "type": "track", "time": 60_000, "party": "first", "source_name": "s",
        "identifiers": [["user", "ada"]], "event": "Mended", "properties": {}, "traits": {},
    }  # fmt: skip
    [sealed] = world.keyring.seal([Sealing(subject, ORDINARY, corrected, orjson.dumps(body))])
    new = NewEvent(
        id=corrected, type=CORRECTED, source="s", subject=subject, time=2,
        data={"corrects": derive_id("ada", 1), "cleaning": 1, "number": 1}, sealed={ORDINARY: sealed},
    )  # fmt: skip
    world.log.append(TRACKING, [new])
    world.consume(TRACKING)
    world.consume(IDENTITY)
    held = world.reading.everything(person("ada"))
    assert [each["event"] for each in held["events"]] == ["Mended"]
    assert [(each["id"], each["event"]) for each in held["corrected"]] == [(derive_id("ada", 1), "E")]
