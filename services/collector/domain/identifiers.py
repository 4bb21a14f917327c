"""Which identifiers an event carries: normalized, junk set aside, in order of priority."""

import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from email_validator import EmailNotValidError, validate_email

from contracts.identity import NOBODY, NOBODYS_EMAILS
from shared.values import e164

Identifier = list[str]
"""[kind, normalized value]; a list, since that is what JSON makes of it."""

USER: Final = "user"
ANONYMOUS: Final = "anonymous"
EMAIL: Final = "email"
PHONE: Final = "phone"
LONGEST_VALUE: Final = 512
MOST_EXTERNAL: Final = 50
"""External ids of a message that are looked at."""

JUNK: Final = frozenset({*NOBODY, *NOBODYS_EMAILS})
"""Values that are nobody's. Compared in lower case."""


def identifiers_of(
    message: Mapping[str, Any], traits: Mapping[str, Any], context: Mapping[str, Any], region: str | None = None
) -> tuple[list[Identifier], list[list[str]]]:
    """([[kind, value], ...] by priority, the first being the primary; [[kind, reason], ...] set aside).

    `region` says where telephone numbers are that have no country code.
    """
    found: list[Identifier] = []
    aside: list[list[str]] = []
    _add(found, aside, USER, message.get("userId"))
    _add(found, aside, ANONYMOUS, message.get("anonymousId"))
    if message.get("type") == "alias":
        _add(found, aside, ANONYMOUS, message.get("previousId"))
    if (email := traits.get("email")) is not None:
        _add(found, aside, EMAIL, email, normalized_email)
    if (phone := traits.get("phone")) is not None:
        _add(found, aside, PHONE, phone, partial(normalized_phone, region=region))
    externals = context.get("externalIds") or ()
    listed = externals if isinstance(externals, (list, tuple)) else (externals,)
    for external in listed[:MOST_EXTERNAL]:
        _add_external(found, aside, external, region)
    if len(listed) > MOST_EXTERNAL:
        aside.append(["external", "too_many"])
    return found, aside


def identifier_of(kind: str, value: object, region: str | None = None) -> tuple[str, str] | None:
    """(kind, normalized value); None where it is nobody's."""
    found: list[Identifier] = []
    _add(found, [], kind, value, _normalizers(region).get(kind))
    return (kind, found[0][1]) if found else None


def _normalizers(region: str | None) -> dict[str, Any]:
    return {EMAIL: normalized_email, PHONE: partial(normalized_phone, region=region)}


def _add(found: list[Identifier], aside: list[list[str]], kind: str, value: object, normalize: Any = None) -> None:
    if value is None:
        return
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if text is None or len(text) > LONGEST_VALUE:
        aside.append([kind, "not_an_identifier"])
    elif text.lower() in JUNK or not text.strip("0-"):
        aside.append([kind, "junk"])
    elif normalize is None:
        _add_new(found, kind, text)
    elif (clean := normalize(text)) is None:
        aside.append([kind, "malformed"])
    else:
        _add_new(found, kind, clean)


def _add_new(found: list[Identifier], kind: str, value: str) -> None:
    if [kind, value] not in found:
        found.append([kind, value])


def _add_external(found: list[Identifier], aside: list[list[str]], external: object, region: str | None) -> None:
    """`{id, type, collection, encoding}`, all four; only people's (`users`), only as they are (`none`)."""
    if not isinstance(external, dict):
        aside.append(["external", "not_an_object"])
        return
    kind = external.get("type")
    if not isinstance(kind, str) or not kind.strip() or len(kind) > 64:
        aside.append(["external", "no_type"])
    elif external.get("collection") != "users" or external.get("encoding") != "none":
        aside.append([kind.strip(), "not_a_users_plain_id"])
    else:
        _add(found, aside, kind.strip(), external.get("id"), _normalizers(region).get(kind))


def normalized_email(text: str) -> str | None:
    """Lower case, trimmed, an international domain in its one form; None where it is not local@domain."""
    text = text if text.isascii() else _international(text)
    local, at, domain = text.lower().rpartition("@")
    if not (at and local and domain) or any(c.isspace() for c in text):
        return None
    return f"{local}@{domain}"


def _international(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError:
        return unicodedata.normalize("NFC", text)


def normalized_phone(text: str, region: str | None = None) -> str | None:
    """E.164; None where it cannot be a number, or has no country code and no region is known."""
    if len(set(text) - set("+ -().")) <= 1:
        return None
    try:
        return e164(text, region)
    except ValueError:
        return None
