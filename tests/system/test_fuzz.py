"""The door under whatever may come: never a 500, and a good event beside it is taken."""

import gzip
import http.client
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.collector import edge
from services.collector.domain.intake import UNEXPECTED

PATHS = sorted(
    {*edge.SINGLE, *edge.BATCH, *edge.PIXELS, edge.SDK_METRICS, f"{edge.PROJECTS}x/settings", edge.SOURCE_CONFIG, "/"}
)
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["$where", "a.b", "\x00", "null", "0", "\ud800", "2026-13-45T99:99:99Z", "9" * 400, "1e999"]),
)
values = st.recursive(
    odd, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4), max_leaves=12
)
FIELDS = [
    "type", "userId", "anonymousId", "previousId", "groupId", "event", "name", "messageId", "properties", "traits",
    "context", "integrations", "timestamp", "originalTimestamp", "sentAt", "writeKey", "channel",
]  # fmt: skip
INNER = ["ip", "userAgent", "consent", "externalIds", "traits", "email", "phone", "products", "revenue", "currency"]
parts = values | st.dictionaries(st.sampled_from(INNER), values, max_size=4)
messages = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["track", "identify", "page", "group", "alias"]) | odd}
).flatmap(lambda known: st.dictionaries(st.sampled_from(FIELDS), parts, max_size=8).map(lambda more: {**more, **known}))


def dumped(value):
    return json.dumps(value).encode("utf-8", "surrogatepass")


bodies = st.one_of(
    st.binary(max_size=300),
    messages.map(dumped),
    st.lists(messages | values, max_size=5).map(lambda each: dumped({"batch": each})),
    values.map(dumped),
    messages.map(lambda each: gzip.compress(dumped(each))),
    messages.map(lambda each: gzip.compress(dumped(each))[:-5]),
    messages.map(lambda each: json.dumps(each).encode("utf-16", "surrogatepass")),
)
header = st.text(st.characters(min_codepoint=33, max_codepoint=255, blacklist_characters="\x7f"), max_size=60)
headers = st.dictionaries(
    st.sampled_from(
        ["Authorization", "User-Agent", "Origin", "Referer", "Sec-GPC", "Content-Type", "Content-Encoding", "Host",
         "X-Forwarded-For", "X-Forwarded-Proto", "Access-Control-Request-Headers", "Cookie"]
    ),
    header,
    max_size=5,
)  # fmt: skip
queries = st.lists(st.text(st.sampled_from("abz.=&%+0123456789;[]"), max_size=30), max_size=3).map("&".join)


def send(world, method, path, body, given):
    connection = http.client.HTTPConnection("127.0.0.1", world.settings.collector_port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in given, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        connection.close()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT", "HEAD"]),
    path=st.sampled_from(PATHS),
    query=queries,
    with_key=st.booleans(),
    body=bodies,
    given=headers,
)
def test_nothing_that_comes_gives_a_500(world, method, path, query, with_key, body, given):
    """Any method, path, header and body: an answer with a meaning, and errors as SDKs read them."""
    address = f"{path}?{query}" + (f"&writeKey={world.key}" if with_key else "")
    status, kind, text = send(world, method, address, body, given)
    assert status in {200, 204, 400, 401, 404, 405} and UNEXPECTED.encode() not in text, (status, text)
    if status >= 400 and kind == "application/json" and method != "HEAD":
        assert {"code", "message"} <= json.loads(text).keys()


def test_a_picture_with_very_many_parameters_is_refused_and_is_a_picture(world):
    query = "&".join(f"p{n}=1" for n in range(5_000))
    status, kind, text = send(world, "GET", f"/pixel/v1/track?writeKey={world.key}&userId=u&event=E&{query}", b"", {})
    assert (status, kind, text[:6]) == (400, "image/gif", b"GIF89a")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(others=st.lists(messages | values, min_size=1, max_size=6), at=st.integers(0, 6))
def test_a_good_event_beside_whatever_comes_is_kept(world, others, at):
    """The bad ones are told one by one; the good one is in the log."""
    user = world.fresh()
    batch = [*others]
    batch.insert(at, {"type": "track", "userId": user, "event": "Good"})
    status, _, text = send(
        world, "POST", f"/v1/batch?writeKey={world.key}", dumped({"batch": batch}), {"Content-Type": "text/plain"}
    )
    if status == 400:
        # The JSON itself cannot be read: nothing of it is taken.
        assert json.loads(text)["code"] in {"bad_json", "too_deep"}
        return
    assert status == 200
    aside = {each["index"]: each["code"] for each in json.loads(text).get("set_aside", [])}
    assert UNEXPECTED not in aside.values()
    assert batch.index({"type": "track", "userId": user, "event": "Good"}) not in aside
