"""What the contract's schemas take and what the validators made of them take is the same."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from marshmallow import Schema, fields, validate

from contracts.tracking import KINDS, LONGEST_MESSAGE_ID, LONGEST_NAME, MESSAGES
from shared.shape import shape_problem, validator_of

odd = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.sampled_from(["", " ", "\n", "\u00a0", "x", "x" * LONGEST_MESSAGE_ID, "x" * (LONGEST_MESSAGE_ID + 1),
                       "x" * LONGEST_NAME, " " * LONGEST_NAME + "x", "track", "2026-01-01"])
    | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=2)
)  # fmt: skip
names = sorted({name for schema in MESSAGES.values() for name in schema().fields} | {"channel"})
usual = {name: st.just(value) for name, value in {
    "userId": "u", "event": "E", "messageId": "m", "groupId": 7, "previousId": "p", "properties": {}, "traits": {},
    "timestamp": "2026-01-01T00:00:00Z", "anonymousId": "a",
}.items()}  # fmt: skip
messages = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=usual).flatmap(
    lambda good: st.dictionaries(st.sampled_from(names), odd, max_size=3).map(lambda bad: {**good, **bad})
)


def by_contract(message):
    """What the schema of its kind says: the fields that are wrong."""
    kind = message.get("type")
    return (MESSAGES.get(kind, MESSAGES["page"]) if isinstance(kind, str) else MESSAGES["page"])().validate(message)


@settings(max_examples=2_000, deadline=None)
@given(messages)
@example({})
@example({"type": "track", "event": "\x1c"})
def test_both_agree_on_every_message(message):
    """And the field that is named as wrong is wrong by the contract."""
    wrong, problem = by_contract(message), shape_problem(message)
    assert (problem is not None) == bool(wrong), (wrong, problem)
    if problem is not None:
        assert problem.place in wrong
        assert problem.why and "{" not in problem.why


def test_a_schema_of_which_no_validator_can_be_made_is_told_at_the_start():
    """Not with the first message."""

    class Odd(Schema):
        when = fields.DateTime()

    class Ranged(Schema):
        name = fields.String(validate=validate.ContainsOnly("ab"))

    for schema in (Odd, Ranged):
        with pytest.raises(TypeError):
            validator_of("odd", schema)
