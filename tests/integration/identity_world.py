"""The identity service's parts on a real MongoDB, driven by hand; with `followed`, the profile service's too."""

import orjson

from contracts.streams import IDENTITY, PRIVACY, PROFILE, TRACKING
from services.identity.explaining import Explaining
from services.identity.rebuild import IdentityProjection
from services.identity.regrouping import RESOLVE, Regrouping
from services.identity.resolver import Resolver
from services.identity.service import _members
from services.identity.store import Change, IdentityStore
from services.privacy.domain.belonging import belonging_of
from services.profile.folding import STATES, Folding
from services.profile.reading import Reading
from services.profile.rebuild import ProfileProjection
from services.profile.store import ProfileStore
from services.profile.traits import TraitStore
from shared.checkpoints import MongoCheckpoints
from shared.clock import Clock
from shared.consumer import Consumer
from shared.eventlog import MongoEventLog, NewEvent, derive_id
from shared.keyring import ORDINARY, Keyring, Sealing, new_id
from shared.keystore import MongoKeyStore
from shared.mongo import MongoTransactor, connect
from shared.rebuild import Tools, verify


class World:
    """The identity service's parts, driven by hand."""

    def __init__(self, mongodb_url, prefix):
        self.client = connect(mongodb_url)
        self.transactor = MongoTransactor(self.client)
        self.keyring_name = f"{prefix}_keyring"
        self.keyring = Keyring(MongoKeyStore(self.client, f"{prefix}_keyring"), b"m" * 32)
        self.keyring.setup()
        self.log = MongoEventLog(self.client, f"{prefix}_log", self.transactor, self.keyring.fenced)
        self.log.setup()
        self.db = self.client[f"{prefix}_identity"]
        self.checkpoints = MongoCheckpoints(self.db)
        self.checkpoints.setup()
        self.store = IdentityStore(self.db, self.keyring)
        self.store.setup()
        self.resolver = Resolver(self.store, self.keyring)
        self.consumer = self.consumes()
        self.regrouping = Regrouping(
            self.store, self.resolver, self.log, self.keyring, self.transactor, self.checkpoints, self.now
        )
        self.explaining = Explaining(self.store, self.resolver, self.log, self.keyring)
        self.time = 1_000_000
        self.profiles = self.client[f"{prefix}_profile"]
        marks = MongoCheckpoints(self.profiles)
        marks.setup()
        self.states = ProfileStore(self.profiles, self.keyring)
        self.states.setup()
        self.traits = TraitStore(self.profiles)
        self.traits.setup()
        folding = Folding(self.states, self.log, self.keyring, marks, self.traits)
        self.reading = Reading(self.states, self.log, self.keyring, self.traits, Clock())
        feeds = {STATES: (TRACKING, folding.fold), "profile.people": (IDENTITY, folding.follow)}
        self.followers = {
            name: Consumer(name, stream, self.log, self.transactor, marks, prepare, self.now)
            for name, (stream, prepare) in feeds.items()
        }
        self.marks = marks
        self.erasures = [
            Consumer("identity.erasures", PRIVACY, self.log, self.transactor, self.checkpoints, prepare, self.now)
            if name == "identity"
            else Consumer("profile.erasures", PRIVACY, self.log, self.transactor, marks, prepare, self.now)
            for name, prepare in (("identity", self.resolver.forget), ("profile", folding.forget))
        ]

    def now(self):
        return self.time

    def consumes(self, prepare=None):
        """A consumer of its own, as another process has."""
        return Consumer(
            RESOLVE, TRACKING, self.log, self.transactor, MongoCheckpoints(self.db),
            prepare or self.resolver.resolve, self.now,
        )  # fmt: skip

    def sent(self, *identifiers, party="first", at=None):
        """An event in the log, not yet decided about, which happened then (ms); its id."""
        self.time += 1_000
        subject = self.subject(identifiers[0], create=True)
        body = {
            "type": "track", "time": at or self.time, "party": party, "source_name": "web", "event": "E",
            "identifiers": [list(each) for each in identifiers], "properties": {}, "traits": {},
        }  # fmt: skip
        identity = derive_id("event", self.time)
        [sealed] = self.keyring.seal([Sealing(subject, ORDINARY, identity, orjson.dumps(body))])
        new = NewEvent(
            id=identity, type="tracking.track.v1", source="web", subject=subject, time=self.time,
            sealed={ORDINARY: sealed},
        )  # fmt: skip
        self.log.append(TRACKING, [new])
        return identity

    def happens(self, *identifiers, party="first", at=None):
        """An event that is decided about; its id."""
        identity = self.sent(*identifiers, party=party, at=at)
        self.settle()
        return identity

    def settle(self):
        while self.consumer.step(range(self.log.partitions(TRACKING))).more:
            pass

    def rules(self, document):
        change = Change(new_id(), self.now(), past=False)
        return self.resolver.change_rules(document, change, self.transactor, self.log, self.checkpoints)

    def tools(self):
        return Tools("identity", self.client, self.db, self.log, self.keyring, self.transactor, self.checkpoints)

    def subject(self, identifier, create=False):
        return self.keyring.subjects_of([identifier], create=create)[identifier]

    def profile(self, identifier):
        return self.store.profile_of([self.subject(identifier)]).get(self.subject(identifier))

    def together(self, *identifiers):
        return len({self.profile(each) for each in identifiers}) == 1

    def facts(self, kind=None):
        """Identity's stream."""
        found = self.log.read(IDENTITY, 0, 0, 10_000)
        return [each for each in found if kind in (None, each.type)]

    def merges(self, identifier):
        chain = self.explaining.explain(self.profile(identifier))["chain"]
        return [each for each in chain if each["decided"] == "merged"]

    def verify(self):
        """Live is what a rebuild would give."""
        assert verify(IdentityProjection(), self.tools())["equal"]

    # Profiles

    def follow(self, *names):
        """The profile service catches up."""
        for name in names or self.followers:
            stream = TRACKING if name == STATES else IDENTITY
            while self.followers[name].step(range(self.log.partitions(stream))).more:
                pass

    def events_of(self, identifier):
        """The events that a profile's timeline holds, and their number by its facts."""
        profile = self.profile(identifier)
        lines = {line["event"] for line in self.reading.timeline(profile, 10_000)["lines"]}
        facts = self.reading.facts([profile])[profile]
        count = facts["facts"]["events"].get("E", [0])[0] if facts else 0
        assert count == len(lines)
        return lines

    def everything(self):
        """What each person's states say, whatever their profiles' ids are."""
        people = self.store.groups()
        return {
            frozenset(subjects): self.reading.facts([profile])[profile]["facts"] for profile, subjects in people.items()
        }

    def told(self, kind):
        """Events of the profile service's."""
        return [
            each
            for partition in range(self.log.partitions(PROFILE))
            for each in self.log.read(PROFILE, partition, 0, 10_000)
            if each.type == kind
        ]

    def verify_profiles(self):
        """Live is what a rebuild would give."""
        tools = Tools("profile", self.client, self.profiles, self.log, self.keyring, self.transactor, self.marks)
        assert verify(ProfileProjection(), tools)["equal"]

    def splits_something(self, chance):
        """A merge, or an identifier, of somebody who has several; nothing where nobody has."""
        groups = [(profile, group) for profile, group in sorted(self.store.groups().items()) if len(group) > 1]
        if not groups:
            return
        profile, group = chance.choice(groups)
        merges = [each for each in self.explaining.explain(profile)["chain"] if each["decided"] == "merged"]
        if merges and chance.random() < 0.6:
            self.regrouping.split_merge(chance.choice(merges)["id"])
        else:
            self.regrouping.split_identifier(profile, chance.choice(sorted(group)))

    # Erasures, as privacy does them

    def fences(self, profile):
        """Somebody is being erased: fenced, their keys are gone; the request, to be told."""
        for _ in range(2):
            person = self.members(profile)
            subjects = sorted(belonging_of(person).places)
            self.keyring.fence([*person["profiles"], *subjects])
        self.keyring.destroy([*person["profiles"], *subjects])
        data = {"profile": person["profile"], "mode": "forget", "profiles": person["profiles"], "subjects": subjects}
        return {"request": new_id(), **data}

    def members(self, profile):
        """As identity tells them."""
        people = self.store.people_by_id([profile])
        return _members(people[profile], self.store.given_of(people.values()), behind=False)

    def tells(self, kind, request):
        """Of an erasure: SUBJECTS_ERASED, and then ERASURE_COMPLETED."""
        self.time += 1
        identity = request["request"]
        event = NewEvent(
            id=derive_id(kind, identity), type=kind, source="privacy", subject=identity, time=self.time, data=request,
        )  # fmt: skip
        self.log.append(PRIVACY, [event])

    def forgets(self, *which):
        """Identity (0) and profile (1) hear of erasures."""
        for number in which or (0, 1):
            while self.erasures[number].step(range(self.log.partitions(PRIVACY))).more:
                pass
