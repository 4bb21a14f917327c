"""What a source's owner has decided about its messages, applied in turn: agreement, cleaning, plan."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from services.collector.domain.agreement import Agreement, within
from services.collector.domain.cleaning import Cleaning, cleaned
from services.collector.domain.plan import Plan, Violation, held_against

Message = dict[str, Any]


class Rejected(NamedTuple):
    """A message that cannot be kept as an event. Says nothing of its values."""

    code: str
    place: str
    why: str


class Rules(NamedTuple):
    """A source's; None where it has none."""

    agreement: Agreement | None = None
    cleaning: Cleaning | None = None
    plan: Plan | None = None


NONE: Final = Rules()


class Prepared(NamedTuple):
    """A message on which the rules have been used."""

    message: Any
    received: Any
    """As it came, but for what may not be kept."""
    uncleaned: list[str]
    refused: list[str]
    """Paths of fields outside of the agreement."""
    violations: list[Violation]
    rejected: Rejected | None


def prepared(message: Any, shared: Mapping[str, Any], rules: Rules) -> Prepared:
    """The message by the rules; it is left as it is. `shared`: what stands beside it in its batch."""
    refused: list[str] = []
    if rules.agreement is not None:
        message, refused = within(message, rules.agreement)
    received = message
    if not isinstance(message, dict):
        return Prepared(message, received, [], refused, [], None)
    uncleaned: list[str] = []
    if rules.cleaning is not None:
        message, uncleaned, bad = cleaned(_whole(message, shared), rules.cleaning)
        if bad:
            why = "the source's cleaning rules cannot read this value"
            return Prepared(message, received, uncleaned, refused, [], Rejected("not_clean", bad, why))
    violations: list[Violation] = []
    if rules.plan is not None:
        message, violations, broken = held_against(message, rules.plan)
        if broken is not None:
            why = f"not as the source's tracking plan says ({broken.rule})"
            return Prepared(message, received, uncleaned, refused, violations, Rejected("off_plan", broken.path, why))
    return Prepared(message, received, uncleaned, refused, violations, None)


def _whole(message: Message, shared: Mapping[str, Any]) -> Message:
    """With what its batch says for all of them, so that rules see it."""
    common, own = shared.get("context"), message.get("context")
    if not isinstance(common, dict):
        return message
    return {**message, "context": {**common, **own} if isinstance(own, dict) else common}


def shared_within(shared: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """What stands beside the messages of a batch, as far as the agreement allows."""
    if rules.agreement is None:
        return dict(shared)
    kept: dict[str, Any] = within(dict(shared), rules.agreement).message
    return kept
