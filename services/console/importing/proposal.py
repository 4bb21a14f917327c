"""A mapping proposed from the columns' names and contents. A person confirms it.

Orders, events, answers to a survey, or people: a file is taken for one of them, and `notes` say what was not clear.
Where a row gives several messages, the proposal is a list of mappings; see mapping.mappings_of.
"""

from collections.abc import Sequence
from typing import Any, Final

from services.console.importing.looking import SCALE, ZONE, Columns, Found, looked_at

Row = dict[str, Any]
Made = dict[str, Any]

NOTES: Final = {
    "nobody": "no column says who it is (a user id, an e-mail address ...): the door would set all of it aside",
    "lines": "an order has several rows: each becomes an event of its own, so count orders by order_id, not by events",
    "currency": 'no column says the currency, and sums need one: add "set": {"properties.currency": "EUR"}',
    "zone": "times that do not say where they are from are read as UTC; see time.zone",
    "once": "each of the first {sample} rows has another {columns}, so it is the id of what a row tells; rows of one "
    "person further down that share one would count once: `repeated` of a --dry-run with --rows tells how many",
    "questions": "a question is what its column is called; say it in full in properties.question",
}
SAMPLE: Final = 200
"""Rows that a proposal is made from: what it says of their ids it cannot say of further ones."""
MUCH: Final = 3
ANSWERS: Final = ("rating", "answer", "said")


def proposed(names: Sequence[str], sample: Sequence[Row]) -> Any:
    """The JSON of a mapping, or of several; see mapping.mappings_of."""
    columns = looked_at(names, sample)
    roles = {each.role for each in columns.found}
    timed = bool(roles & {"time", "created", "updated"})
    if roles & {"rating", "answer"} and "money" not in roles:
        made = _survey(columns, sample)
    elif "money" in roles and timed:
        made = _orders(columns, sample)
    elif "event" in roles and timed:
        made = [_events(columns)]
    else:
        made = [_people(columns)]
    notes = [*made[0].pop("notes", []), *(each.note for each in columns.found if each.note)]
    if (once := made[0].get("id")) and len(sample) >= SAMPLE:
        notes.append(NOTES["once"].format(sample=len(sample), columns=" and ".join(once)))
    if not any(_known(each) for each in made):
        notes.insert(0, NOTES["nobody"])
    if notes:
        made[0]["notes"] = notes
    return made if len(made) > 1 else made[0]


def _known(mapping: Made) -> bool:
    return "known_by" in mapping or any(each in ("userId", "anonymousId") for each in mapping["columns"].values())


# Kinds of files


def _survey(columns: Columns, sample: Sequence[Row]) -> list[Made]:
    answers = _of(columns, *ANSWERS)
    time = _time(columns, "time", "created", "updated")
    about = _of(columns, "trait", "consent")
    # What else stands in a file that tells much of people is about them, and not about their answers.
    of_people = _of(columns, "other") if len(about) >= MUCH else []
    beside = _places(_of(columns, "response", *(() if of_people else ("other",))), "properties")
    responses = [each.name for each in _of(columns, "response")]
    once = {"id": responses} if responses and _apart(responses, sample) else {}
    made = [
        {
            "type": "track", "event": "Survey Answered",
            "set": _asked(each),
            "needs": [each.name],
            **_who(columns, {each.name: _answer(each), **beside}), **time, **once,
        }
        for each in answers
    ]  # fmt: skip
    if about:
        made.append({"type": "identify", **_who(columns, _places([*about, *of_people], "traits")), **time, **once})
    made[0]["notes"] = [NOTES["questions"], *_zone_note(columns, time)]
    return made


def _asked(found: Found) -> Made:
    """The question without its scale, and that."""
    question = {"properties.question": SCALE.sub("", found.name).strip() or found.name}
    return question | ({"properties.scale": found.scale} if found.scale else {})


def _answer(found: Found) -> Any:
    return found.place if found.role == "rating" else "properties.answer"


def _orders(columns: Columns, sample: Sequence[Row]) -> list[Made]:
    once, lines = _once(columns, sample)
    time = _time(columns, "time", "created", "updated")
    about = _of(columns, "trait", "consent")
    told = _of(columns, "money", "currency", "order", "line", "other", *ANSWERS)
    known = _of(columns, "currency") or columns.currency
    order: Made = {"type": "track", "event": "Product Purchased" if lines else "Order Completed"}
    if columns.currency and not _of(columns, "currency"):
        order["set"] = {"properties.currency": columns.currency}
    order |= {**_who(columns, _places(told, "properties")), **time, **once}
    order["notes"] = [NOTES["lines"]] * lines + [NOTES["currency"]] * (not known) + _zone_note(columns, time)
    return (
        [order, {"type": "identify", **_who(columns, _places(about, "traits")), **time, **once}] if about else [order]
    )


def _once(columns: Columns, sample: Sequence[Row]) -> tuple[Made, bool]:
    """The columns that make a row what it is; whether an order has several."""
    orders = [each.name for each in _of(columns, "order")][:1]
    if not orders or _apart(orders, sample):
        return ({"id": orders} if orders else {}), False
    pairs = [[*orders, each.name] for each in _of(columns, "line")]
    return next(({"id": pair} for pair in pairs if _apart(pair, sample)), {}), True


def _apart(names: Sequence[str], sample: Sequence[Row]) -> bool:
    """Whether no two rows have the same in them."""
    return len({tuple(str(row.get(name)) for name in names) for row in sample}) == len(sample)


def _events(columns: Columns) -> Made:
    time = _time(columns, "time", "created", "updated")
    told = [each for each in columns.found if each.role not in ("who", "external", "time")]
    return {"type": "track", **_who(columns, _places(told, "properties")), **time, "notes": _zone_note(columns, time)}


def _people(columns: Columns) -> Made:
    time = _time(columns, "updated", "time")
    chosen = time["time"]["column"] if time else None
    told = [each for each in columns.found if each.role not in ("who", "external") and each.name != chosen]
    places = {each.name: _moved(each, "traits.createdAt" if each.role == "created" else "traits") for each in told}
    return {"type": "identify", **_who(columns, places), **time, "notes": _zone_note(columns, time)}


# Parts of a mapping


def _of(columns: Columns, *roles: str) -> list[Found]:
    return [each for each in columns.found if each.role in roles]


def _who(columns: Columns, places: Made) -> Made:
    """The columns that say who it is, before the others; without an id, an e-mail address or the like will do."""
    who = _of(columns, "who", "external")
    known = any(each.place in ("userId", "anonymousId") for each in who)
    made: Made = {"columns": {**{each.name: each.place for each in who}, **places}}
    if who and not known:
        made["known_by"] = [who[0].name]
    return made


def _places(found: Sequence[Found], root: str) -> Made:
    return {each.name: _moved(each, root) for each in found}


def _moved(found: Found, root: str) -> Any:
    """Its place, under a root where it has none of its own, or at the very place that is given."""
    place = found.place if isinstance(found.place, str) else found.place["to"]
    if "." in root:
        place = root
    elif place.startswith("?.") or (root == "traits" and place.startswith("properties.")):
        last = place.partition(".")[2]
        place = f"{root}.{last}"
    return place if isinstance(found.place, str) else {**found.place, "to": place}


def _time(columns: Columns, *roles: str) -> Made:
    """The first column of the first of these roles that has any."""
    for role in roles:
        for each in _of(columns, role):
            if each.when is not None:
                zone = {"zone": ZONE} if columns.swedish else {}
                return {"time": {"column": each.name, **each.when, **zone}}
    return {}


def _zone_note(columns: Columns, time: Made) -> list[str]:
    return [NOTES["zone"]] if time and not columns.swedish else []
