"""Segments' definitions, histories, and a plain, slow evaluation over lists of events: nothing of the code's own."""

import fnmatch
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st

from services.profile.domain.believing import Believing
from services.profile.domain.computed import signal_of
from services.profile.domain.state import empty, merge, state_of
from services.profile.domain.view import facts_of
from services.segmentation.domain.definition import signals

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
START = 1_700_000_000_000
UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Generating

names = st.sampled_from("ABC")
spans = st.sampled_from(["1s", "90s", "2m", "1h", "5h", "1d", "2d", "7d", "70d"])
offsets = st.one_of(
    st.integers(0, 3 * MINUTE),
    st.integers(0, 3 * DAY),
    st.integers(0, 90 * DAY),
    st.sampled_from([0, SECOND, 2 * MINUTE, HOUR, DAY, 2 * DAY, 7 * DAY]),
)
values = st.sampled_from([0, 1, 2, 0.1, 0.2, -1, 12.34, "7", "x", None, True])
kinds = st.sampled_from(["x", "xy", "y", None, 1, True, ["x", "y"]])
events = st.fixed_dictionaries(
    {"name": names, "after": offsets, "v": values, "kind": kinds, "currency": st.sampled_from(["EUR", "SEK", "eur"])}
)
bounds = st.dictionaries(
    st.sampled_from(["gte", "gt", "lte", "lt", "eq"]), st.sampled_from([0, 1, 2, 3, 0.3, 12.34, -1]),
    min_size=1, max_size=2,
)  # fmt: skip
conditions = st.one_of(
    st.fixed_dictionaries({"property": st.just("kind"), "is": st.sampled_from(["x", 1, True])}),
    st.fixed_dictionaries({"property": st.just("kind"), "is_not": st.sampled_from(["x", 1])}),
    st.fixed_dictionaries({"property": st.just("kind"), "in": st.just(["y", 1])}),
    st.fixed_dictionaries({"property": st.just("kind"), "starts_with": st.just("x")}),
    st.fixed_dictionaries({"property": st.just("kind"), "matches": st.just("*y")}),
    st.fixed_dictionaries({"property": st.just("v"), "gte": st.sampled_from([0, 1])}),
    st.fixed_dictionaries({"property": st.just("v"), "exists": st.booleans()}),
)
where = st.lists(conditions, max_size=2)


def maybe(strategy, **optional):
    return st.fixed_dictionaries({}, optional=optional).flatmap(
        lambda more: strategy.map(lambda made: {**made, **more})
    )


event = maybe(st.fixed_dictionaries({"event": names}), where=where)
counts = maybe(st.tuples(event, bounds).map(lambda each: {**each[0], "count": each[1]}), within=spans)
worths = maybe(
    st.builds(lambda name, bound: {"event": name, "sum": bound, "currency": "EUR"}, names, bounds), within=spans
)
sums = maybe(
    st.tuples(event, bounds).map(lambda each: {**each[0], "sum": each[1], "of": "v"}),
    within=spans,
    currency=st.sampled_from(["EUR", "sek"]),
)
moments = st.builds(
    lambda made, what, word, span: {**made, what: {word: span}},
    event, st.sampled_from(["last", "first"]), st.sampled_from(["within", "not_within"]), spans,
)  # fmt: skip
steps = st.one_of(maybe(event, within=spans), maybe(event.map(lambda each: {"not": each}), within=spans))
sequences = maybe(
    st.builds(lambda first, rest: {"sequence": [first, *rest]}, event, st.lists(steps, max_size=3)),
    within=spans,
    span=spans,
)
dates = st.one_of(
    st.integers(-10, 100).map(lambda days: (EPOCH + timedelta(milliseconds=START, days=days)).strftime("%Y-%m-%d")),
    offsets.map(lambda ms: (EPOCH + timedelta(milliseconds=START + ms)).isoformat(timespec="milliseconds")),
)
points = st.one_of(
    dates, st.just("now"), st.builds(lambda sign, span: sign + span, st.sampled_from(["", "-", "+"]), spans)
)
traits = st.one_of(
    st.builds(lambda op, point: {"trait": "due", op: point}, st.sampled_from(["before", "after"]), points),
    st.builds(lambda op, span: {"trait": "due", op: span}, st.sampled_from(["within_last", "within_next"]), spans),
    st.builds(lambda op, value: {"trait": "plan", op: value}, st.sampled_from(["is", "is_not"]), kinds),
    st.sampled_from(
        [
            {"trait": "plan", "exists": True}, {"trait": "plan", "exists": False}, {"trait": "plan", "contains": "x"},
            {"trait": "plan", "gte": 1}, {"trait": "plan", "matches": "?y"}, {"trait": "plan", "ends_with": "y"},
        ]
    ),
)  # fmt: skip
others = st.sampled_from(
    [
        {"identifier": "email", "exists": True}, {"identifier": "email", "exists": False},
        {"consent": "ads", "is": True}, {"consent": "ads", "is": False},
    ]
)  # fmt: skip
leaves = st.one_of(counts, sums, worths, moments, sequences, sequences, traits, others)


def nested(keys=()):
    """Definitions, which may hold these segments."""
    base = st.one_of(leaves, st.sampled_from(list(keys)).map(lambda key: {"segment": key})) if keys else leaves
    return st.recursive(
        base,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda each: {"all": each}),
            st.lists(inner, min_size=1, max_size=3).map(lambda each: {"any": each}),
            inner.map(lambda each: {"not": each}),
        ),
        max_leaves=4,
    )


people = st.fixed_dictionaries(
    {
        "events": st.lists(events, max_size=12),
        "plan": kinds,
        "due": st.one_of(dates, st.sampled_from([None, "soon", 7])),
        "email": st.booleans(),
        "ads": st.booleans(),
    }
)


# Just a span apart, or a millisecond more or less: where it matters whether a bound counts.
gaps = st.tuples(st.sampled_from([0, SECOND, 2 * MINUTE, HOUR, DAY]), st.sampled_from([-1, 0, 0, 0, 1]))


@st.composite
def close_people(draw):
    """Whose events are as far apart as spans are long."""
    person = draw(people)
    after = 2 * MINUTE
    for each in person["events"]:
        after += max(0, sum(draw(gaps)))
        each["after"] = after
    return person


short = st.sampled_from(["1s", "2m", "1h"])
steps_close = st.one_of(
    maybe(st.sampled_from([{"event": "A"}, {"event": "B"}]), within=short),
    maybe(st.sampled_from([{"not": {"event": "A"}}, {"not": {"event": "B"}}]), within=short),
)
close_sequences = maybe(
    st.builds(lambda rest: {"sequence": [{"event": "A"}, *rest]}, st.lists(steps_close, min_size=1, max_size=3)),
    within=short,
    span=short,
)
close_dates = st.builds(lambda op, point: {"trait": "due", op: point}, st.sampled_from(["before", "after"]), points)


@st.composite
def very_close_people(draw):
    """Who does little else than a few of the same things, spans apart."""
    made = draw(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([SECOND, 2 * MINUTE, HOUR])), max_size=5))
    person, after = {**draw(people), "events": []}, 0
    for name, gap in made:
        after += gap + draw(st.sampled_from([-1, 0, 0, 0, 1]))
        person["events"].append({"name": name, "after": after, "v": 1, "kind": "x", "currency": "EUR"})
    return person


def bounds_of(definition, person):
    """Instants (from the last event on) at which a span of the definition ends, or just before or after."""
    last = START + max((each["after"] for each in person["events"]), default=0)
    spans_in = {ms(each) for each in _texts(definition) if each[-1] in UNITS and each[:-1].isdigit()}
    starts = {START + each["after"] for each in person["events"]}
    starts |= {each // width * width for each in starts for width in (SECOND, MINUTE, HOUR)}
    ends = {start + span + near for start in starts for span in spans_in for near in (-1, 0, 1)}
    if (due := _date(person["due"])) is not None:
        ends |= {due + sign * span + near for span in (0, *spans_in) for sign in (-1, 1) for near in (-1, 0, 1)}
    return sorted({last, *(each for each in ends if each >= last)})


def _texts(value):
    if isinstance(value, str) and value:
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(each)


# Their facts, as the profile service has them


def body(each):
    return {
        "type": "track", "time": START + each["after"], "party": "first", "source_name": "s", "identifiers": [],
        "event": each["name"], "traits": {},
        "properties": {"v": each["v"], "value": each["v"], "kind": each["kind"], "currency": each["currency"]},
    }  # fmt: skip


def facts_about(person, definitions, now):
    """By profile's own fold."""
    wanted = {key: each for definition in definitions for key, each in signals(definition).items()}
    watched = [signal_of(key, 1, each) for key, each in wanted.items()]
    state = empty()
    for number, each in enumerate(person["events"]):
        merge(state, state_of(body(each), f"e{number:03}", watched))
    about = {"type": "identify", "time": START, "party": "first", "source_name": "s", "identifiers": []}
    said = {name: person[name] for name in ("plan", "due")}
    merge(state, state_of({**about, "traits": said}, "t"))
    facts = facts_of(state, Believing(), [], now, watched)
    return {**facts, "ids": {"email": {"a@b.se": []}} if person["email"] else {}, "consents": {"ads": person["ads"]}}


# Evaluating, plainly


def plainly(definition, person, now, segments):
    """Whether the person is in at `now`, by looking at every event."""
    if "all" in definition:
        return all(plainly(each, person, now, segments) for each in definition["all"])
    if "any" in definition:
        return any(plainly(each, person, now, segments) for each in definition["any"])
    if "not" in definition:
        return not plainly(definition["not"], person, now, segments)
    if "segment" in definition:
        return plainly(segments[definition["segment"]], person, now, segments)
    if "trait" in definition:
        return _trait(definition, person[definition["trait"]], now)
    if "identifier" in definition:
        return person["email"] == definition["exists"]
    if "consent" in definition:
        return person["ads"] == definition["is"]
    if "sequence" in definition:
        return _sequence(definition, person, now)
    return _event(definition, person, now)


def ms(span):
    return int(span[:-1]) * UNITS[span[-1]]


def _happened(person, wanted, now):
    return [
        each
        for each in person["events"]
        if each["name"] == wanted["event"]
        and START + each["after"] <= now
        and all(_holds(condition, each) for condition in wanted.get("where", []))
    ]


def _same(value, wanted):
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _holds(condition, happened):
    [op] = set(condition) - {"property"}
    value, wanted = happened[condition["property"]], condition[op]
    many = value if isinstance(value, list) else [] if value is None else [value]
    texts = [each for each in many if isinstance(each, str)]
    return {
        "is": lambda: any(_same(each, wanted) for each in many),
        "is_not": lambda: not any(_same(each, wanted) for each in many),
        "in": lambda: any(_same(each, one) for each in many for one in wanted),
        "starts_with": lambda: any(each[: len(wanted)] == wanted for each in texts),
        "matches": lambda: any(fnmatch.fnmatchcase(each, wanted) for each in texts),
        "gte": lambda: any(isinstance(v, (int, float)) and not isinstance(v, bool) and v >= wanted for v in many),
        "exists": lambda: bool(many) == wanted,
    }[op]()


def _width(definition):
    """Unfiltered events are kept by the minute, watched ones as finely as their window asks for."""
    window = ms(definition["within"])
    watched = "of" in definition or ("count" in definition and (definition.get("where") or window <= DAY))
    return (SECOND if window <= DAY else MINUTE if window <= 60 * DAY else HOUR) if watched else MINUTE


def _event(definition, person, now):
    chosen = _happened(person, definition, now)
    for what in ("last", "first"):
        if what in definition:
            [(word, span)] = definition[what].items()
            times = sorted(START + each["after"] for each in chosen)
            if not times:
                return False
            lies = now - (times[-1] if what == "last" else times[0]) < ms(span)
            return lies if word == "within" else not lies
    if "within" in definition:
        width, window = _width(definition), ms(definition["within"])
        chosen = [each for each in chosen if (START + each["after"]) // width * width + window > now]
    if "count" in definition:
        return _compare(definition["count"], Fraction(len(chosen)))
    if "currency" in definition:
        chosen = [each for each in chosen if each["currency"].upper() == definition["currency"].upper()]
    worth = [each["v"] for each in chosen if each["v"] not in (None, "x") and each["v"] is not True]
    return _compare(definition["sum"], sum((Fraction(str(each)) for each in worth), Fraction(0)))


def _compare(bounds, number):
    compare = {
        "gte": lambda one, other: one >= other, "gt": lambda one, other: one > other,
        "lte": lambda one, other: one <= other, "lt": lambda one, other: one < other,
        "eq": lambda one, other: one == other,
    }  # fmt: skip
    return all(compare[name](number, Fraction(str(bound))) for name, bound in bounds.items())


def _sequence(definition, person, now):
    """Every choice of events is tried."""
    steps = definition["sequence"]

    def times(step):
        return sorted({START + each["after"] for each in _happened(person, step, now)})

    def absent(step, after, before):
        return not any(after < each < before for each in times(step["not"]))

    def goes_on(index, began, last, waiting):
        if index == len(steps):
            if "span" in definition and last - began >= ms(definition["span"]):
                return False
            return all(absent(each, last, now + 1) for each in waiting)
        step = steps[index]
        if "not" in step:
            if "within" not in step:
                return goes_on(index + 1, began, last, [*waiting, step])
            until = last + ms(step["within"])
            return until <= now and absent(step, last, until) and goes_on(index + 1, began, last, waiting)
        ends = last + ms(step["within"]) if "within" in step else now + 1
        return any(
            goes_on(index + 1, began, each, [])
            for each in times(step)
            if last < each < ends and all(absent(one, last, each) for one in waiting)
        )

    window = ms(definition["within"]) if "within" in definition else now + 1
    return any(goes_on(1, each, each, []) for each in times(steps[0]) if each + window > now)


def _date(value):
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _point(wanted, now):
    if wanted == "now":
        return now
    if wanted[-1] in UNITS:
        sign = -1 if wanted[0] == "-" else 1
        return now + sign * ms(wanted.lstrip("+-"))
    return _date(wanted)


def _trait(definition, value, now):
    [op] = set(definition) - {"trait"}
    wanted, date = definition[op], _date(value)
    if op in ("is", "is_not"):
        return (value is not None and _same(value, wanted)) == (op == "is")
    if op == "exists":
        return (value is not None) == wanted
    if op == "contains":
        return isinstance(value, (str, list)) and wanted in value
    if op == "gte":
        return isinstance(value, int) and not isinstance(value, bool) and value >= wanted
    if op in ("matches", "ends_with"):
        many = value if isinstance(value, list) else [value]
        texts = [each for each in many if isinstance(each, str)]
        return any(fnmatch.fnmatchcase(each, wanted if op == "matches" else f"*{wanted}") for each in texts)
    if date is None:
        return False
    return {
        "before": lambda: date < _point(wanted, now),
        "after": lambda: date > _point(wanted, now),
        "within_last": lambda: now - ms(wanted) < date <= now,
        "within_next": lambda: now < date <= now + ms(wanted),
    }[op]()
