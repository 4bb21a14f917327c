"""Webhooks never reach inside the house, however an address is written."""

import pytest

from services.activation.domain.ssrf import checked_url, refused
from shared.errors import SamlaError

INSIDE = [
    "127.0.0.1", "127.255.0.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "::1", "fd00::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "100.64.0.1", "169.254.169.254", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::7f00:1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "2002:7f00:1::", "2002:0808:0808::",
    "2001:0:5ef5:79fd::1", "2001:db8::1", "64:ff9b:1::1", "100::1", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
    "64:ff9b::169.254.169.254", "::ffff:0:127.0.0.1", "5f00::1", "3fff::1",
    "", "localhost", "127.1", "2130706433", "0x7f000001",
]  # fmt: skip
OUTSIDE = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "2a00:1450:4001::5",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_of_the_house_need_the_setting(address):
    assert refused(address, allow_local=False)
    assert not refused(address, allow_local=True)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_in_any_case(address):
    """Link-local (where clouds keep credentials), multicast, reserved, disguised, and what is no number."""
    assert refused(address, allow_local=False)
    assert refused(address, allow_local=True)


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_pass(address):
    assert not refused(address, allow_local=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook",
        "https://example.org:8443/hook?token=1",
        "https://bücher.example/hook",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]/",
    ],
)
def test_a_url_to_the_outside_passes(url):
    assert checked_url(url, allow_local=False).geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "https:///path", "ftp://example.org/", "file:///etc/passwd", "javascript:alert(1)",
        "http://example.org/", "https://user:pass@example.org/", "https://user@example.org/",
        "https://example.org:0/", "https://example.org:99999/", "https://[::1/", "https://exa mple.org/",
        "https://example.org/\r\nHost: other", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data", "https://" + "a" * 3000 + "/", "https://a..b\u0130/",
    ],
)  # fmt: skip
def test_a_url_that_is_none_of_ours_is_refused(url):
    with pytest.raises(SamlaError):
        checked_url(url, allow_local=False)


def test_plain_http_is_for_local_sinks_only():
    """Identifiers do not cross the internet in the clear."""
    assert checked_url("http://127.0.0.1:9000/hook", allow_local=True).port == 9000
    with pytest.raises(SamlaError, match="https"):
        checked_url("http://127.0.0.1:9000/hook", allow_local=False)
