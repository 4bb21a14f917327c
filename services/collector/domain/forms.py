"""Forms as tools send them: `data[merges][FNAME]=Ada` becomes {"data": {"merges": {"FNAME": "Ada"}}}."""

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from services.collector.domain.decode import Message, Refused

MOST_FIELDS: Final = 2_000
DEEPEST: Final = 20
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_BAD: Final = Refused(400, "bad_form", "the body is not a form (application/x-www-form-urlencoded)")


def form_of(body: bytes) -> Message | Refused:
    """The form's fields, nested by their brackets; `[]` adds to a list. An empty body is an empty form."""
    if not body.strip():
        return {}
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        return _BAD
    form: Message = {}
    for name, value in pairs:
        if not _put(form, name, value):
            return _BAD
    return form


def _put(form: Message, written: str, value: str) -> bool:
    """Whether there was a place for it."""
    found = _NAME.fullmatch(written)
    names = [found[1], *found[2][1:-1].split("][")] if found and found[2] else [written]
    *parents, last = names
    if found is None or len(names) > DEEPEST or not all(parents):
        return False
    if not last:
        return _add(form, parents[:-1], parents[-1], [value])
    return _add(form, parents, last, value)


def _add(form: Message, parents: list[str], name: str, value: Any) -> bool:
    """The last one of a name counts, as on a web page; lists grow."""
    inner: Any = form
    for each in parents:
        inner = inner.setdefault(each, {})
        if not isinstance(inner, dict):
            return False
    have = inner.get(name)
    if have is not None and type(have) is not type(value):
        return False
    inner[name] = [*have, *value] if isinstance(have, list) else value
    return True
