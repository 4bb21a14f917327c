"""Segmentation on a real MongoDB with identity, profile and privacy before it, by hand and under a clock of its own."""

import orjson

from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import signal_id
from contracts.segmentation import ENTERED, LEFT
from contracts.streams import PRIVACY, PROFILE, SEGMENTATION, TRACKING
from services.privacy.consenting import CONSENTS, Consenting
from services.privacy.store import ConsentStore
from services.profile.filling import Filling
from services.profile.folding import Folding
from services.profile.reading import Reading
from services.segmentation.desk import Desk
from services.segmentation.evaluating import Evaluating
from services.segmentation.rebuild import SegmentationProjection
from services.segmentation.store import SegmentationStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import FakeClock
from shared.consumer import Consumer
from shared.errors import Unavailable
from shared.eventlog import NewEvent, derive_id
from shared.keyring import ORDINARY, Sealing
from shared.rebuild import Tools, verify
from tests.integration.identity_world import World

START = 1_700_000_000_000
DAY = 86_400_000


class Segments(World):
    """What happens, happens at the clock's time unless it is said when."""

    def __init__(self, mongodb_url, prefix):
        super().__init__(mongodb_url, prefix)
        self.clock = FakeClock(START)
        self.defined = self.__dict__.pop("traits")
        self.number = 0
        self.reading = Reading(self.states, self.log, self.keyring, self.defined, self.clock)
        folding = Folding(self.states, self.log, self.keyring, self.marks, self.defined)
        self.filling = Filling(self.states, self.defined, folding, self.transactor, self.marks)
        consents = self.client[f"{prefix}_privacy"]
        marks = MongoCheckpoints(consents)
        marks.setup()
        store = ConsentStore(consents, self.keyring)
        store.setup()
        self.consenting = Consenting(store, self.keyring, marks)
        self.consents = Consumer(
            CONSENTS, TRACKING, self.log, self.transactor, marks, self.consenting.fold, self.clock.now_ms
        )
        self.own = self.client[f"{prefix}_segmentation"]
        self.begins()

    def begins(self):
        """Segmentation is started (again)."""
        self.own_marks = MongoCheckpoints(self.own)
        self.own_marks.setup()
        self.kept = SegmentationStore(self.own)
        self.kept.setup()
        self.desk = Desk(self.kept, self.transactor, self.clock)
        self.evaluating = Evaluating(
            self.kept, self.log, self.keyring, self.transactor, self.own_marks, self.clock
        )  # fmt: skip
        self.evaluator = Consumer(
            "segmentation.evaluate", PROFILE, self.log, self.transactor, self.own_marks,
            lambda events: self.evaluating.follow(events, self), self.clock.now_ms,
        )  # fmt: skip
        self.forgetter = Consumer(
            "segmentation.erasures", PRIVACY, self.log, self.transactor, self.own_marks,
            self.evaluating.forget, self.clock.now_ms,
        )  # fmt: skip

    # What segmentation asks (services.segmentation.asking.Others)

    def facts(self, profiles, signals=()):
        return orjson.loads(orjson.dumps(self.reading.facts(profiles, signals)))

    def scan(self, after, limit, signals):
        return orjson.loads(orjson.dumps(self.reading.scan(after, limit, signals)))

    def watch(self, signals):
        wanted = {signal_id(each): each for each in signals}
        return self.defined.watch("segmentation", wanted, self.clock.now_ms())

    def watched(self):
        return self.defined.watched("segmentation")

    def traits(self):
        return self.filling.rows()

    def removes(self, key):
        """A computed trait, as profile removes it."""
        self.defined.remove(key, self.desk.uses)

    def agreed(self, asked, causes):
        requests = [
            {"profile": profile, "purpose": purpose, "causes": causes[profile], "segment_sensitive": False}
            for profile, purpose in asked
        ]
        said = self.consenting.decide(requests, lambda each: [self.members(one["profile"]) for one in each])
        if any(each["again"] for each in said):
            raise Unavailable("behind")
        return [each["allow"] for each in said]

    # What happens

    def does(self, *identifiers, event="E", at=None, traits=None, consent=None, **properties):
        """An event (or, with traits, an identify) at a time (ms); its id."""
        self.number += 1
        subject = self.subject(identifiers[0], create=True)
        body = {
            "type": "identify" if traits else "track", "time": self.clock.now_ms() if at is None else at,
            "party": "first", "source_name": "web", "identifiers": [list(each) for each in identifiers],
            "properties": properties, "traits": traits or {},
            **({} if traits else {"event": event}), **({"consent": consent} if consent else {}),
        }  # fmt: skip
        identity = derive_id("event", self.number)
        [sealed] = self.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
        new = NewEvent(
            id=identity, type=f"tracking.{body['type']}.v1", source="web", subject=subject, time=self.clock.now_ms(),
            sealed={ORDINARY: sealed},
        )  # fmt: skip
        self.log.append(TRACKING, [new])
        return identity

    def before(self):
        """All that stands before segmentation catches up."""
        self.settle()
        self.follow()
        while self.filling.step():
            pass
        while self.consents.step(range(self.log.partitions(TRACKING))).more:
            pass

    def evaluates(self):
        """Everything catches up; what is new to be watched is filled, and segments by it."""
        self.before()
        self.desk.prepare(self)
        self.before()
        self.desk.prepare(self)
        while self.evaluator.step(range(self.log.partitions(PROFILE))).more:
            pass
        self.forgetter.step([0])
        while self.evaluating.time_passes(self):
            pass
        while self.evaluating.fill(self):
            pass

    def moves(self, **span):
        """Time passes, and is seen to."""
        self.clock.move(**span)
        self.evaluates()

    def makes(self, key, definition):
        """A segment, filled; its id."""
        made = self.desk.create(key, key, definition, self).id
        self.evaluates()
        return made

    def forgets(self, identifier):
        """An erasure, from its beginning to its end."""
        request = self.fences(self.profile(identifier))
        for kind in (SUBJECTS_ERASED, ERASURE_COMPLETED):
            self.tells(kind, request)
            for each in self.erasures:
                each.step([0])
            self.forgetter.step([0])

    # What came of it

    def inside(self, key):
        """Who is in."""
        return set(self.kept.members(self.kept.find(key).id, "", 1_000))

    def turns(self, key, *identifiers):
        """[(entered, at, reason)] of a segment in the order of the log, of everybody or of one person."""
        segment = self.kept.find(key).id
        who = {self.profile(each) for each in identifiers}
        return [
            (each.type == ENTERED, each.data["at"], each.data["reason"])
            for each in self.told_of(segment)
            if not who or each.subject in who
        ]

    def told_of(self, segment=None):
        """Entered and left, as the log has them."""
        return [
            each
            for partition in range(self.log.partitions(SEGMENTATION))
            for each in self.log.read(SEGMENTATION, partition, 0, 10_000)
            if each.type in (ENTERED, LEFT) and segment in (None, each.data["segment"])
        ]

    def verify_segments(self):
        """Live is what a rebuild would give."""
        tools = Tools("segmentation", self.client, self.own, self.log, self.keyring, self.transactor, self.own_marks)
        assert verify(SegmentationProjection(), tools)["equal"]
