"""`/example/{writeKey}/`: a page that asks for consent and then sends, to look at, to try and to copy from.

It is shown only where the source says so: a page under the shop's own name that takes down what anybody types
is nothing to have by accident.
"""

from pathlib import Path
from typing import Final

from services.collector import answers
from services.collector.answers import Headers, Receive, Scope, Send
from services.collector.domain.decode import Refused
from services.collector.visitor import Find

EXAMPLE: Final = "/example/"
FOLDER: Final = Path(__file__).parent / "example"
TYPES: Final = {
    "index.html": b"text/html; charset=utf-8",
    "example.css": b"text/css; charset=utf-8",
    "example.js": b"text/javascript; charset=utf-8",
}
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline, and nothing from anywhere else."""
SAFE: Final[Headers] = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    # Its address has the write key in it.
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]


async def serve(scope: Scope, receive: Receive, send: Send, find: Find) -> None:
    """One of the page's files."""
    write_key, slash, name = scope["path"].removeprefix(EXAMPLE).partition("/")
    source = await find(write_key)
    if isinstance(source, Refused):
        return await answers.refuse(send, source)
    if not source.example:
        return await answers.refuse(send, _OFF)
    if not slash:
        # What the page refers to is beside it, wherever the collector is mounted.
        return await answers.plain(send, 308, b"", [*SAFE, (b"location", f"{write_key}/".encode())])
    kind = TYPES.get(name := name or "index.html")
    if kind is None:
        return await answers.refuse(send, _NO_FILE)
    await answers.plain(send, 200, (FOLDER / name).read_bytes(), [*SAFE, (b"content-type", kind)])


_OFF: Final = Refused(404, "example_off", "this source shows no example page; see `samla source set --example`")
_NO_FILE: Final = Refused(404, "not_found", "the example page has no such file")
