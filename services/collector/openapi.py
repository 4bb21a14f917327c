"""The OpenAPI 3.1 document of the collector's door, from the contracts' schemas and the door's own tables of paths.

What SDKs send is taken under any content type, and gzipped; the document says application/json.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from contracts.collector import Answer, Refusal, Visitor, VisitorAsked
from contracts.tracking import Message
from services.collector.connections import INBOUND
from services.collector.domain.decode import MOST_EVENTS
from services.collector.example_page import EXAMPLE
from services.collector.visitor import VISITOR

JSON: Final = "application/json"
REFUSALS: Final = {
    400: "It cannot be taken as it is; sending it again does not help.",
    401: "There is no write key, or nobody has it; a webhook's signature is not right.",
    403: "The source's party needs an agreement or licence that holds; a page's origin is not the source's.",
    404: "The source is disabled, is not connected with this tool, or does not do this.",
    405: "Another method is needed.",
    408: "The body did not come in time.",
    429: "More than the source's rate; Retry-After says when to come again.",
    503: "Nothing was taken in; Retry-After says when to come again.",
}
ASKS_AGAIN: Final = (429, 503)
KEY: Final[list[dict[str, list[str]]]] = [{"writeKey": []}]
IN_ADDRESS: Final[dict[str, Any]] = {"in": "query", "name": "writeKey", "schema": {"type": "string"}}


def document(single: Mapping[str, str], batch: Collection[str], pixels: Mapping[str, str]) -> bytes:
    """The document. Path -> kind of message; paths that take batches; paths of pictures -> kind of message."""
    spec = APISpec(
        title="Samla's collector",
        version="1",
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin()],
        info={
            "description": "Segment's tracking protocol. 200 is durable.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
    )
    _components(spec)
    for path, kind in single.items():
        spec.path(path=path, operations={"post": _taking(f"One {kind} message", "Single")})
    for path in sorted(batch):
        beacon = {"parameters": [IN_ADDRESS]} if path.startswith("/beacon") else {}
        spec.path(path=path, operations={"post": _taking("Messages, many at once", "Batch") | beacon})
    for path, kind in pixels.items():
        spec.path(path=path, operations={"get": _picture(kind)})
    for path, operation in _LOOKING.items():
        spec.path(path=path, operations={"get": operation()})
    spec.path(path=VISITOR, operations=_visiting())
    spec.path(path=f"{EXAMPLE}{{writeKey}}/", operations={"get": _page("The example page", _KEY_IN_PATH)})
    spec.path(path=f"{EXAMPLE}{{writeKey}}/{{file}}", operations={"get": _page("A file of it", _KEY_IN_PATH, _FILE)})
    spec.path(path=f"{INBOUND}{{dialect}}/{{source}}", operations={"post": _webhook(), "get": _probe()})
    return orjson.dumps(spec.to_dict())


def _components(spec: APISpec) -> None:
    spec.components.security_scheme(
        "writeKey", {"type": "http", "scheme": "basic", "description": "the write key is the user; no password"}
    )
    spec.components.schema("Message", schema=Message)
    # Of one message the path says the type.
    spec.components.schema("Single", schema=Message(exclude=("type",)))
    spec.components.schema("Answer", schema=Answer)
    spec.components.schema("Visitor", schema=Visitor)
    spec.components.schema("VisitorAsked", schema=VisitorAsked)
    spec.components.schema("Refusal", schema=Refusal)
    spec.components.schema(
        "Batch",
        {
            "type": "object",
            "required": ["batch"],
            "properties": {
                "batch": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MOST_EVENTS,
                    "items": {"$ref": "#/components/schemas/Message"},
                },
                "context": {"type": "object", "description": "of all of them"},
                "integrations": {"type": "object"},
                "sentAt": {"type": "string"},
                "writeKey": {"type": "string"},
            },
        },
    )
    for status, text in REFUSALS.items():
        described: dict[str, Any] = {"description": text, "content": {JSON: {"schema": "Refusal"}}}
        if status in ASKS_AGAIN:
            seconds = {"required": True, "schema": {"type": "integer", "minimum": 0}}
            described["headers"] = {"Retry-After": seconds}
        spec.components.response(f"Refused{status}", described)


def _refusals() -> dict[str, Any]:
    return {str(status): f"Refused{status}" for status in REFUSALS}


def _taking(summary: str, schema: str) -> dict[str, Any]:
    good = {"description": "It is durable, or in quarantine.", "content": {JSON: {"schema": "Answer"}}}
    return {
        "summary": summary,
        "security": KEY,
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {"200": good, **_refusals()},
    }


def _picture(kind: str) -> dict[str, Any]:
    """Whatever becomes of the message."""
    image = {"content": {"image/gif": {"schema": {"type": "string", "format": "binary"}}}}
    good = {"200": {"description": "A picture of one dot.", **image}}
    said = {"in": "query", "name": "message", "style": "form", "explode": True, "schema": {"type": "object"}}
    return {
        "summary": f"A {kind} message as a picture's address, its fields with dots",
        "parameters": [IN_ADDRESS, said],
        "responses": good | {str(status): {"description": text, **image} for status, text in REFUSALS.items()},
    }


def _in_path(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"in": "path", "name": name, "required": True, "schema": schema}


def _json_about(summary: str, *parameters: dict[str, Any], refusals: bool = True) -> dict[str, Any]:
    good = {"description": "Found.", "content": {JSON: {"schema": {"type": "object"}}}}
    refused = _refusals() if refusals else {"503": {"description": "MongoDB is away.", "content": good["content"]}}
    return {"summary": summary, "parameters": [*parameters], "responses": {"200": good, **refused}}


_KEY_IN_PATH: Final = _in_path("writeKey")
_FILE: Final = _in_path("file")
_LOOKING: Final = {
    "/v1/projects/{writeKey}/settings": partial(_json_about, "What Segment's browser SDK asks for", _KEY_IN_PATH),
    "/sourceConfig": partial(_json_about, "What RudderStack's SDKs ask for", IN_ADDRESS),
    "/health": partial(_json_about, "Whether MongoDB answers", refusals=False),
}


def _visiting() -> dict[str, Any]:
    """See docs/first-party.md."""
    good = {"description": "The id, or null.", "content": {JSON: {"schema": "Visitor"}}}
    said = {"required": False, "content": {JSON: {"schema": "VisitorAsked"}}}
    summaries = {
        "get": "Tells the visitor's id, and changes nothing",
        "post": "Gives a visitor's id in a cookie, or renews the one there is; with consent false it is removed",
        "delete": "Forgets it",
    }
    shared = {"parameters": [IN_ADDRESS], "security": KEY, "responses": {"200": good, **_refusals()}}
    return {
        method: {"summary": text, **shared, **({"requestBody": said} if method == "post" else {})}
        for method, text in summaries.items()
    }


def _page(summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    content = {f"text/{kind}": {"schema": {"type": "string"}} for kind in ("html", "css", "javascript")}
    return {
        "summary": summary,
        "parameters": [*parameters],
        "responses": {"200": {"description": "Found.", "content": content}, **_refusals()},
    }


_DIALECT: Final = {**_in_path("dialect"), "description": "such as shopify, stripe, mailchimp, typeform"}
_SOURCE: Final = {**_in_path("source"), "description": "the source's id"}


def _heard() -> dict[str, Any]:
    good = {
        "description": "It is durable, in quarantine, or says nothing to us.",
        "content": {JSON: {"schema": "Answer"}},
    }
    return {"parameters": [_DIALECT, _SOURCE], "responses": {"200": good, **_refusals()}}


def _webhook() -> dict[str, Any]:
    body = {JSON: {"schema": {}}, "application/x-www-form-urlencoded": {"schema": {"type": "object"}}}
    return {
        "summary": "A tool's webhook, signed as the tool signs (docs/inbound.md)",
        "requestBody": {"required": True, "content": body},
        **_heard(),
    }


def _probe() -> dict[str, Any]:
    return {"summary": "Some tools ask first whether anybody is there, signed as they sign", **_heard()}
