"""Whatever happens to people, and whatever the segments: who is in is who a plain look at their whole log says.

Histories with late events, merges, splits, erasures, and months that pass; definitions with windows, sequences,
nesting, relative dates and consents. See tests/properties/segments.py for what is generated, and for the plain look.
"""

from collections import Counter
from itertools import count

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.segmentation import ENTERED
from tests.integration.segments_world import DAY, START, Segments
from tests.properties.segments import dates, events, kinds, nested, plainly

USERS = [("user", each) for each in ("ann", "bo", "cia")]
DEVICES = [("anonymous", each) for each in ("phone", "tablet", "laptop")]
numbers = count()
who = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("happens"), st.booleans(), who, events),
    st.tuples(st.just("happens"), st.booleans(), who, events),
    st.tuples(st.just("logs in"), who),
    st.tuples(st.just("splits"), who),
    st.tuples(st.just("says"), who, st.fixed_dictionaries({}, optional={"plan": kinds, "due": dates})),
    st.tuples(st.just("consents"), who, st.booleans()),
    st.tuples(st.just("erases"), who),
    st.tuples(st.just("passes"), st.sampled_from([1, 60, 3_600, 86_400, 7 * 86_400, 80 * 86_400])),
)


@st.composite
def segments(draw):
    return {"one": draw(nested()), "two": draw(nested(["one"])), "three": draw(nested(["one", "two"]))}


class Story:
    """What has happened, told to the world and remembered."""

    def __init__(self, world):
        self.world = world
        self.said = []

    def tell(self, identifiers, what, content, /, **how):
        identity = self.world.does(*identifiers, **how)
        time = how.get("at") or self.world.clock.now_ms()
        self.said.append((identifiers, (time, identity), what, content))

    def happens(self, by_user, number, event):
        late = event["after"] % (20 * DAY)
        at = self.world.clock.now_ms() - late
        properties = {"v": event["v"], "value": event["v"], "kind": event["kind"], "currency": event["currency"]}
        identifiers = [(USERS if by_user else DEVICES)[number]]
        self.tell(identifiers, "event", {**event, "after": at - START}, event=event["name"], at=at, **properties)

    def logs_in(self, number):
        self.tell([USERS[number], DEVICES[number]], "login", {}, event="L")

    def says(self, number, traits):
        if traits := {name: value for name, value in traits.items() if value is not None}:
            self.tell([USERS[number]], "traits", traits, traits=traits)

    def consents(self, number, agreed):
        self.tell([USERS[number]], "consent", agreed, event="Asked", consent={"ads": agreed})

    def splits(self, number):
        self.world.before()
        if self.world.profile(USERS[number]) and (merges := self.world.merges(USERS[number])):
            self.world.regrouping.split_merge(merges[-1]["id"])

    def erases(self, number):
        self.world.evaluates()
        if (gone := self.world.profile(USERS[number])) is not None:
            self.said = [each for each in self.said if self.world.profile(each[0][0]) != gone]
            self.world.forgets(USERS[number])

    def people(self):
        """Profile -> what a plain look is taken at."""
        found = {}
        for identifiers, _, what, content in sorted(self.said, key=lambda each: each[1]):
            profile = self.world.profile(identifiers[0])
            person = found.setdefault(profile, {"events": [], "plan": None, "due": None, "email": False, "ads": False})
            if what == "event":
                person["events"].append(content)
            elif what == "traits":
                person |= content
            elif what == "consent":
                person["ads"] = content
        return found


def agrees(world, story, made):
    """Memberships with the plain look, and entered and left with memberships."""
    people, now = story.people(), world.clock.now_ms()
    for key, definition in made.items():
        wanted = {profile for profile, person in people.items() if plainly(definition, person, now, made)}
        assert world.inside(key) == wanted, key
    told = Counter()
    for each in world.told_of():
        place = each.subject, each.data["segment"]
        told[place] += 1 if each.type == ENTERED else -1
        assert told[place] in (0, 1), "told twice"
    keys = {each.id: each.key for each in world.kept.all()}
    holding = {(profile, keys[segment]) for (profile, segment), each in told.items() if each and profile in people}
    assert holding == {(profile, key) for key in made for profile in world.inside(key)}


@settings(
    max_examples=14, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(segments(), st.lists(steps, min_size=6, max_size=18), st.integers(0, 6))
def test_who_is_in_is_who_a_plain_look_at_the_whole_log_says(mongodb_url, prefix, made, told, later):
    """Live, by time, and filled from history, at random instants; what time brings at just its instant."""
    world = Segments(mongodb_url, f"{prefix}_{next(numbers)}")
    story = Story(world)
    try:
        for number, (what, *how) in enumerate(told):
            if number == later:
                for key, definition in made.items():
                    world.makes(key, definition)
            if what == "passes":
                world.evaluates()
                before = {each.id for each in world.told_of()}
                world.moves(seconds=how[0])
                people = story.people()
                for each in world.told_of():
                    if each.id not in before and each.data["reason"] == "time":
                        definition = made[world.kept.find(each.data["segment"]).key]
                        for at, inside in ((each.data["at"], True), (each.data["at"] - 1, False)):
                            assert plainly(definition, people[each.subject], at, made) == (
                                inside == (each.type == ENTERED)
                            )
            else:
                getattr(story, what.replace(" ", "_"))(*how)
            if number >= later and number % 3 == 0:
                world.evaluates()
                agrees(world, story, made)
        for key in made.keys() - {each.key for each in world.kept.all()}:
            world.makes(key, made[key])
        world.evaluates()
        agrees(world, story, made)
        world.verify_segments()
    finally:
        world.client.close()
