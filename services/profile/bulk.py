"""States from the log in bulk: whose subjects are first, in identity's order, then the partitions, each for itself.

All of a subject's events lie in one partition, so what is folded of one touches nothing of another: how many
processes do it, and where, makes no difference to what comes of it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, Final, NamedTuple, Protocol

from contracts.streams import IDENTITY, TRACKING
from contracts.tracking import CORRECTED
from services.profile.domain.placing import subject_of
from services.profile.domain.state import add, without_traits
from services.profile.folding import PEOPLE, SERVICE, STATES, folded_again, named_in, readable, regroup
from services.profile.store import ProfileStore, States
from services.profile.traits import Defined
from shared.config import Settings
from shared.errors import SamlaError, SubjectsFenced
from shared.eventlog import Event
from shared.rebuild import PAGE, Tools, Upto

MOST_IN_MEMORY: Final = 20_000
"""Subjects whose states are gathered before they are written."""
WRITTEN: Final = 1_000
LOOK_SECONDS: Final = 0.2

Gathered = dict[str, States]
"""Slot (see domain.placing) -> what was folded of it."""


class Job(NamedTuple):
    """What is to be folded, and where to; it can be sent to other processes. It holds nothing personal."""

    end: str
    """Of the names of the collections that it is written to."""
    upto: Mapping[int, int]
    """Partition of tracking -> the last position."""
    parked: frozenset[str]
    """Events that are left out."""
    defined: Defined
    """The computed traits that are folded."""


class Engine(Protocol):
    """Who folds the partitions."""

    def fold(self, tools: Tools, job: Job) -> int:
        """All of them; how many events."""


def fold(tools: Tools, end: str, upto: Upto, engine: Engine, defined: Defined) -> int:
    """Everything as far as `upto`, with these computed traits, into the collections whose names end so; how many
    events."""
    store = ProfileStore(tools.db, tools.keyring, beside=end)
    count = 0
    for page in tools.events(IDENTITY, upto, subscription=PEOPLE):
        count += len(page)
        regroup(store, page, tools.keyring.fenced(named_in(page)))
    partitions = {each: upto.get((TRACKING, each), 0) for each in range(tools.log.partitions(TRACKING))}
    job = Job(
        end,
        {each: at for each, at in partitions.items() if at},
        frozenset(tools.parked(STATES)),
        defined,
    )
    tools.progress.expect(sum(job.upto.values()))
    return count + engine.fold(tools, job)


# A partition


def fold_partition(tools: Tools, job: Job, partition: int, advance: Callable[[int], None]) -> int:
    """One partition, written as it goes; how many events."""
    store = ProfileStore(tools.db, tools.keyring, beside=job.end)
    count = 0
    gathered: Gathered = {}
    corrected: set[str] = set()
    for page in pages_of(tools, job, partition, 0, job.upto[partition]):
        gather(tools, job, store, page, gathered, corrected)
        if len(gathered) > MOST_IN_MEMORY:
            write(tools, job, store, gathered)
            gathered = {}
        count += len(page)
        advance(len(page))
    write(tools, job, store, gathered)
    correct(tools, job, store, partition, sorted(corrected))
    return count


def pages_of(tools: Tools, job: Job, partition: int, after: int, upto: int) -> Iterable[list[Event]]:
    """A partition's events from behind one position as far as another, without those that are left out."""
    at = after
    while at < upto and (page := tools.log.read(TRACKING, partition, at, min(PAGE, upto - at))):
        at = page[-1].position
        yield [event for event in page if event.id not in job.parked] if job.parked else page


def gather(
    tools: Tools, job: Job, store: ProfileStore, page: Sequence[Event], into: Gathered, corrected: set[str]
) -> None:
    """Adds what a page says; subjects whose events were corrected are to be folded again at the end."""
    corrected |= {event.subject for event in page if event.type == CORRECTED}
    said = [(event, event.id) for event in page if event.type != CORRECTED]
    placing = store.placing({event.subject for event in page}, [event.id for event in page])
    for at, delta in readable(tools.keyring, said, placing, job.defined.traits).items():
        add(into.setdefault(at, {}), delta)


def write(tools: Tools, job: Job, store: ProfileStore, gathered: Gathered) -> None:
    """Together with what of the same slots was written before."""
    slots = sorted(gathered)
    for start in range(0, len(slots), WRITTEN):
        page = slots[start : start + WRITTEN]
        living = _living(page, tools.keyring.fenced({subject_of(each) for each in page}))
        for at, known in store.load(living).items():
            gathered[at] = add(without_traits(gathered[at]) if known.too_large else gathered[at], known.states)
        _save(job, store, {each: gathered[each] for each in living}, whole=False)


def correct(tools: Tools, job: Job, store: ProfileStore, partition: int, subjects: Sequence[str]) -> None:
    """Folds the subjects again whose events were corrected."""
    gone = tools.keyring.fenced(subjects)
    for subject in subjects:
        if subject not in gone:
            at = job.upto[partition]
            placing, traits = store.placing([subject]), job.defined.traits
            states = folded_again(tools.log, tools.keyring, subject, at, job.parked, placing, traits)
            _save(job, store, states, whole=True)
            store.drop_slots(store.prints([subject]).keys() - states.keys())


def _living(slots: Sequence[str], gone: Collection[str]) -> list[str]:
    return [each for each in slots if subject_of(each) not in gone]


def _save(job: Job, store: ProfileStore, states: Gathered, whole: bool) -> None:
    """But for those who are being erased at this moment."""
    while True:
        try:
            store.save(states, whole=whole, defined=job.defined.version)
            break
        except SubjectsFenced as error:
            states = {each: states[each] for each in _living(list(states), error.subjects)}
    store.settle(states)


# Engines


class Here:
    """In this process, a partition after the other."""

    def fold(self, tools: Tools, job: Job) -> int:
        """All of them."""
        return sum(fold_partition(tools, job, each, tools.progress.advance) for each in job.upto)


class Processes:
    """In processes of their own, which take their settings from the environment as this one does."""

    def __init__(self, number: int, least: int = 0) -> None:
        """So many; fewer where there are not `least` events for each, which is no work that is worth starting one."""
        self._number = number
        self._least = least

    def fold(self, tools: Tools, job: Job) -> int:
        """Each takes the largest partition that is left."""
        number = min(self._number, len(job.upto), sum(job.upto.values()) // max(1, self._least))
        return Here().fold(tools, job) if self._least and number < 2 else self._side_by_side(number, tools, job)

    def _side_by_side(self, number: int, tools: Tools, job: Job) -> int:
        context = multiprocessing.get_context("spawn")
        done = context.Value("q", 0)
        told = 0
        largest = sorted(job.upto, key=lambda each: -job.upto[each])
        with ProcessPoolExecutor(max(1, number), mp_context=context, initializer=_begin, initargs=(done,)) as pool:
            try:
                folding = [pool.submit(_fold_partition, job, each) for each in largest]
                left = set(folding)
                while left:
                    ended, left = wait(left, LOOK_SECONDS, FIRST_COMPLETED)
                    for each in ended:
                        each.result()
                    told, before = done.value, told
                    tools.progress.advance(told - before)
            except BrokenProcessPool as error:
                raise SamlaError(
                    "a process of the rebuild has ended (for want of memory, if it has said nothing): run it again, "
                    "with fewer --processes"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return sum(each.result() for each in folding)


class _Worker(NamedTuple):
    tools: Tools
    done: Any


_worker: list[_Worker] = []


def _begin(done: Any) -> None:
    """At the start of a process: it ends with the one that has started it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(_Worker(Tools.open(Settings.from_env(), SERVICE), done))


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _fold_partition(job: Job, partition: int) -> int:
    [worker] = _worker

    def advance(events: int) -> None:
        with worker.done.get_lock():
            worker.done.value += events

    return fold_partition(worker.tools, job, partition, advance)
