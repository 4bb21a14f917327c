"""Who may ask the admin API: a token, or this machine alone; no page of somebody else's."""

import asyncio
import json
import subprocess
import sys

import pytest

from services.console.admin.app import Admin
from services.console.admin.guard import check_bind, is_this_machine
from shared.config import Settings
from shared.errors import SettingsError
from shared.local.suite import ROOT

TOKEN = "a-token-of-this-test"
DOCUMENT = "/api/v1/openapi.json"


def make(home, **more):
    """The app without anything behind it: what the guard lets through gets a 503 or what needs nobody."""
    # Nobody listens on this port.
    return Admin(Settings.from_env({"SAMLA_HOME": str(home), "SAMLA_AMQP_PORT": "1", **more})).app


@pytest.fixture(scope="module")
def open_(tmp_path_factory):
    return make(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    return make(tmp_path_factory.mktemp("closed"), SAMLA_ADMIN_TOKEN=TOKEN, SAMLA_BIND="0.0.0.0")


def asked(app, method="GET", path=DOCUMENT, **headers):
    """(status, headers, body) of one request, by ASGI."""
    told = {"host": "127.0.0.1:8090", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in told.items() if value is not None],
        "scheme": "http", "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1), "server": ("x", 1),
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(each.get("body", b"") for each in sent)
    return sent[0]["status"], {name: value.decode() for name, value in sent[0]["headers"]}, body


def status(app, *arguments, **headers):
    return asked(app, *arguments, **headers)[0]


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200), (None, 401), ("", 401), ("Bearer", 401), ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401), (f"Bearer {TOKEN[:-1]}", 401), (f"Basic {TOKEN}", 401), (TOKEN, 401),
        ("Bearer \xe9\xe9", 401),
    ],
)  # fmt: skip
def test_a_token_once_set_is_always_asked_for(closed, given, answer):
    """Whatever the host is; the refusal says how to give it."""
    found, headers, body = asked(closed, host="cdp.example", authorization=given)
    assert found == answer
    if answer == 401:
        assert headers[b"www-authenticate"] == "Bearer" and TOKEN not in body.decode()


def test_a_token_is_asked_for_before_anything_is_told(closed):
    """Of paths that are there and of those that are not."""
    for path in ("/api/v1/sources", "/api/v1/nothing", "/", "/api/v1/sources/../openapi.json"):
        assert status(closed, "GET", path) == 401
    assert status(closed, "POST", "/api/v1/sources", content_type="application/json") == 401
    assert status(closed, "GET", "/metrics") == 200
    assert status(closed, "GET", "/health") == 503


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost", "LOCALHOST:1", "[::1]:8090", "127.9.9.9"])
def test_without_a_token_names_of_this_machine_are_answered_to(open_, host):
    assert status(open_, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8090", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0",
        "user@127.0.0.1", "127.0.0.1@evil.example", "10.0.0.1", "[::1", "localhost, evil.example", "2130706433",
    ],
)  # fmt: skip
def test_without_a_token_other_names_are_refused(open_, host):
    """A page whose name was pointed at 127.0.0.1 says its own name; health and metrics are no way round."""
    for path in (DOCUMENT, "/health", "/metrics"):
        found, _, body = asked(open_, "GET", path, host=host)
        assert (found, json.loads(body)["code"]) == (403, "wrong_host")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:3000"}, {"origin": ""},
        {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
        {"origin": "http://127.0.0.1:8090", "sec_fetch_site": "cross-site"},
    ],
)  # fmt: skip
def test_a_page_of_another_site_changes_nothing(open_, headers):
    """Another port of this machine is another site, too."""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        found, _, body = asked(open_, method, "/api/v1/sources", **headers)
        assert (found, json.loads(body)["code"]) == (403, "cross_site")


def test_our_own_page_and_programs_may(open_):
    """503: it was let through to services that are not there."""
    json_ = {"content_type": "application/json"}
    for headers in (
        {},
        {"origin": "http://127.0.0.1:8090", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ):
        assert status(open_, "POST", "/api/v1/sources/0123456789abcdef/rotate", **json_, **headers) == 503


def test_no_answer_is_for_other_sites_or_for_caches(open_):
    """Errors neither."""
    for path in (DOCUMENT, "/api/v1/nothing"):
        headers = asked(open_, "GET", path, origin="http://evil.example")[1]
        assert not [name for name in headers if name.startswith(b"access-control")]
        assert headers[b"cache-control"] == "no-store" and headers[b"x-content-type-options"] == "nosniff"
    assert status(open_, "OPTIONS", "/api/v1/sources", origin="http://evil.example") == 405


def test_it_does_not_listen_to_others_without_a_token(tmp_path):
    """One clear line, and exit code 2."""
    for bind in ("0.0.0.0", "::", "10.0.0.1", "cdp.example", ""):
        if bind:
            with pytest.raises(SettingsError, match="SAMLA_ADMIN_TOKEN must be set"):
                check_bind(Settings.from_env({"SAMLA_BIND": bind}))
        check_bind(Settings.from_env({"SAMLA_BIND": bind, "SAMLA_ADMIN_TOKEN": TOKEN}))
    check_bind(Settings.from_env({"SAMLA_BIND": "::1"}))
    done = subprocess.run(
        [sys.executable, "-m", "services.console.api"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"SAMLA_BIND": "0.0.0.0", "SAMLA_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("samla: SAMLA_ADMIN_TOKEN") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("token", ["short", "with a space in its middle", "sixteen-letters\xe9"])
def test_a_token_that_is_easy_to_guess_or_to_break_is_a_wrong_setting(token):
    with pytest.raises(SettingsError, match="SAMLA_ADMIN_TOKEN must be 16 characters"):
        Settings.from_env({"SAMLA_ADMIN_TOKEN": token})


def test_names_of_this_machine():
    assert is_this_machine("localhost:8090") and not is_this_machine("local-host")
