"""A visitor's id in a cookie of the collector's own domain: whose it is, who may ask for it, how it is written.

Browsers that cap the cookies of scripts (Safari: 7 days) leave those alone that a site's own server sets.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from services.collector.domain.decode import Message, Refused
from shared.errors import SamlaError
from shared.shape import is_nobodys

COOKIE: Final = "samla_visitor"
HOST_ONLY: Final = "__Host-"
"""A cookie of such a name is kept only where we have set it ourselves, over https: no other host of the domain can."""
MOST_DAYS: Final = 400
"""Browsers keep no cookie for longer."""
DAY_SECONDS: Final = 86_400
GPC_POLICIES: Final = ("ignore", "refuse")
"""What `Sec-GPC: 1` means for the id. It objects to sale and sharing, and an id that stays with us is neither."""
MOST_ORIGINS: Final = 100
LONGEST_ORIGIN: Final = 260
_ORIGIN: Final = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9][0-9]{0,4})?")
_USUAL_PORTS: Final = (("http://", ":80"), ("https://", ":443"))


class Asked(NamedTuple):
    """What a request to the visitor's endpoint says."""

    write_key: str | None
    consent: bool
    """False: the person has refused, no id may be kept."""


class Caller(NamedTuple):
    """What a browser says about where a request comes from; no script can change it."""

    origin: str
    """Empty where it is not said."""
    site: str
    """Sec-Fetch-Site; older browsers do not send it."""
    own: str
    """The collector's own origin, as the browser sees it."""

    @property
    def secure(self) -> bool:
        """Whether the browser speaks to us over https."""
        return self.own.startswith("https://")

    def may_use(self, origins: Sequence[str]) -> bool:
        """Whether it is our own page or one of these; without an origin, whatever is not another site."""
        if self.origin:
            return self.origin == self.own or self.origin in origins
        return self.site != "cross-site"


def checked_origins(origins: object) -> list[str]:
    """Web origins, each exact and as browsers write it. Raises SamlaError."""
    if not isinstance(origins, (list, tuple)) or len(origins) > MOST_ORIGINS:
        raise SamlaError(f"origins is a list of {MOST_ORIGINS} at most")
    for each in origins:
        if not isinstance(each, str) or len(each) > LONGEST_ORIGIN or not _ORIGIN.fullmatch(each):
            raise SamlaError(f"an origin is such as https://www.example.org, exact and in small letters; not {each}")
        if any(each.startswith(scheme) and each.endswith(port) for scheme, port in _USUAL_PORTS):
            raise SamlaError(f"browsers leave the usual port out of an origin: {each}")
    return list(dict.fromkeys(origins))


def consent_of(body: Message) -> bool | Refused:
    """Whether an id may be kept. Who asks for one without a word about consent has it, or needs none."""
    consent = body.get("consent", True)
    return consent if isinstance(consent, bool) else Refused(400, "bad_consent", "consent is true or false")


def cookie_of(source: str, secure: bool) -> str:
    """The cookie's name. Sources behind one domain must not take each other's for a forgery."""
    return f"{HOST_ONLY if secure else ''}{COOKIE}_{source}"


def signed(key: bytes, source: str, identity: str) -> str:
    """The cookie's value: nobody can choose the id of somebody else."""
    digest = hmac.digest(key, f"{source}\n{identity}".encode(), hashlib.sha256)
    return f"{identity}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


def verified(key: bytes, source: str, value: str) -> str | None:
    """The id of a cookie that we have signed. The texts are compared, so that each id has one value only."""
    identity = value.rpartition(".")[0]
    same = hmac.compare_digest(signed(key, source, identity).encode(errors="replace"), value.encode(errors="replace"))
    return identity if identity and same else None


def visitor_in(header: str, key: bytes, source: str) -> str | None:
    """The visitor's id in a request's Cookie header; None where there is none that is ours. First the one that
    nobody else can have set."""
    names = (cookie_of(source, secure) for secure in (True, False))
    found = (verified(key, source, value) for name in names for value in values_in(header, name))
    return next((each for each in found if each), None)


def values_in(header: str, name: str) -> Iterator[str]:
    """The values of a cookie; a browser may send several of one name."""
    for each in header.split(";"):
        written, _, value = each.strip().partition("=")
        if written == name:
            yield value


def kept(source: str, value: str, days: int, caller: Caller, sent: str = "") -> list[str]:
    """The Set-Cookie headers that keep a value and start its time anew. `sent`: the request's Cookie header; what is
    in it under the name without https is moved to the other."""
    name = cookie_of(source, caller.secure)
    return [f"{name}={value}; Max-Age={days * DAY_SECONDS}; {_attributes(caller)}", *_moved(source, caller, sent)]


def forgotten(source: str, caller: Caller, sent: str = "") -> list[str]:
    """The Set-Cookie headers that remove it."""
    return [f"{cookie_of(source, caller.secure)}=; Max-Age=0; {_attributes(caller)}", *_moved(source, caller, sent)]


def _moved(source: str, caller: Caller, sent: str) -> list[str]:
    name = cookie_of(source, secure=False)
    there = caller.secure and any(True for _ in values_in(sent, name))
    return [f"{name}=; Max-Age=0; {_attributes(caller)}"] if there else []


def _attributes(caller: Caller) -> str:
    """Lax is enough for a site's own collector. Within another site it must be None, and is then kept apart for
    that site alone: an id is not to follow anybody from site to site."""
    if caller.site == "cross-site" and caller.secure:
        return "Path=/; HttpOnly; SameSite=None; Secure; Partitioned"
    return f"Path=/; HttpOnly; SameSite=Lax{'; Secure' if caller.secure else ''}"


def named(messages: Iterable[object], identity: str) -> list[object]:
    """The messages; those that say nothing of whose they are, are the visitor's."""
    return [
        {**each, "anonymousId": identity} if isinstance(each, dict) and is_nobodys(each) else each for each in messages
    ]
