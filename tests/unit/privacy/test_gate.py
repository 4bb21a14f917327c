"""The gate: closed when in doubt, and able to say why."""

import pytest

from services.privacy.domain.consents import changes, history, merged, state_of
from services.privacy.domain.gate import decide


def said(*statements):
    """Consents after statements (time, {"purpose": agreed} or None, gpc)."""
    bodies = [{"time": time, "source_name": "web", "consent": consent, "gpc": gpc} for time, consent, gpc in statements]
    return merged(state for n, body in enumerate(bodies) if (state := state_of(body, f"e{n}")))


@pytest.mark.parametrize(
    ("statements", "purpose", "sensitive", "verdict"),
    [
        ([], "marketing", False, (False, "no_consent")),
        ([(1, {"ads": True}, False)], "marketing", False, (False, "no_consent")),
        ([(1, {"marketing": True}, False)], "marketing", False, (True, "consent")),
        ([(1, {"marketing": False}, False)], "marketing", False, (False, "consent_refused")),
        (
            [(1, {"marketing": True}, False), (2, {"marketing": False}, False)],
            "marketing",
            False,
            (False, "consent_withdrawn"),
        ),
        ([(2, {"marketing": True}, False), (1, {"marketing": False}, False)], "marketing", False, (True, "consent")),
        ([(1, {"marketing": True}, False), (2, {}, False)], "marketing", False, (False, "consent_withdrawn")),
        ([(1, {}, False)], "anything", False, (False, "consent_refused")),
        ([(1, {"ads": True}, False), (2, None, True)], "ads", False, (False, "objected_by_gpc")),
        ([(1, None, True), (2, {"ads": True}, False)], "ads", False, (True, "consent")),
        ([(1, {"marketing": True}, True)], "marketing", False, (True, "consent")),
        ([(1, {"marketing": True}, False)], "marketing", True, (False, "no_explicit_consent_to_special_categories")),
        ([(1, {"marketing": True, "special_categories": True}, False)], "marketing", True, (True, "consent")),
        ([(1, {"": True}, False)], "", False, (False, "no_purpose")),
    ],
)
def test_the_last_word_counts_and_silence_is_no(statements, purpose, sensitive, verdict):
    assert decide(said(*statements), purpose, sensitive) == verdict


def test_history_shows_what_changed():
    state = said((1, {"m": True}, False), (2, {"m": True}, False), (3, {}, False), (4, {"m": True}, False))
    assert [(each.time, each.agreed) for each in changes(history(state, "m"))] == [(1, True), (3, False), (4, True)]
