"""Look-alikes on a real MongoDB and log: accepted, refused, taken back, decided again; a rebuild equals live."""

import threading

import pytest

from contracts.identity import EVENTS, MERGED, REFUSED
from contracts.privacy import SUBJECTS_ERASED
from contracts.streams import PRIVACY, TRACKING
from services.identity.likeness.desk import Desk
from services.identity.likeness.store import CandidateStore
from services.identity.rebuild import IdentityProjection
from services.identity.trial import Trial
from shared.errors import Conflict, NotFound, SamlaError, Unavailable
from shared.eventlog import NewEvent
from shared.rebuild import rebuild
from tests.integration.identity_world import World

NORTH, SOUTH, EAST = ("crm_north", "n-1"), ("crm_south", "s-7"), ("crm_east", "e-3")
MAIL, PHONE, CARD, USER, OTHER = (
    ("email", "ada@x.se"), ("phone", "+46701234567"), ("loyalty", "77"), ("user", "ada"), ("user", "greta"),
)  # fmt: skip
FOR = [{"field": "surname", "how": "same", "weight": 8.1}]


class Office(World):
    """With somebody who decides about look-alikes."""

    def __init__(self, mongodb_url, prefix):
        super().__init__(mongodb_url, prefix)
        self.candidates = CandidateStore(self.db)
        self.candidates.setup()
        self.desk = Desk(
            self.store, self.candidates, self.log, self.keyring, self.transactor, self.now, self.checkpoints
        )

    def proposes(self, one, other, probability=0.97, sources=("north", "south")):
        """What a run of the job found: one pair; what came of it."""
        profiles = [self.profile(one), self.profile(other)]
        pair = {
            "profiles": profiles, "probability": probability, "for": FOR, "against": [], "sources": list(sources),
        }  # fmt: skip
        return self.desk.propose([pair])

    def candidate(self):
        """The one that is proposed."""
        [row] = self.desk.rows("proposed", 10)
        return row["candidate"]

    def accepts(self, one, other):
        """Proposed, and accepted; the candidate."""
        assert self.proposes(one, other)["proposed"] == 1
        candidate = self.candidate()
        self.desk.accept(candidate)
        return candidate


@pytest.fixture
def world(mongodb_url, prefix):
    """Ada is in two files, with no identifier in common."""
    made = Office(mongodb_url, prefix)
    made.happens(NORTH, MAIL)
    made.happens(SOUTH, PHONE)
    made.time += 1_000
    yield made
    made.client.close()


def test_accepted_two_are_one_as_a_fact(world):
    """By its contract, with the candidate, how probable it was and one identifier of each; explained; rebuilt."""
    first, second = world.profile(NORTH), world.profile(SOUTH)
    candidate = world.accepts(SOUTH, NORTH)
    assert world.together(NORTH, MAIL, SOUTH, PHONE) and world.profile(SOUTH) == first
    [merged] = world.facts(MERGED)
    assert EVENTS[MERGED]().validate(merged.data) == {}
    assert {**merged.data, "subjects": set(merged.data["subjects"])} == {
        "into": first, "profile": second, "candidate": candidate, "reason": "accepted", "probability": 0.97,
        "rules": 0, "subjects": {world.subject(MAIL), world.subject(PHONE)},
    }  # fmt: skip
    [link] = world.merges(NORTH)
    assert (link["candidate"], link["probability"], link["reason"]) == (candidate, 0.97, "accepted")
    assert "event" not in link and link["id"] == merged.id
    [row] = world.desk.rows("accepted", 10)
    assert (row["candidate"], row["for"], row["decided"]) == (candidate, FOR, world.time)
    assert world.desk.rows("proposed", 10) == []
    world.verify()


def test_taken_back_it_stays_so_and_is_not_proposed_again(world):
    """Accept, explain, split: the people that there were, with their ids."""
    before = [world.profile(each) for each in (NORTH, SOUTH)]
    world.accepts(NORTH, SOUTH)
    world.happens(SOUTH, CARD)
    [link] = world.merges(SOUTH)
    world.regrouping.split_merge(link["id"])
    assert [world.profile(each) for each in (NORTH, SOUTH)] == before and world.profile(CARD) == before[1]
    assert world.proposes(NORTH, SOUTH)["decided_before"] == 1 and world.desk.rows("proposed", 10) == []
    with pytest.raises(Conflict, match="before"):
        world.desk.accept(world.desk.rows("accepted", 10)[0]["candidate"])
    world.happens(MAIL, PHONE)
    world.regrouping.split_identifier(world.profile(CARD), world.subject(CARD))
    assert not world.together(NORTH, SOUTH)
    world.verify()


def test_profiles_follow_what_is_accepted_and_taken_back(world):
    """Their events are one person's, and two people's again; rebuilt, they are what they are live."""
    world.follow()
    world.accepts(NORTH, SOUTH)
    world.happens(SOUTH, CARD)
    world.follow()
    assert len(world.events_of(NORTH)) == 3
    world.verify_profiles()
    world.regrouping.split_merge(world.merges(NORTH)[0]["id"])
    world.follow()
    assert (len(world.events_of(NORTH)), len(world.events_of(SOUTH))) == (1, 2)
    world.verify_profiles()


def test_what_the_rules_do_not_let_be_one_is_not_accepted(world):
    """It is said before, and again to who tries; nothing happens; thresholds do not get around it."""
    world.happens(NORTH, USER)
    world.happens(SOUTH, OTHER)
    assert world.proposes(NORTH, SOUTH)["proposed"] == 1
    [row] = world.desk.rows("proposed", 10)
    assert row["obstacle"] == "limit_of_user"
    facts = len(world.facts())
    with pytest.raises(Conflict, match="limit_of_user"):
        world.desk.accept(row["candidate"])
    for source in ("north", "south"):
        world.desk.set_source(source, 0.9, False)
    told = world.proposes(NORTH, SOUTH, 0.9999)
    assert (told["merged"], told["not_merged"]) == (0, 1)
    assert len(world.facts()) == facts and not world.together(NORTH, SOUTH)
    assert world.candidate() == row["candidate"]
    world.verify()


def test_what_was_split_before_is_not_accepted(world):
    """Somebody has said already that they are two."""
    world.happens(MAIL, PHONE)
    world.regrouping.split_merge(world.merges(MAIL)[0]["id"])
    world.proposes(NORTH, SOUTH)
    with pytest.raises(Conflict, match="apart"):
        world.desk.accept(world.candidate())


def test_a_split_of_another_identifier_keeps_what_was_accepted(world):
    """And what was accepted can be taken back afterwards, from within the split."""
    world.accepts(NORTH, SOUTH)
    world.happens(SOUTH, CARD)
    world.happens(NORTH, USER)
    world.regrouping.split_identifier(world.profile(CARD), world.subject(CARD))
    assert world.together(NORTH, MAIL, SOUTH, PHONE, USER) and world.profile(CARD) is None
    [link] = world.merges(NORTH)
    assert "." in link["id"] and link["reason"] == "accepted"
    world.verify()
    world.regrouping.split_merge(link["id"])
    assert not world.together(NORTH, SOUTH) and world.together(NORTH, MAIL, USER)
    assert world.proposes(NORTH, SOUTH)["decided_before"] == 1
    world.verify()


def test_it_is_decided_again_in_its_place(world):
    """After what came before it and before what came after: a person who met the two as one is not held apart by it
    when it is taken back."""
    world.accepts(NORTH, SOUTH)
    world.happens(NORTH, USER)
    world.happens(SOUTH, OTHER)
    assert not world.together(SOUTH, OTHER)
    world.regrouping.split_merge(world.merges(NORTH)[0]["id"])
    assert world.together(SOUTH, OTHER) and world.together(NORTH, USER)
    world.verify()


def test_other_rules_for_the_past_decide_about_it_too(world):
    """A trial counts who would part by it; applied, they do; with the old rules again they are one again."""
    world.accepts(NORTH, SOUTH)
    told = Trial(world.tools(), lambda *_: None).run({"kinds": {"email": {"limit": 1}}})
    assert (told["merging"], told["parting"], told["people"]) == (0, 0, {"before": 1, "after": 1})
    world.happens(NORTH, ("email", "second@x.se"))
    world.happens(EAST, ("email", "third@x.se"))
    candidate = world.accepts(NORTH, EAST)
    two_mails = {"kinds": {"email": {"limit": 2}}}
    told = Trial(world.tools(), lambda *_: None).run(two_mails)
    assert (told["merging"], told["parting"]) == (0, 1)
    Trial(world.tools(), lambda *_: None).apply(two_mails)
    assert world.together(NORTH, SOUTH) and not world.together(NORTH, EAST)
    world.verify()
    Trial(world.tools(), lambda *_: None).apply({})
    assert world.together(NORTH, SOUTH, EAST)
    assert {link["candidate"] for link in world.merges(NORTH)} >= {candidate}
    world.verify()


def test_a_refusal_is_a_fact_and_holds_for_what_the_two_become(world):
    """By its contract; not proposed again, not merged by a threshold, also when they have merged with others."""
    world.happens(EAST)
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()
    row = world.desk.refuse(candidate)
    assert (row["status"], row["decided"]) == ("refused", world.time)
    [refused] = world.facts(REFUSED)
    assert EVENTS[REFUSED]().validate(refused.data) == {} and refused.data["candidate"] == candidate
    for source in ("north", "south"):
        world.desk.set_source(source, 0.9, False)
    world.happens(NORTH, EAST)
    assert world.proposes(EAST, SOUTH, 0.999) == {"proposed": 0, "decided_before": 1, "merged": 0, "not_merged": 0}
    for again in (world.desk.accept, world.desk.refuse):
        with pytest.raises(Conflict, match="before"):
            again(candidate)
    assert [each["candidate"] for each in world.desk.rows("refused", 10)] == [candidate]
    world.verify()


def test_a_threshold_merges_by_itself(world):
    """Where both sources have one and it is reached; as a fact that says so."""
    world.desk.set_source("north", 0.95, False)
    assert world.proposes(NORTH, SOUTH)["proposed"] == 1
    world.desk.set_source("south", 0.98, False)
    assert world.proposes(NORTH, SOUTH)["proposed"] == 1
    world.desk.set_source("south", 0.96, False)
    assert world.proposes(NORTH, SOUTH) == {"proposed": 0, "decided_before": 0, "merged": 1, "not_merged": 0}
    assert world.facts(MERGED)[0].data["reason"] == "threshold" and world.together(NORTH, SOUTH)
    world.regrouping.split_merge(world.merges(NORTH)[0]["id"])
    assert world.proposes(NORTH, SOUTH, 0.9999)["decided_before"] == 1
    world.verify()


def test_what_was_said_is_rebuilt_from_the_log(world):
    """Proposals may be lost; what was accepted and refused is not, and is not proposed again."""
    world.happens(EAST)
    accepted = world.accepts(NORTH, SOUTH)
    world.proposes(EAST, SOUTH)
    refused = world.candidate()
    world.desk.refuse(refused)
    world.db.drop_collection("candidates")
    world.candidates.setup()
    world.db.drop_collection("verdicts")
    rebuild(IdentityProjection(), world.tools())
    [row] = world.desk.rows("accepted", 10)
    assert (row["candidate"], row["probability"], row["for"]) == (accepted, 0.97, [])
    [row] = world.desk.rows("refused", 10)
    assert (row["candidate"], row["status"]) == (refused, "refused")
    assert world.proposes(EAST, SOUTH)["decided_before"] == 1
    world.verify()


def test_events_that_are_under_way_while_two_are_accepted_come_out_as_after_it(world):
    """A batch from which something follows is decided again; one from which nothing does was right."""
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()
    world.sent(SOUTH, CARD)
    under_way, accepted = threading.Event(), threading.Event()

    def slow(events):
        finish = world.resolver.resolve(events)
        under_way.set()
        assert accepted.wait(30)
        return finish

    other = world.consumes(slow)
    thread = threading.Thread(target=lambda: other.step(range(world.log.partitions(TRACKING))))
    thread.start()
    assert under_way.wait(30)
    world.desk.accept(candidate)
    accepted.set()
    thread.join(30)
    world.settle()
    assert world.together(NORTH, SOUTH, CARD)
    world.verify()


def test_an_acceptance_on_old_ground_is_looked_at_again(world):
    """An event that came in between makes the two something that the rules do not let be one."""
    world.happens(NORTH, USER)
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()
    between = iter([lambda: world.happens(SOUTH, OTHER)])

    class Busy:
        """A keyring: asked between the reading and the writing."""

        def __getattr__(self, name):
            return getattr(world.keyring, name)

        def fenced(self, subjects, within=None):
            next(between, lambda: None)()
            return world.keyring.fenced(subjects, within)

    desk = Desk(world.store, world.candidates, world.log, Busy(), world.transactor, world.now, world.checkpoints)
    with pytest.raises(Conflict, match="limit_of_user"):
        desk.accept(candidate)
    assert not world.facts(MERGED)
    world.verify()


def test_of_who_begins_to_be_erased_nothing_is_said_either(world):
    """Between the reading and the writing."""
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()
    happens = world.desk._happens

    def late(*arguments):
        world.keyring.fence([world.subject(SOUTH), world.profile(SOUTH)])
        happens(*arguments)

    world.desk._happens = late
    with pytest.raises(Conflict, match="being erased"):
        world.desk.accept(candidate)
    assert not world.facts(MERGED)


def test_nothing_is_said_during_a_rebuild(world):
    """Which would lose it: whoever accepts or refuses is told."""
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()

    class Meanwhile(IdentityProjection):
        def fold(self, tools, upto):
            for say in (world.desk.accept, world.desk.refuse):
                with pytest.raises(Unavailable):
                    say(candidate)
            return super().fold(tools, upto)

    rebuild(Meanwhile(), world.tools())
    world.desk.accept(candidate)
    assert world.together(NORTH, SOUTH)
    world.verify()


def test_of_who_is_being_erased_nothing_is_said(world):
    """And what was said is forgotten with them."""
    world.proposes(NORTH, SOUTH)
    candidate = world.candidate()
    world.keyring.fence([world.subject(PHONE)])
    for say in (world.desk.accept, world.desk.refuse):
        with pytest.raises(Conflict, match="erased"):
            say(candidate)
    with pytest.raises(NotFound):
        world.desk.accept("0" * 32)
    with pytest.raises(SamlaError, match="no status"):
        world.desk.rows("maybe", 10)


def test_what_was_said_of_who_is_erased_is_forgotten(world):
    """Live as in a rebuild."""
    world.happens(EAST)
    world.proposes(EAST, SOUTH)
    world.desk.refuse(world.candidate())
    world.accepts(NORTH, SOUTH)
    ada = world.store.people_by_id([world.profile(SOUTH)])[world.profile(SOUTH)]
    erasure = NewEvent(
        id="e" * 32, type=SUBJECTS_ERASED, source="privacy", subject="d" * 32, time=world.time,
        data={"request": "d" * 32, "profiles": [ada.id], "subjects": sorted(ada.members)},
    )  # fmt: skip
    world.log.append(PRIVACY, [erasure])
    events = [each for part in range(world.log.partitions(PRIVACY)) for each in world.log.read(PRIVACY, part, 0, 10)]
    assert world.db["candidates"].count_documents({}) == 2
    world.desk.forget(events)
    finish = world.resolver.forget(events)
    world.transactor.run(lambda within: [world.log.append(*each, within) for each in finish(within)])
    assert world.desk.rows("accepted", 10) == world.desk.rows("refused", 10) == []
    assert world.profile(SOUTH) is None and world.profile(EAST)
    assert world.db["candidates"].count_documents({"profiles": ada.id}) == 0
    world.verify()


def test_several_pairs_at_once_with_people_in_common(world):
    """By thresholds: each looks at who the people are by then, and what was said in between."""
    world.happens(EAST)
    profiles = {each: world.profile(each) for each in (NORTH, SOUTH, EAST)}
    for source in ("north", "south", "east"):
        world.desk.set_source(source, 0.9, False)
    said = {"probability": 0.99, "for": FOR, "against": [], "sources": ["east"]}
    pairs = [
        {**said, "profiles": [profiles[one], profiles[other]]}
        for one, other in ((NORTH, SOUTH), (SOUTH, EAST), (NORTH, EAST))
    ]
    assert world.desk.propose(pairs) == {"proposed": 0, "decided_before": 0, "merged": 2, "not_merged": 0}
    assert world.together(NORTH, SOUTH, EAST)
    world.verify()


def test_pairs_that_are_no_question_any_more_are_forgotten(world):
    """They do not stand in the way of others either."""
    world.happens(EAST)
    world.proposes(NORTH, SOUTH, 0.999)
    world.proposes(NORTH, EAST, 0.95)
    world.happens(MAIL, PHONE)
    [row] = world.desk.rows("proposed", 1)
    assert set(row["profiles"]) == {world.profile(NORTH), world.profile(EAST)}
    assert world.db["candidates"].count_documents({}) == 1
