"""The OpenAPI 3.1 document of the admin API, from the same table that it is answered by."""

import re
from collections.abc import Mapping
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from contracts.admin import Trouble
from services.console.admin.table import CALLS, PATTERNS, ROOT, Call

JSON: Final = "application/json"
ERRORS: Final = {
    400: ("Wrong", "What was sent is wrong; the message says what would be right."),
    401: ("Unauthorized", "The admin token is missing or is another one."),
    403: ("Forbidden", "Asked under another name than this machine's, or by another site's page."),
    404: ("NotFound", "There is nothing there."),
    409: ("Conflict", "Right in itself, but not as things stand."),
    413: ("TooLarge", "More than is taken at once."),
    415: ("NotJson", "A body is application/json."),
    503: ("Unavailable", "A service or a server does not answer; ask again after Retry-After seconds."),
}
ALWAYS: Final = (400, 401, 403, 404, 503)
WRITE_KEY: Final = {
    "in": "header",
    "name": "X-Write-Key",
    "description": "of the source that the file is from; not needed with `propose` and `dry_run`",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}


def document() -> dict[str, Any]:
    """The document, as JSON has it."""
    spec = APISpec(
        title="Samla's admin API",
        version="1",
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin()],
        info={
            "description": "Everything that Samla's services do for people. Times are milliseconds since 1970 UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        tags=[{"name": name} for name in dict.fromkeys(each.tag for each in CALLS)],
        # Without a token it listens to this machine alone.
        security=[{"token": []}, {}],
    )
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for status, (name, text) in ERRORS.items():
        spec.components.response(name, _error(status, text))
    for call in CALLS:
        spec.path(path=ROOT + call.path, operations={call.method.lower(): _operation(call)})
    return spec.to_dict()


def _operation(call: Call) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identity(call),
        "summary": call.summary,
        "tags": [call.tag],
        "responses": _answers(call),
    }
    parameters: list[Any] = [_in_path(name) for name in re.findall(r"\{(\w+)\}", call.path)]
    if call.query is not None:
        parameters.append({"in": "query", "schema": call.query})
    if call.takes_file:
        parameters.append(WRITE_KEY)
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    if parameters:
        operation["parameters"] = parameters
    if call.takes is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": call.takes}}}
    return operation


def _identity(call: Call) -> str:
    words = [word.strip("{}") for word in call.path.strip("/").split("/")]
    return "_".join([call.method.lower(), *words])


def _in_path(name: str) -> dict[str, Any]:
    pattern, text = PATTERNS[name]
    return {
        "in": "path",
        "name": name,
        "required": True,
        "description": text,
        "schema": {"type": "string", "pattern": pattern},
    }


def _answers(call: Call) -> dict[str, Any]:
    good: Mapping[int, type[Schema]] = {**call.others, call.status: call.gives}
    answers: dict[str, Any] = {str(status): _answer(schema) for status, schema in good.items()}
    body = (413, 415) if call.takes is not None else (413,) if call.takes_file else ()
    changes = () if call.method == "GET" else (409,)
    for status in (*ALWAYS, *changes, *body):
        answers[str(status)] = ERRORS[status][0]
    return answers


def _answer(schema: type[Schema]) -> dict[str, Any]:
    return {"description": (schema.__doc__ or "").strip().partition("\n")[0], "content": {JSON: {"schema": schema}}}


def _error(status: int, text: str) -> dict[str, Any]:
    described: dict[str, Any] = {"description": text, "content": {JSON: {"schema": Trouble}}}
    if status == 503:
        described["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}}}
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return described
