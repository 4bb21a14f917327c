"""What a source's owner has decided about its messages, applied in turn: agreement, cleaning, plan."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple, cast

from services.collector.domain.agreement import Agreement, Within, within
from services.collector.domain.cleaning import MOST_VALUES, Cleaning, cleaned
from services.collector.domain.decode import SHARED, Message
from services.collector.domain.plan import Plan, Violation, held_against


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
TOO_MANY_VALUES: Final = Rejected(
    "too_many_values", "", f"the source's cleaning rules clean {MOST_VALUES} values of one message at most"
)


class Prepared(NamedTuple):
    """A message on which the rules have been used."""

    message: Any
    """With what its batch says for all of them."""
    received: Any
    """As it came, but for what may not be kept."""
    uncleaned: list[str]
    refused: list[str]
    """Paths of fields outside of the agreement."""
    violations: list[Violation]
    rejected: Rejected | None


def prepared(message: Any, shared: Mapping[str, Any], rules: Rules) -> Prepared:
    """The message by the rules; it is left as it is. `shared`: what stands beside it in its batch, within the
    agreement."""
    message, refused = within_rules(message, rules)
    received = message
    if not isinstance(message, dict):
        return Prepared(message, received, [], refused, [], None)
    message = whole(message, shared)
    uncleaned: list[str] = []
    if rules.cleaning is not None:
        allow = partial(_renamed, rules.agreement, refused) if rules.agreement else None
        message, uncleaned, bad, too_many = cleaned(message, rules.cleaning, within=allow)
        if too_many:
            return Prepared(message, received, uncleaned, refused, [], TOO_MANY_VALUES)
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


def _renamed(agreement: Agreement, refused: list[str], message: Message) -> Message:
    """The message once its fields are renamed. What it holds of its batch was asked about before."""
    kept, more = within(message, agreement)
    refused += [each for each in more if each not in refused]
    return cast(Message, kept)


def whole(message: Message, shared: Mapping[str, Any]) -> Message:
    """With what its batch says for all of them, over which its own words go."""
    for part in SHARED if shared else ():
        common, own = shared.get(part), message.get(part)
        # What is no object stays to be told as such.
        if isinstance(common, dict) and common and (own is None or isinstance(own, dict)):
            message = {**message, part: {**common, **(own or {})}}
    return message


def within_rules(message: Any, rules: Rules) -> Within:
    """A message, or what stands beside those of a batch, as far as the source's agreement allows."""
    return Within(message, []) if rules.agreement is None else within(message, rules.agreement)
