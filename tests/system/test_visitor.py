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
    cookie, attributes = cookie_in(visit(world, X_Forwarded_Proto="https"))
    assert cookie.startswith(f"__Host-{NAME}_{world.source}=") and attributes.endswith(
        "Path=/; HttpOnly; SameSite=Lax; Secure"
    )
    again = visit(world, "GET", X_Forwarded_Proto="https", Cookie=cookie)
    assert again.json()["anonymousId"] == cookie.partition("=")[2].rpartition(".")[0]
    older = visit(world, X_Forwarded_Proto="https", Cookie=cookie.removeprefix("__Host-"))
    assert older.json() == again.json()
    assert [each.partition("=")[0] for each in older.headers.getlist("Set-Cookie")] == [
        f"__Host-{NAME}_{world.source}", f"{NAME}_{world.source}",
    ]  # fmt: skip

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


# The example page


class Example:
    """The example page in a browser, and what it asks the collector for."""

    def __init__(self, world, page):
        change(world)
        self.world, self.page, self.asked = world, page, []
        page.on("request", lambda request: "/v1/" in request.url and self.asked.append(request))
        self.open()

    def open(self):
        self.page.goto(f"{self.world.url}/example/{self.world.key}")
        self.page.wait_for_function("document.getElementById('choice').textContent")

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, name, email):
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Interested most in").select_option("oolong")
        self.press("Send me the letter")

    def answered(self, number):
        """Waits until so many requests have been answered, and shown with their answers."""
        self.page.wait_for_function("n => document.querySelectorAll('#sent .good').length === n", arg=number)

    def cookie(self):
        """The visitor's cookie; None where there is none."""
        found = [each for each in self.page.context.cookies() if each["name"].startswith(NAME)]
        return found[0] if found else None


@pytest.fixture
def example(world, page):
    return Example(world, page)


def consent(analytics, marketing):
    return {"analytics": analytics, "marketing": marketing}


def test_before_a_choice_nothing_is_sent_and_nothing_kept(world, example):
    """Whatever is pressed: the page asks first."""
    example.press("Buy")
    example.page.get_by_text("Please choose first").wait_for()
    example.fill("Ada", "ada@example.org")
    example.page.wait_for_timeout(300)
    assert example.asked == [] and world.logged() == []
    assert example.page.context.cookies() == []
    assert example.page.evaluate("Object.keys(localStorage)") == []


def test_a_yes_is_in_the_log_with_every_event_and_the_id_lasts(world, example):
    """A page, a form and an order; the id is out of scripts' reach and survives a reload."""
    example.press("Accept all")
    example.answered(2)
    cookie = example.cookie()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax" and cookie["path"] == "/"
    assert NAME not in example.page.evaluate("document.cookie")
    example.fill("Ada", "ada")
    example.page.get_by_text("E-mail must look like").wait_for()
    example.fill("Ada", "ada@example.org")
    example.press("Buy")
    example.answered(4)
    visitor = cookie["value"].rpartition(".")[0]
    bodies = {body["type"]: body for body in world.logged()}
    assert set(bodies) == {"page", "identify", "track"}
    for body in bodies.values():
        assert body["consent"] == consent(True, True)
        assert ["anonymous", visitor] in body["identifiers"]
    assert ["email", "ada@example.org"] in bodies["identify"]["identifiers"]
    assert bodies["identify"]["traits"] == {"name": "Ada", "email": "ada@example.org", "interest": "oolong"}
    assert bodies["track"]["event"] == "Order Completed" and bodies["track"]["properties"]["revenue"] == 12.5
    assert world.key not in json.dumps(list(bodies.values()))
    example.open()
    example.answered(2)
    assert example.cookie()["value"] == cookie["value"]
    assert not example.page.get_by_role("button", name="Accept all").is_visible()


def test_a_no_keeps_no_id_and_what_is_asked_for_says_no(world, example):
    """Nothing is measured; a letter that somebody asks for goes under an id that is used once."""
    example.press("Refuse all")
    example.answered(1)
    example.press("Buy")
    example.page.get_by_text("Nothing was sent").wait_for()
    assert [request.post_data_json for request in example.asked] == [{"consent": False, "writeKey": world.key}]
    assert example.page.context.cookies() == [] and world.logged() == []
    example.fill("Ada", "ada@example.org")
    example.answered(2)
    [body] = world.logged()
    assert body["type"] == "identify" and body["consent"] == consent(False, False)
    example.open()
    example.page.get_by_text("All refused").wait_for()
    example.page.wait_for_timeout(300)
    assert len(example.asked) == 2 and example.page.context.cookies() == []


def test_a_choice_by_category_can_be_changed_and_the_change_is_told(world, example):
    """Before the id is forgotten, so that the no reaches what was collected under it."""
    example.press("Choose by category")
    example.page.get_by_label("Analytics").check()
    example.press("Save my choice")
    example.answered(2)
    visitor = example.cookie()["value"].rpartition(".")[0]
    example.press("Privacy choices")
    assert example.page.evaluate("document.activeElement.id") == "consent-title"
    assert example.page.get_by_label("Analytics").is_checked()
    assert not example.page.get_by_label("Marketing").is_checked()
    example.page.keyboard.press("Escape")
    assert example.page.evaluate("document.activeElement.id") == "change"
    example.press("Privacy choices")
    example.press("Refuse all")
    example.answered(4)
    assert example.cookie() is None
    bodies = {body["event"]: body for body in world.logged()}
    assert bodies["Page Viewed"]["consent"] == consent(True, False)
    told = bodies["Segment Consent Preference Updated"]
    assert told["consent"] == consent(False, False) and ["anonymous", visitor] in told["identifiers"]
    world.quiet()
    shown = world.ask("privacy", "consents", world.ask("identity", "resolve", [["anonymous", visitor]]))
    assert {purpose: said["agreed"] for purpose, said in shown.items()} == consent(False, False)


def test_the_page_can_be_used_with_the_keyboard_alone(world, example):
    """The banner comes first, behind the link that skips it; its two answers look alike."""
    example.page.keyboard.press("Tab")
    assert "Skip" in example.page.evaluate("document.activeElement.textContent")
    example.page.keyboard.press("Tab")
    looks = """() => ["refuse", "accept"].map((id) => { const each = document.getElementById(id);
        const { backgroundColor, color, fontSize, fontWeight } = getComputedStyle(each);
        const { offsetWidth, offsetHeight } = each;
        return JSON.stringify([backgroundColor, color, fontSize, fontWeight, offsetWidth, offsetHeight]); })"""
    assert example.page.evaluate("document.activeElement.id") == "refuse"
    assert len(set(example.page.evaluate(looks))) == 1
    example.page.keyboard.press("Tab")
    example.page.keyboard.press("Enter")
    example.answered(2)
    assert example.page.evaluate("document.activeElement.id") == "change"


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_fits_every_width(world, example, width):
    """Nothing has to be scrolled sideways, also with the longest answers open."""
    example.page.set_viewport_size({"width": width, "height": 700})
    example.press("Choose by category")
    example.press("Accept all")
    example.answered(2)
    for each in example.page.locator("#sent summary").all():
        each.click()
    assert example.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_pages_files_come_with_a_strict_policy(world):
    """No inline script or style, nothing from elsewhere, no guessing of types; and no other file."""
    change(world)
    address = f"{world.url}/example/{world.key}"
    moved = world.pool.request("GET", address, redirect=False)
    assert (moved.status, moved.headers["Location"]) == (308, f"{world.key}/")
    for name, kind in (("", "text/html"), ("example.css", "text/css"), ("example.js", "text/javascript")):
        answer = world.pool.request("GET", f"{address}/{name}")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for name in ("edge.py", "../edge.py", "%2e%2e/edge.py", "index.html/"):
        assert world.pool.request("GET", f"{address}/{name}").status in (401, 404)
    assert world.pool.request("GET", f"{world.url}/example/nobodys/").status == 401
