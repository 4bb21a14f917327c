"""From tracking events to states, from identity's decisions to whose they are, and what is told of both."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from contracts import identity
from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.profile import CHANGED, CONSENTS, EVERYTHING, MERGED, SPLIT
from contracts.streams import PROFILE, TRACKING
from contracts.tracking import CORRECTED
from services.profile.correcting import Said, as_they_stand, correction_id, said_by
from services.profile.domain.computed import Trait
from services.profile.domain.placing import PLAIN, Marks, Placing, receiver_of, slot, subject_of
from services.profile.domain.state import FOLD_VERSION, add, copied, names_of, state_of, without_traits
from services.profile.store import CLASSES, Print, ProfileStore, States, Subject
from services.profile.traits import Defined, TraitStore
from shared.checkpoints import Checkpoints, Place, handled_by
from shared.consumer import Finish, Output
from shared.errors import CheckpointMoved, Poison
from shared.eventlog import Event, EventLog, NewEvent, derive_id, latest_causes, partition_of
from shared.eventlog.sealed import held_class, is_sensitive, open_events, open_raw
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing, new_id
from shared.mongo import pages
from shared.transaction import Transaction

SERVICE: Final = "profile"
STATES: Final = "profile.states"
"""The subscription that folds."""
PEOPLE: Final = "profile.people"
ERASURES: Final = "profile.erasures"


MEASURED: Final = 5_000
"""Values of computed traits that are folded at a stretch in the background."""
LEAST: Final = 20
"""Events."""


class Again(NamedTuple):
    """Subjects that were folded again from the log."""

    subjects: frozenset[str]
    states: dict[str, States]
    """By slot (see domain.placing)."""
    over: dict[str, Print]
    """What stood of them before: what was folded is right only in its place."""
    defined: int = 0
    """Up to which version of their set the states hold the computed traits."""
    upto: Mapping[str, int] = {}
    """Subject -> the position up to which."""
    placing: Placing = PLAIN
    parked: frozenset[str] = frozenset()


NONE: Final = Again(frozenset(), {}, {})

Told = dict[str, tuple[set[str], list[Event]]]
"""Profile -> (names of what has changed, the events by which)."""


class Folding:
    """What profile's subscriptions do; each method gives what runs in the transaction."""

    def __init__(
        self,
        store: ProfileStore,
        log: EventLog,
        keyring: Keyring,
        checkpoints: Checkpoints,
        traits: TraitStore,
    ) -> None:
        self._store = store
        self._log = log
        self._keyring = keyring
        self._checkpoints = checkpoints
        self._traits = traits

    def _defined(self) -> Defined:
        """The computed traits that are folded."""
        return self._traits.current()

    # Events become states

    def fold(self, events: Sequence[Event]) -> Finish | None:
        """Folds tracking events into the states of their subjects. Where that is no addition, of corrections that is,
        of a parked event that is handled again, and of states by an older fold, the subject is folded again."""
        subjects = {event.subject for event in events}
        defined = self._defined()
        placing, older = self._store.look(subjects, [event.id for event in events])
        corrections = [event for event in events if event.type == CORRECTED]
        said = [said_by(event) for event in events if event.type != CORRECTED]
        deltas = deltas_of(self._keyring, said, placing, defined.traits)
        consenting = consenting_of(self._keyring, events)
        # One that cannot be read is parked for its own sake, not the next one of its subject for this one's.
        deltas_of(self._keyring, [said_by(event) for event in corrections])
        concerned = {*map(subject_of, deltas), *placing.marks, *(event.subject for event in corrections)}
        reached = {event.subject: event for event in events if event.subject in concerned}
        retried = self._is_retry(events)
        stale = set(reached) if retried else older & reached.keys()
        again = self._again({subject: reached[subject] for subject in {e.subject for e in corrections} | stale})

        def finish(within: Transaction) -> list[Output]:
            if retried:
                # It moves no checkpoint that a computed trait's definition could void.
                self._checkpoints.guard(within)
            known = self._store.load({*reached, *deltas, *again.states}, within)
            gone = self._keyring.fenced({*reached, *(each.profile for each in known.values() if each.profile)}, within)
            self._check(reached, placing, known, within)
            living = {at: delta for at, delta in deltas.items() if subject_of(at) not in gone | again.subjects}
            bare = self._add(living, known, defined, within)
            self._put(again, gone, within)
            self._store.see(placing.marks.keys() - gone, within)
            folded = {at for at in again.states if subject_of(at) not in gone}
            self._store.settle([*living, *folded], within)
            told: Told = {}
            for at, profile in self._store.owners({*living, *folded}, within).items():
                names, causes = told.setdefault(profile, (set(), []))
                names |= {EVERYTHING} if at in folded or at in bare else _names(living[at], defined)
                names |= {CONSENTS} if subject_of(at) in consenting else set()
                causes.append(reached[subject_of(at)])
            return self._changes(
                {profile: (_telling(names), causes) for profile, (names, causes) in told.items()}, within
            )

        return finish if reached else None

    def _check(
        self, reached: Collection[str], placing: Placing, known: Mapping[str, Subject], within: Transaction
    ) -> None:
        """Whether what was prepared is still right. Raises CheckpointMoved: it is to be prepared again then."""
        for subject in reached:
            turn = placing.marks[subject].turn if subject in placing.marks else 0
            if subject in known and known[subject].turn != turn:
                raise CheckpointMoved("whose some events are was said while they were handled")

    def _add(
        self, deltas: Mapping[str, States], known: Mapping[str, Subject], defined: Defined, within: Transaction
    ) -> set[str]:
        """Adds to the states of slots; those that go without computed traits from now on. Raises CheckpointMoved where
        an older fold has made them, or a computed trait was defined since."""
        if deltas:
            self._traits.check(defined.version, within)
        if any(known[at].version != FOLD_VERSION for at in deltas if at in known):
            raise CheckpointMoved("states were found to be older while events were handled")
        # A slot without states begins with all of them; the others get the later ones when they are folded again.
        holding = {at: known[at].defined if at in known and known[at].states else defined.version for at in deltas}
        have = {at: known[at].states if at in known else {} for at in deltas}
        added = {
            at: without_traits(delta) if at in known and known[at].too_large else defined.of(delta, holding[at])
            for at, delta in deltas.items()
        }
        return self._store.save(
            {at: add({cls: have[at][cls] for cls in delta if cls in have[at]}, delta) for at, delta in added.items()},
            within,
            defined=holding,
        )

    def _put(self, again: Again, gone: Collection[str], within: Transaction) -> None:
        """Puts what was folded again in the place of what was. Raises CheckpointMoved where that has changed, or a
        computed trait was defined since."""
        if again.subjects:
            self._traits.check(again.defined, within)
        if self._store.prints(again.subjects, within) != again.over:
            raise CheckpointMoved("states have changed while their subjects were folded again")
        living = {at: each for at, each in again.states.items() if subject_of(at) not in gone}
        self._store.save(living, within, whole=True, defined=again.defined)
        self._store.drop_slots(again.over.keys() - again.states.keys(), within)

    def _is_retry(self, events: Sequence[Event]) -> bool:
        """Whether this is a parked event that is handled again: one alone, behind which its partition was handled."""
        if len(events) != 1:
            return False
        [event] = events
        return event.position <= self._checkpoints.at(Place(STATES, TRACKING, event.partition)).position

    def _again(self, reached: Mapping[str, Event]) -> Again:
        """Subjects by today's fold, of all of their events as they stand corrected, so far as these are handled or now
        reached; without those that are parked, but for the one that is now handled again."""
        if not reached:
            return NONE
        # In this order: what is written after the states were looked at is seen at the end.
        over = self._store.prints(reached)
        placing = self._store.placing(reached)
        handled = handled_by(STATES, self._checkpoints)
        parked = self._parked() - {event.id for event in reached.values()}
        upto = {subject: max(event.position, handled.get(event.place, 0)) for subject, event in reached.items()}
        return self._folded(upto, placing, parked, over)

    def _parked(self) -> set[str]:
        return {each.event for each in self._checkpoints.parked() if each.subscription == STATES}

    def _folded(
        self, upto: Mapping[str, int], placing: Placing, parked: Collection[str], over: dict[str, Print]
    ) -> Again:
        """Of subjects' events as far as a position of each."""
        defined = self._defined()
        states: dict[str, States] = {}
        for subject, position in upto.items():
            states |= folded_again(self._log, self._keyring, subject, position, parked, placing, defined.traits)
        return Again(frozenset(upto), states, over, defined.version, upto, placing, frozenset(parked))

    def again(self, subjects: Collection[str], enough: float = math.inf) -> Again:
        """Subjects by today's fold and all computed traits, of all that was handled of them; the first of them, so that
        they have about `enough` events."""
        # In this order: what is written after the states were looked at is seen at the end.
        over = self._store.prints(subjects)
        upto, placing, parked = self._handled(subjects), self._store.placing(subjects), self._parked()
        defined = self._defined()
        states: dict[str, States] = {}
        done: dict[str, int] = {}
        events = 0
        for subject, position in upto.items():
            states[subject] = {}
            for page in as_they_stand(self._log, subject, position, parked):
                events += len(page)
                self._add_page(states, page, placing, defined)
            done[subject] = position
            if events >= enough:
                break
        over = {at: each for at, each in over.items() if subject_of(at) in done}
        return Again(frozenset(done), states, over, defined.version, done, placing, frozenset(parked))

    def further(self, again: Again, within: Transaction | None = None) -> Again | None:
        """The same, with what was handled since; None where that is no addition. `again` is used up."""
        over = self._store.prints(again.subjects, within)
        upto, parked, defined = self._handled(again.subjects, within), self._parked(), self._defined()
        turned = any(_turn(over, each) != _turn(again.over, each) for each in again.subjects)
        if turned or defined.version != again.defined or not again.parked <= parked:
            return None
        for subject, position in upto.items():
            for page in read_between(self._log, subject, again.upto[subject], position):
                if any(event.type == CORRECTED for event in page):
                    return None
                said = [said_by(event) for event in page if event.id not in parked]
                self._add_page(again.states, said, again.placing, defined)
        return again._replace(over=over, upto=upto, parked=frozenset(parked))

    def _add_page(self, states: dict[str, States], page: Sequence[Said], placing: Placing, defined: Defined) -> None:
        """In the background: others get their turn in between."""
        for some in pages(page, max(LEAST, MEASURED // (1 + len(defined.traits)))):
            add_each(states, readable(self._keyring, some, placing, defined.traits))
            time.sleep(0)

    def put(self, again: Again, within: Transaction) -> set[str]:
        """Puts what was folded again in the place of what was; the slots that go without computed traits and did not
        before, or the other way round. Raises CheckpointMoved where what was has changed."""
        gone = self._keyring.fenced(again.subjects, within)
        before = self._store.without(again.subjects, within)
        self._put(again, gone, within)
        after = self._store.without(again.subjects, within)
        self._store.let_be(gone, again.defined, within)
        self._store.settle([at for at in again.states if subject_of(at) not in gone], within)
        return before ^ after

    def tell(self, slots: Collection[str], now: int, within: Transaction) -> None:
        """Tells, at `now` (ms), that whose these slots are has changed, though nothing has happened."""
        told = set(self._store.owners(slots, within).values())
        living = sorted(told - self._keyring.fenced(told, within)) if told else []
        names = orjson.dumps({"names": [EVERYTHING]})
        ids = {profile: new_id() for profile in living}
        sealed = self._keyring.seal([Sealing(profile, ORDINARY, ids[profile], names) for profile in living])
        made = [
            NewEvent(
                id=ids[profile],
                type=CHANGED,
                source=SERVICE,
                subject=profile,
                time=now,
                data={"profile": profile},
                sealed={ORDINARY: text},
                correlation=ids[profile],
            )
            for profile, text in zip(living, sealed, strict=True)
        ]
        if made:
            self._log.append(PROFILE, made, within)

    # Identity's decisions

    def follow(self, events: Sequence[Event]) -> Finish | None:
        """Gives subjects to people, merges people and takes them apart, in identity's order; and single events."""
        events = [each for each in events if each.type in FOLLOWED]
        if not events:
            return None
        # What is told of those who are being erased is left out; if that changes, it is prepared again.
        lost = self._keyring.fenced(named_in(events))
        said = Whose(self._store, events, lost)
        defined = self._defined()
        again, added = self._placed_anew(said, defined)

        def finish(within: Transaction) -> list[Output]:
            nonlocal again
            gone = self._keyring.fenced(named_in(events) | said.subjects, within)
            if gone & named_in(events) != lost:
                raise CheckpointMoved("somebody is being erased since this was prepared")
            again = self._caught_up(again, within)
            self._put(again, gone, within)
            told: Told = {}
            made: list[NewEvent] = []
            for event in regroup(self._store, events, gone, within):
                # The last fact about a person in a batch stands for those before it.
                if event.type == identity.MERGED:
                    if {event.text("profile"), event.text("into")}.isdisjoint(gone):
                        made.append(_merged(event))
                    told.pop(event.text("profile"), None)
                elif event.type in identity.REGROUPINGS:
                    made += _split(event, gone)
                for whose in changed_by(event):
                    told.setdefault(whose, ({EVERYTHING}, []))[1].append(event)
            self._add_given(added, defined, gone, within)
            self._store.settle(again.states, within)
            for profile in sorted({*self._store.owners(said.subjects, within).values()}):
                told.setdefault(profile, ({EVERYTHING}, [events[-1]]))
            return [(PROFILE, made), *self._changes(told, within)]

        return finish

    def _caught_up(self, again: Again, within: Transaction) -> Again:
        """With what was handled while it was folded: of a subject that events keep coming of, all would be folded again
        and again without end. Raises CheckpointMoved where that is no addition."""
        if self._store.prints(again.subjects, within) == again.over:
            return again
        # A copy: what is tried again after a conflict must find it as it was.
        states = {at: {cls: copied(state) for cls, state in of.items()} for at, of in again.states.items()}
        if (caught_up := self.further(again._replace(states=states), within)) is None:
            raise CheckpointMoved("states have changed while their subjects were folded again")
        return caught_up

    def _placed_anew(self, said: "Whose", defined: Defined) -> tuple[Again, list["Given"]]:
        """Subjects folded again, since some of their events are somebody else's than they were; and events that were
        nobody's and are somebody's, which is an addition."""
        if not said.subjects:
            return NONE, []
        found = self._log.find(TRACKING, said.fresh)
        additions = {
            event: delta
            for event, (time, delta) in one_by_one(self._keyring, list(found.values()), defined.traits).items()
            if said.is_addition(event, found[event].subject, time)
        }
        plain = set(additions) - self._corrected(additions)
        _, older = self._store.look({found[event].subject for event in plain}, ())
        moved = said.moved | older | {each.subject for event, each in found.items() if event not in plain}
        added = [
            Given(found[event], slot(found[event].subject, said.receivers[event]), delta)
            for event, delta in additions.items()
            if found[event].subject not in moved
        ]
        if not moved:
            return NONE, added
        # In this order: what is written after the states were looked at is seen at the end.
        over = self._store.prints(moved)
        return self._folded(self._handled(moved), said.placing(moved), self._parked(), over), added

    def _corrected(self, events: Collection[str]) -> set[str]:
        """Those of the events that were corrected: what they add is not what they said."""
        first = {correction_id(self._keyring, event, 1): event for event in events}
        return {first[each] for each in self._log.find(TRACKING, first)}

    def _add_given(
        self, added: Sequence["Given"], defined: Defined, gone: Collection[str], within: Transaction
    ) -> None:
        """Adds those that were handled already; the others will find to whom they are given."""
        if not added:
            return
        handled = handled_by(STATES, self._checkpoints, within.session)
        parked = self._parked()
        deltas: dict[str, States] = {}
        for each in added:
            event = each.event
            if event.position <= handled.get(event.place, 0) and event.id not in parked and event.subject not in gone:
                # A copy: what is tried again after a conflict must find it as it was.
                add(deltas.setdefault(each.slot, {}), {cls: copied(state) for cls, state in each.delta.items()})
        self._add(deltas, self._store.load(deltas, within), defined, within)
        self._store.settle(deltas, within)

    # Erasures

    def forget(self, events: Sequence[Event]) -> Finish | None:
        """Drops the states of erased people, and again at the end, for what was under way. What was given to them and
        lies under somebody else is that subject's own again."""
        erasures = [event for event in events if event.type in (SUBJECTS_ERASED, ERASURE_COMPLETED)]
        erased = {subject for event in erasures for subject in event.texts("subjects")}
        again = self._without(erased)

        def finish(within: Transaction) -> list[Output]:
            self._put(again, self._keyring.fenced(again.subjects, within), within)
            told: Told = {}
            for event in erasures:
                # A device that is shared goes with one of those who use it.
                concerned = {*event.texts("subjects"), *again.subjects}
                for profile in {*self._store.owners(concerned, within).values()}:
                    told.setdefault(profile, ({EVERYTHING}, []))[1].append(event)
                self._store.erase(event.texts("subjects"), event.texts("profiles"), within)
            self._store.mark({}, again.subjects, within)
            return self._changes(told, within)

        return finish if erasures else None

    def _without(self, erased: set[str]) -> Again:
        """Subjects of which something was given to who is erased, folded again."""
        around = self._store.given_around(erased)
        lost = {event: subject for event, (subject, to) in around.items() if to in erased and subject not in erased}
        subjects = frozenset(lost.values())
        if not subjects:
            return NONE
        over = self._store.prints(subjects)
        placing = self._store.placing(subjects)
        placing = placing._replace(given={event: to for event, to in placing.given.items() if event not in lost})
        return self._folded(self._handled(subjects), placing, self._parked(), over)

    def _handled(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, int]:
        """Subject -> how far its partition was handled."""
        handled = handled_by(STATES, self._checkpoints, within.session if within else None)
        partitions = self._log.partitions(TRACKING)
        return {each: handled.get(f"{TRACKING}:{partition_of(each, partitions)}", 0) for each in subjects}

    # What is told

    def _changes(self, told: Told, within: Transaction) -> list[Output]:
        gone = self._keyring.fenced(told, within)
        living = {profile: each for profile, each in told.items() if profile not in gone}
        ids = {profile: derive_id(CHANGED, profile, causes[-1].id) for profile, (_, causes) in living.items()}
        sealed = self._keyring.seal(
            [
                Sealing(profile, ORDINARY, ids[profile], orjson.dumps({"names": sorted(names)}))
                for profile, (names, _) in living.items()
            ]
        )
        made = [
            _changed(profile, ids[profile], text, causes)
            for (profile, (_, causes)), text in zip(living.items(), sealed, strict=True)
        ]
        return [(PROFILE, made)]


FOLLOWED: Final = (
    identity.CREATED,
    identity.ATTACHED,
    identity.MERGED,
    identity.SHARED,
    identity.UNSHARED,
    identity.GIVEN,
    *identity.REGROUPINGS,
)
_NAMING: Final = {identity.MERGED: ("profile", "into"), identity.GIVEN: ("profile", "subject", "to")}
"""By whom a fact is about; the others name a profile and a subject."""


def facts_of(event: Event) -> list[Mapping[str, Any]]:
    """What a decision says, each with its type; a regrouping's own facts in their order."""
    if event.type in identity.REGROUPINGS:
        facts: Any = event.data.get("facts") or []
        return list(facts)
    return [{**event.data, "type": event.type, "event": event.data.get("event", "")}]


def named_in(events: Sequence[Event]) -> set[str]:
    """The subjects and profiles that identity's events are about."""
    return {
        name
        for event in events
        for name in (*event.texts("dissolved"), *(each for fact in facts_of(event) for each in _named(fact)))
    }


def is_about_living(fact: Mapping[str, Any], gone: Collection[str]) -> bool:
    """Whether none of the identifiers that a fact gives or marks are erased. Profiles are names only: who is split from
    somebody that was erased goes on."""
    names = () if fact["type"] == identity.MERGED else ("subject", "to")
    return not any(fact.get(name) in gone for name in names)


def _named(fact: Mapping[str, Any]) -> set[str]:
    return {str(fact[name]) for name in _NAMING.get(fact["type"], ("profile", "subject")) if name in fact}


def changed_by(event: Event) -> set[str]:
    """The profiles of which something else is known than before."""
    if event.type in identity.REGROUPINGS:
        return {*event.texts("dissolved"), *(str(each["profile"]) for each in facts_of(event))} - _parts(event).keys()
    return {event.text("into" if event.type == identity.MERGED else "profile")}


def _parts(event: Event) -> dict[str, str]:
    """Profile -> the one that it is a part of, after a regrouping."""
    parts: dict[str, str] = {}
    for fact in facts_of(event):
        if fact["type"] == identity.MERGED:
            old, into = str(fact["profile"]), str(fact["into"])
            parts = {part: into if whole == old else whole for part, whole in parts.items()} | {old: into}
    return parts


class Given(NamedTuple):
    """An event that is somebody's though its subject is not."""

    event: Event
    slot: str
    delta: States


class Whose:
    """What identity's events say, in their order, of single events and of devices that are shared: where events belong
    after them. What was before is read; nothing is written."""

    def __init__(self, store: ProfileStore, events: Sequence[Event], gone: Collection[str]) -> None:
        self.subjects: set[str] = set()
        """Of which something is said."""
        self.moved: set[str] = set()
        """Those of which more is said than that events that were nobody's are somebody's."""
        self.receivers: dict[str, str] = {}
        """Event that is given now -> to whom."""
        self._store = store
        self._owners: dict[str, str | None] = {}
        self._into: dict[str, str] = {}
        self._since: dict[str, int | None] = {}
        self._before: dict[str, int | None] = {}
        self._given: dict[str, tuple[str, str]] = {}
        """Event -> (its subject, to whom), of those that are given in here."""
        self._lost: set[str] = set()
        """Events that were given and are not any more."""
        facts = {event.id: [each for each in facts_of(event) if is_about_living(each, gone)] for event in events}
        self._look({str(fact["subject"]) for of in facts.values() for fact in of if fact["type"] in _MARKING})
        for event in events:
            if event.type in identity.REGROUPINGS:
                self._dissolve(event.texts("dissolved"))
            for fact in facts[event.id]:
                self._say(fact)
        self.receivers = {event: to for event, (_, to) in self._given.items()}
        self._held = {event: to for event, to in store.receivers(self._given).items() if event not in self._lost}
        self.moved |= {each for each in self.subjects if self._since.get(each) != self._before.get(each)}

    @property
    def fresh(self) -> set[str]:
        """Events that are given to somebody who did not have them already."""
        return {event for event, to in self.receivers.items() if self._held.get(event) != to}

    def _look(self, subjects: set[str]) -> None:
        """Reads what was said of subjects before, of those that nothing is known of yet."""
        fresh = subjects - self._before.keys()
        since = self._store.since(fresh)
        self._before |= dict.fromkeys(fresh) | since
        self._since |= since

    def _dissolve(self, profiles: Sequence[str]) -> None:
        parts = {old for old in self._into if self._whole(old) in profiles}
        held = self._store.owned_by({*profiles, *parts})
        members = {
            subject
            for subject, profile in {**held, **self._owners}.items()
            if profile is not None and self._whole(profile) in profiles
        }
        self._owners |= dict.fromkeys(members)
        around = {**self._store.given_around(members), **self._given}
        lost = {event: subject for event, (subject, to) in around.items() if {subject, to} & members}
        self._look(members | set(lost.values()))
        self._lost |= lost.keys()
        self._given = {event: pair for event, pair in self._given.items() if event not in lost}
        marked = {*lost.values(), *(members & self._since.keys())}
        self._since |= dict.fromkeys(members & self._since.keys())
        self.moved |= marked
        self.subjects |= marked

    def _whole(self, profile: str) -> str:
        while profile in self._into:
            profile = self._into[profile]
        return profile

    def _say(self, fact: Mapping[str, Any]) -> None:
        kind, profile = fact["type"], str(fact["profile"])
        if kind in (identity.CREATED, identity.ATTACHED):
            self._owners[str(fact["subject"])] = profile
            self._into.pop(profile, None)
        elif kind == identity.MERGED:
            self._into[profile] = str(fact["into"])
        elif kind in _MARKING:
            self._mark(fact)

    def _mark(self, fact: Mapping[str, Any]) -> None:
        subject = str(fact["subject"])
        self.subjects.add(subject)
        if fact["type"] == identity.GIVEN:
            self._given[str(fact["event"])] = (subject, str(fact["to"]))
            self._since.setdefault(subject, None)
        elif fact["type"] == identity.SHARED:
            since = self._since.get(subject)
            self._since[subject] = int(fact["since"]) if since is None else min(since, int(fact["since"]))
        else:
            self._since[subject] = None

    def placing(self, subjects: Collection[str]) -> Placing:
        """Where the events of these subjects belong after all of it."""
        marks = {subject: Marks(self._since.get(subject), 0) for subject in subjects}
        kept = {event: pair for event, pair in self._store.given_of(subjects).items() if event not in self._lost}
        return Placing(marks, {event: to for event, (_, to) in {**kept, **self._given}.items()})

    def is_addition(self, event: str, subject: str, time: int) -> bool:
        """Whether an event was nobody's and is given to somebody."""
        since = self._before.get(subject)
        nobodys = since is not None and time >= since and self._since.get(subject) == since
        return nobodys and event in self._given and event not in self._held


_MARKING: Final = (identity.SHARED, identity.UNSHARED, identity.GIVEN)


def regroup(
    store: ProfileStore, events: Sequence[Event], gone: Collection[str], within: Transaction | None = None
) -> list[Event]:
    """Says whose subjects and events are, in identity's order; the events that were followed: not those about who is
    `gone`. States are left as they are."""
    followed = []
    owners: dict[str, str | None] = {}
    marking = Marking(store, within)
    for event in events:
        facts = [fact for fact in facts_of(event) if is_about_living(fact, gone)]
        if event.type not in FOLLOWED or (not facts and event.type not in identity.REGROUPINGS):
            continue
        if event.type in identity.REGROUPINGS:
            store.give(owners, within)
            marking.flush()
            owners = dict.fromkeys(_dissolved(store, event, within) - set(gone))
        for fact in facts:
            if fact["type"] in (identity.CREATED, identity.ATTACHED):
                owners[str(fact["subject"])] = str(fact["profile"])
            elif fact["type"] == identity.MERGED:
                store.give(owners, within)
                owners = {}
                old, into = str(fact["profile"]), str(fact["into"])
                store.merge(old, into, within, gone)
            elif fact["type"] in _MARKING:
                marking.say(fact)
        followed.append(event)
    store.give(owners, within)
    marking.flush()
    return followed


def _dissolved(store: ProfileStore, event: Event, within: Transaction | None) -> set[str]:
    """The subjects of people who are taken apart: nothing is shared any more, given or merged."""
    profiles = event.texts("dissolved")
    members = set(store.owned_by(profiles, within))
    # Others' subjects, too, whose events were given to these: what is under way of them is void.
    around = {subject for subject, _ in store.given_around(members, within).values()}
    store.unmerge(profiles, within)
    store.unassign(members, within)
    marked = store.since(members, within).keys()
    store.mark(dict.fromkeys(marked), {*marked, *around}, within)
    return members


class Marking:
    """Gathers what is said of shared devices and of single events, and writes it at once."""

    def __init__(self, store: ProfileStore, within: Transaction | None) -> None:
        self._store = store
        self._within = within
        self._subjects: set[str] = set()
        self._since: dict[str, int | None] = {}
        self._given: dict[str, tuple[str, str]] = {}

    def say(self, fact: Mapping[str, Any]) -> None:
        """One fact more, in identity's order."""
        subject = str(fact["subject"])
        if fact["type"] == identity.SHARED:
            since = int(fact["since"])
            if (before := self._since.get(subject, since)) is None:
                # It was its own again in between: only then is what was said first void.
                self.flush()
                before = since
            self._since[subject] = min(since, before)
        elif fact["type"] == identity.UNSHARED:
            self._since[subject] = None
        else:
            self._given[str(fact["event"])] = (subject, str(fact["to"]))
        self._subjects.add(subject)

    def flush(self) -> None:
        """Writes it."""
        self._store.assign(self._given, self._within)
        self._store.mark(self._since, self._subjects, self._within)
        self._subjects, self._since, self._given = set(), {}, {}


def folded_again(
    log: EventLog,
    keyring: Keyring,
    subject: str,
    upto: int,
    without: Collection[str],
    placing: Placing,
    traits: Collection[Trait] = (),
) -> dict[str, States]:
    """Slot -> states, of a subject's events from the log alone, up to a position; `without` those that are parked."""
    states: dict[str, States] = {subject: {}}
    for page in as_they_stand(log, subject, upto, without):
        add_each(states, readable(keyring, page, placing, traits))
    return states


def add_each(states: dict[str, States], deltas: Mapping[str, States]) -> None:
    """Adds to the states of slots."""
    for at, delta in deltas.items():
        add(states.setdefault(at, {}), delta)


def _turn(over: Mapping[str, Print], subject: str) -> int:
    return over[subject].turn if subject in over else 0


def read_between(log: EventLog, subject: str, after: int, upto: int) -> Iterator[list[Event]]:
    """Pages of a subject's events, from behind a position up to another."""
    while after < upto and (page := log.read_subject(TRACKING, subject, after)):
        after = page[-1].position
        yield [event for event in page if event.position <= upto]


def readable(
    keyring: Keyring, said: Sequence[Said], placing: Placing, traits: Collection[Trait] = ()
) -> dict[str, States]:
    """`deltas_of` those events that can be read."""
    try:
        return deltas_of(keyring, said, placing, traits)
    except Poison:
        if len(said) == 1:
            return {}
    middle = len(said) // 2
    deltas = readable(keyring, said[:middle], placing, traits)
    for at, delta in readable(keyring, said[middle:], placing, traits).items():
        add(deltas.setdefault(at, {}), delta)
    return deltas


def deltas_of(
    keyring: Keyring, said: Sequence[Said], placing: Placing = PLAIN, traits: Collection[Trait] = ()
) -> dict[str, States]:
    """Slot -> what these events add to its states. Raises Poison where a body is not what it should be."""
    deltas: dict[str, States] = {}
    for cls in CLASSES:
        holding = [(event, original, own) for event, original in said if (own := held_class(event, cls))]
        bodies = open_events(keyring, [event for event, _, _ in holding], cls)
        for (event, original, own), body in zip(holding, bodies, strict=True):
            if body is not None:
                state = _state(body, event, original, traits)
                if (at := placing.slot_of(event.subject, original, body["time"])) is not None:
                    add(deltas.setdefault(at, {}), {own: state})
    return deltas


def one_by_one(
    keyring: Keyring, events: Sequence[Event], traits: Collection[Trait] = ()
) -> dict[str, tuple[int, States]]:
    """Event -> (its time, what it adds), of those that can be read."""
    apart = Placing({event.subject: Marks(None, 0) for event in events}, {event.id: event.id for event in events})
    said = [said_by(each) for each in events]
    deltas = {receiver_of(at): delta for at, delta in readable(keyring, said, apart, traits).items()}
    bodies = zip(events, open_events(keyring, events), strict=True)
    return {event.id: (int(body["time"]), deltas[event.id]) for event, body in bodies if body and event.id in deltas}


def _state(body: Mapping[str, Any], event: Event, identity: str, traits: Collection[Trait]) -> dict[str, Any]:
    try:
        if not isinstance(body["time"], int):
            raise TypeError("time")
        return state_of(body, identity, traits)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Poison(f"the body of event {event.id} is not what {event.type} says") from error


def consenting_of(keyring: Keyring, events: Sequence[Event]) -> set[str]:
    """The subjects of those events that may say something about consent, which the privacy service keeps."""
    raws = zip(events, open_raw(keyring, events), strict=True)
    return {event.subject for event, raw in raws if raw is not None and (b'"consent"' in raw or b'"gpc"' in raw)}


def _telling(names: set[str]) -> set[str]:
    return {EVERYTHING} if EVERYTHING in names else names


def _names(delta: States, defined: Defined) -> set[str]:
    keys = {f"computed.{each.id}": each.name for each in defined.traits}
    plain = {keys.get(name, name) for cls, state in delta.items() if not is_sensitive(cls) for name in names_of(state)}
    return plain | {SENSITIVE} if any(map(is_sensitive, delta)) else plain


def _changed(profile: str, identity_: str, sealed: bytes, causes: Sequence[Event]) -> NewEvent:
    last = causes[-1]
    return NewEvent(
        id=identity_,
        type=CHANGED,
        source=SERVICE,
        subject=profile,
        time=last.time,
        data={"profile": profile},
        sealed={ORDINARY: sealed},
        causes=latest_causes(*(each.causes for each in causes), *({each.place: each.position} for each in causes)),
        correlation=last.correlation,
    )


def _merged(event: Event) -> NewEvent:
    return NewEvent(
        id=derive_id(MERGED, event.id),
        type=MERGED,
        source=SERVICE,
        subject=str(event.data["into"]),
        time=event.time,
        data={"from": event.data["profile"], "into": event.data["into"]},
        causes=latest_causes(event.causes, {event.place: event.position}),
        correlation=event.correlation,
    )


def _split(event: Event, gone: Collection[str]) -> list[NewEvent]:
    """What is told of a regrouping, but for who is `gone`; nothing where nobody is left of it."""
    parts = {old: into for old, into in _parts(event).items() if not {old, into} & set(gone)}
    founded = {str(fact["profile"]) for fact in facts_of(event) if fact["type"] == identity.CREATED} - set(gone)
    about = min({event.subject} - set(gone) or founded, default=None)
    if about is None:
        return []
    made = NewEvent(
        id=derive_id(SPLIT, event.id),
        type=SPLIT,
        source=SERVICE,
        subject=about,
        time=event.time,
        data={
            "profile": event.subject,
            "profiles": sorted(founded - parts.keys()),
            "merged": sorted([old, into] for old, into in parts.items()),
        },
        causes=latest_causes(event.causes, {event.place: event.position}),
        correlation=event.correlation,
    )
    return [made]
