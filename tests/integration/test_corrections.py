"""Corrections on a real MongoDB: live equals rebuilt, whatever was parked, retried and corrected when."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.privacy.consenting import Consenting
from services.privacy.domain import consents
from services.privacy.rebuild import PrivacyProjection
from services.privacy.store import ConsentStore
from services.profile.domain.state import empty, merge, state_of
from services.profile.folding import STATES, Folding
from services.profile.rebuild import ProfileProjection
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.consumer import Consumer
from shared.errors import CheckpointMoved, Poison
from shared.eventlog import MongoEventLog, NewEvent, derive_id, partition_of
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing, new_id
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.rebuild import Tools

CONSENTS = "privacy.consents"
UNREADABLE = b'{"type": "track"}'
STALE = 0
"""A version of the fold that there is not."""


class Service:
    """One of the two services: its projection, live and rebuilt."""

    def __init__(self, world, name, subscription, projection, prepare_of):
        self.world, self.projection = world, projection
        db = world.client[f"{world.prefix}_{name}"]
        self.checkpoints = MongoCheckpoints(db)
        self.checkpoints.setup()
        self.tools = Tools(name, world.client, db, world.log, world.keyring, world.transactor, self.checkpoints)
        self.prepare = prepare_of(db, self.checkpoints)
        self.consumer = Consumer(
            subscription, TRACKING, world.log, world.transactor, self.checkpoints, self._prepare, lambda: 1, biggest=4
        )

    def _prepare(self, events):
        """By code that cannot handle some events yet."""
        if bad := [each.id for each in events if each.id in self.world.broken]:
            raise Poison(f"not yet: {bad}")
        return self.prepare(events)

    def step(self):
        return self.consumer.step(list(self.world.log.heads(TRACKING)))

    def consume(self):
        while self.step().more:
            pass

    def retry(self, event):
        """Whether the event was parked, and is handled now."""
        return any(self.consumer.retry(each) for each in self.checkpoints.parked() if each.event == event)

    def parked(self):
        return {each.event for each in self.checkpoints.parked()}

    def handled(self, subject):
        """A subject's events so far as they were handled, without those that are parked."""
        partition = partition_of(subject, self.world.log.partitions(TRACKING))
        upto = self.consumer.position(partition)
        events = self.world.log.read_subject(TRACKING, subject)
        return [each for each in events if each.position <= upto and each.id not in self.parked()]

    def live(self):
        return {name: orjson.loads(content) for name, content in self.projection.live(self.tools, None)}

    def rebuilt(self):
        self.projection.clear(self.tools)
        upto = {
            (TRACKING, partition): self.consumer.position(partition) for partition in self.world.log.heads(TRACKING)
        }
        self.projection.fold(self.tools, upto)
        found = {name: orjson.loads(content) for name, content in self.projection.beside(self.tools)}
        self.projection.clear(self.tools)
        return found


class World:
    """A log, and profile and privacy over it, driven by hand."""

    def __init__(self, mongodb_url, prefix):
        self.prefix = prefix
        self.client = connect(mongodb_url)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        self.broken, self.unreadable = set(), set()
        self.bodies = {}
        self.profile = Service(self, "profile", STATES, ProfileProjection(), self._folding)
        self.privacy = Service(self, "privacy", CONSENTS, PrivacyProjection(), self._consenting)

    def _folding(self, db, checkpoints):
        self.states = ProfileStore(db, self.keyring)
        self.states.setup()
        traits = TraitStore(db)
        traits.setup()
        return Folding(self.states, self.log, self.keyring, checkpoints, traits).fold

    def _consenting(self, db, checkpoints):
        store = ConsentStore(db, self.keyring)
        store.setup()
        return Consenting(store, self.keyring, checkpoints).fold

    def put(self, subject, ordinary=None, sensitive=None, corrects=None):
        """An event, or a correction of one; its id."""
        identity = new_id()
        parts = {cls: each for cls, each in ((ORDINARY, ordinary), (SENSITIVE, sensitive)) if each is not None}
        texts = {cls: each if isinstance(each, bytes) else orjson.dumps(each) for cls, each in parts.items()}
        sealed = self.keyring.seal([Sealing(subject, cls, identity, text) for cls, text in texts.items()])
        self.bodies[identity] = parts
        data = {"corrects": corrects, "number": 1, "cleaning": 1} if corrects else {}
        kind = CORRECTED if corrects else "tracking.track.v1"
        made = NewEvent(
            id=identity, type=kind, source="s", subject=subject, time=1, data=data,
            sealed=dict(zip(texts, sealed, strict=True)),
        )  # fmt: skip
        self.log.append(TRACKING, [made])
        return identity

    def counts(self, subject):
        """Name of an event -> how often, by the live state."""
        known = self.states.load([subject]).get(subject)
        state = known.states.get(ORDINARY) if known else None
        return {name: event[0] for name, event in state["events"].items()} if state else {}

    def expected(self, subject):
        """The states by the laws: each event that is not parked, as its last such correction says."""
        handled = self.profile.handled(subject)
        last = {each.text("corrects"): each.id for each in handled if each.type == CORRECTED}
        states = {}
        for each in handled:
            if each.type != CORRECTED:
                for cls, body in self.bodies[last.get(each.id, each.id)].items():
                    states[cls] = merge(states.get(cls) or empty(), state_of(body, each.id))
        return orjson.loads(orjson.dumps(states))

    def said(self, subject):
        """The consents by the laws: each event's that is not parked; a correction says nothing of consent."""
        handled = {
            each.id: self.bodies[each.id][ORDINARY] for each in self.privacy.handled(subject) if each.type != CORRECTED
        }
        said = [consents.state_of(each, identity) for identity, each in handled.items() if each != UNREADABLE]
        return consents.merged(each for each in said if each)


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def body(name="A", time=1, consent=None, **traits):
    made = {
        "type": "identify" if traits else "track", "time": time * 60_000, "party": "first", "source_name": "s",
        "identifiers": [["user", "u"]], "event": None if traits else name,
        "properties": {"revenue": time, "currency": "EUR"}, "traits": traits,
    }  # fmt: skip
    return made | ({} if consent is None else {"consent": {"ads": consent}})


SAYS = st.tuples(st.sampled_from("ABC"), st.integers(0, 3), st.booleans(), st.sampled_from(["both", "plain", "plain"]))
STORY = st.lists(
    st.one_of(
        st.tuples(st.just("event"), SAYS, st.sampled_from(["good", "good", "broken", "unreadable"])),
        st.tuples(st.just("correct"), SAYS, st.sampled_from(["good", "good", "good", "broken", "unreadable"])),
        st.tuples(st.just("step"), st.none(), st.none()),
        st.tuples(st.just("retry"), st.integers(0, 20), st.none()),
    ),
    max_size=16,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 20), max_size=6), STORY)
def test_live_equals_rebuilt_in_every_order(world, last_retries, story):
    """Events and corrections that are handled, parked and retried in any order, some of which can never be read."""
    subject, originals = new_id(), []
    for number, (what, how, luck) in enumerate(story):
        if what in ("event", "correct"):
            name, time, consent, parts = how
            if what == "correct" and not originals:
                continue
            said = UNREADABLE if luck == "unreadable" else body(name, time, consent)
            special = body("Medicine", time) if parts == "both" and luck != "unreadable" else None
            corrects = originals[number % len(originals)] if what == "correct" else None
            made = world.put(subject, said, special, corrects)
            if corrects is None:
                originals.append(made)
            if luck == "unreadable":
                world.unreadable.add(made)
            if luck == "broken":
                world.broken.add(made)
        elif what == "step":
            world.profile.step()
            world.privacy.step()
        else:
            retry(world, how)
    world.profile.consume()
    world.privacy.consume()
    agree(world, subject)
    for which in last_retries:
        retry(world, which)
        agree(world, subject)


def retry(world, which):
    """By code that has been mended, for one of the events that can be read."""
    waiting = sorted((world.profile.parked() | world.privacy.parked()) - world.unreadable)
    if waiting:
        world.broken.discard(chosen := waiting[which % len(waiting)])
        for service in (world.profile, world.privacy):
            service.retry(chosen)


def agree(world, subject):
    assert world.profile.live() == world.profile.rebuilt()
    assert world.privacy.live() == world.privacy.rebuilt()
    known = world.states.load([subject]).get(subject)
    assert (known.states if known else {}) == world.expected(subject)
    assert consents.merged([world.privacy.live().get(subject) or consents.empty()]) == world.said(subject)


def test_a_parked_correction_that_is_retried_keeps_what_came_after_it(world):
    """Its subject is folded as far as its partition has been handled, not as far as the correction."""
    subject = new_id()
    first = world.put(subject, body("A"))
    world.broken = {world.put(subject, body("B"), corrects=first)}
    world.put(subject, body("C"))
    world.profile.consume()
    assert world.counts(subject) == {"A": 1, "C": 1}
    [late] = world.broken
    world.broken = set()
    assert world.profile.retry(late)
    assert world.counts(subject) == {"B": 1, "C": 1}
    agree_profile(world)


def test_a_parked_event_that_is_retried_counts_as_it_was_corrected_meanwhile(world):
    subject = new_id()
    first = world.put(subject, body("A"))
    world.broken = {first}
    world.put(subject, body("B"), corrects=first)
    world.profile.consume()
    assert world.counts(subject) == {}
    world.broken = set()
    assert world.profile.retry(first)
    assert world.counts(subject) == {"B": 1}
    agree_profile(world)


def test_an_event_that_cannot_be_read_does_not_park_the_corrections_of_others(world):
    """It is parked alone, and left out when its subject is folded again."""
    subject = new_id()
    bad = world.put(subject, UNREADABLE)
    first = world.put(subject, body("A"))
    world.profile.consume()
    world.put(subject, body("B"), corrects=first)
    worse = world.put(subject, UNREADABLE, corrects=first)
    world.put(subject, body("C"))
    world.profile.consume()
    assert world.profile.parked() == {bad, worse}
    assert world.counts(subject) == {"B": 1, "C": 1}
    agree_profile(world)


def test_what_is_empty_after_a_correction_is_gone(world):
    """A state of special categories of which nothing is left, live as in a rebuild."""
    subject = new_id()
    first = world.put(subject, body("A"), body("Medicine"))
    world.profile.consume()
    assert set(world.states.load([subject])[subject].states) == {ORDINARY, SENSITIVE}
    world.put(subject, body("A"), corrects=first)
    world.profile.consume()
    assert set(world.states.load([subject])[subject].states) == {ORDINARY}
    assert list(world.states.states.find_one({"_id": subject})["s"]) == [ORDINARY]
    agree_profile(world)


def agree_profile(world):
    assert world.profile.live() == world.profile.rebuilt()


def test_a_long_history_is_folded_again_outside_of_the_transaction(world):
    """So it holds up no other transaction, and no deadline of theirs ends it; an older fold's state likewise."""
    subject, other = new_id(), new_id()
    first = world.put(subject, body("A"))
    world.put(other, body("A"))
    world.profile.consume()
    world.states.states.update_one({"_id": other}, {"$set": {"v": STALE}})
    inside, run, read = [], world.transactor.run, world.log.read_subject

    def marked(work, *arguments):
        inside.append(True)
        try:
            return run(work, *arguments)
        finally:
            inside.pop()

    def outside(*arguments):
        assert not inside, "a history is read within a transaction"
        return read(*arguments)

    world.put(subject, body("B"), corrects=first)
    world.put(other, body("B"))
    world.transactor.run, world.log.read_subject = marked, outside
    world.profile.consume()
    assert (world.counts(subject), world.counts(other)) == ({"B": 1}, {"A": 1, "B": 1})
    assert not world.profile.parked()


def test_what_changed_while_a_subject_was_folded_again_is_not_lost(world):
    """A parked event that is retried just then: the batch is prepared again."""
    subject = new_id()
    late, first = world.put(subject, body("A")), world.put(subject, body("B"))
    world.broken = {late}
    world.profile.consume()
    world.broken = set()
    world.put(subject, body("C"), corrects=first)
    prepare, retried = world.profile.prepare, []

    def interrupted(events):
        finish = prepare(events)
        if not retried:
            retried.append(True)
            world.profile.retry(late)
        return finish

    world.profile.prepare = interrupted
    world.profile.consume()
    assert world.counts(subject) == {"A": 1, "C": 1}
    agree_profile(world)


def test_a_retry_that_was_overtaken_is_prepared_again(world):
    """An event of the same subject that is handled just then."""
    subject = new_id()
    first = world.put(subject, body("A"))
    world.broken = {first}
    world.put(subject, body("B"), corrects=first)
    world.profile.consume()
    world.broken = set()
    world.put(subject, body("C"))
    prepare, overtaken = world.profile.prepare, []

    def interrupted(events):
        finish = prepare(events)
        if not overtaken:
            overtaken.append(True)
            world.profile.consume()
        return finish

    world.profile.prepare = interrupted
    assert world.profile.retry(first)
    assert world.counts(subject) == {"B": 1, "C": 1}
    agree_profile(world)


def test_a_batch_takes_what_was_folded_again_only_over_what_it_was_folded_over(world):
    subject = new_id()
    first = world.put(subject, body("A"))
    world.profile.consume()
    world.put(subject, body("B"), corrects=first)
    finish = world.profile.prepare(world.log.read_subject(TRACKING, subject))
    world.states.save({subject: {ORDINARY: state_of(body("X"), derive_id("x"))}})
    with pytest.raises(CheckpointMoved):
        world.transactor.run(finish)
    assert world.counts(subject) == {"X": 1}
