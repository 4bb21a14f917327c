"""Rates over several processes: exact, whoever asks, and whoever is killed."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector import sharing
from services.collector.domain.source import Limits, Source
from services.collector.sharing import SharedLimits

SOURCE = Source("s", "web", "first", True, 0, rate=100)


@given(
    requests=st.lists(
        st.tuples(st.floats(0, 0.5), st.integers(0, 3), st.integers(0, 60), st.integers(1, 120)), max_size=60
    )
)
def test_several_processes_answer_as_one_would(requests):
    """The same requests, over however many sources and with changing rates, asked of one and of the shared table."""
    one, shared, now = Limits(), SharedLimits(2), 0.0
    for pause, source, rate, events in requests:
        now += pause
        asked = SOURCE._replace(id=f"s{source}", rate=rate)
        assert shared.wait(asked, events, now) == one.wait(asked, events, now)


def test_processes_draw_from_the_same_bucket():
    """Four that draw at once get together what one would."""
    limits, (read, write) = SharedLimits(4), os.pipe()
    children = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            taken = sum(limits.wait(SOURCE, 1, 0.0) == 0 for _ in range(200))
            os.write(write, bytes([taken]))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert sum(os.read(read, 4)) == SOURCE.rate
    for end in (read, write):
        os.close(end)


def test_a_process_that_is_killed_leaves_the_table_unlocked():
    """The kernel takes its lock back."""
    limits, (read, write) = SharedLimits(2), os.pipe()
    if (pid := os.fork()) == 0:
        with sharing._locked(limits._file):
            os.write(write, b".")
            signal.pause()
    assert os.read(read, 1) == b"."
    assert not sharing._lock(limits._file)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert sharing._lock(limits._file)
    for end in (read, write):
        os.close(end)


@pytest.mark.parametrize("processes", [1, 2])
def test_sources_that_find_no_room_in_the_table_have_their_share_of_the_rate_in_each_process(monkeypatch, processes):
    monkeypatch.setattr(sharing, "PROBES", 0)
    limits = SharedLimits(processes)
    assert limits.wait(SOURCE, SOURCE.rate // processes, 0.0) == 0
    assert limits.wait(SOURCE, 1, 0.0) > 0
