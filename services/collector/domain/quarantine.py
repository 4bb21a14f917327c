"""What is kept of a message that could not be taken in: enough to take it in later as if it had been right."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson
from msgspec.structs import replace

from services.collector.domain import raw
from services.collector.domain.agreement import FIRST
from services.collector.domain.client import LONGEST
from services.collector.domain.intake import BIGGEST_SHARED, Accepted, SetAside
from services.collector.domain.mending import Rule, mended
from services.collector.domain.raw import Request
from services.collector.domain.source import Source
from shared.eventlog.event import derive_id
from shared.policy import Policy

UNREADABLE: Final = SetAside(
    0, "unreadable", "", "it was cut off, or is no message; it can be mended by hand only", b""
)


CUT: Final = SetAside(
    0, "cut", "", "what its batch said was too large to be kept with it; mend it by hand, by a whole message", b""
)
OTHER_AGREEMENT: Final = SetAside(
    0, "other_agreement", "", "it did not come under the agreement or licence that its source has now", b""
)


class Kept(Request, frozen=True, kw_only=True):
    """A quarantined message and what its request said about it."""

    raw: str
    """What was sent, as JSON; cut off where it was too long."""
    mended: Any = None
    """What somebody has put in its place by hand."""
    cut: bool = False
    """Whether some of what its batch said was too large to be kept."""
    agreement: str | None = None
    """The agreement or licence that it came under, else empty; None where that was not kept yet."""

    def packed(self) -> bytes:
        """To be sealed."""
        return msgspec.json.encode(self)

    @property
    def message(self) -> Any:
        """What is to be taken in: by hand, else as sent; None where that is no JSON."""
        return self.sent if self.mended is None else self.mended

    @property
    def sent(self) -> Any:
        """What was sent; None where it is no JSON, since it was cut off."""
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None


def kept_of(messages: Sequence[SetAside], request: Request, agreement: str) -> list[Kept]:
    """What is kept of a request's messages that were set aside."""
    shared = _bounded(request.shared)
    common = Kept(
        raw="",
        shared=shared,
        gpc=request.gpc,
        address=request.address,
        agent=request.agent[:LONGEST],
        exact=request.exact,
        cut=len(shared) < len(request.shared),
        agreement=agreement,
    )
    return [replace(common, raw=each.raw.decode(errors="replace")) for each in messages]


def identities(messages: Sequence[SetAside], request: Request, agreement: str, correlation: str) -> list[str]:
    """What the ids of entries follow from: the message, and what stood beside it but for when it was sent, so that one
    that is sent again is kept once. Where it has no message id it is the request's (of id `correlation`) alone: two
    that say the same are two."""
    beside = {name: value for name, value in request.shared.items() if name != "sentAt"}
    said = (beside, request.gpc, request.address, request.agent, agreement)
    common = msgspec.json.encode(said, order="deterministic")
    return [
        _digest(common, b"" if _has_message_id(each.raw) else f"{correlation} {each.at}".encode(), each.raw)
        for each in messages
    ]


def _digest(*parts: bytes) -> str:
    """Of parts that are told apart."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _has_message_id(text: bytes) -> bool:
    """Never where it was cut off, since what was cut off may differ."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    found = message.get("messageId") if isinstance(message, dict) else None
    return isinstance(found, str) and bool(found)


def _bounded(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Of its fields as many as BIGGEST_SHARED holds, the smallest first."""
    kept: dict[str, Any] = {}
    left = BIGGEST_SHARED
    for size, name in sorted((len(orjson.dumps(value)), name) for name, value in shared.items()):
        if size <= left:
            kept[name] = shared[name]
            left -= size
    return kept


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
    if not _may_be_taken(kept, source):
        return OTHER_AGREEMENT
    if kept.cut and kept.mended is None:
        return CUT
    message = kept.message
    if rule is not None and isinstance(message, dict):
        message = mended(message, rule)
    if message is None:
        return UNREADABLE
    # What is there by hand came as another text than the request that is known to be exact.
    request = kept if kept.mended is None else replace(kept, exact=False)
    return raw.again(message, request, received, source, policy, derive_id("quarantine", identity))


def _may_be_taken(kept: Kept, source: Source) -> bool:
    """Whether it came as the source sends now: what one agreement has brought is not another's."""
    agreement = source.rules.agreement
    if kept.agreement is None:
        return source.party == FIRST
    return kept.agreement == (agreement.id if agreement else "")
