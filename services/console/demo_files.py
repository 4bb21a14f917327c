"""What the demo brings in by files, through `samla import`'s own code: the CRM's export, and a survey's.

The CRM's demographics are the published ones; its contact ids are made up, and so are all of the survey's answers,
from the demo's fixed seed.
"""

import csv
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.console.demo_data import DAY_MS, SEED, Year

ASKED: Final = 0.3
"""Share of the households that answered."""
UNDATED_EVERY: Final = 40
"""One answer in so many came without a date that can be read."""
HOW: Final = "How do you like our shop? (1-5)"
RECOMMEND: Final = "How likely are you to recommend us? (0-10)"
WISH: Final = "What could we do better?"
WISHES: Final = (
    "The queues are too long on Saturdays", "Too often the milk is sold out",
    "More vegetables without plastic, please", "The coupons expire before I can use them",
    "Nothing, I am quite content", "Keep the bakery as it is, it is lovely",
)  # fmt: skip

CRM_MAPPING: Final[dict[str, Any]] = {
    "type": "identify",
    "time": {"column": "Updated", "format": "%m/%d/%Y"},
    "columns": {
        "Contact ID": {"to": "context.externalIds", "kind": "crm_id"},
        "Customer ID": "userId",
        "Age": "traits.age",
        "Income": "traits.income",
        "Home": "traits.home_ownership",
        "Marital status": "traits.marital_status",
        "Household": "traits.household_comp",
        "Household size": "traits.household_size",
        "Kids": "traits.kids_count",
    },
    "id": ["Contact ID", "Updated"],
}
SURVEY_MAPPING: Final[list[dict[str, Any]]] = [
    {
        "type": "track", "event": "Survey Answered",
        "set": {"properties.question": question, **scale},
        "needs": [column], "id": ["Customer ID"],
        "time": {"column": "Answered", "format": "%Y-%m-%d %H:%M"},
        "columns": {"Customer ID": "userId", column: {"to": "properties.answer", **read}},
    }
    for column, question, scale, read in (
        (HOW, "How do you like our shop?", {"properties.scale": "1-5"}, {"as": "number", "decimal": ","}),
        (RECOMMEND, "How likely are you to recommend us?", {"properties.scale": "0-10"}, {"as": "number"}),
        (WISH, WISH, {}, {"clean": ["trim"]}),
    )
]  # fmt: skip


class File(NamedTuple):
    """A file that is to be imported."""

    path: Path
    source: str
    written: str
    """How."""
    mapping: Any


def files(year: Year, folder: Path) -> list[File]:
    """Writes them, as other programs do."""
    folder.mkdir(parents=True, exist_ok=True)
    crm, survey = folder / "crm.txt", folder / "survey.csv"
    _write(crm, "utf-16", "\t", list(_contacts(year)))
    _write(survey, "cp1252", ";", list(_answers(year)))
    return [
        File(crm, "crm", "UTF-16, tabs, American dates", CRM_MAPPING),
        File(survey, "survey", "Windows-1252, semicolons, decimal commas; made up", SURVEY_MAPPING),
    ]


def _write(path: Path, encoding: str, separator: str, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def _contacts(year: Year) -> Iterator[dict[str, Any]]:
    """Of those that the shop knows more of, a day after they first bought something."""
    for number, known in sorted(year.demographics.items()):
        yield {
            "Contact ID": f"C-{number:05}",
            "Customer ID": f"household-{number}",
            "Updated": _moment(year.times[number][0] + DAY_MS).strftime("%m/%d/%Y"),
            "Age": known["age"],
            "Income": known["income"],
            "Home": known["home_ownership"],
            "Marital status": known["marital_status"],
            "Household": known["household_comp"],
            "Household size": known["household_size"],
            "Kids": known["kids_count"],
        }


def _answers(year: Year) -> Iterator[dict[str, Any]]:
    """An hour after they last bought something."""
    for count, (number, (_, last)) in enumerate(sorted(year.times.items()), 1):
        chance = random.Random(f"{SEED} survey {number}")
        if chance.random() >= ASKED:
            continue
        likes = chance.choice((1, 2, 2.5, 3, 3.5, 4, 4, 4.5, 5))
        wish = WISHES[min(len(WISHES) - 1, int(likes) + chance.randint(-1, 1))]
        yield {
            "Customer ID": f"household-{number}",
            "Answered": "last week" if count % UNDATED_EVERY == 0 else f"{_moment(last + 3_600_000):%Y-%m-%d %H:%M}",
            HOW: str(likes).replace(".", ","),
            RECOMMEND: min(10, round(likes * 2) + chance.randint(-1, 1)),
            WISH: wish if chance.random() < 0.6 else "",
        }


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
