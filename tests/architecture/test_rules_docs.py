"""The page about a source's rules shows rules that are rules, and all the steps that there are."""

import json
import re
from pathlib import Path

from services.collector.domain.cleaning import cleaned, cleaning_of
from services.collector.domain.plan import plan_of
from shared import values

PAGE = (Path(__file__).resolve().parents[2] / "docs/sources.md").read_text()
CLEANING, PLAN = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def test_the_rules_that_it_shows_are_rules_and_do_what_it_says():
    message = {
        "traits": {"E-post": " ADA@Example.org", "phone": "070-123 45 67", "country": "Tyskland",
                   "birthday": "3 maj 1990", "level": "guld"},
        "properties": {"summa": "1 200,50 kr", "products": [{"weight": 10}], "debug": 1},
    }  # fmt: skip
    assert cleaned(message, cleaning_of(1, CLEANING)).message == {
        "traits": {"email": "ada@example.org", "phone": "+46701234567", "country": "DE", "birthday": "1990-05-03",
                   "level": "gold"},
        "properties": {"revenue": 1200.5, "products": [{"weight": 4.5359237}], "currency": "SEK"},
    }  # fmt: skip
    assert plan_of(1, PLAN).events["Order Completed"].mode == "quarantine"


def test_every_step_stands_in_its_table_and_can_be_used():
    table = PAGE[PAGE.index("| step |") : PAGE.index("A value that cannot be read")]
    named = set()
    for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[2:]:
        for written in re.findall(r"`(.*?)`", cell):
            step = json.loads(written) if written.startswith("{") else written
            values.compiled(step)
            named.add(next(iter(step)) if isinstance(step, dict) else step)
    assert named == set(values._MAKERS)
