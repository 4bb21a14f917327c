"""One address, one identifier, however it is written."""

import pytest

from services.collector.domain.identifiers import normalized_email


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("ada@exämple.se", "ada@exämple.se"),
        ("ada@EXÄMPLE.se", "ada@exämple.se"),
        ("ada@exa\u0308mple.se", "ada@exämple.se"),
        ("A\u030asa@example.se", "åsa@example.se"),
        ("ådå", None),
        ("a b@example.org", None),
        ("@example.org", None),
    ],
)
def test_an_address_is_compared_in_one_form(written, compared):
    """International ones, too, with accents in one character or in two."""
    assert normalized_email(written) == compared
