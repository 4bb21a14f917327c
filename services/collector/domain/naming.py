"""Whose a quarantined message is. It is told by the kind of identifier, not by a value that is the same: `1` is a
user's id in one place and a number of pieces in another.

Two questions are asked of it. Whose own it is (`is_of`) counts for what is shown to somebody: rather too little is
shown than what is another's. Whom it names (`names`) counts for what is erased: there an e-mail address or telephone
number counts wherever it stands.

What was wrong with a message may be the very place of its identifiers, so they are looked for in more places and under
more names than at the door.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from services.collector.domain.identifiers import ANONYMOUS, EMAIL, PHONE, USER, identifier_of, normalized_phone
from services.collector.domain.quarantine import Kept
from services.collector.domain.rules import prepared
from services.collector.domain.source import Source

Identifier = tuple[str, str]
"""(kind, normalized value)"""

IDS: Final = {"userid": USER, "anonymousid": ANONYMOUS, "previousid": ANONYMOUS}
ADDRESSES: Final = {
    **dict.fromkeys(("email", "emailaddress", "mail", "epost"), EMAIL),
    **dict.fromkeys(("phone", "phonenumber", "telephone", "mobile"), PHONE),
}
"""What they may be called, in small letters and digits alone: `user_id` is userId."""
OWN: Final = {(): IDS, ("traits",): ADDRESSES, ("context", "traits"): ADDRESSES}
"""Where a message says whose it is. Elsewhere it may speak of others."""
HOLDERS: Final = frozenset({"traits", "properties", "context", "data", "merges", "customer", "user", "object"})
"""Within these an address is its message's own where nothing else is."""
EXTERNAL: Final = "externalids"
SHORTEST_ID: Final = 8
"""Characters of an id that is looked for as a word; a shorter one could be any word."""
SHORTEST_NUMBER: Final = 8
"""Digits of a telephone number that is."""


def is_of(kept: Kept, source: Source | None, wanted: Collection[Identifier]) -> bool:
    """Whether the message is somebody's who is known by one of these. Never of what cannot be read."""
    return not own(kept, _region(source), source).isdisjoint(wanted)


def names(kept: Kept, source: Source | None, wanted: Collection[Identifier]) -> bool:
    """Whether it is theirs, or has their e-mail address or telephone number in it as a word; of what cannot be read,
    one of their ids too, if that is long enough to be no other word."""
    region = _region(source)
    said = {pair for each in _messages(kept, source) for pairs in _said(each, region) for pair in pairs}
    if not said.isdisjoint(wanted):
        return True
    texts = list(_texts(kept))
    ids = [value for kind, value in wanted if kind not in (EMAIL, PHONE) and len(value) >= SHORTEST_ID]
    return (
        _has_word(texts, [value for kind, value in wanted if kind == EMAIL], re.IGNORECASE)
        or _has_number(texts, {value for kind, value in wanted if kind == PHONE}, region)
        or (kept.sent is None and _has_word([_unescaped(kept.raw)], ids))
    )


def _region(source: Source | None) -> str | None:
    return (source.region or None) if source else None


def own(kept: Kept, region: str | None, source: Source | None = None) -> set[Identifier]:
    """Who sends it, by what it says itself and what stands beside it; and by a source's rules, if one is given."""
    said = [_said(each, region) for each in _messages(kept, source, alone=True)]
    surely = {pair for sure, _ in said for pair in sure}
    return surely or {pair for _, likely in said for pair in likely}


def _messages(kept: Kept, source: Source | None, alone: bool = False) -> Iterator[Mapping[str, Any]]:
    """What may say whose it is: what was sent, what is in its place, both as the source's rules clean them, and what
    stands beside them. `alone`: of a list only where it holds one message."""
    for each in (kept.sent, kept.mended):
        found = each if isinstance(each, list) else [each]
        for message in found if len(found) == 1 or not alone else ():
            if isinstance(message, dict):
                yield message
                yield from _cleaned(message, kept, source)
    yield {"context": kept.shared.get("context")}


def _cleaned(message: dict[str, Any], kept: Kept, source: Source | None) -> Iterator[Mapping[str, Any]]:
    if source is None or source.rules.cleaning is None:
        return
    try:
        ready = prepared(message, kept.shared, source.rules._replace(agreement=None, plan=None))
    except Exception:
        # A message on which its rules fail is here for that very reason: it must not keep anybody from being erased.
        return
    if isinstance(ready.message, dict):
        yield ready.message


def _said(message: Mapping[str, Any], region: str | None) -> tuple[set[Identifier], set[Identifier]]:
    """(identifiers that are its own, those that are likely to be)."""
    own: set[Identifier] = set()
    likely: set[Identifier] = set()
    for at, name, value in _places(message, ()):
        if name == EXTERNAL:
            own.update(_external(value, region))
        sure = OWN.get(at, {}).get(name)
        if (kind := sure or ADDRESSES.get(name)) is not None:
            values = value if isinstance(value, list) else [value]
            found = {pair for each in values if (pair := identifier_of(kind, each, region))}
            (own if sure else likely).update(found)
    return own, likely


def _places(holder: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """(within what, under which name, what) of all that stands at the top or within HOLDERS. Names may have the path
    in them: `traits.email`, `data[email]`."""
    for written, value in holder.items():
        parts = [_plain(part) for part in _PARTS.split(written[:_LONGEST]) if part]
        if not parts or not HOLDERS.issuperset(parts[:-1]):
            continue
        path = (*at, *parts)
        if parts[-1] in HOLDERS and isinstance(value, dict):
            yield from _places(value, path)
        yield path[:-1], parts[-1], value


_PARTS: Final = re.compile(r"[.\[\]]+")
_LONGEST: Final = 200


def _plain(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def _external(listed: Any, region: str | None) -> Iterator[Identifier]:
    for each in listed if isinstance(listed, list) else [listed]:
        kind = each.get("type") if isinstance(each, dict) else None
        if isinstance(kind, str) and kind.strip() and (pair := identifier_of(kind.strip(), each.get("id"), region)):
            yield pair


# Words


def _texts(kept: Kept) -> Iterator[str]:
    """Every text in it, names of fields too."""
    stack = [kept.sent, kept.mended, kept.shared]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack += [*each, *each.values()]
        elif isinstance(each, list):
            stack += each
        elif isinstance(each, str):
            yield each
    if kept.sent is None:
        yield _unescaped(kept.raw)


def _unescaped(text: str) -> str:
    """JSON that was cut off, its escapes read."""
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPED.get(found[0][1], found[0][1]), text
    )


_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def _has_word(texts: Collection[str], words: Collection[str], flags: int = 0) -> bool:
    if not words:
        return False
    wanted = re.compile(rf"(?<![\w@.+-])(?:{'|'.join(map(re.escape, words))})(?![\w@-]|\.\w)", flags)
    return any(wanted.search(each) or ("%" in each and wanted.search(unquote(each))) for each in texts)


def _has_number(texts: Collection[str], numbers: Collection[str], region: str | None) -> bool:
    """Whether a telephone number is written in one of the texts, in whatever form."""
    ends = {each[-SHORTEST_NUMBER + 1 :] for each in numbers if len(each.lstrip("+")) >= SHORTEST_NUMBER}
    for text in texts if ends else ():
        for found in _NUMBER.findall(text):
            digits = "".join(each for each in found if each.isdigit())
            if any(digits.endswith(each) for each in ends) and normalized_phone(found, region) in numbers:
                return True
    return False


_NUMBER: Final = re.compile(r"(?<!\w)\+?\(?\d[\d ()./\u00a0-]{5,30}\d(?!\w)")
