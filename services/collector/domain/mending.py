"""Rules that mend messages: data, written by whoever looks after a source.

    {"rename": {"user_id": "userId"}, "drop": ["properties.debug"],
     "set": {"type": "track"}, "default": {"event": "Unknown"}}

Paths have dots. The steps are done in this order: rename, drop, set, default; each leaves alone what it does not
name, and a message is never changed in place.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from shared.checking import bounded, only, told
from shared.errors import SamlaError

STEPS: Final = ("rename", "drop", "set", "default")
DEEPEST: Final = 20
MOST_PATHS: Final = 200
LONGEST_PATH: Final = 500
MOST_DEEPER: Final = 50
"""Each may move what the one before it has moved: what they come to must still be JSON that can be written."""

Rule = Mapping[str, Any]
Message = dict[str, Any]

_NOTHING: Final = object()


def checked(rule: object) -> Rule:
    """The rule. Raises SamlaError where it is none."""
    bounded(rule, "a rule")
    if not isinstance(rule, dict) or not rule:
        raise SamlaError(f"a rule is an object with some of: {', '.join(STEPS)}")
    only(rule, STEPS, "a rule")
    for step, paths in rule.items():
        wanted = list if step == "drop" else dict
        if not isinstance(paths, wanted) or len(paths) > MOST_PATHS:
            raise SamlaError(f"{step} must be {'a list' if wanted is list else 'an object'} of {MOST_PATHS} at most")
        for path in (*paths, *(paths.values() if isinstance(paths, dict) and step == "rename" else ())):
            if not isinstance(path, str) or not _is_path(path):
                raise SamlaError(f"{step}: {told(path)} is no path; paths are like traits.email")
    deeper = sum(max(0, new.count(".") - old.count(".")) for old, new in rule.get("rename", {}).items())
    if deeper > MOST_DEEPER:
        raise SamlaError(f"rename: together they may move values {MOST_DEEPER} names deeper, not {deeper}")
    return rule


def _is_path(path: str) -> bool:
    return len(path) <= LONGEST_PATH and len(path.split(".")) <= DEEPEST and all(path.split("."))


def mended(message: Message, rule: Rule) -> Message:
    """The message with the rule applied."""
    whole = deepcopy(message)
    for old, new in rule.get("rename", {}).items():
        value = _taken(whole, old)
        if value is not _NOTHING:
            # What is there already stays; so does what could not be moved there.
            _put(whole, new if _is_free(whole, new) else old, value)
    for path in rule.get("drop", ()):
        _taken(whole, path)
    for path, value in rule.get("set", {}).items():
        _put(whole, path, deepcopy(value))
    for path, value in rule.get("default", {}).items():
        if _is_free(whole, path):
            _put(whole, path, deepcopy(value))
    return whole


def _is_free(message: Message, path: str) -> bool:
    """Whether something can be put there without anything being lost."""
    value: Any = message
    for name in path.split("."):
        if value is None:
            return True
        if not isinstance(value, dict):
            return False
        if name not in value:
            return True
        value = value[name]
    return value is None


def _taken(message: Message, path: str) -> Any:
    *parents, last = path.split(".")
    inner: Any = message
    for name in parents:
        inner = inner.get(name) if isinstance(inner, dict) else None
    return inner.pop(last, _NOTHING) if isinstance(inner, dict) else _NOTHING


def _put(message: Message, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        inner = message.get(name)
        if not isinstance(inner, dict):
            inner = message[name] = {}
        message = inner
    message[last] = value
