"""Identity's pure core, played by hand: events as lists of (kind, value), in the order in which they come."""

from services.identity.domain.decide import Claim, Found, decide
from services.identity.domain.graph import Graph
from services.identity.domain.regrouping import Heard, cut_of_identifier, cut_of_merge, decided_again
from services.identity.domain.rules import SHIPPED
from services.identity.domain.uniting import Alike, known_by, unite

ALIASES = {"anon": "anonymous"}


def subject_of(kind, value):
    """What stands for an identifier, in the rules' form."""
    kind = ALIASES.get(kind, kind)
    return f"{kind}:{SHIPPED.of(kind).value(value)}"


class Play:
    """A graph and all that happens to it."""

    def __init__(self, rules=SHIPPED):
        self.rules = rules
        self.graph = Graph()
        self.facts = []
        """[(fact, time)], in order."""
        self.heard = []
        self.count = 0
        """Of events, and of look-alikes that were accepted."""
        self.passed = 0
        """Milliseconds that have passed between events, beside the one from each to the next."""
        self.valid = []
        """Facts that hold: those that nothing stands in place of."""

    def happens(self, event, time=None, party="first", merges=False):
        """An event; what follows from it."""
        pairs = event.items() if isinstance(event, dict) else event
        named = [(ALIASES.get(kind, kind), value) for kind, value in pairs]
        found = [Found(kind, f"{kind}:{self.rules.of(kind).value(value)}") for kind, value in named
                 if self.rules.of(kind).value(value) is not None]  # fmt: skip
        if not found:
            return []
        number, now = self._next()
        claim = Claim(f"event-{number:04}", now, found[0].subject, found, time or now, party, merges)
        facts = decide(self.graph, claim, self.rules)
        self.heard.append(Heard(claim, self.rules, number, (0, number)))
        return self._happened(facts, now)

    def unites(self, one, other):
        """Two ("kind:value" of each) who look alike are accepted; what follows from it."""
        number, now = self._next()
        people = [self.graph.person_of(subject_of(*each.split(":", 1))) for each in (one, other)]
        if None in people:
            return []
        subjects = tuple(known_by(each, self.rules) for each in people)
        alike = Alike(f"candidate-{number:04}", now, subjects, 0.99)
        facts = unite(self.graph, alike, self.rules)
        if facts:
            self.heard.append(Heard(alike, self.rules, number))
        return self._happened(facts, now)

    def _next(self):
        self.count += 1
        return self.count, self.count + self.passed

    def _happened(self, facts, now):
        self.facts += [(fact.type, fact.data, now) for fact in facts]
        self.valid += [{"type": fact.type, "time": now, **fact.data} for fact in facts]
        return facts

    def take(self, *events):
        """Several; the play itself."""
        for event in events:
            self.happens(event)
        return self

    # Taking back

    def split_identifier(self, subject):
        return self._split(cut_of_identifier(self.graph.person_of(subject), subject))

    def split_merge(self, number):
        """The nth merge of those that hold."""
        merges = [each for each in self.valid if each["type"] == "identity.merged.v1"]
        merge = merges[number % len(merges)]
        return self._split(cut_of_merge(self.valid[: self.valid.index(merge)], merge))

    def _split(self, cut):
        decision = f"split-{len(self.facts):04}"
        data = {"decision": decision, **cut._asdict()}
        tried = Graph(self.graph.people.values(), self.graph.links, self.graph.apart)
        for side, name in enumerate(("left", "right")):
            for subject in data[name]:
                tried.apart.setdefault(subject, {})[decision] = side
        again = decided_again(tried, [each.id for each in tried.people.values() if each.into is None], self.heard)
        self._regroup("identity.split.v1", {**data, "dissolved": again.dissolved, "facts": again.facts})
        return again

    def _regroup(self, kind, data):
        gone = {part for each in data["dissolved"] for part in (each, *self.graph.people[each].merged)}
        self.graph.evolve(kind, data, len(self.heard))
        self.facts.append((kind, data, len(self.heard)))
        self.valid = [each for each in self.valid if each["profile"] not in gone] + data["facts"]

    # Looking

    def together(self, one, other):
        """Whether two identifiers ("kind:value") are one person's."""
        whose = [self.graph.links.get(subject_of(*each.split(":", 1))) for each in (one, other)]
        return whose[0] is not None and whose[0] == whose[1]

    def groups(self):
        """Which identifiers are together."""
        people = {}
        for subject, profile in self.graph.links.items():
            people.setdefault(profile, set()).add(subject)
        return {frozenset(each) for each in people.values()}

    def person(self, subject):
        return self.graph.people[self.graph.links[subject]]
