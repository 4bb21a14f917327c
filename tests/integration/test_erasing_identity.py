"""An erasure by privacy's saga while identity decides, on a real MongoDB."""

import threading

import pytest

from contracts.streams import TRACKING
from services.privacy.domain.erasure import Step
from services.privacy.erasing import Erasing
from services.privacy.store import RequestStore
from shared.eventlog.sealed import open_events
from shared.mongo import MongoTransactor
from tests.integration.identity_world import World

ANN, ANNS, NEW = ("user", "ann"), ("email", "ann@x.se"), ("email", "new@x.se")


class Clock:
    """Moved by hand."""

    now = 1_700_000_000_000

    def now_ms(self):
        return self.now


class Others:
    """The services that are asked: identity is real, the others hold nothing."""

    def __init__(self, world):
        self._world = world

    def members(self, profile):
        found = self._world.store.people_by_id([profile])
        return self._world.members(profile) if found else None

    def identifiers(self, profile):
        return []

    def forget_quarantined(self, identifiers, after):
        return {"removed": 0, "after": None}

    def forget_received(self, subjects):
        return 0


class NoConsents:
    """Whose consents are forgotten is another test's."""

    def forget(self, subjects):
        pass


class Forgetting(World):
    """With privacy's saga."""

    def __init__(self, mongodb_url, prefix):
        super().__init__(mongodb_url, prefix)
        self.requests = RequestStore(self.client[f"{prefix}_privacy"])
        self.requests.setup()
        self.clock = Clock()
        # A transactor of its own, as another process has: identity's transaction is not over yet.
        own = MongoTransactor(self.client)
        self.erasing = Erasing(
            self.requests, NoConsents(), self.log, self.keyring, own, self.clock, lambda subjects: None
        )

    def erases(self, profile, until=Step.DONE):
        """Up to a step; the request."""
        request = self.erasing.request(Others(self), profile, "forget")
        self.goes_on(request, until)
        return request

    def goes_on(self, request, until=Step.DONE):
        for _ in range(20):
            if self.requests.find(request).step is until:
                return
            self.clock.now += 100_000
            self.erasing.go_on(Others(self))
            self.forgets()
        raise AssertionError("the erasure does not get there")


@pytest.fixture
def world(mongodb_url, prefix):
    made = Forgetting(mongodb_url, prefix)
    yield made
    made.client.close()


def test_who_joined_while_the_fence_went_up_is_forgotten_too(world):
    """By a batch whose transaction began before the fence and ended after it, when the saga had asked whom it is about:
    identity knows, when it drops the person."""
    world.happens(ANN, ANNS)
    event = world.happens(NEW)
    world.follow()
    world.sent(NEW, ANN)
    appended, go = threading.Event(), threading.Event()

    class Held:
        def __getattr__(self, name):
            return getattr(world.log, name)

        def append(self, stream, events, within=None):
            found = world.log.append(stream, events, within)
            appended.set()
            assert go.wait(60)
            return found

    other = world.consumes()
    other._log = Held()
    step = threading.Thread(target=lambda: other.step(range(world.log.partitions(TRACKING))))
    step.start()
    assert appended.wait(60)
    anns, news = world.profile(ANN), world.subject(NEW)
    request = world.erases(anns, Step.DESTROY)
    go.set()
    step.join(60)
    assert world.profile(NEW) == anns and not world.keyring.fenced([news])
    world.goes_on(request)
    world.settle()
    world.follow()
    world.forgets()
    assert world.keyring.fenced([news]) and world.subject(NEW) is None
    assert world.reading.facts([anns])[anns] is None
    assert open_events(world.keyring, [world.log.find(TRACKING, [event])[event]]) == [None]
    world.verify()
    world.verify_profiles()
