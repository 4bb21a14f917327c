"""Connections to the services: bounded, thrown away when broken, and errors that keep their meaning."""

import ast
import threading
from pathlib import Path

import pytest
from nameko.exceptions import RemoteError, RpcTimeout, UnknownService

from services.console.admin import services as module
from services.console.admin.answers import refused
from services.console.admin.services import Broken, Services, raised
from shared.config import Settings
from shared.errors import Conflict, NotFound, SamlaError, Unavailable

ROOT = Path(__file__).resolve().parents[3]


class Wire:
    """A connection without a broker: `answer` is given, raised, or called."""

    made: list["Wire"] = []
    answer: object = None

    def __init__(self, config):
        self.open, self.well = True, True
        Wire.made.append(self)

    def ask(self, service, method, arguments, seconds):
        if isinstance(Wire.answer, Exception):
            raise Wire.answer
        return Wire.answer() if callable(Wire.answer) else Wire.answer

    def works(self):
        return self.well

    def close(self):
        self.open = False


@pytest.fixture
def services(monkeypatch):
    monkeypatch.setattr(module, "_Connection", Wire)
    monkeypatch.setattr(module, "QUEUE_SECONDS", 0.05)
    Wire.made, Wire.answer = [], 1
    return Services(Settings.from_env({}), 2)


def ask(services):
    return services.ask("profile", "show", {})


def test_a_connection_is_used_again(services):
    assert [ask(services) for _ in range(3)] == [1, 1, 1] and len(Wire.made) == 1


def test_one_that_broke_while_it_was_idle_is_not(services):
    ask(services)
    Wire.made[0].well = False
    assert ask(services) == 1
    assert [each.open for each in Wire.made] == [False, True]


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (RemoteError("NotFound", "there is no source x"), NotFound, 404),
        (RemoteError("Conflict", "there is one already"), Conflict, 409),
        (RemoteError("SubjectsFenced", "1 subject(s) are erased"), Conflict, 409),
        (RemoteError("SamlaError", "rate is a whole number"), SamlaError, 400),
    ],
)
def test_what_a_service_says_keeps_its_meaning_and_the_connection(services, error, kind, status):
    Wire.answer = error
    with pytest.raises(kind) as told:
        ask(services)
    assert refused(told.value).status == status and str(told.value) == error.value
    Wire.answer = 2
    assert ask(services) == 2 and len(Wire.made) == 1


@pytest.mark.parametrize(
    "error",
    [
        RpcTimeout(20), UnknownService("profile"), ConnectionResetError(),
        RuntimeError("This consumer has been stopped"),
        RemoteError("AutoReconnect", "secret@example.org"), RemoteError("Unavailable", "privacy did not answer"),
    ],
)  # fmt: skip
def test_who_does_not_answer_is_a_503_and_the_connection_goes(services, error):
    """A late answer would otherwise lie about; what MongoDB says is not passed on."""
    Wire.answer = error
    with pytest.raises(Unavailable) as told:
        ask(services)
    answer = refused(told.value)
    assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0 and "secret" not in answer.message
    assert not Wire.made[0].open


def errors_of_ours():
    """The names of all classes that derive from SamlaError, wherever they are."""
    found, before = {"SamlaError"}, set()
    trees = [ast.parse(path.read_text()) for part in ("shared", "services") for path in (ROOT / part).rglob("*.py")]
    classes = [each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.ClassDef)]
    while found != before:
        before = set(found)
        found |= {each.name for each in classes if found & {getattr(base, "id", "") for base in each.bases}}
    return sorted(found)


@pytest.mark.parametrize("name", errors_of_ours())
def test_no_error_of_ours_is_taken_for_a_mistake(name):
    """Whatever a service raises on purpose is a 4xx or a 503."""
    found = raised("collector", RemoteError(name, "it says why"))
    assert isinstance(found, SamlaError) and refused(found).status in {400, 404, 409, 503}


def test_a_mistake_of_ours_is_told_by_its_type_alone(services):
    Wire.answer = RemoteError("KeyError", "secret@example.org")
    with pytest.raises(Broken) as told:
        ask(services)
    assert "secret" not in str(told.value) and told.value.kind == "KeyError"


def test_there_are_never_more_connections_than_said(services):
    """The third waits, and is told to come again; then there is room."""
    go, inside = threading.Event(), threading.Semaphore(0)

    def slow():
        inside.release()
        return go.wait(5)

    Wire.answer = slow
    threads = [threading.Thread(target=ask, args=(services,)) for _ in range(2)]
    for each in threads:
        each.start()
    for _ in threads:
        inside.acquire()
    with pytest.raises(Unavailable, match="too much"):
        ask(services)
    go.set()
    for each in threads:
        each.join()
    Wire.answer = 3
    assert ask(services) == 3 and len(Wire.made) == 2
