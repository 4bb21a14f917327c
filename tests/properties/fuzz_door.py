"""A coverage-guided fuzzer (atheris) on the way from a request's bytes to what is kept: `python -m
tests.properties.fuzz_door -runs=50000`. Ends with an error at the first input that breaks a promise."""

import sys

import atheris

with atheris.instrument_imports(include=["services.collector", "shared.policy", "shared.values"]):
    from services.collector.domain import agreement, decode
    from services.collector.domain.cleaning import cleaning_of
    from services.collector.domain.client import Sender
    from services.collector.domain.decode import Refused
    from services.collector.domain.intake import take_in
    from services.collector.domain.plan import plan_of
    from services.collector.domain.rules import Rules
    from services.collector.domain.source import Source
    from services.collector.edge import decoded

from shared.policy import POLICY

RULES = Rules(
    cleaning=cleaning_of(
        1,
        {
            "rename": {"traits.mail": "traits.email", "name": "event"},
            "clean": {
                "traits.*": ["trim", "collapse"],
                "traits.email": {"steps": "email", "else": "drop"},
                "properties.revenue": {"number": {"locale": "sv_SE"}},
                "properties.products.*.price": {"steps": "number", "else": "reject"},
            },
            "default": {"properties.currency": "SEK"},
        },
    ),
    plan=plan_of(1, {"mode": "drop", "events": {"E": {"properties": {"properties": {"a": {"type": "integer"}}}}}}),
)
FIELDS = ["traits.*.city", "traits.email", "properties.products.*.price", "context.ip", "properties.na[m]e"]
AGREED = RULES._replace(agreement=agreement.checked("a", "second", "Partner", ["p"], FIELDS, 0, 2**50))
SOURCES = [
    Source("s", "web", "first", True, 0),
    Source("s", "web", "first", True, 0, rules=RULES, ip="keep"),
    Source("s", "web", "second", True, 0, rules=AGREED, ip="keep"),
]
KINDS = [None, None, "track", "identify", "page", "screen", "group", "alias"]
SEEDS = [
    b'{"batch":[{"type":"track","userId":"u","event":"E","properties":{"revenue":"1 2,5","products":[{"price":1}]}}]}',
    b'{"userId":1,"traits":{"email":"a@example.org"},"context":{"ip":"1.2.3.4","consent":{"categoryPreferences":{}}}}',
    b'{"previousId":"a","userId":"b","timestamp":"2026-01-01T00:00:00Z","sentAt":"2026-01-01T00:00:01Z"}',
]


def one_input(data: bytes) -> None:
    """Whatever the bytes: a refusal with a client's status, or every message accepted or set aside for what it is."""
    if not data:
        return
    kind, source = KINDS[data[0] % len(KINDS)], SOURCES[data[0] // len(KINDS) % len(SOURCES)]
    found = decoded(data[1:], kind, b"Basic dTo=" if data[0] & 128 else None, b"writeKey=x")
    if isinstance(found, Refused):
        assert found.status == 400 and found.code and found.message
        return
    batch, _, text = found
    arrival = source.arrival(
        1_790_000_000_000,
        gpc=False,
        sender=Sender("127.0.0.1", "", source.ip, source.bots),
        sized=len(text) <= source.size,
        exact=not decode.has_long_number(text),
    )
    intake = take_in(batch, arrival, POLICY, lambda: "fresh")
    assert len(intake.accepted) + len(intake.set_aside) == len(batch.messages) and not intake.failures


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
