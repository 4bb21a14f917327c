"""Profile's collections: a state a subject, sealed; and which profiles were merged into which.

A state's document is written by the fold and by what follows from identity alike, so that the two conflict:
whoever is second sees what the first has written (docs/decisions/0002-sealed-projections.md).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
import structlog
from bson.binary import Binary
from bson.int64 import Int64
from pymongo import ASCENDING, DeleteOne, UpdateMany, UpdateOne
from pymongo.database import Database

from services.profile.domain.placing import PLAIN, Marks, Placing, receiver_of, subject_of
from services.profile.domain.state import FOLD_VERSION, State, as_kept, lifted, with_traits, without_traits
from shared.errors import Poison
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealed, Sealing
from shared.mongo import BESIDE, pages
from shared.transaction import Transaction

PLACE: Final = "state"
"""What a state is bound to besides its subject, where an event has its id."""
CLASSES: Final = (ORDINARY, SENSITIVE)
BIGGEST_STATE: Final = 8_000_000
"""Bytes, of all classes of data together; MongoDB takes 16 MB."""
SMALL_STATE: Final = 100_000
"""Bytes; classes up to here need not be added to the others."""
PAGE: Final = 2_000
OLDER: Final = -1
FIRST_WITH_ORIGINS: Final = 3
"""States by folds before that are lifted to be read."""

States = dict[str, State]
"""Class of data -> state."""
Texts = dict[str, bytes]
"""The same, to be sealed."""
SealedStates = dict[str, bytes]
"""As they are kept; sealing the same state twice does not give the same."""

logger = structlog.get_logger(__name__)


class Subject(NamedTuple):
    """The document of a slot (see domain.placing), which mostly is a subject; opened."""

    id: str
    profile: str | None
    version: int
    states: States
    since: int | None = None
    """From when on (ms) what happens there is nobody's."""
    turn: int = 0
    """Moves on with what is said of whose its events are."""
    defined: int = 0
    """The computed traits that came with later versions of their set are not in the states."""
    too_large: bool = False
    """With computed traits: none are in the states, and none are added until they are folded again."""


class Print(NamedTuple):
    """What a slot held: what tells whether it was written since."""

    sealed: SealedStates
    turn: int
    seen: int
    """Batches with events of it, where some are not the subject's own."""


class ProfileStore:
    """The states. With `beside`, the end of their collections' names, others beside the live ones: a rebuild's."""

    def __init__(self, db: "Database[Any]", keyring: Keyring, beside: str = "") -> None:
        end, options = beside, BESIDE if beside else {}
        self.states = db.get_collection(f"states{end}", **options)
        self.merges = db.get_collection(f"merges{end}", **options)
        self.given = db.get_collection(f"given{end}", **options)
        self._keyring = keyring

    def setup(self) -> None:
        """Makes collections and indexes."""
        self.states.create_index([("profile", ASCENDING)], name="profile")
        self.states.create_index([("of", ASCENDING)], name="of", sparse=True)
        self.states.create_index([("to", ASCENDING)], name="to", sparse=True)
        self.states.create_index([("v", ASCENDING), ("d", ASCENDING)], name="folded", sparse=True)
        self.states.create_index([("let", ASCENDING)], name="let", sparse=True)
        self.merges.create_index([("into", ASCENDING)], name="into")
        self.given.create_index([("subject", ASCENDING)], name="subject")
        self.given.create_index([("to", ASCENDING)], name="to")

    def drop(self) -> None:
        """Removes all of it."""
        for each in (self.states, self.merges, self.given):
            each.drop()

    # States

    def load(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, Subject]:
        """The subjects' documents, of those that there are."""
        session = within.session if within else None
        found = self.states.find({"_id": {"$in": list(subjects)}}, session=session, batch_size=10_000)
        return self.opened(list(found))

    def opened(self, documents: Sequence[Mapping[str, Any]]) -> dict[str, Subject]:
        """Documents with their states opened; what was erased is left out."""
        slots = [(doc["_id"], cls) for doc in documents for cls in doc.get("s", {})]
        sealed = [bytes(doc["s"][cls]) for doc in documents for cls in doc.get("s", {})]
        items = [Sealed(subject_of(at), cls, _place(at), text) for (at, cls), text in zip(slots, sealed, strict=True)]
        subjects = {
            doc["_id"]: Subject(
                doc["_id"],
                doc.get("profile"),
                int(doc.get("v", FOLD_VERSION)),
                {},
                _since(doc),
                int(doc.get("turn", 0)),
                int(doc.get("d", 0)),
                bool(doc.get("too_large", False)),
            )
            for doc in documents
        }
        for (subject, cls), text in zip(slots, self._keyring.open(items), strict=True):
            if text is not None:
                state = orjson.loads(text)
                newest = subjects[subject].version >= FIRST_WITH_ORIGINS
                subjects[subject].states[cls] = state if newest else lifted(state)
        return subjects

    def prints(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, Print]:
        """Of all slots of these subjects, what tells whether they were written since."""
        if not subjects:
            return {}
        session = within.session if within else None
        either = {"$or": [{"_id": {"$in": list(subjects)}}, {"of": {"$in": list(subjects)}}]}
        return {
            doc["_id"]: Print(
                {cls: bytes(text) for cls, text in doc.get("s", {}).items()},
                int(doc.get("turn", 0)),
                int(doc.get("seen", 0)),
            )
            for doc in self.states.find(either, {"s": 1, "turn": 1, "seen": 1}, session=session)
            if "s" in doc or "turn" in doc
        }

    def save(
        self,
        states: Mapping[str, States],
        within: Transaction | None = None,
        whole: bool = False,
        defined: Mapping[str, int] | int = 0,
    ) -> set[str]:
        """Writes states; whose they are stays as it is. With `whole`, classes of data that are not among them go.
        `defined`: up to which version of the set of computed traits they hold these; of each slot, or of all. Those
        that are too large with what is computed are kept without it, and marked; which. Raises Poison where one is too
        large all the same."""
        texts = {at: _texts(each) for at, each in states.items()}
        if large := self._too_large(texts, {} if whole else states, within):
            texts |= {at: _texts(each) for at, each in self._bare(states, large, whole, within).items()}
            if self._too_large({at: texts[at] for at in large}, {}, within):
                raise Poison(f"a subject's states together would be larger than {BIGGEST_STATE} bytes")
            logger.warning("states would be too large with what is computed: they are kept without", states=len(large))
        slots = [(at, cls) for at, each in texts.items() for cls in each]
        sealed = self._keyring.seal([Sealing(subject_of(at), cls, _place(at), texts[at][cls]) for at, cls in slots])
        kept: dict[str, SealedStates] = {subject: {} for subject in states}
        for (subject, cls), text in zip(slots, sealed, strict=True):
            kept[subject][cls] = Binary(text)
        fields: dict[str, dict[str, Any]] = {
            at: {"v": FOLD_VERSION, "d": defined if isinstance(defined, int) else defined[at]}
            | ({"s": each} if whole or at in large else {f"s.{cls}": text for cls, text in each.items()})
            | ({"too_large": True} if at in large else {})
            for at, each in kept.items()
        }
        for at in kept:
            if (to := receiver_of(at)) is not None:
                fields[at] |= {"of": subject_of(at), "to": to}
        ended = {at: {"let": ""} | ({} if at in large else {"too_large": ""}) for at in (fields if whole else ())}
        self._write(
            [
                UpdateOne({"_id": at}, {"$set": each} | ({"$unset": ended[at]} if at in ended else {}), upsert=True)
                for at, each in fields.items()
            ],
            within,
        )
        return large

    def _too_large(
        self, texts: Mapping[str, Texts], states: Mapping[str, States], within: Transaction | None
    ) -> set[str]:
        """The slots whose states are larger than they may be, with what the documents of `states` hold besides."""
        sizes = {at: sum(map(len, each.values())) for at, each in texts.items()}
        return {at for at, size in self._with_the_rest(sizes, states, within).items() if size > BIGGEST_STATE}

    def _bare(
        self, states: Mapping[str, States], slots: Collection[str], whole: bool, within: Transaction | None
    ) -> dict[str, States]:
        """All states of these slots, without what is computed; what is not among `states` is looked up."""
        known = {} if whole else self.load(slots, within)
        held = {at: known[at].states if at in known else {} for at in slots}
        return {at: without_traits({**held[at], **states[at]}) for at in slots}

    def _with_the_rest(
        self, sizes: Mapping[str, int], states: Mapping[str, States], within: Transaction | None
    ) -> dict[str, int]:
        """Slot -> bytes, together with what its document holds of other classes than these states'; that is looked up
        for those that are not small."""
        whole = dict(sizes)
        large = [at for at in states if sizes[at] > SMALL_STATE]
        session = within.session if within else None
        for doc in self.states.find({"_id": {"$in": large}}, {"s": 1}, session=session) if large else ():
            rest = doc.get("s", {}).keys() - states[doc["_id"]].keys()
            whole[doc["_id"]] += sum(len(doc["s"][cls]) for cls in rest)
        return whole

    def _write(self, steps: list[Any], within: Transaction | None) -> None:
        if steps:
            self.states.bulk_write(steps, ordered=False, session=within.session if within else None)

    def lacking(self, version: int, limit: int) -> list[str]:
        """Some subjects whose states lack computed traits of up to this version of their set, or are by an older
        fold."""
        found = self.states.find(_lacks(version), {"_id": 1}).limit(limit)
        return sorted({subject_of(doc["_id"]) for doc in found})

    def holding(self) -> Counter[int]:
        """Version of the set of computed traits -> in how many slots the states hold those up to it; -1: those by an
        older fold."""
        counted: list[Mapping[str, Any]] = [
            {"$match": {"v": {"$gte": 0}}},
            {"$group": {"_id": {"v": "$v", "d": "$d"}, "n": {"$sum": 1}}},
        ]
        found: Counter[int] = Counter()
        for row in self.states.aggregate(counted):
            found[int(row["_id"].get("d", 0)) if row["_id"]["v"] == FOLD_VERSION else OLDER] += int(row["n"])
        return found

    def without(self, subjects: Collection[str], within: Transaction) -> set[str]:
        """The slots of these subjects that go without computed traits, since they would be too large."""
        chosen = {"$or": [{"_id": {"$in": list(subjects)}}, {"of": {"$in": list(subjects)}}], "too_large": True}
        return {doc["_id"] for doc in self.states.find(chosen, {"_id": 1}, session=within.session)}

    def count_let_be(self, version: int) -> int:
        """Of how many slots what they lack of up to this version is not filled."""
        return self.states.count_documents({"let": {"$gte": version}})

    def let_be(self, subjects: Collection[str], version: int, within: Transaction) -> None:
        """What these lack of up to this version is not filled: they are erased."""
        chosen = {"$or": [{"_id": {"$in": list(subjects)}}, {"of": {"$in": list(subjects)}}]}
        self.states.update_many(chosen, {"$set": {"let": version}}, session=within.session)

    def drop_slots(self, slots: Collection[str], within: Transaction | None = None) -> None:
        """Nothing was given there after all."""
        self._write([DeleteOne({"_id": each}) for each in slots], within)

    # What is not its subject's

    def look(self, subjects: Collection[str], events: Collection[str]) -> tuple[Placing, set[str]]:
        """Where these events of these subjects belong; and which of the subjects have states by an older fold."""
        these, older = {"$in": list(subjects)}, {"$exists": True, "$ne": FOLD_VERSION}
        marked = {"_id": these, "turn": {"$exists": True}}
        chosen = {"$or": [marked, {"_id": these, "v": older}, {"of": these, "v": older}]}
        found = list(self.states.find(chosen, {"since": 1, "turn": 1, "v": 1}, batch_size=10_000)) if subjects else []
        placing = self._placing([doc for doc in found if doc["_id"] in subjects and "turn" in doc], events)
        return placing, {subject_of(doc["_id"]) for doc in found if doc.get("v", FOLD_VERSION) != FOLD_VERSION}

    def has_older(self) -> bool:
        """Whether some states are by an older fold."""
        return self.states.find_one({"v": {"$exists": True, "$ne": FOLD_VERSION}}, {"_id": 1}) is not None

    def placing(self, subjects: Collection[str], events: Collection[str] | None = None) -> Placing:
        """Where these events (all where none are named) of these subjects belong."""
        marked = {"_id": {"$in": list(subjects)}, "turn": {"$exists": True}}
        return self._placing(list(self.states.find(marked, {"since": 1, "turn": 1})) if subjects else [], events)

    def _placing(self, marked: Sequence[Mapping[str, Any]], events: Collection[str] | None) -> Placing:
        if not marked:
            return PLAIN
        marks = {doc["_id"]: Marks(_since(doc), int(doc["turn"])) for doc in marked}
        of_these: dict[str, Any] = {"subject": {"$in": list(marks)}}
        of_these |= {} if events is None else {"_id": {"$in": list(events)}}
        return Placing(marks, {doc["_id"]: doc["to"] for doc in self.given.find(of_these)})

    def since(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, int | None]:
        """Subject -> from when on (ms) its events are nobody's (None: they are its own), of those that are marked."""
        marked = {"_id": {"$in": list(subjects)}, "turn": {"$exists": True}}
        session = within.session if within else None
        found: Any = self.states.find(marked, {"since": 1}, session=session) if subjects else []
        return {doc["_id"]: _since(doc) for doc in found}

    def given_of(self, subjects: Collection[str]) -> dict[str, tuple[str, str]]:
        """Event -> (its subject, to whom), of these subjects' events."""
        found: Any = self.given.find({"subject": {"$in": list(subjects)}}) if subjects else []
        return {doc["_id"]: (doc["subject"], doc["to"]) for doc in found}

    def receivers(self, events: Collection[str]) -> dict[str, str]:
        """Event -> to whom it is given, of these events."""
        found: Any = self.given.find({"_id": {"$in": list(events)}}, {"to": 1}) if events else []
        return {doc["_id"]: doc["to"] for doc in found}

    def owned_by(self, profiles: Collection[str], within: Transaction | None = None) -> dict[str, str]:
        """Subject -> profile, of those that are one of these profiles'; without what was only given to them."""
        chosen = {"profile": {"$in": list(profiles)}, "of": {"$exists": False}}
        session = within.session if within else None
        found: Any = self.states.find(chosen, {"profile": 1}, session=session) if profiles else []
        return {doc["_id"]: doc["profile"] for doc in found}

    def given_around(self, subjects: Collection[str], within: Transaction | None = None) -> dict[str, tuple[str, str]]:
        """Event -> (its subject, to whom), of these subjects' events and of those given to them."""
        either = {"$or": [{"subject": {"$in": list(subjects)}}, {"to": {"$in": list(subjects)}}]}
        session = within.session if within else None
        found: Any = self.given.find(either, session=session) if subjects else []
        return {doc["_id"]: (doc["subject"], doc["to"]) for doc in found}

    def mark(self, since: Mapping[str, int | None], subjects: Collection[str], within: Transaction | None) -> None:
        """These subjects' events are not all one person's. `since`: from when on (ms) a subject's are nobody's, the
        earliest that was said; None: they are its own again."""
        steps: list[Any] = [UpdateOne({"_id": each}, {"$inc": {"turn": 1}}, upsert=True) for each in subjects]
        steps += [
            UpdateOne({"_id": each}, {"$unset": {"since": ""}} if at is None else {"$min": {"since": Int64(at)}})
            for each, at in since.items()
        ]
        if steps:
            self.states.bulk_write(steps, ordered=True, session=within.session if within else None)

    def see(self, subjects: Collection[str], within: Transaction) -> None:
        """Events of these marked subjects were handled: what is said of them at the same time is in conflict."""
        self._write([UpdateOne({"_id": each}, {"$inc": {"seen": 1}}) for each in subjects], within)

    def assign(self, given: Mapping[str, tuple[str, str]], within: Transaction | None = None) -> None:
        """Event -> (its subject, to whom it is given)."""
        steps = [
            UpdateOne({"_id": event}, {"$set": {"subject": subject, "to": to}}, upsert=True)
            for event, (subject, to) in given.items()
        ]
        if steps:
            self.given.bulk_write(steps, ordered=False, session=within.session if within else None)

    def unassign(self, subjects: Collection[str], within: Transaction | None = None) -> None:
        """Nothing of these subjects' is given, and nothing to them."""
        if subjects:
            chosen = {"$or": [{"subject": {"$in": list(subjects)}}, {"to": {"$in": list(subjects)}}]}
            self.given.delete_many(chosen, session=within.session if within else None)

    # Whose they are

    def give(self, owners: Mapping[str, str | None], within: Transaction | None = None) -> None:
        """Subject -> profile, from now on; and what was given to it."""
        self._write([UpdateOne({"_id": s}, {"$set": {"profile": p}}, upsert=True) for s, p in owners.items()], within)
        self._pass_on(owners, within)

    def settle(self, slots: Collection[str], within: Transaction | None = None) -> None:
        """What was given is whose the one is that it was given to."""
        receivers = {to for each in slots if (to := receiver_of(each)) is not None}
        if receivers:
            session = within.session if within else None
            found = self.states.find({"_id": {"$in": list(receivers)}}, {"profile": 1}, session=session)
            self._pass_on({doc["_id"]: doc.get("profile") for doc in found}, within)

    def _pass_on(self, owners: Mapping[str, str | None], within: Transaction | None) -> None:
        session = within.session if within else None
        received: Any = self.states.find({"to": {"$in": list(owners)}}, {"to": 1}, session=session) if owners else []
        steps = [UpdateOne({"_id": doc["_id"]}, {"$set": {"profile": owners[doc["to"]]}}) for doc in received]
        self._write(steps, within)

    def unmerge(self, profiles: Collection[str], within: Transaction | None = None) -> None:
        """These, and what was a part of them, are a part of nobody."""
        either = {"$or": [{"_id": {"$in": list(profiles)}}, {"into": {"$in": list(profiles)}}]}
        self.merges.delete_many(either, session=within.session if within else None)

    def merge(
        self, old: str, into: str, within: Transaction | None = None, gone: Collection[str] = frozenset()
    ) -> None:
        """All that was `old`'s is `into`'s, and the old one leads to it; nothing leads to, or from, who is `gone`."""
        session = within.session if within else None
        self.states.update_many({"profile": old}, {"$set": {"profile": into}}, session=session)
        if into in gone:
            # As when `into` is erased later: what led to it goes.
            self.merges.delete_many({"into": old}, session=session)
            return
        steps: list[Any] = [UpdateMany({"into": old}, {"$set": {"into": into}})]
        steps += [] if old in gone else [UpdateOne({"_id": old}, {"$set": {"into": into}}, upsert=True)]
        self.merges.bulk_write(steps, ordered=True, session=session)

    def erase(self, subjects: Collection[str], profiles: Collection[str], within: Transaction) -> None:
        """Drops these subjects' states, and what leads to these profiles. Whose a subject is that is not among them is
        left: identity has told, or is going to tell, that it is somebody else's."""
        these = {"$in": list(subjects)}
        chosen = [{"_id": these}, {"of": these}, {"to": these}]
        self.states.delete_many({"$or": chosen}, session=within.session)
        self.given.delete_many({"$or": [{"subject": these}, {"to": these}]}, session=within.session)
        gone = {"$or": [{"_id": {"$in": list(profiles)}}, {"into": {"$in": list(profiles)}}]}
        self.merges.delete_many(gone, session=within.session)

    # Reading

    def of_profiles(self, profiles: Collection[str]) -> dict[str, list[Subject]]:
        """Profile -> its subjects."""
        documents = list(self.states.find({"profile": {"$in": list(profiles)}}, batch_size=10_000))
        found: dict[str, list[Subject]] = {}
        for each in self.opened(documents).values():
            found.setdefault(str(each.profile), []).append(each)
        return found

    def slots_of(self, profile: str) -> list[str]:
        """The slots of a profile; nothing is opened."""
        return [doc["_id"] for doc in self.states.find({"profile": profile}, {"_id": 1})]

    def owners(self, slots: Collection[str], within: Transaction | None = None) -> dict[str, str]:
        """Slot -> profile, of those that have one."""
        if not slots:
            return {}
        chosen = {"_id": {"$in": list(slots)}, "profile": {"$ne": None}}
        session = within.session if within else None
        return {doc["_id"]: doc["profile"] for doc in self.states.find(chosen, {"profile": 1}, session=session)}

    def merged_into(self, profiles: Collection[str]) -> dict[str, str]:
        """Profile -> the one that it is a part of by now."""
        if not profiles:
            return {}
        return {doc["_id"]: doc["into"] for doc in self.merges.find({"_id": {"$in": list(profiles)}})}

    def page(self, after: str, limit: int) -> list[str]:
        """The next profiles' ids: from the index, as far as is needed."""
        found = self.states.find({"profile": {"$gt": after}}, {"profile": 1, "_id": 0}, batch_size=limit + 1)
        found = found.sort("profile", ASCENDING)
        page: list[str] = []
        with found:
            for doc in found:
                if not page or page[-1] != doc["profile"]:
                    if len(page) == limit:
                        break
                    page.append(doc["profile"])
        return page

    def counts(self) -> dict[str, int]:
        """Profiles, subjects, merges."""
        profiles = list(
            self.states.aggregate(
                [{"$match": {"profile": {"$ne": None}}}, {"$group": {"_id": "$profile"}}, {"$count": "n"}]
            )
        )
        return {
            "profiles": profiles[0]["n"] if profiles else 0,
            "subjects": self.states.estimated_document_count(),
            "merges": self.merges.estimated_document_count(),
        }

    def rows(self, traits: Collection[str] = (), session: Any = None) -> Iterator[tuple[str, bytes]]:
        """(id, content) of every document, opened, in a fixed order: what a digest is made of. Of the computed traits
        those with these ids."""
        for page in pages(self.states.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING), PAGE):
            for subject in self.opened(page).values():
                if subject.profile is None and subject.since is None and not subject.states:
                    continue
                states = {cls: with_traits(state, traits) for cls, state in subject.states.items()}
                content = {"profile": subject.profile, "version": subject.version, "states": states}
                content |= {"since": subject.since} if subject.since is not None else {}
                yield f"state {subject.id}", orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        for doc in self.merges.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"merge {doc['_id']}", str(doc["into"]).encode()
        for doc in self.given.find({}, session=session, batch_size=PAGE).sort("_id", ASCENDING):
            yield f"given {doc['_id']}", f"{doc['subject']} {doc['to']}".encode()


def _texts(states: States) -> Texts:
    return {cls: orjson.dumps(as_kept(state)) for cls, state in states.items()}


def _place(at: str) -> str:
    """What a slot's state is bound to, so that none can be put in another's place."""
    to = receiver_of(at)
    return PLACE if to is None else f"{PLACE} {to}"


def _lacks(version: int) -> dict[str, Any]:
    lacking = [{"v": FOLD_VERSION, "d": {"$lt": version}}, {"v": {"$lt": FOLD_VERSION}}]
    return {"$or": lacking, "let": {"$not": {"$gte": version}}}


def _since(doc: Mapping[str, Any]) -> int | None:
    return None if doc.get("since") is None else int(doc["since"])
