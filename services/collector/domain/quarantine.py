"""What is kept of a message that could not be taken in: enough to take it in later as if it had been right."""

from typing import Any, Final

import msgspec
import orjson

from services.collector.domain import raw
from services.collector.domain.intake import Accepted, SetAside
from services.collector.domain.mending import Rule, mended
from services.collector.domain.raw import Request
from services.collector.domain.source import Source
from shared.eventlog.event import derive_id
from shared.policy import Policy

UNREADABLE: Final = SetAside(
    0, "unreadable", "", "it was cut off, or is no message; it can be mended by hand only", b""
)


class Kept(Request, frozen=True, kw_only=True):
    """A quarantined message and what its request said about it."""

    raw: str
    """What was sent, as JSON; cut off where it was too long."""
    mended: Any = None
    """What somebody has put in its place by hand."""

    def packed(self) -> bytes:
        """To be sealed."""
        return msgspec.json.encode(self)

    @property
    def message(self) -> Any:
        """What is to be taken in: by hand, else as sent; None where that is no JSON."""
        if self.mended is not None:
            return self.mended
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None

    def texts(self) -> list[bytes]:
        """Everything in it that may name somebody."""
        return [self.raw.encode(errors="replace"), orjson.dumps([self.shared, self.mended])]


def unpacked(sealed: bytes, form: int) -> Kept:
    """What `packed` made; in the first form there was only what was sent."""
    if form < FORM:
        return Kept(raw=sealed.decode(errors="replace"))
    return msgspec.json.decode(sealed, type=Kept)


FORM: Final = 2


def again(
    kept: Kept, identity: str, received: int, source: Source, rule: Rule | None, policy: Policy
) -> Accepted | SetAside:
    """Takes the message in as of then. Where it has no message id of its own one follows from its entry's, so
    that taking it in twice is appending it once."""
    message = kept.message
    if rule is not None and isinstance(message, dict):
        message = mended(message, rule)
    if message is None:
        return UNREADABLE
    return raw.again(message, kept, received, source, policy, derive_id("quarantine", identity))
