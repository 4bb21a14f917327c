"""Opinions: each is of something, and of a question; none hides another."""

from services.profile.domain.state import merged, state_of


def opinions(*properties):
    """What the events say together: key -> what was said."""
    states = [
        state_of(
            {
                "type": "track", "time": 1, "party": "first", "source_name": "s", "identifiers": [],
                "event": "Survey Answered", "properties": each, "traits": {},
            },
            f"e{number}",
        )
        for number, each in enumerate(properties)
    ]  # fmt: skip
    return {key: next(iter(said.values()))[2] for key, said in merged(states)["opinions"].items()}


def test_the_same_question_about_two_products_is_two_opinions():
    """The scale and the question are kept with each."""
    asked = {"question": "How good?", "scale": "1-5"}
    found = opinions({**asked, "product_id": "a", "rating": 5}, {**asked, "product_id": "b", "rating": 1})
    assert found == {
        "a: How good?": {**asked, "product_id": "a", "rating": 5},
        "b: How good?": {**asked, "product_id": "b", "rating": 1},
    }


def test_of_several_answers_each_is_kept():
    """By its question, or by its place where it has none."""
    answers = [{"question": "Q", "answer": 1}, {"value": 2}, {"answer": 3}]
    found = opinions({"survey": "S", "answers": answers})
    assert {key: said.get("answer", said.get("value")) for key, said in found.items()} == {
        "S: Q": 1, "S 2": 2, "S 3": 3,
    }  # fmt: skip
