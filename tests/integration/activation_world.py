"""Activation on a real MongoDB, with a real sink, driven by hand; the other services are stood in for."""

import time
import uuid
from collections import Counter
from contextlib import contextmanager

from contracts.streams import ACTIVATION, PRIVACY, PROFILE, SEGMENTATION
from services.activation.adapters.webhook import Webhook
from services.activation.courier import Courier, in_a_thread
from services.activation.desk import Desk
from services.activation.house import Segments
from services.activation.ledger import Ledger
from services.activation.planner import Planner
from services.activation.rebuild import Tools
from services.activation.store import ActivationStore
from services.activation.vault import Vault
from services.console.sink import Sink
from shared.checkpoints import MongoCheckpoints
from shared.clock import FakeClock
from shared.consumer import Consumer
from shared.errors import Unavailable
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.policy import POLICY

NOON = 1_700_000_000_000
SEGMENT = "5e" * 16


def profile_id(name: str) -> str:
    """A profile's id."""
    return derive_id("profile", name)


class Neighbours:
    """privacy, profile and segmentation as activation sees them: yes to everything, unless told otherwise."""

    def __init__(self):
        self.refused: dict[str, str] = {}
        self.again: Counter[str] = Counter()
        self.merged: dict[str, str] = {}
        self.gone: set[str] = set()
        self.away = False
        self.asked: list[dict] = []
        self.rows = [
            {"segment": SEGMENT, "key": "buyers", "name": "Buyers", "version": 1, "definition": {"trait": "plan"}}
        ]

    def judge(self, requests, profiles):
        if self.away:
            raise Unavailable("privacy did not answer")
        self.asked += requests
        return [self._decision(each["profile"]) for each in requests], self.facts(profiles)

    def _decision(self, profile):
        if self.again[profile] > 0:
            self.again[profile] -= 1
            return {"allow": False, "reason": "behind", "again": True}
        if reason := self.refused.get(profile):
            return {"allow": False, "reason": reason, "again": False}
        return {"allow": True, "reason": "consent", "again": False}

    def facts(self, profiles):
        return {each: self._facts(each) for each in profiles}

    def _facts(self, profile):
        if profile in self.gone:
            return None
        if into := self.merged.get(profile):
            return {"merged_into": into}
        ids = {
            "user": {f"user-{profile[:4]}": [1, 2, "e", "web"]},
            "email": {f"{profile[:4]}@example.org": [1, 2, "e", "web"]},
            "phone": {"+46701234567": [1, 2, "e", "web"]},
        }
        return {"profile": profile, "facts": {"ids": ids}}

    def segments(self):
        if self.away:
            raise Unavailable("segmentation did not answer")
        return self.rows


class Instance:
    """One process of activation, as far as its memory goes."""

    def __init__(self, world, name):
        self.segments = Segments(world.store.remembered_segment, POLICY.trait, POLICY.event)
        self.vault = Vault(world.keyring)
        self.ledger = Ledger(world.store, world.log, world.keyring, world.transactor, world.clock, in_a_thread)
        self.sender = Webhook(allow_local=True, seconds=2.0)
        self.courier = Courier(world.store, self.ledger, self.segments, self.vault, self.sender, world.clock, name)
        self.planner = Planner(world.store, self.courier, world.keyring, world.clock)
        self.desk = Desk(world.store, self.vault, self.segments, world.clock, allow_local=True)
        house = world.house
        feeds = [
            (SEGMENTATION, "activation.plan", lambda events: self.planner.plan(events, house)),
            (PROFILE, "activation.merges", self.planner.follow),
            (PRIVACY, "activation.erasures", self.planner.forget),
        ]
        self.consumers = {
            stream: Consumer(name, stream, world.log, world.transactor, world.checkpoints, prepare, world.clock.now_ms)
            for stream, name, prepare in feeds
        }


class World:
    """See the module's text. Times come from `clock`, which stands still until it is moved."""

    def __init__(self, mongodb_url, prefix):
        self.client = connect(mongodb_url)
        self.clock = FakeClock(NOON)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        self.db = self.client.get_database(f"{prefix}_activation")
        self.checkpoints = MongoCheckpoints(self.db)
        self.checkpoints.setup()
        self.store = ActivationStore(self.db)
        self.store.setup()
        self.house = Neighbours()
        self.here = Instance(self, "here/1")
        self.desk = self.here.desk
        self.sink = Sink()

    @property
    def tools(self):
        """What a rebuild works with."""
        return Tools(self.store, self.log, self.keyring, self.transactor, self.checkpoints)

    def destination(self, path="", **more):
        """A destination at the sink, subscribed to the segment; its id."""
        made = self.desk.create("shop", "webhook", self.sink.url + path, None, more.pop("identifiers", None))
        self.sink.secrets.append(made["secret"])
        self.subscribe(made["destination"], **more)
        return made["destination"]

    def subscribe(self, destination, segment="buyers", on=("entered", "left"), purpose="marketing"):
        """A subscription."""
        return self.desk.subscribe(self.house, destination, segment, on, purpose)

    def happens(self, *people, change="entered", reason="event", segment=SEGMENT):
        """People enter (or leave) the segment: events of segmentation."""
        events = [
            NewEvent(
                id=derive_id(uuid.uuid4()),
                type=f"segmentation.{change}.v1",
                source="segmentation",
                subject=profile_id(each),
                time=self.clock.now_ms(),
                data={
                    "segment": segment,
                    "profile": profile_id(each),
                    "at": self.clock.now_ms(),
                    "reason": reason,
                    "segment_version": 1,
                },
                causes={"tracking:3": 17},
                correlation="c0ffee",
            )
            for each in people
        ]
        self.log.append(SEGMENTATION, events)

    def says(self, stream, type, subject, data):
        """An event of another service."""
        event = NewEvent(id=derive_id(uuid.uuid4()), type=type, source=stream, subject=subject, time=NOON, data=data)
        self.log.append(stream, [event])

    def merge(self, old, into):
        """The profile service finds that two profiles are one."""
        data = {"from": profile_id(old), "into": profile_id(into)}
        self.says(PROFILE, "profile.merged.v1", profile_id(into), data)
        self.house.merged[profile_id(old)] = profile_id(into)

    def erase(self, who):
        """Privacy erases a person."""
        data = {"request": "7" * 32, "profile": profile_id(who), "subjects": []}
        self.says(PRIVACY, "privacy.subjects_erased.v1", "privacy", data)

    def consume(self, *streams, instance=None):
        """The streams' events are handled, to their ends."""
        for stream in streams or (SEGMENTATION, PROFILE, PRIVACY):
            consumer = (instance or self.here).consumers[stream]
            while consumer.step(list(self.log.heads(stream))).more:
                pass

    def deliver(self, instance=None, seconds=8.0):
        """What is due is attempted, and noted."""
        assert not (instance or self.here).courier.run(self.house, seconds), "still at work"

    def schedule(self, *people, **more):
        """People enter, and their deliveries are there, not yet attempted."""
        room, self.here.courier.choose = self.here.courier.choose, lambda deliveries: []
        self.happens(*people, **more)
        self.consume(SEGMENTATION)
        self.here.courier.choose = room

    def of(self, who):
        """The delivery about a person."""
        [found] = [each for each in self.store.states() if each.profile == profile_id(who)]
        return found

    def states(self):
        """How many deliveries are in which status."""
        return dict(Counter(each.status for each in self.store.states()))

    def facts(self):
        """Types of the events that activation has appended, without stream and version, in the log's order."""
        events = [e for p in range(4) for e in self.log.read(ACTIVATION, p, 0, 10_000)]
        return [each.type.split(".")[1] for each in events]


@contextmanager
def world_on(mongodb_url, prefix):
    """A world with its sink running."""
    made = World(mongodb_url, prefix)
    with made.sink:
        yield made
    made.here.sender.close()
    made.client.close()


def eventually(fn, seconds=10.0):
    """Waits until `fn()` is true; its value. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := fn()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return value
