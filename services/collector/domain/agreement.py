"""Agreements with partners and licences of suppliers: what second- and third-party sources may send.

A field that the agreement does not name is refused: it is kept nowhere, and the answer names it. What a
message is known by, says of itself and of consent is always taken, and of that only what the contract knows: a text
where a text is expected. Anything else in its place is emptied, so that the message is wrong still, and tells nothing.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, NamedTuple

from marshmallow import fields as kinds

from contracts.tracking import PARTIES, Message
from services.collector.domain.identifiers import EMAIL, PHONE
from shared.errors import SamlaError

FIRST: Final = PARTIES[0]
SECOND: Final = PARTIES[1]
KINDS: Final = {"second": "agreement", "third": "licence"}
"""Party of a source -> what it needs."""
PARTS: Final = ("traits", "properties", "context")
PLAIN: Final = (str, int, float)
NAME: Final = "properties.name"
"""What the `name` of a page or screen becomes."""
NAMED: Final = "\0"
"""In a path of ours: a name that can be told from somebody's words, see WORD."""
WORD: Final = r"[\w\u0300-\u036f ./()-]{1,64}\Z"
"""Letters, digits, spaces, and what stands in names such as `Braze Web (Actions)`: names of tools and of purposes."""
ALWAYS: Final[Mapping[str, Any]] = {
    **{name: PLAIN for name, kind in Message().fields.items() if not isinstance(kind, kinds.Dict) and name != "name"},
    **dict.fromkeys(PARTS, ()),
    f"integrations.{NAMED}": bool,
    "context.library.name": PLAIN,
    "context.library.version": PLAIN,
    f"context.consent.categoryPreferences.{NAMED}": bool,
    # One that stands alone is taken, too.
    **{
        f"context.externalIds.{at}{name}": PLAIN
        for at in ("*.", "")
        for name in ("id", "type", "collection", "encoding")
    },
}
"""Path -> of which types the value may be that is taken whatever the agreement names."""
MOST_FIELDS: Final = 1_000
LONGEST_NAME: Final = 200
MOST_TOLD: Final = 100
"""Refused fields of one message that are told."""
LONGEST_TOLD: Final = 100
"""Characters of a name within a path that is told."""
LONGEST_PATH: Final = 500
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
    """Paths such as traits.email, each with all that is in it; `*` is any name, or each item of a list."""
    since: int
    until: int
    """ms since 1970 UTC; it holds from the first, and no longer at the second."""
    created: int = 0
    ended: int | None = None
    """When it was ended before its time."""
    merges: bool = False
    """Whether a partner's identifiers may show that two people are one."""

    def row(self) -> dict[str, Any]:
        """As it is shown."""
        shown = {name: value for name, value in self._asdict().items() if name not in ("id", "since")}
        return {"agreement": self.id, "kind": KINDS[self.party], "from": self.since, **shown}

    def holds(self, now: int) -> bool:
        """Whether it does at an instant."""
        return self.since <= now < (self.until if self.ended is None else min(self.ended, self.until))


def checked(
    identity: str,
    party: str,
    partner: str,
    purposes: Sequence[str],
    fields: Sequence[str],
    since: int,
    until: int,
    merges: bool = False,
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
    if merges and party != SECOND:
        raise SamlaError("identifiers of a supplier never show that two people are one")
    return Agreement(identity, party, partner.strip(), tuple(purposes), tuple(fields), since, until, merges=merges)


def _is_field(path: object) -> bool:
    return isinstance(path, str) and path.split(".")[0] in PARTS and len(path.split(".")) > 1 and all(path.split("."))


class Within(NamedTuple):
    """A message as an agreement lets it be kept."""

    message: Any
    refused: list[str]
    """Paths of what was taken out, of MOST_TOLD at most; `*` is an item of a list."""


def within(message: Any, agreement: Agreement) -> Within:
    """The message with those fields only that are agreed on; it is left as it is."""
    if not isinstance(message, dict):
        return Within(_emptied(message), [])
    refused = _Refused()
    root = _compiled(agreement.fields)
    kept = _taken(message, (root,), (), refused)
    if isinstance(context := kept.get("context"), dict) and "externalIds" in context:
        externals = _without_addresses(context["externalIds"], EXTERNALS, root, refused)
        kept = {**kept, "context": {**context, "externalIds": externals}}
    return Within(kept, list(refused.paths))


EXTERNALS: Final = ("context", "externalIds")
REACHED: Final = (EMAIL, PHONE)
"""Kinds of external ids that are what the trait of the same name is, and are agreed on as such."""


def _without_addresses(external: Any, path: tuple[str, ...], root: "_Node", refused: "_Refused") -> Any:
    """External ids without addresses and numbers that may not stand in traits; {} is in their place."""
    if isinstance(external, list):
        return [_without_addresses(each, (*path, "*"), root, refused) for each in external]
    kind = external.get("type") if isinstance(external, dict) else None
    kind = kind.strip().casefold() if isinstance(kind, str) else ""
    if kind not in REACHED or _may_stand(root, f"traits.{kind}"):
        return external
    refused.add(path)
    return {}


def allows(agreement: Agreement, path: str) -> bool:
    """Whether a text may stand at a path."""
    return _may_stand(_compiled(agreement.fields), path)


class _Node(NamedTuple):
    """What may stand at a place of a message, and below it."""

    takes: Any
    """Types of values that are taken whole; none: only what is below it."""
    always: bool
    """Whether something else in its place is emptied and not taken out."""
    holds: bool
    """Whether it is an object, of which parts may be taken."""
    names: Mapping[str, "_Node"]
    globs: Sequence[tuple[re.Pattern[str], "_Node"]]
    named: bool = False
    """Whether names that are no WORD are refused below it, and told as `*`."""


@lru_cache(maxsize=1_000)
def _compiled(fields: tuple[str, ...]) -> _Node:
    """A tree of names, so that a name is looked up and not compared with every field."""
    tree: dict[str, Any] = {}
    for path, takes in ALWAYS.items():
        _plant(tree, path, takes, always=True)
    for path in fields:
        _plant(tree, path, object, always=False)
    root = _node(tree)
    if _may_stand(root, NAME):
        _plant(tree, "name", PLAIN, always=True)
    return _node(tree)


_TAKES: Final = ""
_ALWAYS: Final = "."
"""Beside the names below a node, which are neither."""


def _plant(tree: dict[str, Any], path: str, takes: Any, always: bool) -> None:
    for name in path.split("."):
        tree = tree.setdefault(name, {})
        tree[_ALWAYS] = tree.get(_ALWAYS, False) or always
    if takes is object or not tree.get(_TAKES):
        tree[_TAKES] = takes


def _node(tree: Mapping[str, Any]) -> _Node:
    below = {name: _node(each) for name, each in tree.items() if name not in (_TAKES, _ALWAYS)}
    names = {name: node for name, node in below.items() if _GLOB.isdisjoint(name)}
    whole = [name for name in below if name not in names and below[name] == _WHOLE]
    globs = [
        (WORD if name == NAMED else translate(name), below[name])
        for name in below
        if name not in names and name not in whole
    ]
    if whole:
        globs.append(("|".join(map(translate, whole)), _WHOLE))
    takes, compiled = tree.get(_TAKES, ()), [(re.compile(text), node) for text, node in globs]
    return _Node(takes, tree.get(_ALWAYS, False), bool(below) or not takes, names, compiled, NAMED in tree)


_GLOB: Final = frozenset(f"*?[{NAMED}")
_WHOLE: Final = _Node(object, False, False, {}, [])


def _below(nodes: Sequence[_Node], name: str) -> Sequence[_Node]:
    """What may stand under a name. (`*` for the items of a list.)"""
    if len(nodes) == 1 and not nodes[0].globs:
        return (nodes[0].names[name],) if name in nodes[0].names else ()
    found = [node.names[name] for node in nodes if name in node.names]
    return found + [below for node in nodes for glob, below in node.globs if glob.match(name)]


def _may_stand(root: _Node, path: str) -> bool:
    nodes: Sequence[_Node] = (root,)
    for name in path.split("."):
        nodes = _below(nodes, name)
        if any(node.takes is object for node in nodes):
            return True
    return any(isinstance("", node.takes) for node in nodes)


_NOTHING: Final = object()


def _taken(value: Any, nodes: Sequence[_Node], path: tuple[str, ...], refused: "_Refused") -> Any:
    """What of a value may be kept, or _NOTHING."""
    always = holds = False
    for node in nodes:
        if isinstance(value, node.takes):
            return value
        always = always or node.always
        holds = holds or node.holds
    if value is None and always:
        return None
    if holds and isinstance(value, dict):
        kept = {}
        for name, each in value.items():
            below = _below(nodes, name)
            shown = name if below or not any(node.named for node in nodes) else "*"
            taken = _taken(each, below, (*path, shown), refused)
            if taken is not _NOTHING:
                kept[name] = taken
        return kept
    if isinstance(value, list) and (below := _below(nodes, "*")):
        items = [_taken(each, below, (*path, "*"), refused) for each in value]
        return [each for each in items if each is not _NOTHING]
    refused.add(path)
    return _emptied(value) if always else _NOTHING


def _emptied(value: Any) -> Any:
    """Something of the same kind that tells nothing: an empty text for a text, an empty list for a list."""
    return type(value)()


class _Refused:
    """Paths, each once, as many as are told: what comes back must not be larger than what came."""

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}

    def add(self, path: tuple[str, ...]) -> None:
        """One more."""
        if len(self.paths) < MOST_TOLD:
            self.paths[".".join(name[:LONGEST_TOLD] for name in path)[:LONGEST_PATH]] = None


def class_of(agreement: str, sensitive: bool) -> str:
    """The class of data that is sealed under the agreement's own key."""
    return f"{CLASS}{agreement}-sensitive" if sensitive else f"{CLASS}{agreement}"
