"""What privacy says: the events of the stream `privacy` (one partition), and its RPCs."""

from typing import Final

from marshmallow import Schema, fields, validate

from contracts.envelope import ID

ERASURE_REQUESTED: Final = "privacy.erasure_requested.v1"
SUBJECTS_ERASED: Final = "privacy.subjects_erased.v1"
ERASURE_COMPLETED: Final = "privacy.erasure_completed.v1"

FORGET: Final = "forget"
SUPPRESS: Final = "suppress"
MODES: Final = (FORGET, SUPPRESS)
"""`suppress` forgets, and never takes the person's identifiers in again."""

SPECIAL_CATEGORIES: Final = "special_categories"
"""The purpose that somebody must have agreed to before special data about them is acted on."""


class ErasureRequested(Schema):
    """Somebody is to be forgotten. The envelope's subject is the request."""

    request = fields.String(required=True, validate=ID)
    profile = fields.String(required=True, validate=ID)
    mode = fields.String(required=True, validate=validate.OneOf(MODES))


class SubjectsErased(ErasureRequested):
    """Their keys are destroyed: everybody drops what they have derived."""

    profiles = fields.List(fields.String(validate=ID), required=True)
    subjects = fields.List(fields.String(validate=ID), required=True)


class ErasureCompleted(SubjectsErased):
    """No cache and no transaction can hold anything of them any more: drop it once again, then it is over."""


EVENTS: Final[dict[str, type[Schema]]] = {
    ERASURE_REQUESTED: ErasureRequested,
    SUBJECTS_ERASED: SubjectsErased,
    ERASURE_COMPLETED: ErasureCompleted,
}
"""Event type -> schema of its data."""


class DecisionRequest(Schema):
    """May this be sent? `causes` are the positions that identity and privacy must have passed."""

    profile = fields.String(required=True, validate=ID)
    purpose = fields.String(required=True)
    causes = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    segment_sensitive = fields.Boolean(load_default=False)


class Decision(Schema):
    """The gate's answer. With `again` it has not come to the causes yet: ask again soon."""

    allow = fields.Boolean(required=True)
    reason = fields.String(required=True)
    again = fields.Boolean(required=True)


RPCS: Final[dict[str, str]] = {
    "decide": "([DecisionRequest]) -> [Decision]",
    "consents": "(profile) -> {purpose: {agreed, time, source, history: [{agreed, time, source, event}]}}",
    "erase": "(profile, mode) -> request",
    "request": "(request) -> {request, profile, mode, status, step, error, failures, created, changed}; status: under "
    "way, waiting (the step has failed, with an error of this type, and is tried again) or completed",
    "export": "(profile) -> everything that is held of a person",
    "policy": "() -> the data policy",
    "stats": "() -> {subjects, requests: {status: n}}",
}
"""RPC of the service `privacy` -> its arguments and reply."""
