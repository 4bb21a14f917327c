"""Who sends: a browser's or device's own words about itself, read; and whether it is a bot."""

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

from crawlerdetect import CrawlerDetect
from ua_parser import parse

LONGEST: Final = 256
"""Characters of a user agent that are read."""
REMEMBERED: Final = 10_000
"""User agents: there are many clients, but few kinds of them."""
MOST_READ: Final = 10
"""User agents that are read for one request, of those that have not been seen lately: each takes some milliseconds."""


LONGEST_ADDRESS: Final = 64
IPV4_KEPT: Final = 24
IPV6_KEPT: Final = 48
"""Bits of an address that are left where it is truncated: a neighbourhood, not a household."""


class Sender(NamedTuple):
    """What the connection says of who sends; empty where it is a server's and not the person's."""

    address: str = ""
    agent: str = ""
    ip_policy: str = "truncate"
    bots: str = "set_aside"


class Agent(NamedTuple):
    """A user agent, read."""

    browser: str
    os: str
    device: str
    bot: str
    """What the bot is called; empty where it is none."""

    def row(self) -> dict[str, str]:
        """Only what is known."""
        return {name: value for name, value in self._asdict().items() if value}


class _Memory:
    """Agents by what they say. In two halves, of which the older one goes: what is asked for again stays. Threads may
    ask at once: at worst one is read twice."""

    def __init__(self) -> None:
        self._new: dict[str, Agent] = {}
        self._old: dict[str, Agent] = {}

    def get(self, text: str) -> Agent | None:
        found = self._new.get(text)
        if found is None and (found := self._old.get(text)) is not None:
            self.put(text, found)
        return found

    def put(self, text: str, agent: Agent) -> None:
        if len(self._new) >= REMEMBERED // 2:
            self._new, self._old = {}, self._new
        self._new[text] = agent


_MEMORY: Final = _Memory()


class Agents:
    """The user agents of one request: `most` that are new are read, what comes behind them is left unread."""

    def __init__(self, most: int = MOST_READ) -> None:
        self._left = most

    def read(self, user_agent: str) -> Agent | None:
        """What it says; None where it is left unread."""
        text = user_agent[:LONGEST]
        found = _MEMORY.get(text)
        if found is None and self._left > 0:
            self._left -= 1
            found = _read(text)
            _MEMORY.put(text, found)
        return found


def agent_of(user_agent: str) -> Agent:
    """Reads a user agent."""
    found = Agents().read(user_agent)
    return found if found is not None else _read(user_agent[:LONGEST])


def _read(text: str) -> Agent:
    detector = CrawlerDetect(user_agent=text)
    bot = str(detector.getMatches() or "bot") if detector.isCrawler() else ""
    read = parse(text)
    browser, system, device = read.user_agent, read.os, read.device
    return Agent(
        browser=f"{browser.family} {browser.major or ''}".strip() if browser else "",
        os=f"{system.family} {system.major or ''}".strip() if system else "",
        device=device.family if device else "",
        bot=bot,
    )


def seen_by(context: dict[str, Any], sender: Sender, agents: Agents) -> tuple[dict[str, Any], Agent | None]:
    """(the context with its IP address as the source's policy has it, the agent if one is known)."""
    said = context.get("ip")
    kept = address(said if said is not None else sender.address, sender.ip_policy)
    if said is not None or kept:
        context = {name: value for name, value in context.items() if name != "ip"}
        if kept:
            context["ip"] = kept
    agent = context.get("userAgent") or sender.agent
    return context, agents.read(agent) if isinstance(agent, str) and agent else None


def address(written: object, policy: str) -> str | None:
    """An IP address as the source's policy lets it be kept; None where it is not, or is none."""
    if not written or policy == "drop" or not isinstance(written, str) or len(written) > LONGEST_ADDRESS:
        return None
    return _address(written, policy)


@lru_cache(maxsize=REMEMBERED)
def _address(written: str, policy: str) -> str | None:
    try:
        found = ip_address(written.strip())
    except ValueError:
        return None
    if policy == "keep":
        return str(found)
    bits = IPV4_KEPT if found.version == 4 else IPV6_KEPT
    return str(ip_network(f"{found}/{bits}", strict=False).network_address)
