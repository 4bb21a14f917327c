"""The admin API on the running suite: each resource for real, uploads through kill -9, and both documents fuzzed."""

import contextlib
import json
from urllib.parse import quote, urlencode

import orjson
import pytest
import schemathesis
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from contracts.streams import TRACKING
from services.collector import edge
from services.console.admin.table import CALLS
from shared.eventlog import NewEvent
from shared.eventlog.sealed import open_events
from shared.keyring import ORDINARY, Sealing, new_id
from shared.mongo import MongoTransactor
from tests.system.test_import import MAPPING, exported
from tests.system.world import eventually
from tests.unit.collector.webhooks import SECRET, payload, signed, written

NOBODY = "0" * 32


class Api:
    """The API as a program uses it."""

    def __init__(self, world):
        self.world = world
        self.url = f"http://127.0.0.1:{world.settings.console_port}"

    def raw(self, method, path, body=None, headers=None, **query):
        address = f"{self.url}/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        told = {"Content-Type": "application/json"} if isinstance(body, (dict, list)) else {}
        raw = json.dumps(body).encode() if told else body
        return self.world.pool.request(method, address, body=raw, headers={**told, **(headers or {})}, timeout=30)

    def __call__(self, method, path, body=None, answers=200, **more):
        answer = self.raw(method, path, body, **more)
        assert answer.status == answers, (answer.status, answer.data)
        return answer.json()

    def refuses(self, status, method, path, body=None, **more):
        found = self(method, path, body, answers=status, **more)
        assert set(found) == {"code", "message"}
        return found


@pytest.fixture
def api(world):
    return Api(world)


# Each resource


def test_sources(world, api):
    """Made, looked at, changed, refused and taken again, and its key rotated; the key is told just twice."""
    name = f"source-{world.fresh()}"
    made = api("POST", "/sources", {"name": name}, answers=201)
    source, body = made["source"], {"userId": world.fresh(), "event": "E"}
    world.post("/v1/track", body, key=made["write_key"])
    one = api("GET", f"/sources/{source}")
    assert one["name"] == name and one["party"] == "first"
    assert one["source"] in [each["source"] for each in api("GET", "/sources")["items"]]
    assert made["write_key"] not in json.dumps([one, api("GET", "/sources")])
    assert api("PATCH", f"/sources/{source}", {"rate": 7, "ip": "drop"})["rate"] == 7
    assert api("POST", f"/sources/{source}/disable")["enabled"] is False
    key = made["write_key"]
    eventually(lambda: world.send("/v1/track", body, key=key).status == 404, 15, "it is not refused")
    assert api("POST", f"/sources/{source}/enable")["enabled"] is True
    rotated = api("POST", f"/sources/{source}/rotate", {"overlap_hours": 0})
    world.post("/v1/track", body, key=rotated["write_key"])
    eventually(lambda: world.send("/v1/track", body, key=key).status == 401, 15, "the old key is good")
    assert api.refuses(409, "POST", "/sources", {"name": name})["code"] == "conflict"
    assert "rate" in api.refuses(400, "PATCH", f"/sources/{source}", {"rate": -1})["message"]
    api.refuses(404, "GET", "/sources/0123456789abcdef")
    api.refuses(404, "PATCH", "/sources/0123456789abcdef", {"rate": 1})


def test_tools_that_send_webhooks(world, api):
    """Connected, told of without their secrets, given another one, and disconnected; one's own dialect likewise."""
    path = f"/sources/{world.source}/connections/typeform"
    address = f"{world.url}/v1/inbound/typeform/{world.source}"
    body = written("typeform", payload("typeform_form_response"))

    def answered(secret):
        headers = {"Content-Type": "application/json", **signed("typeform", body, secret=secret)}
        return world.pool.request("POST", address, body=body, headers=headers, timeout=20).status

    made = api("PUT", path, {"secret": SECRET})
    path_given = address[len(world.url) :]
    assert made == {
        "source": world.source, "dialect": "typeform", "path": path_given, "secret": SECRET, "old_until": None,
    }  # fmt: skip
    assert answered(SECRET) == 200
    [row] = [each for each in api("GET", "/connections")["items"] if each["source"] == world.source]
    assert (row["dialect"], row["own"]) == ("typeform", False) and row["old_until"] is None
    assert set(row) == {"source", "dialect", "own", "since", "old_until"}
    another = api("PUT", path, {"overlap_hours": 0})["secret"]
    assert another != SECRET and another not in json.dumps(api("GET", "/connections"))
    eventually(lambda: answered(SECRET) == 401 and answered(another) == 200, 20, "the old secret is good")
    assert api("DELETE", path) == {}
    eventually(lambda: answered(another) == 404, 20, "it is taken")
    api.refuses(404, "DELETE", path)
    own = {
        "name": "own",
        "signature": {"header": "X-S"},
        "topic": "k",
        "rules": {"a": [{"type": "track", "event": "E"}]},
    }
    path = f"/sources/{world.source}/connections/own"
    assert "signature" in api.refuses(400, "PUT", path, {"document": {**own, "signature": 5}})["message"]
    assert "the dialect's name is own" in api.refuses(400, "PUT", f"{path}er", {"document": own})["message"]
    api("PUT", path, {"document": own})
    assert [each["own"] for each in api("GET", "/connections")["items"] if each["source"] == world.source] == [True]
    api.refuses(400, "PUT", f"/sources/{world.source}/connections/nosuch", {})
    api.refuses(400, "PUT", path, {"secret": "short"})
    api.refuses(404, "PUT", "/sources/0123456789abcdef/connections/stripe", {})


def test_quarantine(world, api):
    """Listed, counted, opened, mended and replayed."""
    user = world.fresh()
    world.send("/v1/track", {"userId": user, "name": "Mended"})
    [row] = api("GET", "/quarantine", source=world.source)["items"]
    assert row["reason"] == "missing_field" and user not in json.dumps(row)
    counts = api("GET", "/quarantine/counts")["items"]
    assert {"source": world.source, "reason": "missing_field", "count": 1} in counts
    assert user in json.dumps(api("GET", f"/quarantine/{row['id']}"))
    mended = api("PUT", f"/quarantine/{row['id']}", {"rule": {"rename": {"name": "event"}}})
    assert mended["mended"]["event"] == "Mended"
    page = {"source": world.source, "dry": True}
    assert api("POST", "/quarantine/replay", page)["replayed"] == 1
    assert api("POST", "/quarantine/replay", {"source": world.source})["replayed"] == 1
    world.quiet()
    assert world.count(user, "Mended") == 1
    assert api("GET", "/quarantine", source=world.source)["items"] == []
    api.refuses(404, "GET", f"/quarantine/{row['id']}")
    api.refuses(400, "PUT", f"/quarantine/{row['id']}", {"rule": {}, "message": {}})


def test_a_computed_trait_by_its_key(world, api):
    """Taken, unknown, used by a segment: each an answer of its own."""
    key = f"often-{world.fresh()}"
    trait = {"key": key, "definition": {"event": world.event, "measure": "count"}}
    api("POST", "/traits", trait, answers=201)
    assert "already" in api.refuses(409, "POST", "/traits", trait)["message"]
    api.refuses(404, "DELETE", f"/traits/{key}-not")
    api("POST", "/segments", {"key": key, "definition": {"computed": key, "gte": 1}}, answers=201)
    refused = api.refuses(409, "DELETE", f"/traits/{key}")
    assert refused["code"] == "conflict" and f"the segments {key} use" in refused["message"]
    api("DELETE", f"/segments/{key}")
    api("DELETE", f"/traits/{key}")
    api.refuses(404, "GET", f"/traits/{key}")
    nested = {"event": world.event, "measure": "last", "value": "deep.diagnosis"}
    assert "GDPR Art. 9" in api.refuses(400, "POST", "/traits", {"key": key, "definition": nested})["message"]


def test_segments_destinations_and_deliveries(world, api, sink):
    """From a definition to a signed message, and a dead one sent again."""
    key, user = f"seg-{world.fresh()}", world.fresh()
    definition = {"event": world.event, "count": {"gte": 1}}
    assert api("POST", "/segments/preview", {"definition": definition})["count"] == 0
    segment = api("POST", "/segments", {"key": key, "definition": definition}, answers=201)["segment"]
    api.refuses(409, "POST", "/segments", {"key": key, "definition": definition})
    assert "just one of" in api.refuses(400, "POST", "/segments/preview", {"definition": {}})["message"]
    made = api("POST", "/destinations", {"name": key, "url": sink.url + "status/500"}, answers=201)
    destination = made["destination"]
    sink.secrets.append(made["secret"])
    told = {"segment": key, "purpose": "marketing"}
    subscription = api("POST", f"/destinations/{destination}/subscriptions", told, answers=201)["subscription"]
    assert api("GET", f"/destinations/{destination}")["subscriptions"][0]["subscription"] == subscription
    assert made["secret"] not in json.dumps(api("GET", "/destinations"))
    api.refuses(404, "POST", f"/destinations/{NOBODY}/subscriptions", told)
    world.agrees(user)
    world.orders(user)
    profile = eventually(lambda: world.profile_of(user), 20, "nobody")
    eventually(lambda: api("GET", f"/segments/{key}/members")["items"] == [profile], 20, "nobody is in")
    assert api("GET", f"/segments/{segment}")["key"] == key
    [row] = eventually(lambda: api("GET", "/deliveries", destination=destination)["items"], 20, "no delivery")
    assert row["profile"] == profile
    assert api("POST", f"/deliveries/{row['delivery']}/redrive") == {"redriven": 0}
    # Disabled, what is due dies; enabled, it can be sent again.
    assert api("POST", f"/destinations/{destination}/disable")["enabled"] is False
    dead = {"destination": destination, "status": "dead"}
    eventually(lambda: api("GET", "/deliveries", **dead)["items"], 40, "it does not die")
    api.refuses(409, "POST", f"/destinations/{destination}/redrive")
    assert api("POST", f"/destinations/{destination}/enable")["enabled"] is True
    assert api("POST", f"/destinations/{destination}/redrive") == {"redriven": 1}
    assert api("POST", f"/destinations/{destination}/rotate", {})["secret"] != made["secret"]
    api.refuses(404, "POST", f"/deliveries/{NOBODY}/redrive")
    assert api("DELETE", f"/subscriptions/{subscription}") == {}
    api.refuses(404, "DELETE", f"/subscriptions/{subscription}")
    assert api("DELETE", f"/segments/{key}") == {"members": 1}
    api.refuses(404, "GET", f"/segments/{key}")
    api("POST", f"/destinations/{destination}/disable")


def test_profiles_and_privacy(world, api):
    """Found by what they are known by, read, exported, and forgotten."""
    user = world.fresh()
    email = f"{user}@example.org"
    world.agrees(user)
    world.orders(user)
    world.quiet()
    found = api("POST", "/profiles/find", {"identifiers": [["email", email.upper()]]})["profile"]
    for who in (found, f"user:{user}", f"email:{quote(email)}"):
        assert api("GET", f"/profiles/{who}")["profile"] == found
    assert api("GET", f"/profiles/{found}", as_of="2000-01-01")["descriptive"] == {}
    assert {"value": email}.items() <= api("GET", f"/profiles/{found}")["descriptive"]["email"].items()
    page = api("GET", f"/profiles/user:{user}/timeline", limit=1)
    assert page["lines"][0]["what"] == world.event and page["next"]
    [behind] = api("GET", f"/profiles/{found}/timeline", limit=1, before=page["next"], events="identify, x")["lines"]
    assert behind["what"] == "identify"
    api.refuses(400, "GET", f"/profiles/{found}/timeline", before="x")
    asked = [found, ["email", email], ["user", "nobody"], NOBODY]
    several = api("POST", "/profiles/batch", {"profiles": asked})["items"]
    assert [each and each["profile"] for each in several] == [found, found, None, None]
    api.refuses(400, "POST", "/profiles/batch", {"profiles": [7]})
    for by in ("event", "known"):
        told = api("GET", f"/profiles/user:{user}/compare", **{"from": "2000-01-01", "to": "2200-01-01", "by": by})
        assert told["profile"] == found and told["descriptive"]["added"]["email"] == email
        assert told["quantitative"]["added"][world.event]["count"] == 1
    assert api("GET", f"/profiles/email:{quote(email)}", known_at="2200-01-01")["people_then"] == []
    api.refuses(404, "GET", f"/profiles/{found}", known_at="2000-01-01")
    where = {"trait": "email", "is": email}
    assert api("POST", "/profiles/search", {"where": where})["profiles"] == [
        {"profile": found, "found": {"trait.email": [email]}}
    ]
    api.refuses(400, "POST", "/profiles/search", {"where": {"trait": "email"}})
    assert api("GET", f"/profiles/{found}/consents")["consents"]["marketing"]["agreed"] is True
    assert email in json.dumps(api("GET", f"/profiles/user:{user}/export"))
    api.refuses(400, "GET", f"/profiles/{found}", as_of="yesterday")
    for path in (f"/profiles/{NOBODY}", f"/profiles/user:nobody-{user}", f"/profiles/{NOBODY}/export"):
        refusal = api.refuses(404, "GET", path)
        assert user not in refusal["message"]
    request = api("POST", "/erasures", {"who": f"user:{user}"}, answers=202)["request"]
    eventually(lambda: api("GET", f"/erasures/{request}")["status"] == "completed", 150, "it is not forgotten", 0.3)
    api.refuses(404, "GET", f"/profiles/user:{user}")
    api.refuses(404, "POST", "/erasures", {"who": f"user:{user}"})
    assert api("GET", "/policy")["law"]


def test_the_suite(world, api):
    """Status, progress, heads, parked events, health, metrics."""
    world.quiet()
    status = api("GET", "/status")
    assert status["status"] == "ok" and len(status["services"]) == 6
    assert all(lag == 0 for each in status["services"] for lag in each["behind"].values())
    assert {"profile.states", "profile.people"} <= {n for each in status["services"] for n in each["behind"]}
    heads = api("GET", "/log")["items"]
    assert sum(each["position"] for each in heads if each["stream"] == "tracking") > 0
    assert api("GET", "/parked")["items"] == []
    retried = api("POST", "/parked/profile/retry", {"id": "nothing"})
    assert retried == {"done": False, "why": "nothing is parked under this id"}
    health = world.pool.request("GET", f"{api.url}/health")
    assert (health.status, health.json()) == (200, {"status": "ok", "service": "console"})
    assert b"samla_console_requests_total" in world.pool.request("GET", f"{api.url}/metrics").data


def test_a_parked_event_is_listed_and_handled_again_once_it_can_be(world, api):
    """By the id that the list has, in each service that could not read it."""
    user = world.fresh()
    world.post("/v1/track", {"userId": user, "event": world.event})
    world.quiet()
    subject = world.keyring.subjects_of([("user", user)], create=False)["user", user]
    [first] = world.log.read_subject(TRACKING, subject)
    [body] = open_events(world.keyring, [first])
    identity = new_id()
    [bad, good] = world.keyring.seal(
        [Sealing(subject, ORDINARY, identity, text) for text in (b"nonsense", orjson.dumps({**body, "id": identity}))]
    )
    event = NewEvent(
        id=identity, type=first.type, source=first.source, subject=subject, time=first.time, sealed={ORDINARY: bad}
    )
    transactor = MongoTransactor(world.client)
    transactor.run(lambda within: world.log.append(TRACKING, [event], within))

    def parked():
        return [(each["service"], each["id"]) for each in api("GET", "/parked")["items"] if each["event"] == identity]

    found = eventually(lambda: len(parked()) == 2 and parked(), 60, "it is not parked", 0.3)
    assert {service for service, _ in found} == {"identity", "profile"}
    for service, each in found:
        assert "/" in each
        retried = api("POST", f"/parked/{service}/retry", {"id": each})
        assert not retried["done"] and "Poison" in retried["why"]
    log = world.client[world.settings.database("log")][TRACKING]
    assert log.update_one({"subject": subject, "id": identity}, {"$set": {f"sealed.{ORDINARY}": good}}).modified_count
    for service, each in found:
        assert api("POST", f"/parked/{service}/retry", {"id": each}) == {"done": True, "why": ""}
    assert not parked()
    world.quiet()
    assert world.count(user, world.event) == 2
    world.verify()


def test_what_is_wrong_is_said_and_is_never_a_500(world, api):
    """Paths, methods, bodies, parameters."""
    api.refuses(404, "GET", "/nothing")
    answer = api.raw("POST", "/status")
    assert answer.status == 405 and "GET" in answer.headers["Allow"]
    json_ = {"Content-Type": "application/json"}
    assert api.raw("POST", "/sources", b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}).status == 415
    for body in (b"", b"[]", b"{", b'{"name": "\\ud800"}', b'{"name": 5}', b'{"nmae": "a"}', b"[" * 100_000):
        assert api.raw("POST", "/sources", body, json_).status == 400, body[:20]
    assert api.raw("POST", "/sources", b" " * 2_000_000, json_).status == 413
    for value in (2**63, {"a\0b": 1}, [[[[]]]]):
        definition = {"trait": "a", "is": value}
        assert api.raw("POST", "/segments/preview", {"definition": definition}).status in (200, 400)
    api.refuses(400, "GET", "/sources", limit=3)
    api.refuses(400, "GET", "/deliveries", limit=0)
    secret = "somebody@example.org"
    assert secret not in json.dumps(api.refuses(400, "POST", "/sources", {"name": "a", secret: 1, "party": secret}))


def test_a_service_that_is_away_is_a_503_and_comes_back(world, api):
    """And the console goes on answering for the others."""
    world.suite.process("segmentation").kill()
    try:
        answer = eventually(lambda: (a := api.raw("GET", "/segments")).status == 503 and a, 60, "no 503")
        assert int(answer.headers["Retry-After"]) > 0
        assert api("GET", "/sources")["items"]
        states = {each["service"]: each["status"] for each in api("GET", "/status")["services"]}
        assert states["segmentation"] == "unavailable" and states["profile"] == "ok"
    finally:
        world.restart("segmentation")
    assert "items" in api("GET", "/segments")


# Files


def put(api, path, key, answers=202, **query):
    query = {"mapping": json.dumps(MAPPING), **query}
    return api("POST", "/imports", path.read_bytes(), answers=answers, headers={"X-Write-Key": key}, **query)


def finished(api, identity, seconds=60):
    return eventually(
        lambda: (job := api("GET", f"/imports/{identity}"))["state"] != "running" and job,
        seconds,
        "it does not end",
        0.1,
    )


def test_a_file_is_proposed_tried_and_imported_and_twice_changes_nothing(world, api, tmp_path):
    users = [world.fresh() for _ in range(3)]
    path = tmp_path / "order.csv"
    exported(path, users, 30)
    assert put(api, path, "", answers=200, propose="true")["mapping"]
    tried = put(api, path, "", answers=200, dry_run="true")
    assert tried["messages"] == 30 and tried["sample"][0]["userId"] == users[0]
    job = finished(api, put(api, path, world.key)["id"])
    assert (job["state"], job["rows"], job["skipped"], job["set_aside"]) == ("done", 30, 0, 0)
    assert job["bytes"] == job["size"] == path.stat().st_size
    job = finished(api, put(api, path, world.key)["id"])
    assert (job["state"], job["rows"], job["skipped"]) == ("done", 30, 30)
    world.quiet()
    assert [world.count(each, "Imported") for each in users] == [10, 10, 10]
    assert next(each["id"] for each in api("GET", "/imports")["items"]) == job["id"]
    home = world.suite.home
    assert not list((home / "uploads").iterdir())
    assert world.key not in "".join(each.read_text() for each in (home / "imports-api").iterdir())


def test_a_file_that_cannot_be_taken_says_why(world, api, tmp_path):
    """At once, or in the import's state; what is set aside is counted by reason."""
    path = tmp_path / "order.csv"
    exported(path, [world.fresh()], 3)
    raw, key = path.read_bytes(), {"X-Write-Key": world.key}
    mapping = json.dumps(MAPPING)
    api.refuses(400, "POST", "/imports", raw, mapping=mapping)
    api.refuses(400, "POST", "/imports", raw, headers=key)
    api.refuses(400, "POST", "/imports", raw, headers=key, mapping="{}")
    api.refuses(400, "POST", "/imports", b"", headers=key, mapping=mapping)
    api.refuses(400, "POST", "/imports", raw, headers=key, mapping=mapping, format="doc")
    assert api.raw("POST", "/imports", raw, {**key, "Content-Length": str(3 << 30)}, mapping=mapping).status == 413
    failed = finished(api, put(api, path, "nobody")["id"])
    assert failed["state"] == "failed" and "no source has this write key" in failed["why"]
    for format_, says in (("parquet", "Parquet"), ("xlsx", "Excel"), ("ndjson", "line 1")):
        assert says in finished(api, put(api, path, world.key, format=format_)["id"])["why"]
    path.write_text("kund;order;datum;belopp\n;1;2026-01-01 10:00;5\nx;2;when;5\n")
    job = finished(api, put(api, path, world.key)["id"])
    assert job["state"] == "done" and job["set_aside"] == 2 and sum(job["reasons"].values()) == 2
    api.refuses(404, "GET", f"/imports/{NOBODY}")
    assert not list((world.suite.home / "uploads").iterdir())


def test_an_import_tells_what_counts_once_and_what_an_agreement_left_out(world, api, tmp_path):
    """Rows that share an id are one event with the first of them; fields that nobody agreed on are counted by place."""
    word = world.fresh()
    made = api("POST", "/sources", {"name": word, "party": "second"}, answers=201)
    agreed = {"partner": word, "purposes": ["p"], "fields": ["traits.*"], "since": 1, "until": 2**42}
    agreement = api("POST", "/agreements", {"party": "second", **agreed}, answers=201)["agreement"]
    api("PUT", f"/sources/{made['source']}/agreement", {"agreement": agreement})
    path = tmp_path / "order.csv"
    lines = [f"{word};{order};2026-01-02 10:00;5" for order in ("a", "b", "b", "b")]
    path.write_text("\n".join(["kund;order;datum;belopp", *lines]) + "\n")
    assert any("repeated: 2" in each for each in put(api, path, "", answers=200, dry_run="true")["notes"])
    job = finished(api, put(api, path, made["write_key"])["id"])
    assert (job["state"], job["rows"], job["repeated"]) == ("done", 4, 2)
    assert any("repeated: 2" in each for each in job["notes"])
    assert job["refused_fields"] == {"properties.revenue": 4}
    mapping = ["--mapping", json.dumps(MAPPING), "--write-key", made["write_key"], "--json"]
    path.write_text(path.read_text() + lines[0] + "\n")
    report = world.samla("import", str(path), *mapping)
    assert (report["messages"], report["repeated"], report["refused_fields"]) == (5, 3, {"properties.revenue": 5})
    world.quiet()
    assert world.count(word, "Imported") == 2


def test_killed_in_the_middle_an_import_goes_on_and_every_row_counts_once(world, api, tmp_path):
    """SIGKILL of the console as soon as something has been sent."""
    users = [world.fresh() for _ in range(5)]
    path = tmp_path / "order.csv"
    exported(path, users, 20_000)
    identity = put(api, path, world.key)["id"]
    eventually(lambda: api("GET", f"/imports/{identity}")["rows"], 30, "nothing was sent", 0.005)
    world.suite.process("console").kill()
    [left] = (world.suite.home / "imports-api").glob(f"{identity}.json")
    assert json.loads(left.read_text())["state"] == "running" and world.key not in left.read_text()
    world.restart("console")
    job = finished(api, identity)
    assert (job["state"], job["rows"], job["skipped"]) == ("done", 20_000, 0)
    world.quiet()
    assert [world.count(each, "Imported") for each in users] == [4_000] * 5


# Both documents, fuzzed

LOOKED_FOR = [
    checks.not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance,
]  # fmt: skip
QUIETLY = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


def fuzz(schema, base, examples, known=None, headers=None):
    """Every operation of a document, with what it allows and with what it does not, and of what is there where it is
    `known` by the name of its place in the path: operation -> statuses."""
    seen = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        statuses = seen.setdefault(operation.label, set())
        names = [each.name for each in operation.path_parameters]
        there = {name: known[name] for name in names if known and name in known}
        for mode in schemathesis.GenerationMode:
            for more in [{}] + [{"path_parameters": there}] * bool(there):
                # Not everything can be wrong: some operations take nothing.
                with contextlib.suppress(Unsatisfiable):
                    one(operation.as_strategy(generation_mode=mode, **more), examples, statuses, base, headers)
    return seen


def one(cases, examples, statuses, base, headers=None):
    @settings(max_examples=examples, **QUIETLY)
    @given(case=cases)
    def run(case):
        response = case.call(base_url=base, headers=headers, timeout=30)
        statuses.add(response.status_code)
        case.validate_response(response, checks=LOOKED_FOR)

    run()


def test_the_admin_apis_answers_are_what_its_document_says(world, api):
    """Of what is there and of what is not; never a 5xx."""
    word = world.fresh()
    agreement = {"party": "second", "partner": word, "purposes": ["p"], "fields": ["traits.email"], "since": 1}
    known = {
        "source": api("POST", "/sources", {"name": word}, answers=201)["source"],
        "segment": api("POST", "/segments", {"key": word, "definition": {"trait": word, "is": 1}}, answers=201)["key"],
        "destination": api("POST", "/destinations", {"name": word, "url": "https://example.org/"}, answers=201)[
            "destination"
        ],
        "agreement": api("POST", "/agreements", agreement | {"until": 2**42}, answers=201)["agreement"],
        "kind": "plan",
        "dialect": "stripe",
    }
    document = json.loads(world.pool.request("GET", f"{api.url}/api/v1/openapi.json").data)
    seen = fuzz(schemathesis.openapi.from_dict(document), api.url, 4, known)
    assert len(seen) == len(CALLS) and not {each for statuses in seen.values() for each in statuses if each >= 500}
    assert sum(any(each < 300 for each in statuses) for statuses in seen.values()) > 25


def test_the_doors_answers_are_what_its_document_says(world):
    """With a write key and without one; never a 5xx."""
    document = json.loads(world.pool.request("GET", f"{world.url}/openapi.json").data)
    schema = schemathesis.openapi.from_dict(document)
    for headers in (urllib3.make_headers(basic_auth=f"{world.key}:"), None):
        seen = fuzz(schema, world.url, 4, headers=headers)
        assert not {each for statuses in seen.values() for each in statuses if each >= 500}
    assert {*edge.SINGLE, *edge.BATCH, *edge.PIXELS} < set(document["paths"])


def test_all_that_the_door_does_is_in_its_document_and_is_as_it_says(world):
    """A visitor's id, the example page and webhooks, where a source has them: each is seen to succeed."""
    source = world.samla("source", "create", world.fresh(), "--json")
    identity, key = source["source"], source["write_key"]
    world.ask("collector", "change_source", identity, {"cookie_days": 30, "example": True})
    world.ask("collector", "connect_source", identity, "stripe", "whsec_0123456789")
    page = f"{world.url}/example/{key}/"
    eventually(lambda: world.pool.request("GET", page).status == 200, 15, "the edge does not know")
    document = json.loads(world.pool.request("GET", f"{world.url}/openapi.json").data)
    known = {"writeKey": key, "file": "example.js", "dialect": "stripe", "source": identity}
    schema = schemathesis.openapi.from_dict(document)
    seen = fuzz(schema, world.url, 4, known, headers=urllib3.make_headers(basic_auth=f"{key}:"))
    assert not {each for statuses in seen.values() for each in statuses if each >= 500}
    asked = {"GET", "POST", "DELETE"}
    assert all(200 in seen[f"{method} /v1/visitor"] for method in asked)
    assert 200 in seen["GET /example/{writeKey}/"] & seen["GET /example/{writeKey}/{file}"]
    # Nobody guesses a signature.
    assert 401 in seen["POST /v1/inbound/{dialect}/{source}"] & seen["GET /v1/inbound/{dialect}/{source}"]
