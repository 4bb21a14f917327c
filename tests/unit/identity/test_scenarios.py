"""Published hard cases of identity resolution, by the rules that are shipped."""

import json
from pathlib import Path

import pytest

from tests.unit.identity.playing import Play

SCENARIOS = json.loads((Path(__file__).parent / "scenarios.json").read_text())["scenarios"]
NOT_IDENTIFIERS = {"event", "source", "modify"}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each["name"])
def test_a_published_hard_case_comes_out_as_it_should(scenario):
    """Those who must be together are, those who must not are not; by the same rules for all of them."""
    play = Play()
    for event in scenario["events"]:
        play.happens({kind: value for kind, value in event.items() if kind not in NOT_IDENTIFIERS})
    assert [pair for pair in scenario["must"] if not play.together(*pair)] == []
    assert [pair for pair in scenario["mustnot"] if play.together(*pair)] == []
