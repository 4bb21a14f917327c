"""The visitor's cookie: whose it is, who may ask, how it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.domain.decode import Refused
from services.collector.domain.source import Source, checked
from services.collector.domain.visitor import (
    Caller,
    checked_origins,
    consent_of,
    cookie_of,
    forgotten,
    kept,
    named,
    signed,
    verified,
    visitor_in,
)
from shared.errors import SamlaError

KEY, SOURCE = b"k" * 32, "0123456789abcdef"
ID = "7c2a6f0e-6f0f-4a53-9b0e-0d5d3a4a1f11"
VALUE = signed(KEY, SOURCE, ID)
OWN = "https://data.shop.example"
SHOP = "https://www.shop.example"
identities = st.uuids(version=4).map(str)


def caller(origin=SHOP, site="same-site", own=OWN):
    return Caller(origin, site, own)


@given(identities)
def test_what_is_signed_is_verified_and_renewing_keeps_the_id(identity):
    """However often it is renewed, the value stays the same, and so does the id."""
    value = signed(KEY, SOURCE, identity)
    for _ in range(3):
        header = kept(SOURCE, value, 30, caller())[0].partition(";")[0]
        assert visitor_in(f"a=b; {header}; c=d", KEY, SOURCE) == identity
        value = signed(KEY, SOURCE, visitor_in(header, KEY, SOURCE))


@given(identities, st.data())
def test_any_changed_byte_is_refused(identity, data):
    """In the id, in the signature, between them."""
    value = signed(KEY, SOURCE, identity).encode()
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda each: each != value[at]))
    changed = value[:at] + bytes([other]) + value[at + 1 :]
    assert verified(KEY, SOURCE, changed.decode("latin-1")) is None


@given(identities, st.data())
def test_a_value_that_is_longer_or_shorter_is_refused(identity, data):
    value = signed(KEY, SOURCE, identity)
    cut = data.draw(st.integers(0, len(value) - 1))
    assert verified(KEY, SOURCE, value[:cut]) is None
    assert verified(KEY, SOURCE, value + data.draw(st.text(min_size=1))) is None


@given(st.text())
def test_no_text_is_taken_for_a_visitor(text):
    """Nor does any make it fail, lone surrogates and all."""
    assert verified(KEY, SOURCE, text) is None
    assert visitor_in(text, KEY, SOURCE) is None


def test_another_sources_or_keys_cookie_is_refused():
    assert verified(KEY, "fedcba9876543210", VALUE) is None
    assert verified(b"x" * 32, SOURCE, VALUE) is None
    assert visitor_in(f"samla_visitor_other={VALUE}", KEY, SOURCE) is None


def test_of_several_cookies_of_the_name_the_signed_one_counts():
    """Another host of the domain may have set one, and browsers send both."""
    name = cookie_of(SOURCE, secure=False)
    assert visitor_in(f"{name}=forged.x; {name}={VALUE}", KEY, SOURCE) == ID
    assert visitor_in(f'{name}="{VALUE}"', KEY, SOURCE) is None


def test_a_cookie_is_out_of_scripts_reach_and_of_this_site():
    """Secure over https only: a browser would not keep it otherwise."""
    name, plain = cookie_of(SOURCE, secure=True), cookie_of(SOURCE, secure=False)
    assert (name, plain) == (f"__Host-samla_visitor_{SOURCE}", f"samla_visitor_{SOURCE}")
    secure = "Path=/; HttpOnly; SameSite=Lax; Secure"
    assert kept(SOURCE, "v", 400, caller()) == [f"{name}=v; Max-Age=34560000; {secure}"]
    assert kept(SOURCE, "v", 1, caller(own="http://127.0.0.1:8080")) == [
        f"{plain}=v; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax"
    ]
    assert forgotten(SOURCE, caller()) == [f"{name}=; Max-Age=0; {secure}"]


def test_a_cookie_that_another_host_may_have_set_does_not_go_before_ours():
    """A host beside ours can set a cookie for the domain, with an id that it was given itself; not one of our name."""
    name, plain = cookie_of(SOURCE, secure=True), cookie_of(SOURCE, secure=False)
    theirs = signed(KEY, SOURCE, "an-id-of-theirs")
    assert visitor_in(f"{plain}={theirs}; {name}={VALUE}", KEY, SOURCE) == ID
    assert visitor_in(f"{plain}={VALUE}; {name}=forged.x", KEY, SOURCE) == ID


def test_an_older_cookie_is_read_and_gives_way_to_the_new_name():
    """Nobody becomes somebody else for it; and who is forgotten is forgotten under both names."""
    name, plain = cookie_of(SOURCE, secure=True), cookie_of(SOURCE, secure=False)
    sent = f"a=b; {plain}={VALUE}"
    assert visitor_in(sent, KEY, SOURCE) == ID
    away = f"{plain}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert kept(SOURCE, VALUE, 30, caller(), sent)[1:] == [away] == forgotten(SOURCE, caller(), sent)[1:]
    assert kept(SOURCE, VALUE, 30, caller(own="http://127.0.0.1:8080"), sent)[1:] == []
    assert kept(SOURCE, VALUE, 30, caller(), f"{name}={VALUE}")[1:] == []


def test_within_another_site_it_is_kept_apart_and_never_without_https():
    [across] = kept(SOURCE, "v", 1, caller(site="cross-site"))
    assert across.startswith("__Host-") and across.endswith("; Path=/; HttpOnly; SameSite=None; Secure; Partitioned")
    assert "None" not in kept(SOURCE, "v", 1, caller(site="cross-site", own="http://data.shop.example"))[0]


@pytest.mark.parametrize(
    ("origin", "site", "may"),
    [
        (SHOP, "same-site", True),
        (SHOP, "cross-site", True),
        (OWN, "same-origin", True),
        ("", "same-origin", True),
        ("", "", True),
        ("", "cross-site", False),
        ("https://evil.example", "cross-site", False),
        ("https://evil.shop.example", "same-site", False),
        (f"{SHOP}.evil.example", "cross-site", False),
        (f"{SHOP}:8443", "same-site", False),
        ("http://www.shop.example", "cross-site", False),
        ("null", "cross-site", False),
    ],
)
def test_who_may_use_the_cookie(origin, site, may):
    """Our own pages and the origins that the source names, exactly."""
    assert caller(origin, site).may_use((SHOP,)) is may


@pytest.mark.parametrize("good", [SHOP, "http://localhost:3000", "http://[::1]:8080", "https://xn--rksmrgs-5wao1o.se"])
def test_an_origin_is_as_browsers_write_it(good):
    assert checked_origins([good, good]) == [good]


@pytest.mark.parametrize(
    "bad",
    ["*", "null", "www.shop.example", f"{SHOP}/", f"{SHOP}/path", "https://*.shop.example", "HTTPS://shop.example",
     "https://Shop.example", "https://shop.example:443", "http://shop.example:80", "ftp://shop.example",
     "https://user@shop.example", f"{SHOP}\n", "", 7, None],
)  # fmt: skip
def test_what_is_no_origin_is_refused(bad):
    """There are no patterns: what is allowed can be read."""
    with pytest.raises(SamlaError, match="origin"):
        checked_origins([bad])


@pytest.mark.parametrize("bad", ["https://shop.example", None, {}, ["https://a.example"] * 101])
def test_origins_are_a_list_that_ends(bad):
    with pytest.raises(SamlaError, match="list"):
        checked_origins(bad)


def test_consent_is_true_false_or_not_said():
    assert consent_of({}) is True
    assert consent_of({"consent": False}) is False
    for odd in ("false", 0, None, {}):
        assert isinstance(consent_of({"consent": odd}), Refused)


def test_only_messages_that_are_nobodys_become_the_visitors():
    """And what was sent is left as it was."""
    messages = [{"userId": "ada"}, {"anonymousId": "a"}, {"userId": None, "anonymousId": ""}, {}, "rubbish"]
    assert named(messages, ID) == [*messages[:2], {"userId": None, "anonymousId": ID}, {"anonymousId": ID}, "rubbish"]
    assert messages[3] == {}


def test_a_source_sets_no_cookie_until_it_says_so():
    source = Source("s", "web", "first", True, 0)
    assert (source.cookie_days, source.origins, source.cookie_gpc, source.example) == (0, (), "ignore", False)


def test_what_may_be_said_of_cookies():
    good = {"cookie_days": 400, "origins": [SHOP], "cookie_gpc": "refuse", "example": True}
    assert checked(good) == good


@pytest.mark.parametrize(
    "bad", [{"cookie_days": 401}, {"cookie_days": -1}, {"cookie_days": True}, {"cookie_days": "30"},
            {"origins": ["*"]}, {"origins": SHOP}, {"cookie_gpc": "maybe"}, {"example": 1}],
)  # fmt: skip
def test_what_may_not(bad):
    with pytest.raises(SamlaError):
        checked(bad)
