"""Every version of rules is kept; those in force are read, and compiled once."""

import pymongo
import pytest

from services.collector import rulebook
from services.collector.rulebook import CLEANING, PLAN, Compiled, RuleBook, rules_of


@pytest.fixture
def db(mongodb_url, prefix):
    with pymongo.MongoClient(mongodb_url) as client:
        yield client[f"{prefix}_collector"]


@pytest.fixture
def book(db):
    made = RuleBook(db)
    made.setup()
    return made


def drop(number):
    return {"drop": [f"properties.n{number}"]}


def looked_at(db):
    """How many documents and keys it takes to read those that are in force."""
    command = {"find": "rules", "filter": {"latest": True}, "sort": {"version": 1}}
    told = db.command("explain", command, verbosity="executionStats")["executionStats"]
    return told["totalDocsExamined"], told["totalKeysExamined"]


def test_of_very_many_versions_those_in_force_are_read_and_no_others(db, book):
    """By an index, however many were kept since."""
    for number in range(1, 31):
        for source in ("a", "b"):
            assert book.add(source, CLEANING, drop(number), 0) == number
    book.add("a", PLAN, {"mode": "warn"}, 0)
    found = book.in_force()
    assert {source: {kind: version for kind, (version, _) in each.items()} for source, each in found.items()} == {
        "a": {CLEANING: 30, PLAN: 1}, "b": {CLEANING: 30},
    }  # fmt: skip
    assert found["b"][CLEANING][1] == b'{"drop":["properties.n30"]}'
    assert looked_at(db) == (3, 3)
    assert book.version("a", CLEANING, 7) == drop(7)


def test_rules_that_were_kept_before_the_latest_was_marked_are_in_force(db, book):
    """And so are those that an older process adds meanwhile, once one is started again."""
    for source, version in (("a", 1), ("a", 2), ("b", 1), ("a", 3)):
        text = rulebook._text(drop(version))
        db["rules"].insert_one({"source": source, "kind": CLEANING, "version": version, "rule": text, "created": 0})
    book.setup()
    assert {source: each[CLEANING][0] for source, each in book.in_force().items()} == {"a": 3, "b": 1}
    assert looked_at(db) == (2, 2)
    assert book.add("a", CLEANING, drop(4), 0) == 4 and book.in_force()["a"][CLEANING][0] == 4


def test_where_two_are_said_to_be_the_latest_the_later_is(db, book):
    """Somebody may end between keeping one and saying so of the one before."""
    for number in (1, 2):
        book.add("a", CLEANING, drop(number), 0)
    db["rules"].update_many({}, {"$set": {"latest": True}})
    assert book.in_force()["a"][CLEANING][0] == 2


def test_rules_are_compiled_once_however_many_sources_have_some(book, monkeypatch):
    """And are forgotten when they are in force no longer."""
    made = []
    compiled = Compiled(lambda version, text: made.append(text) or text)
    monkeypatch.setitem(rulebook._COMPILED, CLEANING, compiled)
    book._rules.insert_many(
        {
            "source": f"s{n}",
            "kind": CLEANING,
            "version": 1,
            "rule": rulebook._text(drop(n)),
            "created": 0,
            "latest": True,
        }
        for n in range(1_500)
    )
    for _ in range(3):
        for texts in book.in_force().values():
            rules_of(texts, None)
    assert len(made) == 1_500 == len(compiled._made)
    book.add("s7", CLEANING, drop("new"), 0)
    rules_of(book.in_force()["s7"], None)
    assert len(made) == 1_501 and len(compiled._made) == 1_500
