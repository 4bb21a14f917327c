"""What of a shared device's events is a person's."""

from services.privacy.domain.belonging import belonging_of
from services.privacy.domain.consents import of, state_of
from services.privacy.domain.gate import decide

ANN = {"subjects": ["ann", "tablet"], "shared": {"tablet": 50}, "given": {}, "elsewhere": {"tablet": ["order"]}}
GUEST = {"subjects": ["guest"], "shared": {}, "given": {"tablet": ["order"]}, "elsewhere": {}}


def said(time, event, agreed):
    return state_of({"time": time, "source_name": "web", "consent": {"marketing": agreed}}, event)


def test_an_event_on_a_shared_device_is_the_first_persons_before_and_then_only_whom_it_names():
    ann, guest = belonging_of(ANN), belonging_of(GUEST)
    assert [ann.holds("tablet", "visit", time) for time in (49, 50)] == [True, False]
    assert ann.holds("ann", "login", 60) and not ann.holds("tablet", "order", 40)
    assert guest.holds("tablet", "order", 60) and not guest.holds("tablet", "visit", 10)
    assert (ann.places, guest.places) == ({"ann", "tablet"}, {"guest", "tablet"})


def test_what_somebody_else_agreed_to_on_the_tablet_is_not_the_first_persons_consent():
    """Nor the other way around."""
    states = {"tablet": said(60, "visit", True), "ann": said(10, "login", False)}
    assert not decide(of(states, belonging_of(ANN)), "marketing", False)[0]
    states = {"tablet": said(60, "order", True)}
    assert decide(of(states, belonging_of(GUEST)), "marketing", False)[0]
    assert not decide(of(states, belonging_of(ANN)), "marketing", False)[0]


def test_a_person_as_identity_told_it_before_there_were_shared_devices():
    """The newer fields may be missing."""
    assert belonging_of({"subjects": ["ann"]}).holds("ann", "any", 1)
