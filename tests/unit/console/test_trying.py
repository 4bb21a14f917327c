"""A dry run says what the door would say."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.collector.domain.normalize import Arrival, normalized
from services.collector.domain.rules import Rejected
from services.console.importing.mapping import mappings_of
from services.console.importing.trying import problem_of, trial

ARRIVAL = Arrival(1_780_000_000_000, "first", "s", gpc=False, sized=False, exact=False)
texts = st.one_of(st.text(max_size=5), st.sampled_from([" ", "2026-01-02", "1960-01-01", "0001-01-01", "x" * 300]))
values = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), texts)
consents = st.one_of(
    values,
    st.dictionaries(st.sampled_from(["categoryPreferences", "x"]), st.one_of(values, st.dictionaries(texts, values))),
)
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "identify", "page", "screen", "group", "alias"]), "messageId": st.just("m")},
    optional={
        **dict.fromkeys(("userId", "anonymousId", "event", "groupId", "previousId", "timestamp"), values),
        "properties": st.one_of(values, st.just({"x": "y" * 33_000}), st.just({})),
        "traits": st.one_of(values, st.just({"a": 1})),
        "context": st.one_of(values, st.fixed_dictionaries({}, optional={"consent": consents})),
    },
)


@given(messages)
@settings(max_examples=1_000, deadline=None)
def test_its_checks_are_the_doors(message):
    """The same code for any message, as far as both can tell."""
    found = normalized(orjson.loads(orjson.dumps(message)), {}, ARRIVAL, "fresh")
    assert problem_of(message) == (found.code if isinstance(found, Rejected) else None)


def test_a_trial_counts_what_would_come_of_it():
    mappings = mappings_of(
        [
            {"type": "identify", "columns": {"u": "userId", "p": {"to": "traits.phone", "clean": ["phone"]}}},
            {
                "type": "track",
                "event": "e",
                "columns": {"u": "userId"},
                "time": {"column": "t"},
                "needs": ["t", "gone"],
            },
        ]
    )
    rows = [{"u": "1", "p": "+46 70 174 06 05", "t": "x"}, {"u": "", "p": "no"}, {"u": "3", "t": "2026-01-02"}]
    found = trial(mappings, ((row, 0) for row in rows))
    assert (found.rows, found.messages, found.accepted, found.set_aside) == (3, 3, 2, 1)
    assert (found.reasons, found.unread, found.absent) == ({"no_identifier": 1}, {"p": 1}, ["gone"])
    assert found.repeated == 0
    assert [each["traits"] for each in found.sample[:2]] == [{"phone": "+46701740605"}, {"phone": "no"}]


def test_ids_that_do_not_tell_rows_apart_are_told():
    """An order of several rows, say: the door would take the first of them."""
    mappings = mappings_of({"type": "track", "event": "e", "columns": {"u": "userId"}, "id": ["order"]})
    rows = [{"u": "1", "order": order} for order in ("A", "A", "B", "A")]
    assert trial(mappings, ((row, 0) for row in rows)).repeated == 2
    others = [{"u": str(n), "order": "A"} for n in range(3)]
    assert trial(mappings, ((row, 0) for row in others)).repeated == 0
