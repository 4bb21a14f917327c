"""The table of sources at the edge: what it remembers of keys that nobody has."""

from pathlib import Path

import pytest

from services.collector import sources
from services.collector.domain.source import Source
from services.collector.sources import FRESH_SECONDS, LONGEST_KEY, MOST_UNKNOWN, STALE_SECONDS, SourceTable
from services.collector.store import hashed

KEY, SOURCE = "the-key", Source("s", "web", "first", True, 0)


class Table:
    """A table that counts how often it is read, at a time that can be set."""

    def __init__(self):
        self.read, self.now, self.held = 0, 100.0, {hashed(KEY): SOURCE}
        self.table = SourceTable(self.load, lambda: self.now)

    def load(self):
        self.read += 1
        return dict(self.held)

    def ask(self, key):
        """As the edge does; (the source, whether that took a reading)."""
        before = self.read
        if self.table.stale(key):
            self.now += 0.001
            self.table.refresh(key)
        return self.table.known(key), self.read > before


def test_a_source_is_known_by_its_key_for_a_while_and_a_new_one_at_once():
    one = Table()
    assert one.ask(KEY) == (SOURCE, True) and one.ask(KEY) == (SOURCE, False)
    one.held[hashed("new")] = SOURCE
    assert one.ask("new") == (SOURCE, True)
    one.now += STALE_SECONDS + 0.1
    assert one.ask(KEY) == (SOURCE, True)


def test_a_key_that_nobody_has_is_looked_for_now_and_then_and_kept_as_a_hash():
    """Somebody's password may have been sent for a key."""
    one = Table()
    assert one.ask("password-of-ada") == (None, True) and one.ask("password-of-ada") == (None, False)
    one.now += FRESH_SECONDS + 0.1
    assert one.ask("password-of-ada")[1]
    assert "password-of-ada" not in str(vars(one.table))


def test_a_good_key_is_kept_as_a_hash_as_well():
    """What holds the table in memory holds nothing to send with."""
    one = Table()
    assert one.ask(KEY) == (SOURCE, True) and one.ask(KEY) == (SOURCE, False)
    assert KEY not in str({name: value for name, value in vars(one.table).items() if name != "_load"})


@pytest.mark.parametrize("key", ["x" * (LONGEST_KEY + 1), "x" * 500_000])
def test_a_key_that_is_too_long_to_be_one_is_not_looked_for(key, monkeypatch):
    """It is not even hashed."""
    one = Table()
    one.ask(KEY)
    monkeypatch.setattr(sources, "hashed", None)
    assert one.ask(key) == (None, False) and not one.table.refresh_soon(key)


def test_keys_that_nobody_has_are_remembered_up_to_a_number():
    """The oldest are forgotten first, whether or not the table is read."""
    one = Table()
    for number in range(MOST_UNKNOWN + 500):
        one.table.refresh(f"key {number}")
    assert len(one.table._unknown) == MOST_UNKNOWN
    assert not one.table.stale(f"key {MOST_UNKNOWN + 499}") and one.table.stale("key 0")


@pytest.mark.parametrize("path", ["README.md", "services/collector/README.md", "services/collector/service.py"])
def test_how_soon_a_disabled_source_is_refused_is_said_everywhere_alike(path):
    text = (Path(__file__).resolve().parents[3] / path).read_text()
    assert f"within {STALE_SECONDS:g} s" in text
