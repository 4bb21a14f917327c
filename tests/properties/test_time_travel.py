"""A profile at any instant is what a plain, slow re-computation of the whole log gives, after any history."""

import random
from itertools import pairwise

import orjson
import pytest

from contracts import identity
from contracts.privacy import ERASURE_COMPLETED, SUBJECTS_ERASED
from contracts.streams import TRACKING
from contracts.tracking import CORRECTED
from services.privacy.domain.belonging import belonging_of
from services.profile.folding import STATES
from services.profile.reading import At
from services.profile.rebuild import ProfileProjection
from shared.eventlog import NewEvent, derive_id
from shared.keyring import ORDINARY, Sealing
from shared.rebuild import Tools, verify
from tests.integration.identity_world import World

START = 1_000_000
FOREVER = 10**15
KINDS = [
    ("user", "ann"), ("user", "bo"), ("anonymous", "tablet"), ("anonymous", "phone"), ("email", "ann@x.se"),
    ("email", "guest@x.se"), ("email", "new@x.se"), ("phone", "+46701234567"), ("loyalty", "L-7"),
]  # fmt: skip
ORDER, SURVEY = "Order Completed", "Survey Answered"
CITIES = ["Lund", "Oslo", "Turku"]
TRAITS = {
    "orders": {"event": ORDER, "measure": "count"},
    "orders-lately": {"event": ORDER, "measure": "count", "within": "10s"},
    "spent": {"event": ORDER, "measure": "sum", "value": "total"},
    "spent-lately": {"event": ORDER, "measure": "sum", "value": "total", "within": "10s"},
    "biggest-lately": {"event": ORDER, "measure": "max", "value": "total", "within": "10s"},
    "first-city": {"event": ORDER, "measure": "first", "value": "city"},
    "last-city": {"event": ORDER, "measure": "last", "value": "city"},
    "cities": {"event": ORDER, "measure": "distinct", "value": "city"},
    "oslo": {"event": ORDER, "measure": "count", "where": [{"property": "city", "is": "Oslo"}]},
}


class Told:
    """What was sent: an event or a correction of one, as the log holds it."""

    def __init__(self, event, subject, received, body):
        self.event, self.subject, self.received, self.body = event, subject, received, body


class History:
    """What happens, at random."""

    def __init__(self, world, chance):
        self.world, self.chance = world, chance
        self.told = []
        for key, definition in TRAITS.items():
            world.traits.add(key, definition, 1)
        world.traits.fill(len(TRAITS))

    def goes_on(self):
        """An event, late or early, perhaps again, or a correction; and perhaps something else."""
        world, chance = self.world, self.chance
        world.time += chance.choice([0, 1, 500, 1_000, 3_000])
        if self.told and chance.random() < 0.15:
            self._corrects(chance.choice(self.told))
        else:
            self._sends()
        if chance.random() < 0.7:
            world.settle()
        if chance.random() < 0.4:
            world.follow(chance.choice([STATES, "profile.people"]))
        what = chance.random()
        if what < 0.12:
            world.settle()
            self.world.splits_something(self.chance)
        elif what < 0.15:
            world.settle()
            if people := sorted(world.store.groups()):
                self._erases(chance.choice(people))

    def _body(self, identifiers):
        chance, now = self.chance, self.world.time
        at = chance.choice([now, now, now, START + chance.randrange(max(1, now - START))])
        kind = chance.choice(["identify", ORDER, ORDER, SURVEY, "Visited"])
        properties = {
            ORDER: {"total": chance.randrange(1, 5_000) / 100, "currency": chance.choice(["EUR", "SEK"])},
            SURVEY: {"question": chance.choice("qr"), "answer": chance.randrange(5)},
        }.get(kind, {})
        if kind == ORDER:
            properties["city"] = chance.choice(CITIES)
        traits = {chance.choice(["plan", "town"]): chance.choice(["a", "b", 3, None])} if kind == "identify" else {}
        party = chance.choice(["first"] * 4 + ["second", "third"])
        return {
            "type": "identify" if kind == "identify" else "track", "time": at, "party": party,
            "source_name": chance.choice(["web", "crm"]), "event": None if kind == "identify" else kind,
            "identifiers": [list(each) for each in identifiers], "properties": properties, "traits": traits,
            **({} if party == "first" else {"agreement": "a1"}),
        }  # fmt: skip

    def _sends(self):
        named = self.chance.sample(KINDS, self.chance.choice([1, 1, 2, 2, 3]))
        subject = self.world.subject(named[0], create=True)
        event = derive_id("event", len(self.told), self.chance.random())
        self.told.append(Told(event, subject, self.world.time, self._body(named)))
        self._appends(event, self.told[-1], "tracking.track.v1", {})
        if self.chance.random() < 0.2:
            # The same message once more.
            self._appends(event, self.told[-1], "tracking.track.v1", {})

    def _corrects(self, told):
        if self.world.keyring.fenced([told.subject]):
            return
        body = self._body([tuple(each) for each in told.body["identifiers"]])
        body |= {"party": told.body["party"], "time": min(body["time"], told.body["time"])}
        correction = Told(told.event, told.subject, self.world.time, body)
        identity_ = derive_id("correction", len(self.told))
        self.told.append(correction)
        self._appends(identity_, correction, CORRECTED, {"corrects": told.event})

    def _appends(self, identity_, told, kind, data):
        item = Sealing(told.subject, ORDINARY, identity_, orjson.dumps(told.body))
        [sealed] = self.world.keyring.seal([item])
        new = NewEvent(
            id=identity_, type=kind, source="web", subject=told.subject, time=told.received, data=data,
            sealed={ORDINARY: sealed},
        )  # fmt: skip
        self.world.log.append(TRACKING, [new])

    def _erases(self, profile):
        request = self.world.fences(profile)
        for kind in (SUBJECTS_ERASED, ERASURE_COMPLETED):
            self.world.tells(kind, request)
            self.world.forgets()

    def instant(self):
        return self.chance.randrange(START - 2_000, self.world.time + 12_000)

    # Plainly, from all that was sent

    def standing(self, known_at):
        """Event -> what it says by the last correction that was known; not of who was erased."""
        gone = self.world.keyring.fenced({each.subject for each in self.told})
        known = [each for each in self.told if each.received <= known_at and each.subject not in gone]
        return {each.event: each for each in known}

    def of_today(self, profile):
        """(whose each identifier is, what is a profile's) by today's knowledge of who is who."""
        belonging = belonging_of(self.world.members(profile))
        owners = {subject: whose for whose, group in self.world.store.groups().items() for subject in group}
        return owners, lambda told: belonging.holds(told.subject, told.event, told.body["time"])

    def expected(self, owners, holds, profile, at):
        """The parts of a profile."""
        known = self.standing(FOREVER if at.known_at is None else at.known_at).values()
        mine = [each for each in known if holds(each) and (at.as_of is None or each.body["time"] <= at.as_of)]
        mine.sort(key=lambda each: (each.body["time"], each.event))
        instant = next((each for each in (at.as_of, at.known_at) if each is not None), FOREVER)
        return parts(mine, instant, lambda pair: owners.get(self.world.subject(pair)) == profile)


def origin(told):
    body = told.body
    more = {"agreement": body["agreement"]} if "agreement" in body else {}
    return {"source": body["source_name"], "party": body["party"], **more}


def said(mine, values):
    """Name -> the value that is believed, and what others said: of each origin the last."""
    last = {}
    for each in mine:
        for name, value in values(each.body):
            shown = {"value": value, "time": each.body["time"], "event": each.event, **origin(each)}
            last.setdefault(name, {})[tuple(origin(each).items())] = shown
    found = {}
    for name, of in last.items():
        latest = sorted(of.values(), key=lambda each: (each["time"], each["event"]), reverse=True)
        first, *others = sorted(latest, key=lambda each: ["first", "second", "third"].index(each["party"]))
        found[name] = {**first, "sensitivity": "ordinary", **({"others": others} if others else {})}
    return found


def parts(mine, instant, is_mine):
    """What these events say, in their order."""
    seen, counted = {}, {}
    for each in mine:
        for kind, value in each.body["identifiers"]:
            if is_mine((kind, value)):
                seen.setdefault(kind, {}).setdefault(value, []).append(each)
        if each.body["event"]:
            counted.setdefault(each.body["event"], []).append(each)
    return {
        "identity": {
            kind: sorted(
                (
                    {"value": value, "first_seen": of[0].body["time"], "last_seen": of[-1].body["time"],
                     "event": of[0].event, **origin(of[0]), "sensitivity": "ordinary"}
                    for value, of in values.items()
                ),
                key=lambda row: (-row["last_seen"], row["value"]),
            )
            for kind, values in seen.items()
        },
        "quantitative": {name: counts(of) for name, of in counted.items()},
        "descriptive": said(
            mine, lambda body: [(name, value) for name, value in body["traits"].items() if value is not None]
        ),
        "qualitative": said(
            mine,
            lambda body: [(body["properties"]["question"], body["properties"])] if body["event"] == SURVEY else [],
        ),
        "computed": computed(counted.get(ORDER, []), instant),
    }  # fmt: skip


def counts(of):
    sums, sources = {}, {}
    for each in of:
        if "total" in each.body["properties"]:
            currency = each.body["properties"]["currency"]
            sums[currency] = sums.get(currency, 0) + round(each.body["properties"]["total"] * 100)
        sources.setdefault(tuple(origin(each).items()), []).append(each)
    rows = [
        {**dict(name), "count": len(some), "first": some[0].body["time"], "last": some[-1].body["time"],
         "event": some[-1].event}
        for name, some in sources.items()
    ]  # fmt: skip
    return {
        "count": len(of), "first": of[0].body["time"], "last": of[-1].body["time"],
        **({"minor_units": sums} if sums else {}),
        "sources": sorted(rows, key=lambda row: (-row["count"], row["party"], row.get("agreement", ""), row["source"])),
        "sensitivity": "ordinary",
    }  # fmt: skip


def computed(orders, instant):
    """A second is in a window from its beginning until its beginning leaves."""
    lately = [each for each in orders if each.body["time"] // 1_000 * 1_000 + 10_000 > instant]
    cents = lambda of: [round(each.body["properties"]["total"] * 100) for each in of]  # noqa: E731
    cities = [each.body["properties"]["city"] for each in orders]
    return {
        "orders": len(orders), "orders-lately": len(lately), "spent": sum(cents(orders)) / 100,
        "spent-lately": sum(cents(lately)) / 100, "biggest-lately": max(cents(lately)) / 100 if lately else None,
        "first-city": cities[0] if cities else None, "last-city": cities[-1] if cities else None,
        "cities": len(set(cities)), "oslo": cities.count("Oslo"),
    }  # fmt: skip


class Then:
    """Who was who by what had been decided at an instant: every decision of the whole stream, by plain relabelling."""

    def __init__(self, world, until):
        self.owners, self.names, self.since, self.given = {}, {}, {}, {}
        facts = world.facts()
        named = {
            fact[name] for each in facts for fact in self.within(each) for name in ("subject", "to") if name in fact
        }
        self.gone = world.keyring.fenced(named)
        for each in facts:
            if each.time <= until:
                if each.type in identity.REGROUPINGS:
                    self.dissolve(each.data["dissolved"])
                for fact in self.within(each):
                    self.take(fact)

    @staticmethod
    def within(event):
        return event.data["facts"] if event.type in identity.REGROUPINGS else [{**event.data, "type": event.type}]

    def dissolve(self, profiles):
        members = {subject for subject, profile in self.owners.items() if profile in profiles}
        self.owners = {subject: profile for subject, profile in self.owners.items() if subject not in members}
        self.since = {subject: since for subject, since in self.since.items() if subject not in members}
        self.given = {event: pair for event, pair in self.given.items() if not members & set(pair)}
        self.names = {name: whole for name, whole in self.names.items() if whole not in profiles}

    def take(self, fact):
        kind = fact["type"]
        if kind == identity.MERGED:
            old, into = fact["profile"], fact["into"]
            self.names |= {old: into, into: into}
            self.names = {name: into if whole == old else whole for name, whole in self.names.items()}
            self.owners = {subject: into if whole == old else whole for subject, whole in self.owners.items()}
        if {fact.get("subject"), fact.get("to")} & self.gone:
            return
        if kind in (identity.CREATED, identity.ATTACHED):
            self.names.setdefault(fact["profile"], fact["profile"])
            self.owners[fact["subject"]] = self.names[fact["profile"]]
        elif kind == identity.SHARED:
            self.since[fact["subject"]] = min(fact["since"], self.since.get(fact["subject"], fact["since"]))
        elif kind == identity.UNSHARED:
            self.since.pop(fact["subject"], None)
        elif kind == identity.GIVEN:
            self.given[fact["event"]] = (fact["subject"], fact["to"])

    def holds(self, profile):
        """Whether something that was sent was a person's."""

        def asked(told):
            if told.event in self.given:
                return self.owners.get(self.given[told.event][1]) == profile
            since = self.since.get(told.subject)
            return self.owners.get(told.subject) == profile and (since is None or told.body["time"] < since)

        return asked

    def who(self, profile, todays, linked):
        """(the person that a profile was, who else had some of today's identifiers), of those that were ever one."""
        whose = [self.owners[each] for each in todays if self.owners.get(each) in linked]
        was = self.names.get(profile)
        was = was if was in self.owners.values() else None
        chosen = was or max(sorted(set(whose)), key=whose.count, default=None)
        return chosen, sorted(({*whose} | ({was} if was else set())) - {chosen})


def links(world):
    """Profile -> all that it was ever one with: by merges, and by what was decided again."""
    sets = {}
    for each in world.facts():
        facts = Then.within(each)
        named = {fact[name] for fact in facts for name in ("profile", "into") if name in fact}
        named |= set(each.data.get("dissolved", ()))
        whole = named.union(*(sets.get(name, set()) for name in named))
        sets |= dict.fromkeys(whole, whole)
    return sets


def shown(view):
    """The parts, as the plain re-computation has them."""
    whole = {part: view[part] for part in ("identity", "quantitative", "descriptive", "qualitative")}
    return {**whole, "computed": {key: each["value"] for key, each in view["computed"].items()}}


@pytest.fixture
def world(mongodb_url, prefix):
    made = World(mongodb_url, prefix)
    yield made
    made.client.close()


def played(world, seed, steps=40):
    """A history, which everybody has followed to its end."""
    history = History(world, random.Random(seed))
    for _ in range(steps):
        history.goes_on()
    world.settle()
    world.follow()
    assert not world.checkpoints.parked() and not world.marks.parked()
    return history


@pytest.mark.parametrize("seed", range(12))
def test_a_profile_at_any_instant_is_what_the_whole_log_gives(world, seed):
    """Late, early and repeated events, corrections, merges, splits, shared devices and erasures: every part, every
    computed trait and window, by event time, by what was known then, and by both, of every profile that there is or
    ever was, by its id and by each identifier; and now."""
    history = played(world, seed)
    groups = world.store.groups()
    for profile in groups:
        owners, holds = history.of_today(profile)
        instants = [At(), *(At(as_of=history.instant()) for _ in range(6))]
        for at in instants:
            expected = history.expected(owners, holds, profile, at)
            assert shown(world.reading.show(profile, at)) == expected, (profile, at)
    ever = {fact["profile"] for each in world.facts() for fact in Then.within(each) if "profile" in fact}
    linked = links(world)
    gone = world.keyring.fenced(ever)
    parts_of = world.states.merged_into(ever)
    several = [*sorted(ever)[:99], None]
    each_alone = [each and world.reading.show(parts_of.get(each, each)) for each in several]
    assert world.reading.batch(several) == each_alone
    for at in [
        At(instant if chance else None, history.instant()) for instant in instants_of(history) for chance in (0, 1)
    ]:
        then = Then(world, at.known_at)
        for profile in sorted(ever):
            today = parts_of.get(profile, profile)
            chosen, others = then.who(profile, groups.get(today, ()), linked[profile] | linked[today])
            view = world.reading.show(profile, at)
            if {profile, today} & gone or chosen is None:
                assert view is None, (profile, at)
                continue
            assert (view["profile"], view["people_then"]) == (chosen, others), (profile, at)
            assert shown(view) == history.expected(then.owners, then.holds(chosen), chosen, at), (profile, at)
        for pair in KINDS:
            subject, profile = world.subject(pair), world.profile(pair)
            if profile is None:
                continue
            chosen = None if subject in then.since else then.owners.get(subject)
            chosen = chosen if chosen in linked[profile] else None
            view = world.reading.show(profile, at, subject=subject)
            assert (view and view["profile"]) == chosen, (pair, at)


def instants_of(history):
    return [history.instant() for _ in range(4)]


@pytest.mark.parametrize("seed", range(3))
def test_pages_of_a_timeline_are_all_of_it_in_order_and_nothing_twice(world, seed, monkeypatch):
    """Also of small pages, read in small steps, and of some events alone."""
    monkeypatch.setattr("services.profile.timeline.PAGE", 3)
    monkeypatch.setattr("services.profile.timeline.MARGIN_MS", 3_000)
    history = played(world, seed)
    for profile in world.store.groups():
        _, holds = history.of_today(profile)
        known = [each for each in history.standing(FOREVER).values() if holds(each)]
        known.sort(key=lambda each: (-each.body["time"], each.event))
        for wanted in (None, [ORDER, "identify"]):
            expected = [e.event for e in known if not wanted or (e.body["event"] or "identify") in wanted]
            for size in (1, 2, 5, 1_000):
                assert [line["event"] for line in pages(world, profile, size, wanted)] == expected


def pages(world, profile, size, events=None, between=lambda: None):
    """All lines of a timeline, page by page."""
    lines, before, more = [], None, True
    while more:
        page = world.reading.timeline(profile, size, before, events)
        assert len(page["lines"]) == size or page["next"] is None
        lines += page["lines"]
        before, more = page["next"], page["next"] is not None
        between()
    return lines


def test_a_timeline_that_goes_on_while_it_is_read_shows_what_there_was_once(world):
    """Events that come meanwhile, early and late, neither push a line onto the next page nor off it."""
    history = History(world, random.Random(1))
    for _ in range(60):
        world.time += 1_000
        history._sends()
    world.settle()
    world.follow()
    profile = max(world.store.groups(), key=lambda each: len(world.reading.timeline(each, 1_000)["lines"]))
    before = [line["event"] for line in world.reading.timeline(profile, 1_000)["lines"]]

    def goes_on():
        for _ in range(3):
            world.time += 1_000
            history._sends()
        world.settle()
        world.follow()

    lines = pages(world, profile, 4, between=goes_on) if len(before) > 8 else []
    read = [line["event"] for line in lines]
    assert len(set(read)) == len(read) and all(_key(one) < _key(two) for one, two in pairwise(lines))
    still = {line["event"] for line in world.reading.timeline(profile, 10_000)["lines"]}
    assert [each for each in read if each in set(before)] == [each for each in before if each in still]


def _key(line):
    return -line["time"], line["event"]


def test_what_is_read_of_a_long_history_for_its_first_page_is_a_page(world, monkeypatch):
    """The rest of the log is left alone; an event that came late is found, as far as it came."""
    monkeypatch.setattr("services.profile.timeline.PAGE", 10)
    history = History(world, random.Random(1))
    subject = world.subject(("user", "ann"), create=True)
    for number in range(300):
        world.time += 600_000
        told = Told(derive_id("long", number), subject, world.time, history._body([("user", "ann")]))
        told.body["time"] = world.time if number != 298 else world.time - 6_000_000
        history.told.append(told)
        history._appends(told.event, told, "tracking.track.v1", {})
    world.settle()
    world.follow()
    reads = []
    read = world.log.read_subject_back
    monkeypatch.setattr(world.log, "read_subject_back", lambda *given: reads.append(given) or read(*given))
    page = world.reading.timeline(world.profile(("user", "ann")), 12)
    expected = sorted(history.told, key=lambda each: -each.body["time"])
    assert [line["event"] for line in page["lines"]] == [each.event for each in expected[:12]]
    assert len(reads) <= 4


def test_states_are_what_a_rebuild_gives_with_computed_traits(world):
    """The histories above are followed as they are rebuilt."""
    played(world, 99)
    tools = Tools("profile", world.client, world.profiles, world.log, world.keyring, world.transactor, world.marks)
    assert verify(ProfileProjection(), tools)["equal"]
