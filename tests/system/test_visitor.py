"""A visitor's id from the collector's own domain, and the page that shows how it is used; in a real browser."""

import json

import pytest

from tests.system import sdks
from tests.system.world import eventually

NAME = "samla_visitor"


@pytest.fixture(scope="module")
def browser():
    with sdks.browser() as running:
        yield running.browser


@pytest.fixture
def context(browser):
    """A browser that has been nowhere yet."""
    made = browser.new_context(user_agent=sdks.CHROME)
    made.set_default_timeout(10_000)
    yield made
    made.close()


@pytest.fixture
def page(context):
    """A page; it must make no error, and be stopped at nothing by its own policy."""
    made, errors = context.new_page(), []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    yield made
    assert not errors


@pytest.fixture
def web(tmp_path):
    """A page of another origin, on the same site."""
    (tmp_path / "index.html").write_text("<!doctype html><title>A shop</title>")
    with sdks.web_server(tmp_path) as address:
        yield address


def change(world, **changes):
    """Changes the world's source and waits until the edge knows."""
    world.ask("collector", "change_source", world.source, {"cookie_days": 30, "example": True, **changes})
    eventually(lambda: visit(world).status in (200, 400), 15, "the edge does not know")


def visit(world, method="POST", body=None, **headers):
    return world.pool.request(
        method, f"{world.url}/v1/visitor?writeKey={world.key}", body=json.dumps(body) if body else None,
        headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=20,
    )  # fmt: skip


def cookie_in(answer):
    """(what a client sends back, the cookie's attributes)."""
    value, _, attributes = answer.headers["Set-Cookie"].partition("; ")
    return value, attributes


# The endpoint


def test_an_id_is_given_told_renewed_and_forgotten(world):
    """POST gives one and starts its time anew; GET tells it; DELETE takes it away."""
    change(world)
    first = visit(world)
    cookie, attributes = cookie_in(first)
    assert cookie.startswith(f"{NAME}_{world.source}=")
    assert attributes == "Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax"
    renewed = visit(world, Cookie=cookie)
    assert renewed.json() == first.json() and cookie_in(renewed) == (cookie, attributes)
    told = visit(world, "GET", Cookie=cookie)
    assert told.json() == first.json() and "Set-Cookie" not in told.headers
    assert told.headers["Cache-Control"] == "no-store"
    forgotten = visit(world, "DELETE", Cookie=cookie)
    assert forgotten.json() == {"anonymousId": None} and "Max-Age=0" in cookie_in(forgotten)[1]


def test_nobody_can_choose_an_id(world):
    """A forged cookie is replaced by a fresh id, and one of another source is as good as forged."""
    change(world)
    cookie, _ = cookie_in(visit(world))
    name, _, value = cookie.partition("=")
    identity = value.rpartition(".")[0]
    for forged in (f"x{value}", f"{identity}.", f"victim.{value.rpartition('.')[2]}", "", "."):
        answer = visit(world, Cookie=f"{name}={forged}")
        assert answer.json()["anonymousId"] not in (identity, "victim", f"x{identity}", "")
    assert visit(world, "GET", Cookie=f"{name}=victim.{value}").json() == {"anonymousId": None}


def test_who_has_refused_gets_none_and_loses_the_one_there_was(world):
    change(world)
    cookie, _ = cookie_in(visit(world))
    refused = visit(world, body={"consent": False}, Cookie=cookie)
    assert refused.json() == {"anonymousId": None} and "Max-Age=0" in cookie_in(refused)[1]
    assert visit(world, body={"consent": "no"}).json()["code"] == "bad_consent"


def test_gpc_stops_it_where_the_source_says_so(world):
    change(world)
    assert visit(world, Sec_GPC="1").json()["anonymousId"]
    change(world, cookie_gpc="refuse")
    eventually(lambda: visit(world, Sec_GPC="1").json() == {"anonymousId": None}, 15, "an id is still given")
    assert visit(world).json()["anonymousId"]


def test_over_https_the_cookie_is_secure(world):
    """As told by what stands before the collector; within another site it is kept for that site alone."""
    change(world, origins=["https://www.shop.example"])
    assert cookie_in(visit(world, X_Forwarded_Proto="https"))[1].endswith("SameSite=Lax; Secure")

    def across():
        return visit(
            world, X_Forwarded_Proto="https", Sec_Fetch_Site="cross-site", Origin="https://www.shop.example"
        )  # fmt: skip

    eventually(lambda: across().status == 200, 15, "the origin is not known")
    answer = across()
    assert cookie_in(answer)[1].endswith("SameSite=None; Secure; Partitioned")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://www.shop.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true" and "Origin" in answer.headers["Vary"]


def test_a_source_that_has_not_said_so_gives_no_ids_and_shows_no_page(world):
    """Both are off until they are switched on."""
    answer = visit(world)
    assert (answer.status, answer.json()["code"]) == (404, "visitor_off")
    assert "Set-Cookie" not in answer.headers
    shown = world.pool.request("GET", f"{world.url}/example/{world.key}/")
    assert (shown.status, shown.json()["code"]) == (404, "example_off")
    identity = f"{NAME}_{world.source}=x.y"
    assert world.send("/v1/track", {"event": "E"}, headers={"Cookie": identity}).status == 400


def test_what_says_nothing_of_whose_it_is_is_the_visitors(world):
    """One message, a batch and a pixel; who says who they are, stays who they are."""
    change(world)
    answer = visit(world)
    cookie, identity = cookie_in(answer)[0], answer.json()["anonymousId"]
    world.post("/v1/track", {"event": "One"}, headers={"Cookie": cookie})
    world.post(
        "/v1/batch",
        {"batch": [{"type": "track", "event": "Two"}, {"type": "track", "event": "Hers", "userId": "ada"}]},
        headers={"Cookie": cookie},
    )
    pixel = f"{world.url}/pixel/v1/track?writeKey={world.key}&event=Pixel"
    assert world.pool.request("GET", pixel, headers={"Cookie": cookie}).status == 200
    # Another site's page that makes the browser send is not spoken for.
    across = {"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}
    assert world.pool.request("GET", pixel, headers=across).status == 400
    assert (
        world.send("/v1/track", {"event": "E"}, headers={"Cookie": cookie, "Origin": "https://e.example"}).status == 400
    )
    known = {body["event"]: body["identifiers"] for body in world.logged()}
    assert known == {event: [["anonymous", identity]] for event in ("One", "Two", "Pixel")} | {
        "Hers": [["user", "ada"]]
    }


# In a browser

FETCH = """async ([url, method, type]) => {
  const headers = type ? { "Content-Type": type } : {};
  try {
    const answer = await fetch(url, { method, headers, credentials: "include", body: method === "POST" ? "{}" : null });
    return { status: answer.status, ...(await answer.json()) };
  } catch (error) { return { failed: String(error) }; }
}"""


def test_a_page_of_an_allowed_origin_may_use_it_and_another_may_not(world, page, web):
    """With cookies, with and without a preflight."""
    change(world, origins=[web])
    address = f"{world.url}/v1/visitor?writeKey={world.key}"
    page.goto(web)
    eventually(lambda: page.evaluate(FETCH, [address, "POST", ""]).get("status") == 200, 15, "it may not")
    first = page.evaluate(FETCH, [address, "POST", ""])
    assert first["anonymousId"] == page.evaluate(FETCH, [address, "POST", "application/json"])["anonymousId"]
    assert first["anonymousId"] == page.evaluate(FETCH, [address, "GET", ""])["anonymousId"]
    # The cookie goes with events too, and their answers can be read.
    sent = """([url, key]) => fetch(`${url}/v1/track`, { method: "POST", credentials: "include",
        headers: { "Content-Type": "application/json" }, body: JSON.stringify({ event: "Seen", writeKey: key }) })
        .then((answer) => answer.json())"""
    assert page.evaluate(sent, [world.url, world.key]) == {"success": True}
    assert [body["identifiers"] for body in world.logged()] == [[["anonymous", first["anonymousId"]]]]
    assert page.evaluate(FETCH, [address, "DELETE", ""])["anonymousId"] is None
    assert not page.context.cookies(world.url)
    page.goto(web.replace("127.0.0.1", "localhost"))
    for method, kind in (("POST", ""), ("POST", "application/json"), ("GET", ""), ("DELETE", "")):
        assert "failed" in page.evaluate(FETCH, [address, method, kind])
    assert not page.context.cookies(world.url)
