"""Agreements with partners and licences of suppliers: what second- and third-party sources may send.

A field that the agreement does not name is refused: it is kept nowhere, and the answer names it. What a
message is known by, says of itself and of consent is always taken.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from contracts.tracking import PARTIES
from shared.errors import SamlaError

FIRST: Final = PARTIES[0]
KINDS: Final = {"second": "agreement", "third": "licence"}
"""Party of a source -> what it needs."""
PARTS: Final = ("traits", "properties", "context")
ALWAYS: Final = frozenset({"context.consent", "context.library", "context.externalIds"})
MOST_FIELDS: Final = 1_000
LONGEST_NAME: Final = 200
CLASS: Final = "agreement-"
"""What the class of data of an agreement begins with: a key of its own, to be destroyed with it."""


class Agreement(NamedTuple):
    """What somebody may pass on to us, for what and for how long."""

    id: str
    party: str
    partner: str
    """Who gives: a partner's or a supplier's name."""
    purposes: tuple[str, ...]
    fields: tuple[str, ...]
    """Paths such as traits.email; `*` stands for anything."""
    since: int
    until: int
    """ms since 1970 UTC; it holds from the first, and no longer at the second."""
    created: int = 0
    ended: int | None = None
    """When it was ended before its time."""

    def row(self) -> dict[str, Any]:
        """As it is shown."""
        shown = {name: value for name, value in self._asdict().items() if name not in ("id", "since")}
        return {"agreement": self.id, "kind": KINDS[self.party], "from": self.since, **shown}

    def holds(self, now: int) -> bool:
        """Whether it does at an instant."""
        return self.since <= now < (self.until if self.ended is None else min(self.ended, self.until))


def checked(
    identity: str, party: str, partner: str, purposes: Sequence[str], fields: Sequence[str], since: int, until: int
) -> Agreement:
    """An agreement of these. Raises SamlaError that says what is wrong."""
    if party not in KINDS:
        raise SamlaError(f"party is one of {', '.join(KINDS)}: first-party data needs no agreement")
    if not isinstance(partner, str) or not 0 < len(partner.strip()) <= LONGEST_NAME:
        raise SamlaError("an agreement names the partner or supplier")
    if not purposes or not all(isinstance(each, str) and each.strip() for each in purposes):
        raise SamlaError("an agreement names at least one purpose, such as marketing")
    if not fields or len(fields) > MOST_FIELDS or not all(_is_field(each) for each in fields):
        raise SamlaError(f"fields are 1 to {MOST_FIELDS} paths under {', '.join(PARTS)}, such as traits.email")
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in (since, until)) or since >= until:
        raise SamlaError("an agreement holds from an instant until a later one")
    return Agreement(identity, party, partner.strip(), tuple(purposes), tuple(fields), since, until)


def _is_field(path: object) -> bool:
    return isinstance(path, str) and path.split(".")[0] in PARTS and len(path.split(".")) > 1 and all(path.split("."))


class Within(NamedTuple):
    """A message as an agreement lets it be kept."""

    message: Any
    refused: list[str]
    """Paths of what was taken out."""


def within(message: Any, agreement: Agreement) -> Within:
    """The message with those fields only that are agreed on; it is left as it is."""
    if not isinstance(message, dict):
        return Within(message, [])
    refused: list[str] = []
    kept = {
        name: _kept(value, name, agreement.fields, refused) if name in PARTS and isinstance(value, dict) else value
        for name, value in message.items()
    }
    return Within(kept, refused)


def _kept(value: Mapping[str, Any], path: str, allowed: Sequence[str], refused: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, each in value.items():
        here = f"{path}.{name}"
        if here in ALWAYS or any(fnmatchcase(here, field) for field in allowed):
            kept[name] = each
        elif isinstance(each, dict) and any(field.startswith(f"{here}.") for field in (*allowed, *ALWAYS)):
            kept[name] = _kept(each, here, allowed, refused)
        else:
            refused.append(here)
    return kept


def class_of(agreement: str, sensitive: bool) -> str:
    """The class of data that is sealed under the agreement's own key."""
    return f"{CLASS}{agreement}-sensitive" if sensitive else f"{CLASS}{agreement}"
