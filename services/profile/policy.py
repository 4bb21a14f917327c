"""Whom to believe, as it was decided: every version is kept, the last one is read by.

A new version says nothing by itself. Of whom another value is believed by it than by the one before, that is told, a
page of profiles after the other, each page in one transaction with how far it has come. By then every instance reads
by the new one: each looks again after LEASE_SECONDS at the latest, and telling begins TELL_SECONDS after it was seen.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from contracts.profile import CHANGED
from contracts.streams import PROFILE
from services.profile.domain.believing import SHIPPED, Believing, Said, check, differing
from services.profile.domain.state import merged
from services.profile.store import ProfileStore, Subject
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.errors import CheckpointMoved
from shared.eventlog import EventLog, NewEvent, derive_id
from shared.eventlog.sealed import is_sensitive
from shared.keyring import ORDINARY, SENSITIVE, Keyring, Sealing
from shared.mongo import MongoTransactor
from shared.transaction import Transaction, Transactor

SERVICE: Final = "profile"
LEASE_SECONDS: Final = 0.5
TELL_SECONDS: Final = 2.0
PAGE: Final = 200
MOST_SHOWN: Final = 100
"""Versions that are listed, the last ones."""


class Change(NamedTuple):
    """A version that is being told."""

    version: int
    before: Believing
    after: Believing
    reached: str
    """The last profile that was looked at."""


class PolicyStore:
    """The versions; and the one in force, which is asked as a Believing is."""

    def __init__(self, db: "Database[Any]", transactor: Transactor | None = None) -> None:
        self._policies = db["believing"]
        self._transactor = transactor or MongoTransactor(db.client)
        self._checkpoints = MongoCheckpoints(db)
        self._version = -1
        self._believing = Believing()
        self._looked = float("-inf")

    def setup(self) -> None:
        """Makes collection and index."""
        self._policies.create_index([("told", ASCENDING)], name="told")

    # In force

    def ordered(self, name: str, said: Said) -> list[tuple[str, Sequence[Any]]]:
        """See Believing."""
        return self.current().ordered(name, said)

    def best(self, name: str, said: Said) -> tuple[str, Sequence[Any]]:
        """See Believing."""
        return self.current().best(name, said)

    def current(self) -> Believing:
        """The one in force, half a second ago or later."""
        return self._believing if time.monotonic() - self._looked < LEASE_SECONDS else self.refresh()

    def refresh(self) -> Believing:
        """The one in force."""
        # Before the look: it is as old as that.
        looked = time.monotonic()
        found = self._policies.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)])
        version = int(found["_id"]) if found else 0
        if version != self._version:
            self._believing, self._version = self._of(version), version
        self._looked = looked
        return self._believing

    def _of(self, version: int) -> Believing:
        found = self._policies.find_one({"_id": version}) if version else None
        return Believing(orjson.loads(found["document"]) if found else SHIPPED)

    # Changing

    def set(self, document: object, now: int) -> dict[str, Any]:
        """Puts a policy in force; `shown` of it. One that is in force already changes nothing. Raises SamlaError where
        it is none."""
        text = orjson.dumps(check(document), option=orjson.OPT_SORT_KEYS).decode()

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            last = self._policies.find_one({}, sort=[("_id", DESCENDING)], session=within.session)
            if text == (last["document"] if last else _SHIPPED):
                return
            row = {
                "_id": int(last["_id"]) + 1 if last else 1,
                "document": text,
                "since": now,
                "told": False,
                "reached": "",
                "looked": 0,
                "changed": 0,
            }
            self._policies.insert_one(row, session=within.session)

        self._transactor.run(work)
        self.refresh()
        return self.shown()

    def shown(self) -> dict[str, Any]:
        """{version, policy, versions: [{version, policy, since ms, told, looked, changed}]}: the one in force, and
        the last of all, latest first; of each how many profiles were looked at, and of how many it was told."""
        rows = list(self._policies.find({}).sort("_id", DESCENDING).limit(MOST_SHOWN))
        versions = [
            {
                "version": int(row["_id"]),
                "policy": orjson.loads(row["document"]),
                **{name: row[name] for name in ("since", "told", "looked", "changed")},
            }
            for row in rows
        ]
        shipped = {"version": 0, "policy": orjson.loads(_SHIPPED)}
        first = versions[0] if versions else shipped
        return {"version": first["version"], "policy": first["policy"], "versions": versions}

    # What is told

    def untold(self) -> Change | None:
        """The first version that is not told of everybody yet."""
        found = self._policies.find_one({"told": False}, sort=[("_id", ASCENDING)])
        if found is None:
            return None
        version = int(found["_id"])
        return Change(version, self._of(version - 1), self._of(version), found["reached"])

    def tell(self, change: Change, reached: str | None, looked: int, changed: int, within: Transaction) -> None:
        """So far it is told (None: of everybody). Raises CheckpointMoved where somebody else has told."""
        at = {"_id": change.version, "told": False, "reached": change.reached}
        now = {"told": True} if reached is None else {"reached": reached}
        more = {"$set": now, "$inc": {"looked": looked, "changed": changed}}
        if not self._policies.update_one(at, more, session=within.session).matched_count:
            raise CheckpointMoved("another instance has told this page")


class Telling:
    """Tells of whom something else is believed than before."""

    def __init__(
        self,
        policies: PolicyStore,
        store: ProfileStore,
        log: EventLog,
        keyring: Keyring,
        transactor: Transactor,
        checkpoints: MongoCheckpoints,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policies = policies
        self._store = store
        self._log = log
        self._keyring = keyring
        self._transactor = transactor
        self._checkpoints = checkpoints
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[int, float] = {}

    def step(self) -> bool:
        """Tells a page of profiles; whether there may be more at once."""
        change = self._policies.untold()
        if change is None:
            return False
        seen = self._seen.setdefault(change.version, self._monotonic())
        if self._monotonic() - seen < TELL_SECONDS:
            return False
        page = self._store.page(change.reached, PAGE)
        told = {
            profile: names
            for profile, subjects in sorted(self._store.of_profiles(page).items())
            if (names := _names(subjects, change))
        }
        reached = page[-1] if len(page) == PAGE else None

        def work(within: Transaction) -> None:
            self._checkpoints.guard(within)
            gone = self._keyring.fenced(told, within)
            living = {profile: names for profile, names in told.items() if profile not in gone}
            self._policies.tell(change, reached, len(page), len(living), within)
            self._log.append(PROFILE, self._events(living, change), within)

        try:
            self._transactor.run(work)
        except CheckpointMoved:
            # Another instance is at it.
            return True
        return True

    def _events(self, told: Mapping[str, set[str]], change: Change) -> list[NewEvent]:
        ids = {profile: derive_id(CHANGED, profile, f"policy {change.version}") for profile in told}
        sealed = self._keyring.seal(
            [
                Sealing(profile, ORDINARY, ids[profile], orjson.dumps({"names": sorted(names)}))
                for profile, names in told.items()
            ]
        )
        return [
            NewEvent(
                id=ids[profile],
                type=CHANGED,
                source=SERVICE,
                subject=profile,
                time=self._clock.now_ms(),
                data={"profile": profile},
                sealed={ORDINARY: text},
                correlation=derive_id("policy", change.version),
            )
            for profile, text in zip(told, sealed, strict=True)
        ]


def _names(subjects: Sequence[Subject], change: Change) -> set[str]:
    """Of what about a profile another value is believed."""
    states = [(cls, state) for each in subjects for cls, state in each.states.items()]
    plain = merged(state for cls, state in states if not is_sensitive(cls))
    special = merged(state for cls, state in states if is_sensitive(cls))
    names = set(differing(plain, change.before, change.after))
    return names | {SENSITIVE} if any(differing(special, change.before, change.after)) else names


_SHIPPED: Final = orjson.dumps(SHIPPED, option=orjson.OPT_SORT_KEYS).decode()
