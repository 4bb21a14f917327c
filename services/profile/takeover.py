"""A rebuild that takes over while the service works (docs/decisions/0021-rebuilding-while-live.md).

    fold in bulk, beside, as far as live was -> catch up, beside -> hold live -> the rest -> commit -> rename -> release

What is live is untouched until the commit, and is wholly the rebuilt from then on: whoever comes next finishes what
a rebuild that was cut off has committed, and ends the hold of one that has not. Nothing is appended to any stream.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from contracts.streams import IDENTITY, PRIVACY, TRACKING
from services.profile.domain.state import FOLD_VERSION
from services.profile.folding import ERASURES, PEOPLE, STATES, Folding
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints, Parked, Place
from shared.consumer import PARKS, Consumer, Finish, Prepare
from shared.errors import CheckpointMoved, SamlaError, SubjectsFenced, Unavailable
from shared.eventlog import Event, EventLog
from shared.lease import Lease
from shared.mongo import MongoTransactor
from shared.rebuild import Tools, Upto
from shared.transaction import Transaction

SUBSCRIPTIONS: Final = {PEOPLE: IDENTITY, STATES: TRACKING, ERASURES: PRIVACY}
TAKEN_OVER: Final = ("states", "merges", "given", "parked")
"""Collections that take the live ones' place."""
OWN: Final = (*TAKEN_OVER, "checkpoints", "guard_of_rebuild")
"""Collections that a rebuild makes; their names end with what is its own."""
REBUILT: Final = "_rebuilt_"
"""What that begins with."""
NEAR: Final = 500
"""Events that may be left when live is held: they take a part of a second."""
MOST_ROUNDS: Final = 50
"""Of catching up; where live runs as fast as we do, the rest is done while it is held."""
PATIENCE_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.1
NO_SUCH_COLLECTION: Final = 26

MOST_SUBJECTS: Final = 50
"""That are folded again at a time for a computed trait which was defined meanwhile."""

Fold = Callable[[Tools, Upto], int]
"""Folds in bulk, beside, as far as where; the number of events."""


class Marks:
    """What is said of the live states: by which fold they were made, and whether a take-over is under way."""

    def __init__(self, db: "Database[Any]", checkpoints: MongoCheckpoints, transactor: MongoTransactor) -> None:
        self._db = db
        self._rebuilds = db["rebuilds"]
        self._checkpoints = checkpoints
        self._transactor = transactor

    def lease(self, **options: Any) -> Lease:
        """One rebuild, or verification, at a time."""
        made = Lease(self._rebuilds, "lease", **options)
        made.setup()
        return made

    def fold(self) -> int | None:
        """By which fold the live states were made, all of them at least; None: nobody has said."""
        found = self._rebuilds.find_one({"_id": "live"})
        return None if found is None else int(found["fold"])

    def set_fold(self, version: int, within: Transaction | None = None) -> None:
        """They were made by this one."""
        session = within.session if within else None
        self._rebuilds.update_one({"_id": "live"}, {"$set": {"fold": version}}, upsert=True, session=session)

    def is_left_over(self) -> bool:
        """Whether a rebuild that is no more has left something to finish: for whoever holds the lease."""
        return self._checkpoints.held_by() is not None or self._committed() is not None

    def commit(self, end: str, lease: Lease, defined: int) -> None:
        """From now on the rebuilt states are what is live; they hold the computed traits of up to this version. Raises
        Conflict where somebody else has taken the lease, or ended the hold, of a rebuild that was thought to be no
        more."""
        swap = {"_id": "swap", "end": end, "fold": FOLD_VERSION, "defined": defined}

        def work(within: Transaction) -> None:
            lease.confirm(within)
            self._checkpoints.confirm(within, lease.holder)
            self._rebuilds.insert_one(swap, session=within.session)

        self._transactor.run(work)

    def finish(self) -> Iterator[str]:
        """Finishes what was committed, a step at a time; each may have been done already. Then live goes on."""
        swap = self._committed()
        if swap is None:
            return
        for name in TAKEN_OVER:
            _rename(self._db, f"{name}{swap['end']}", name)
            yield f"renamed {name}"

        def work(within: Transaction) -> None:
            if self._rebuilds.delete_one({"_id": "swap", "end": swap["end"]}, session=within.session).deleted_count:
                self.set_fold(int(swap["fold"]), within)
                TraitStore(self._db).lack(int(swap["defined"]), within)
                self._checkpoints.release(within)

        self._transactor.run(work)
        yield "released"

    def recover(self) -> None:
        """Ends what rebuilds that are no more have left; for the holder of the lease."""
        for _ in self.finish():
            pass
        if (by := self._checkpoints.held_by()) is not None:
            self._end_hold(by)
        for name in self._db.list_collection_names():
            if any(name.startswith(f"{each}{REBUILT}") for each in OWN):
                self._db.drop_collection(name)

    def abandon(self, end: str, by: str) -> None:
        """Ends what one rebuild has begun, whoever holds the lease by now."""
        for _ in self.finish():
            pass
        if self._checkpoints.held_by() == by:
            self._end_hold(by)
        self.drop(end)

    def drop(self, end: str) -> None:
        """Drops what one rebuild has made."""
        for name in OWN:
            self._db.drop_collection(f"{name}{end}")

    def release(self, by: str) -> bool:
        """Ends a hold, if nothing has followed from it; whether it has."""

        def work(within: Transaction) -> bool:
            self._checkpoints.confirm(within, by)
            # A commit that was given up may have gone through after all.
            if self._rebuilds.find_one({"_id": "swap"}, session=within.session) is not None:
                return False
            self._checkpoints.release(within)
            return True

        return self._transactor.run(work)

    def _end_hold(self, by: str) -> None:
        if not self.release(by):
            for _ in self.finish():
                pass

    def _committed(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._rebuilds.find_one({"_id": "swap"})
        return found


def _rename(db: "Database[Any]", name: str, to: str) -> None:
    try:
        db[name].rename(to, dropTarget=True)
    except OperationFailure as error:
        if error.code != NO_SUCH_COLLECTION:
            raise


class Beside:
    """What a rebuild makes, and subscriptions that keep it up to date as profile's own do with what is live."""

    def __init__(self, tools: Tools, end: str) -> None:
        self._tools = tools
        self._end = end
        self.store = ProfileStore(tools.db, tools.keyring, beside=end)
        self.checkpoints = MongoCheckpoints(tools.db, end)
        self._log = _AsFarAs(tools.log)
        self._traits = TraitStore(tools.db)
        self._folding = folding = Folding(self.store, tools.log, tools.keyring, self.checkpoints, self._traits)
        prepares: dict[str, Prepare] = {PEOPLE: folding.follow, STATES: folding.fold, ERASURES: folding.forget}
        self._parked: dict[str, Parked] = {}
        """What live has parked: the entries' ids, and the entries."""
        self._consumers = {
            name: Consumer(
                name,
                stream,
                self._log,
                tools.transactor,
                self.checkpoints,
                self._silently(name, prepares[name]),
                lambda: time.time_ns() // 1_000_000,
            )
            for name, stream in SUBSCRIPTIONS.items()
        }

    def setup(self) -> None:
        """Makes the collections."""
        self.store.setup()
        self.checkpoints.setup()

    def start(self, at: Mapping[Place, int]) -> None:
        """What was folded in bulk stands there."""
        moves = {place: (self.checkpoints.at(place), position) for place, position in at.items()}
        self._tools.transactor.run(lambda within: self.checkpoints.move(within, moves))

    def leave_out(self, parked: Sequence[Parked]) -> None:
        """Live has parked these and no others: so is it here, too, also where this fold could handle them; and what is
        parked no more is handled."""
        theirs = {each.id: each for each in parked}
        fresh = [each for name, each in theirs.items() if name not in self._parked]
        retried = [each for name, each in self._parked.items() if name not in theirs]
        self._parked = theirs
        if fresh:
            self._tools.transactor.run(lambda within: self._park(fresh, within))
        for each in retried:
            self._handle_again(each)

    def _park(self, fresh: Sequence[Parked], within: Transaction) -> None:
        for each in fresh:
            self.checkpoints.park(within, each)

    def _handle_again(self, parked: Parked) -> None:
        place = Place(parked.subscription, parked.stream, parked.partition)
        if parked.position > self.checkpoints.at(place).position:
            # It will be come to.
            self._tools.transactor.run(lambda within: self.checkpoints.unpark(within, parked.id))
            return
        try:
            _patiently(lambda: self._consumers[parked.subscription].retry(parked))
        except PyMongoError:
            raise
        except PARKS:
            # By this fold it cannot be handled: it stays parked.
            return

    def fill(self) -> int:
        """Computed traits that were defined meanwhile are filled here, too; up to which version of their set they are
        in all states by now."""
        version = self._traits.refresh().version
        while subjects := self.store.lacking(version, MOST_SUBJECTS):
            _patiently(lambda subjects=subjects: self._put(subjects))  # type: ignore[misc]
        return version

    def _put(self, subjects: Sequence[str]) -> None:
        again = self._folding.again(subjects)
        # A trait was defined meanwhile: they still lack something, and are folded once more.
        with suppress(CheckpointMoved):
            self._tools.transactor.run(lambda within: self._folding.put(again, within))

    def advance(self, upto: Mapping[Place, int]) -> int:
        """Handles what live has handled, no more; how many events. Raises what keeps failing."""
        self._log.upto = {(place.stream, place.partition): at for place, at in upto.items()}
        return sum(self._advance(name, upto) for name in SUBSCRIPTIONS)

    def _advance(self, name: str, upto: Mapping[Place, int]) -> int:
        handled = 0
        mine = {place: at for place, at in upto.items() if place.subscription == name}
        consumer = self._consumers[name]
        self._tools.progress.expect(sum(at - consumer.position(place.partition) for place, at in mine.items()))
        while lagging := [place.partition for place, at in mine.items() if consumer.position(place.partition) < at]:
            step = _patiently(lambda lagging=lagging: consumer.step(sorted(lagging)))  # type: ignore[misc]
            handled += step.handled
            self._tools.progress.advance(step.handled)
        return handled

    def _silently(self, name: str, prepare: Prepare) -> Prepare:
        """As it is, but that nothing is appended, and without what live has parked."""

        def prepared(events: list[Event]) -> Finish | None:
            parked = {each.event for each in self._parked.values() if each.subscription == name}
            handled = [event for event in events if event.id not in parked]
            finish = prepare(handled) if handled else None
            if finish is None:
                return None

            def silent(within: Transaction) -> Sequence[Any]:
                finish(within)
                return []

            return silent

        return prepared


class _AsFarAs:
    """A log that ends where live is: a rebuild must not know more."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.upto: Mapping[tuple[str, int], int] = {}

    def read_behind(self, stream: str, after: Mapping[int, int], limit: int) -> list[Event]:
        """As the log's, as far as `upto`."""
        found = self._log.read_behind(stream, after, limit)
        return [event for event in found if event.position <= self.upto.get((stream, event.partition), 0)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _patiently(work: Callable[[], Any]) -> Any:
    """Again, where it is the servers or somebody who is being erased; until that has failed for a while."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except (Unavailable, SubjectsFenced, PyMongoError):
            if time.monotonic() >= end:
                raise
            time.sleep(PAUSE_SECONDS)


class TakeOver:
    """One rebuild, for the holder of the lease."""

    def __init__(self, tools: Tools, marks: Marks, lease: Lease, end: str, fold: Fold) -> None:
        self._tools = tools
        self._marks = marks
        self._lease = lease
        self._end = end
        self._fold = fold
        self._live = tools.checkpoints
        self._beside = Beside(tools, end)
        self._defined = 0
        """Up to which version of their set what is beside holds the computed traits."""
        self.report: dict[str, Any] = {"service": tools.service}

    def run(self) -> dict[str, Any]:
        """All of it; the report: `events` in bulk in `seconds`, those `caught_up`, and `held_seconds`."""
        try:
            for _ in self.steps():
                pass
        except Exception:
            self._marks.abandon(self._end, self._lease.holder)
            raise
        return self.report

    def steps(self) -> Iterator[str]:
        """The same, a step at a time. Cut off behind any of them, by whatever, it can be begun again."""
        self._marks.recover()
        self._beside.setup()
        TraitStore(self._tools.db).setup()
        for place in self._places():
            # A checkpoint that is not there could not be held.
            self._live.at(place)
        yield "recovered"
        self._fold_in_bulk()
        yield "folded"
        self._tools.progress.phase("catching up")
        caught_up = self._catch_up()
        yield "caught up"
        held = time.monotonic()
        self._live.hold(self._lease.holder)
        yield "held"
        caught_up += self._follow()
        yield "drained"
        self._compare()
        self._marks.commit(self._end, self._lease, self._defined)
        yield "committed"
        yield from self._marks.finish()
        documents = ProfileStore(self._tools.db, self._tools.keyring).states.estimated_document_count()
        held_seconds = round(time.monotonic() - held, 3)
        self.report |= {"documents": documents, "caught_up": caught_up, "held_seconds": held_seconds}
        self._marks.drop(self._end)

    def _fold_in_bulk(self) -> None:
        started = time.monotonic()
        upto = self._handled()
        self._beside.leave_out(self._parked())
        self._tools.progress.phase("folding")
        # What is parked is what was parked just now, whatever becomes of it meanwhile.
        tools = self._tools._replace(checkpoints=self._beside.checkpoints)
        events = self._fold(tools, {(place.stream, place.partition): at for place, at in upto.items()})
        self._beside.start(upto)
        self.report |= {"events": events, "seconds": round(time.monotonic() - started, 3)}

    def _places(self) -> list[Place]:
        return [
            Place(name, stream, partition)
            for name, stream in SUBSCRIPTIONS.items()
            for partition in range(self._tools.log.partitions(stream))
        ]

    def _handled(self) -> dict[Place, int]:
        known = self._live.all()
        return {place: known.get(place, 0) for place in self._places()}

    def _parked(self) -> list[Parked]:
        return [each for each in self._live.parked() if each.subscription in SUBSCRIPTIONS]

    def _follow(self) -> int:
        """As far as live is now; how many events."""
        # In this order: what is parked among what is handled is seen.
        upto = self._handled()
        self._beside.leave_out(self._parked())
        handled = self._beside.advance(upto)
        self._defined = self._beside.fill()
        return handled

    def _catch_up(self) -> int:
        caught_up = 0
        for _ in range(MOST_ROUNDS):
            round_ = self._follow()
            caught_up += round_
            if round_ <= NEAR:
                break
        return caught_up

    def _compare(self) -> None:
        """Raises where beside is not exactly where live is."""
        mine = self._beside.checkpoints.all()
        if apart := [place for place, at in self._handled().items() if mine.get(place, 0) != at]:
            raise SamlaError(
                f"the rebuilt is not where live is, in {apart[0].stream}:{apart[0].partition}: run it again"
            )
