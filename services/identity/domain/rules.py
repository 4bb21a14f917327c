"""The rules of identity, as data: what each kind of identifier may do.

    {"kinds": {"user": {"priority": 1, "unique": true},
               "anonymous": {"priority": 50, "device": true, "limit": 100, "window": {"limit": 5, "days": 30}},
               "loyalty": {"priority": 3, "limit": 2, "clean": ["trim", "upper"], "patterns": ["TEST*"]}},
     "others": {"priority": 40, "limit": 5},
     "most": 3000,
     "second_party_merges": false}

`unique`: two people with differing values are never one. `device`: it is somebody's only until somebody else is known
on it. `limit`: so many one person may have, ever; `window`: and in so many days. `blocked` and `patterns` (with `*` and
`?`): values that are nobody's, in any case of letters. `nobody`: by what they are made of (`zeros`, `one_digit`).
`clean`: steps of shared.values. What is left out of a kind is as in the rules that are shipped; other kinds are as
`others`.
"""

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import cached_property
from typing import Any, Final

import msgspec

from contracts.identity import NOBODY, NOBODYS_EMAILS
from shared.errors import SamlaError
from shared.values import Clean, compiled

WRITTEN: Final = "written"
"""The kind of an identifier as it was written, where the rules compare it in another form: its events lie under it."""
LONGEST_PATTERN: Final = 200
MOST_PATTERNS: Final = 100
MOST_BLOCKED: Final = 10_000
MOST_KINDS: Final = 500
LONGEST_VALUE: Final = 512
MOST_IDENTIFIERS: Final = 10_000
"""Of one person: they stand in one document, and are gone through at each of their events that says something new."""


NOBODYS: Final = {"zeros": re.compile(r"[0\-\s]*\Z"), "one_digit": re.compile(r"\D*(\d)(?:\D|\1)*\Z")}
"""What a value that is nobody's is made of."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many in so many days."""

    limit: int
    days: int


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """What a kind of identifier may do."""

    priority: int = 40
    """The lowest comes first."""
    unique: bool = False
    device: bool = False
    limit: int = 5
    """So many one person may have, ever."""
    window: Window | None = None
    blocked: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    nobody: tuple[str, ...] = ()
    """Names in NOBODYS."""
    clean: Any = None
    """Steps of shared.values; None: the value as it is."""

    @property
    def most(self) -> int:
        """How many one person may have."""
        return 1 if self.unique else self.limit

    def value(self, written: str) -> str | None:
        """The value as it is compared; None where it is nobody's."""
        found = self._cleaned(written)
        if found is None or found.lower() in self._blocked or any(each.match(found) for each in self._patterns):
            return None
        return found

    def _cleaned(self, written: str) -> str | None:
        if self._clean is None:
            return written
        try:
            found = self._clean(written)
        except (ValueError, ArithmeticError, TypeError):
            # What cannot be read as what it should be is still what somebody calls somebody by.
            return written
        return str(found) if isinstance(found, (str, int)) and str(found).strip() else None

    @cached_property
    def _clean(self) -> Clean | None:
        return None if self.clean is None else compiled(self.clean)

    @cached_property
    def _blocked(self) -> frozenset[str]:
        return frozenset(each.strip().lower() for each in self.blocked)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        # Not regular expressions: one that somebody has thought of could take for ever on one value.
        globs = (re.compile(translate(each), re.IGNORECASE) for each in self.patterns)
        return (*globs, *(NOBODYS[each] for each in self.nobody))


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, of one version."""

    kinds: dict[str, Rule]
    others: Rule
    most: int = 3_000
    """Identifiers of all kinds that one person may have."""
    second_party_merges: bool = False
    """Whether a partner's identifiers may show that two people are one; a supplier's never may."""
    version: int = 0

    def of(self, kind: str) -> Rule:
        """A kind's."""
        return self.kinds.get(kind, self.others)

    def row(self) -> dict[str, Any]:
        """As it is written and read."""
        row: dict[str, Any] = msgspec.to_builtins(self)
        return row


_DEVICES: Final = ("device", "device_id", "idfa", "idfv", "gaid", "aaid", "android_id")
_DEVICE: Final[dict[str, Any]] = {"device": True, "limit": 100}


def _rule(**given: Any) -> Rule:
    return Rule(**{"blocked": NOBODY, "nobody": ("zeros",), **given})


SHIPPED: Final = Rules(
    kinds={
        "user": _rule(priority=1, unique=True),
        WRITTEN: Rule(priority=99, limit=1_000),
        "crm": _rule(priority=11, unique=True),
        "email": _rule(priority=10, clean=["trim", "lower"], blocked=(*NOBODY, *NOBODYS_EMAILS)),
        "phone": _rule(priority=20, nobody=("zeros", "one_digit")),
        "anonymous": _rule(priority=60, **_DEVICE),
        **{kind: _rule(priority=61, **_DEVICE) for kind in _DEVICES},
    },
    others=_rule(priority=40),
)  # fmt: skip
"""What holds until somebody has decided otherwise."""


def rules_of(version: int, document: object) -> Rules:
    """The rules of a document. Raises SamlaError that says what is wrong."""
    if not isinstance(document, dict):
        raise SamlaError("rules are an object with kinds, others, second_party_merges")
    shipped = SHIPPED.row()
    kinds = document.get("kinds", {})
    if (
        not isinstance(kinds, dict)
        or len(kinds) > MOST_KINDS
        or not all(isinstance(each, dict) for each in kinds.values())
    ):
        raise SamlaError(f"kinds is an object of {MOST_KINDS} kinds at most, each an object")
    others = _over(shipped["others"], document.get("others", {}))
    whole = {
        **{name: document[name] for name in document if name not in ("kinds", "others", "version")},
        "kinds": {
            **shipped["kinds"],
            **{name: _over(shipped["kinds"].get(name, others), given) for name, given in kinds.items()},
        },
        "others": others,
        "version": version,
    }
    try:
        made = msgspec.convert(whole, Rules)
    except msgspec.ValidationError as error:
        raise SamlaError(f"identity rules: {error}") from error
    if not 2 <= made.most <= MOST_IDENTIFIERS:
        raise SamlaError(f"most, the identifiers that one person may have, is 2 to {MOST_IDENTIFIERS}")
    for name, rule in (*made.kinds.items(), ("others", made.others)):
        _check(name, rule)
    return made


def _over(rule: Mapping[str, Any], given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise SamlaError('others is an object such as {"limit": 5}')
    return {**rule, **given}


def _check(name: str, rule: Rule) -> None:
    if rule.limit < 1 or (rule.window is not None and min(rule.window.limit, rule.window.days) < 1):
        raise SamlaError(f"{name}: limits and days are 1 or more")
    if len(rule.blocked) > MOST_BLOCKED:
        raise SamlaError(f"{name}: {MOST_BLOCKED} values may be blocked")
    if len(rule.patterns) > MOST_PATTERNS or any(len(each) > LONGEST_PATTERN for each in rule.patterns):
        raise SamlaError(f"{name}: {MOST_PATTERNS} patterns of {LONGEST_PATTERN} characters at most")
    if unknown := [each for each in rule.nobody if each not in NOBODYS]:
        raise SamlaError(f"{name}: nobody is made of {', '.join(NOBODYS)}; there is no {unknown[0][:40]}")
    if rule.clean is not None:
        try:
            compiled(rule.clean)
        except SamlaError as error:
            raise SamlaError(f"{name}: {error}") from error
