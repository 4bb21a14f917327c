"""Which addresses a webhook may be sent to: none inside the house (server-side request forgery).

A name or an odd spelling (decimal, hexadecimal, a mapped IPv6 address) says nothing. What counts is the
numeric address that is about to be connected to; these rules judge that, and the URL's form.
"""

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

from shared.errors import SamlaError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""A gateway sends these on to the IPv4 address in the last 32 bits."""
UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out of IPv6; the rest is local, multicast, or an old way to write IPv4 addresses."""
REFUSED_V6: Final = tuple(
    ipaddress.IPv6Network(net)
    for net in (
        "2001::/23",  # protocol assignments, Teredo among them: an IPv4 address in disguise
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
REFUSED_V4: Final = tuple(
    ipaddress.IPv4Network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; clouds answer with credentials here
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
LOCAL: Final = tuple(
    ipaddress.ip_network(net)
    for net in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""What SAMLA_ALLOW_LOCAL_WEBHOOKS opens: this machine and private networks, link-local not among them."""

LONGEST_URL: Final = 2_000


def refused(address: str, allow_local: bool) -> bool:
    """Whether a numeric address must not be connected to."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return True
    return _refused(_plain(parsed), allow_local)


def _plain(address: IPAddress) -> IPAddress:
    """The address that packets would really go to, where it is written inside an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _refused(address: IPAddress, allow_local: bool) -> bool:
    if getattr(address, "scope_id", None):
        return True
    if any(address in net for net in LOCAL):
        return not allow_local
    if isinstance(address, ipaddress.IPv4Address):
        listed = any(address in net for net in REFUSED_V4)
    else:
        listed = address not in UNICAST_V6 or any(address in net for net in REFUSED_V6)
    # Python's own registry of addresses, for what our lists have not heard of.
    return listed or not address.is_global or address.is_multicast


def checked_url(url: str, allow_local: bool) -> SplitResult:
    """The parts of a webhook's URL. Raises SamlaError, whose text says what is wrong with it.

    http:// only with `allow_local`: identifiers must not cross the internet in the clear.
    """
    if len(url) > LONGEST_URL or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise SamlaError(f"a webhook's URL has up to {LONGEST_URL} characters, no spaces among them")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts)
    except ValueError as error:
        raise SamlaError("the webhook's URL cannot be read: write https://host/path") from error
    if parts.scheme not in (("https", "http") if allow_local else ("https",)):
        raise SamlaError("a webhook's URL begins with https:// (or http:// if SAMLA_ALLOW_LOCAL_WEBHOOKS=1)")
    if not host or port == 0:
        raise SamlaError("the webhook's URL names no host, or port 0: write https://host/path")
    if parts.username is not None or parts.password is not None:
        raise SamlaError("a webhook's URL holds no user name or password: messages are signed instead")
    if _is_number(host) and refused(host, allow_local):
        raise SamlaError("webhooks do not go to addresses of this machine or of private networks")
    return parts


def ascii_host(parts: SplitResult) -> str:
    """The host in ASCII (IDNA), without brackets; empty where there is none. Raises ValueError."""
    host = parts.hostname or ""
    return host if host.isascii() else host.encode("idna").decode()


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
