"""Erasures on a real MongoDB: each goes its own way, however the others fare, and goes on where it was."""

import pytest
from structlog.testing import capture_logs

from services.privacy.domain.erasure import LONGEST_WAIT, Step
from services.privacy.erasing import ERRORS, Erasing
from services.privacy.store import RequestStore
from shared.errors import Unavailable
from shared.eventlog import MongoEventLog
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect

NOON = 1_700_000_000_000
ROUNDS = 60


class Clock:
    """Moved by hand."""

    now = NOON

    def now_ms(self):
        return self.now


class Others:
    """The services that are asked: each person has a subject and a user id of their own, and nothing is linked."""

    def __init__(self, pages=1):
        self.pages, self.fails, self.asked, self.received = pages, {}, [], []

    def members(self, profile):
        return {"profile": profile, "profiles": [profile], "subjects": [f"{profile}-subject"]}

    def identifiers(self, profile):
        return [["user", profile]]

    def forget_quarantined(self, identifiers, after):
        [[_, user]] = identifiers
        self.asked.append((user, after))
        if error := self.fails.get((user, after), self.fails.get(user)):
            raise error
        page = int(after or 0) + 1
        return {"removed": 1, "after": str(page) if page < self.pages else None}

    def forget_received(self, subjects):
        self.received += subjects
        return 0


class NoConsents:
    """Whose consents are forgotten is another test's."""

    def forget(self, subjects):
        pass


class World:
    def __init__(self, url, prefix):
        self.client = connect(url)
        self.transactor = MongoTransactor(self.client)
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        self.store = RequestStore(self.client[f"{prefix}_privacy"])
        self.store.setup()
        self.clock = Clock()
        self.erasing = self.another()

    def another(self):
        """As another process has it."""
        return Erasing(
            self.store, NoConsents(), self.log, self.keyring, self.transactor, self.clock, lambda subjects: None
        )

    def step_of(self, request):
        return self.store.find(request).step

    def go_on(self, others, rounds=ROUNDS, seconds=1.0, until=lambda: False):
        """Rounds with so many seconds in between."""
        for _ in range(rounds):
            if until():
                return
            self.clock.now += round(seconds * 1000)
            self.erasing.go_on(others)


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def test_an_erasure_that_cannot_go_on_holds_no_other_one_up(world):
    """Whichever of them is asked for first."""
    others = Others()
    others.fails["ada"] = Unavailable("collector did not answer within 20 s")
    requests = {who: world.erasing.request(others, who, "forget") for who in ("bob", "ada", "eve")}
    world.go_on(others, seconds=10)
    assert world.step_of(requests["bob"]) is world.step_of(requests["eve"]) is Step.DONE
    assert world.step_of(requests["ada"]) is Step.QUARANTINE


def test_it_is_shown_as_waiting_and_is_done_once_the_error_is_gone(world):
    """With the error's type; `waiting` is a status of its own where requests are counted."""
    others = Others()
    others.fails["ada"] = ValueError("ada@example.org")
    request = world.erasing.request(others, "ada", "forget")
    world.go_on(others, 10)
    found = world.store.find(request)
    assert (found.status, found.error) == ("waiting", "ValueError") and found.failures > 1
    assert world.store.counts() == {"waiting": 1}
    others.fails.clear()
    world.go_on(others, seconds=LONGEST_WAIT)
    found = world.store.find(request)
    assert (found.status, found.error, found.failures) == ("completed", "", 0)
    assert world.store.counts() == {"completed": 1}


def test_it_is_tried_again_after_a_wait_that_grows_up_to_a_limit(world):
    others = Others()
    others.fails["ada"] = Unavailable("collector did not answer within 20 s")
    request = world.erasing.request(others, "ada", "forget")
    world.go_on(others, until=lambda: world.store.find(request).failures)
    waits = []
    for _ in range(14):
        found = world.store.find(request)
        waits.append((found.due - world.clock.now) / 1000)
        world.clock.now = found.due - 1
        assert not world.erasing.go_on(others)
        world.clock.now = found.due
        assert world.erasing.go_on(others)
    assert waits == sorted(waits) and waits[0] < waits[4] and waits[-1] == waits[-2] == LONGEST_WAIT


def test_a_failure_is_logged_and_counted_without_a_word_of_what_failed(world):
    """The text of an error may quote a person."""
    others = Others()
    others.fails["ada"] = ValueError("ada@example.org")
    request = world.erasing.request(others, "ada", "forget")
    before = ERRORS.labels("quarantine")._value.get()
    with capture_logs() as logs:
        world.go_on(others, until=lambda: world.store.find(request).failures)
    [told] = [each for each in logs if each["log_level"] == "error"]
    assert (told["request"], told["step"], told["error"]) == (request, "quarantine", "ValueError")
    assert ERRORS.labels("quarantine")._value.get() == before + 1
    assert "example.org" not in str(logs)


def test_the_quarantine_is_gone_through_a_page_at_a_time_and_none_twice(world):
    """Over a failure and a new process too; and once more at the end, for what slipped through meanwhile."""
    others = Others(pages=5)
    others.fails["ada", "2"] = Unavailable("collector did not answer within 20 s")
    request = world.erasing.request(others, "ada", "forget")
    world.go_on(others, 10)
    assert others.asked[:3] == [("ada", ""), ("ada", "1"), ("ada", "2")]
    assert {after for _, after in others.asked[3:]} <= {"2"} and not others.received
    others.fails.clear()
    others.asked.clear()
    world.erasing = world.another()
    world.go_on(others, seconds=LONGEST_WAIT)
    assert world.step_of(request) is Step.DONE
    assert [after for _, after in others.asked] == ["2", "3", "4", "", "1", "2", "3", "4"]
    assert others.received == ["ada-subject"] * 2


def test_between_the_pages_of_one_erasure_others_go_on(world):
    """A large quarantine is no wall either."""

    class Large(Others):
        def forget_quarantined(self, identifiers, after):
            page = super().forget_quarantined(identifiers, after)
            return page | {"after": f"{after}0"} if identifiers == [["user", "ada"]] else page

    others = Large()
    long, short = (world.erasing.request(others, who, "forget") for who in ("ada", "bob"))
    world.go_on(others, 20, seconds=10)
    assert world.step_of(short) is Step.DONE and world.step_of(long) is Step.QUARANTINE
    assert world.store.find(long).status == "under way"
