"""What follows a split, or rules for what was decided, beyond profiles: segments, and whose deliveries are whose."""

import pytest

from contracts.streams import PROFILE
from services.activation.store import ActivationStore
from services.identity.trial import Trial
from services.segmentation.domain.membership import Segment
from services.segmentation.evaluating import Evaluating
from services.segmentation.store import SegmentationStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.consumer import Consumer
from tests.integration.identity_world import World

ANN, BO, PHONE = ("user", "ann"), ("user", "bo"), ("anonymous", "phone")
ANNS, BOS, CRM = ("email", "ann@x.se"), ("email", "bo@x.se"), ("crm", "c-1")
SEGMENT = "5" * 32


class Followed(World):
    """With segmentation, and what activation remembers of people."""

    def __init__(self, mongodb_url, prefix):
        super().__init__(mongodb_url, prefix)
        db = self.client[f"{prefix}_segmentation"]
        checkpoints = MongoCheckpoints(db)
        checkpoints.setup()
        self.segments = SegmentationStore(db)
        self.segments.setup()
        definition = {"event": "E", "count": {"gte": 1}, "within": "36500d"}
        segment = Segment(id=SEGMENT, key="some", name="Some", definition=definition, version=1, created=0, filled=True)
        self.segments.add(segment)
        evaluating = Evaluating(self.segments, self.log, self.keyring, self.transactor, checkpoints, Clock())
        self.evaluator = Consumer(
            "segmentation.profiles", PROFILE, self.log, self.transactor, checkpoints,
            lambda events: evaluating.follow(events, self.reading), self.now,
        )  # fmt: skip

    def members(self):
        """Of the segment, once all have caught up."""
        self.follow()
        while self.evaluator.step(range(self.log.partitions(PROFILE))).more:
            pass
        return set(self.segments.members(SEGMENT, "", 100))


@pytest.fixture
def world(mongodb_url, prefix):
    made = Followed(mongodb_url, prefix)
    yield made
    made.client.close()


def test_whom_applied_rules_make_one_is_a_member_once(world):
    """Who is no person any more is in no segment."""
    world.rules({"kinds": {"crm": {"blocked": ["c-1"]}}})
    world.happens(CRM, ANNS)
    world.happens(CRM, BOS)
    assert len(world.members()) == 2
    Trial(world.tools(), lambda *_: None).apply({})
    assert world.together(ANNS, BOS) and world.members() == set(world.store.groups())


def test_whom_a_split_makes_one_with_somebody_else_is_a_member_once(world):
    """A device that was shared with the person as it was, and not with whom it is since."""
    world.happens(ANN, ANNS)
    world.happens(BOS)
    world.happens(PHONE, BOS)
    world.happens(ANN, BOS)
    world.happens(BO, PHONE)
    assert world.members() == set(world.store.groups())
    world.regrouping.split_merge(world.merges(ANN)[0]["id"])
    assert world.together(BO, PHONE) and world.members() == set(world.store.groups())


@pytest.mark.parametrize("backwards", [False, True])
def test_who_was_split_off_is_not_erased_with_whom_they_were_a_part_of(world, backwards):
    """Merges and splits lie in several partitions, and may be read in any order."""
    store = ActivationStore(world.client[f"{world.profiles.name}_activation"])
    store.setup()
    steps = [
        lambda within: store.merge([("bo", "ann")], 5, within),
        lambda within: store.merge([("cia", "bo")], 6, within),
        lambda within: store.part(["ann", "bo"], 7, within),
    ]
    for step in reversed(steps) if backwards else steps:
        world.transactor.run(step)
    world.transactor.run(lambda within: store.erase(["ann"], "request", within))

    def erased(within):
        return store.erased(["ann", "bo", "cia"], within)

    assert world.transactor.run(erased) == {"ann"}
    world.transactor.run(lambda within: store.erase(["bo"], "other", within))
    assert world.transactor.run(erased) == {"ann", "bo", "cia"}
