"""The files that the demo imports: the same each time, and all of them can be taken in but what is meant not to."""

import random

from services.console.demo_data import DAY_MS, Year
from services.console.demo_files import files
from services.console.importing.files import dialect_of, rows_of
from services.console.importing.mapping import mappings_of
from services.console.importing.trying import trial

NAMES = ("age", "income", "home_ownership", "marital_status", "household_comp", "household_size", "kids_count")
START = 1_767_225_600_000


def a_year():
    times = {number: (START + number, START + number + 200 * DAY_MS) for number in range(1, 401)}
    demographics = {number: {**dict.fromkeys(NAMES, "x"), "kids_count": "2"} for number in range(1, 401, 3)}
    return Year([], times, demographics)


def test_their_messages_are_good_but_for_a_few_dates(tmp_path):
    tried = {
        each.path.name: trial(mappings_of(each.mapping), rows_of(each.path, dialect_of(each.path)))
        for each in files(a_year(), tmp_path)
    }
    crm, survey = tried["crm.txt"], tried["survey.csv"]
    assert (crm.rows, crm.accepted, crm.unread, crm.absent, crm.repeated) == (134, 134, {}, [], 0)
    assert crm.sample[0]["traits"]["kids_count"] == "2" and crm.sample[0]["timestamp"].startswith("2026-01-02")
    assert set(survey.reasons) == {"bad_time"} and set(survey.unread) == {"Answered"}
    assert survey.rows < survey.accepted and survey.set_aside < survey.accepted / 20 and survey.repeated == 0
    assert {"question", "answer", "scale"} == set(survey.sample[0]["properties"])


def test_they_are_the_same_each_time(tmp_path):
    random.seed()
    first, second = ([each.path.read_bytes() for each in files(a_year(), tmp_path / name)] for name in "ab")
    assert first == second
