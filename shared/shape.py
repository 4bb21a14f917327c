"""What can be told of a message from itself alone: its shape, whose it may be, when, and what was agreed to.

Its shape is held to the contract by validators that are made from its schemas.
marshmallow defines what a message looks like (contracts/tracking.py) and would check 17,000 a second; what is
made here of the same schemas checks a million. A property test holds the two together.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from marshmallow import Schema, fields, validate

from contracts.tracking import KINDS, MESSAGES, Id

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
CODES: Final = {
    "type": "bad_type",
    "messageId": "bad_message_id",
    **dict.fromkeys(("timestamp", "originalTimestamp", "sentAt"), "bad_time"),
    **dict.fromkeys(("context", "properties", "traits", "integrations"), "not_an_object"),
}
"""Field -> why a message is set aside for its sake; else it is missing."""
WHYS: Final = {
    "bad_type": f"type must be one of {', '.join(sorted(KINDS))}",
    "bad_message_id": "messageId must be a string of 100 characters at most",
    "bad_time": "{field} must be an ISO 8601 date and time",
    "not_an_object": "{field} must be an object",
    "missing_field": "{kind} needs {field}",
}


class Problem(NamedTuple):
    """Why a message is none of its kind. Says nothing of its values."""

    code: str
    place: str
    why: str


def validator_of(name: str, schema: type[Schema]) -> type[msgspec.Struct]:
    """A type to which msgspec converts what the schema loads, and nothing else. Fields that the schema does not
    know are ignored by both."""
    return msgspec.defstruct(name, [_field(each) for each in schema().fields.items()], kw_only=True)


def _field(named: tuple[str, fields.Field[Any]]) -> Any:
    name, field = named
    kind = _type(field)
    if field.allow_none and kind is not Any:
        kind = kind | None
    return (name, kind) if field.required else (name, kind, None)


def _type(field: fields.Field[Any]) -> Any:
    if isinstance(field, Id):
        return Annotated[str, msgspec.Meta(pattern=r"\S")] | int
    if isinstance(field, fields.String):
        return _text(field.validators)
    if isinstance(field, fields.Dict):
        return dict[Any, Any]
    if isinstance(field, fields.Raw):
        return Any
    raise TypeError(f"no validator is made of {type(field).__name__}")


def _text(validators: Any) -> Any:
    found: dict[str, Any] = {}
    for each in validators:
        if type(each) is validate.OneOf:
            return Literal[tuple(each.choices)]
        if type(each) is validate.Length:
            found |= {"min_length": each.min, "max_length": each.max}
        elif type(each) is validate.Regexp:
            found["pattern"] = f"\\A(?:{each.regex.pattern!s})"
        else:
            raise TypeError(f"no validator is made of {type(each).__name__}")
    return Annotated[str, msgspec.Meta(**found)] if found else str


VALIDATORS: Final = {kind: validator_of(f"{kind}_message", schema) for kind, schema in MESSAGES.items()}


def shape_problem(message: Mapping[str, Any]) -> Problem | None:
    """Why a message is none of its kind; None where it is."""
    kind = message.get("type")
    validator = VALIDATORS.get(kind) if isinstance(kind, str) else None
    if validator is None:
        return _rejected("type", "")
    try:
        msgspec.convert(message, validator)
    except msgspec.ValidationError as error:
        named = _NAMED.search(str(error))
        return _rejected(named[1] if named else "", str(kind))
    return None


def is_nobodys(message: Mapping[str, Any]) -> bool:
    """Whether it says neither userId nor anonymousId."""
    return message.get("userId") in (None, "") and message.get("anonymousId") in (None, "")


def milliseconds(written: object) -> int | None:
    """ISO 8601 (UTC where it does not say) as milliseconds since 1970."""
    if not isinstance(written, str):
        return None
    try:
        moment = datetime.fromisoformat(written)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def preferences_of(consent: object) -> dict[str, bool] | Problem | None:
    """{category: agreed}; None where nothing is said. What cannot be understood is not guessed at."""
    said = consent.get("categoryPreferences") if isinstance(consent, dict) else consent
    if said is None:
        return None
    if not isinstance(said, dict) or not all(isinstance(each, bool) for each in said.values()):
        return Problem("bad_consent", "context.consent", "categoryPreferences must map names to true or false")
    return said


_NAMED: Final = re.compile(r"(?:`\$\.|field `)(\w+)")
"""The field that msgspec's error names."""


def _rejected(field: str, kind: str) -> Problem:
    code = CODES.get(field, "missing_field")
    return Problem(code, field, WHYS[code].format(field=field, kind=kind))
