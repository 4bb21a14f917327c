"""The gate: may this go out? Closed when in doubt, and able to say why (DESIGN law 9)."""

from typing import Final, NamedTuple

from contracts.privacy import SPECIAL_CATEGORIES
from services.privacy.domain.consents import TOO_MUCH, State, history, objected_at

OPTED_OUT_BY_GPC: Final = frozenset(
    {"ads", "advertising", "sale", "sharing", "targeted_advertising", "personalization"}
)
"""Purposes that `Sec-GPC: 1` is an objection to."""


class Verdict(NamedTuple):
    """Yes or no, and why."""

    allow: bool
    reason: str


def decide(state: State, purpose: str, segment_sensitive: bool) -> Verdict:
    """Whether a person who has said this may be acted on for a purpose."""
    if not purpose:
        return Verdict(False, "no_purpose")
    if TOO_MUCH in state:
        return Verdict(False, "too_much_said")
    verdict = _agreed(state, purpose)
    if not verdict.allow:
        return verdict
    if segment_sensitive and not _agreed(state, SPECIAL_CATEGORIES).allow:
        return Verdict(False, "no_explicit_consent_to_special_categories")
    return verdict


def _agreed(state: State, purpose: str) -> Verdict:
    said = history(state, purpose)
    if not said:
        return Verdict(False, "no_consent")
    if not said[-1].agreed:
        return Verdict(False, "consent_withdrawn" if any(each.agreed for each in said) else "consent_refused")
    objected = objected_at(state)
    if purpose in OPTED_OUT_BY_GPC and objected is not None and objected >= said[-1].time:
        return Verdict(False, "objected_by_gpc")
    return Verdict(True, "consent")
