"""Answers: JSON, and errors that say what is wrong and what would be right."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson
from marshmallow import ValidationError
from prometheus_client import Counter
from starlette.responses import Response

from shared.errors import CheckpointMoved, Conflict, NotFound, SamlaError, SubjectsFenced, Unavailable

REQUESTS: Final = Counter("samla_console_requests_total", "Requests by answer", ["status"])
RETRY_SECONDS: Final = 2
SHOWN: Final = 5
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


class Refused(Exception):
    """What is answered instead."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})
        super().__init__(message)


class _Kind(NamedTuple):
    status: int
    code: str


_KINDS: Final[tuple[tuple[type[SamlaError], _Kind], ...]] = (
    (NotFound, _Kind(404, "not_found")),
    (Conflict, _Kind(409, "conflict")),
    (SubjectsFenced, _Kind(409, "erased")),
    (CheckpointMoved, _Kind(409, "conflict")),
    (Unavailable, _Kind(503, "unavailable")),
    (SamlaError, _Kind(400, "bad_request")),
)


def refused(error: SamlaError) -> Refused:
    """What an error of ours means to who asks."""
    kind = next(kind for type_, kind in _KINDS if isinstance(error, type_))
    headers = {"Retry-After": str(RETRY_SECONDS)} if kind.status == 503 else {}
    return Refused(kind.status, kind.code, str(error), headers)


def wrong(error: ValidationError) -> Refused:
    """What a schema says, without what was sent."""
    said = [f"{place}: {text}" if place else text for place, text in _said(error.messages)]
    return Refused(400, "bad_request", "; ".join(said[:SHOWN]))


def _said(messages: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for name, each in messages.items():
            # A name that we do not know is somebody's text.
            shown = str(name) if isinstance(name, int) or NAME.fullmatch(str(name)) else "a field"
            yield from _said(each, place if name == "_schema" else f"{place}.{shown}" if place else shown)
    elif isinstance(messages, list):
        for each in messages:
            yield from _said(each, place)
    else:
        yield place, str(messages)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """One answer, counted."""
    REQUESTS.labels(str(status)).inc()
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, media_type="application/json", headers=headers)


def refusal(error: Refused) -> Response:
    """An error as `{"code", "message"}`."""
    return as_json({"code": error.code, "message": error.message}, error.status, error.headers)
