"""The door from the sender's side: what is waited for, for how long, and what is not worth waiting for."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.console.importing import sending
from services.console.importing.sending import Came, Door, Mark, ahead, checked_url, send
from shared.errors import SamlaError, Unavailable

TAKEN = (200, {"success": True})


class Clock:
    """Time goes by when somebody sleeps."""

    def __init__(self):
        self.at, self.slept = 0.0, []

    def now(self):
        return self.at

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += seconds


@contextmanager
def serving(*answers):
    """A door that gives these answers, the last one again and again; gives its address and what it was sent."""
    left, got = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body, *headers = left.pop(0) if len(left) > 1 else left[0]
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def door(url, patience=120.0):
    clock, said = Clock(), []
    return Door(url, "key", patience, said.append, clock.sleep, clock.now), clock, said


def nobody():
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "ftp://host", "127.0.0.1:8080", "http://", "http:///x", "http://h:99999", "http://h?x=1",
     "http://u:p@h", "http://[::1", "file:///etc/passwd", "http://a b"],
)  # fmt: skip
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(SamlaError, match=r"no address of a collector: it is like http://127"):
        Door(url, "key")


def test_an_address_may_have_a_path():
    assert checked_url("https://cdp.example.org/in/") == "https://cdp.example.org/in"


@pytest.mark.parametrize("key", ["", "a b", "a:b", "å", "a\nb", "x" * 201])
def test_what_can_be_no_write_key_is_refused_at_once(key):
    with pytest.raises(SamlaError, match="write key"):
        Door("http://127.0.0.1:1", key)


def test_where_nobody_listens_it_is_said_and_after_a_time_given_up():
    """Once, with how long; and at the end what to do."""
    url = nobody()
    made, clock, said = door(url, 10)
    with pytest.raises(Unavailable, match="nothing for 10 s .nobody listens there.*run the same command again"):
        made.take([{}])
    assert said == [f"the collector at {url}: nobody listens there; it is asked again for 10 s"]
    assert clock.at == pytest.approx(10)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_door_that_answers_errors_is_asked_again_and_given_up(status):
    with serving((status, b"oops")) as (url, got):
        made, clock, said = door(url, 5)
        with pytest.raises(Unavailable, match=f"it answers {status}"):
            made.take([{}])
    assert len(got) > 4 and len(said) == 1 and clock.at == pytest.approx(5)


def test_a_door_that_comes_back_takes_the_same_and_it_is_said():
    retry = ("Retry-After", "7")
    with serving((503, {}, retry), TAKEN) as (url, got):
        made, clock, said = door(url)
        assert made.take([{"a": 1}]) == Came([], [])
    assert got == [{"batch": [{"a": 1}]}] * 2 and clock.slept == [7]
    assert "it answers 503" in said[0] and said[1] == "it takes messages again"


def test_patience_begins_anew_with_each_batch_and_no_wait_is_longer():
    with serving((503, {}, ("Retry-After", "100000")), TAKEN, (503, {}), TAKEN) as (url, _):
        made, clock, _ = door(url, 30)
        made.take([{}])
        assert clock.slept == [30]
        made.take([{}])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, b"<html>welcome</html>"), "answers 200, and not as a collector does"),
        ((200, {"ok": True}), "answers 200, and not as a collector does"),
        ((200, [1]), "answers 200, and not as a collector does"),
        ((301, b"", ("Location", "https://elsewhere.example")), "answers 301, and not as"),
        ((404, b"nothing"), "answers 404, and not as"),
        ((401, {"code": "x", "message": "no source has this write key"}), "refuses: no source has this write key"),
    ],
)
def test_who_is_no_collector_or_refuses_is_not_asked_again(tmp_path, answer, says):
    """And no row counts as sent: whatever answers 200 to everything has taken nothing."""
    mark = Mark(tmp_path, b"x")
    with serving(answer) as (url, got):
        made, _, said = door(url)
        with pytest.raises(SamlaError, match=says):
            send([(1, {"messageId": "m"}, 1)], made, mark)
    assert len(got) == 1 and said == [] and mark.rows == 0


def test_given_up_in_the_middle_it_goes_on_where_it_was(tmp_path):
    messages = [(n, {"messageId": f"m{n}"}, n) for n in range(1, 1_201)]
    mark = Mark(tmp_path, b"x")
    with serving(TAKEN, (500, {})) as (url, _), pytest.raises(Unavailable):
        send(messages, door(url, 3)[0], mark)
    assert mark.rows == 500
    with serving(TAKEN) as (url, got):
        assert send(messages, door(url)[0], mark).skipped == 500
    assert [each["messageId"] for body in got for each in body["batch"]] == [f"m{n}" for n in range(501, 1_201)]


def test_a_file_of_which_no_row_gives_a_message_is_not_remembered_as_sent(tmp_path):
    report = send([(1, None, 1), (2, None, 2)], door(nobody())[0], mark := Mark(tmp_path, b"x"))
    assert (report.rows, report.messages, mark.rows) == (2, 0, 0)


# What did not come of it


def test_what_the_door_refuses_of_messages_is_counted_by_its_place(tmp_path, monkeypatch):
    """Under an agreement the rest is kept, and an import says so; of very many places the last as one."""
    refused = [{"index": n, "code": "outside_agreement", "place": f"traits.{'ab'[n % 2]}"} for n in range(5)]
    answer = (200, {"success": True, "set_aside": [], "refused_fields": refused})
    messages = [(n, {"messageId": f"m{n}"}, n) for n in range(1, 601)]
    with serving(answer) as (url, got):
        report = send(messages, door(url)[0], Mark(tmp_path, b"x"))
        assert len(got) == 2 and report.refused_fields == {"traits.a": 6, "traits.b": 4}
        monkeypatch.setattr(sending, "MOST_PLACES", 1)
        report = send(messages, door(url)[0], Mark(tmp_path, b"y"))
    assert report.refused_fields == {"traits.a": 6, sending.OTHER_PLACES: 4} and report.set_aside == 0


def numbered(count, *ids):
    return [(n, {"messageId": f"m{n}", "userId": "ada"}, n) for n in range(1, count + 1)] + [
        (count + n, {"messageId": identity, "userId": who}, n) for n, (identity, who) in enumerate(ids, 1)
    ]


def test_rows_that_have_the_id_of_an_earlier_one_are_counted(tmp_path):
    """Of the same person both are one event. Where a batch ends, and what was sent before, makes no difference."""
    messages = numbered(600, ("m1", "ada"), ("m600", "ada"), ("m2", "bob"))
    mark = Mark(tmp_path, b"x")
    with serving(TAKEN, (500, {})) as (url, _), pytest.raises(Unavailable):
        send(messages, door(url, 3)[0], mark)
    with serving(TAKEN) as (url, _):
        report = send(messages, door(url)[0], mark)
    assert (report.skipped, report.messages, report.repeated) == (500, 103, 2)


# Reading ahead


def test_what_is_made_ahead_comes_in_order_and_whole():
    assert list(ahead(iter(range(1_000)))) == list(range(1_000))


def test_an_error_behind_some_items_comes_behind_them():
    def items():
        yield 1
        raise SamlaError("line 2 is damaged")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(SamlaError, match="line 2"):
        next(found)


def test_who_wants_no_more_leaves_no_thread_behind():
    found = ahead(iter(range(1_000)))
    next(found)
    found.close()
    assert not [each for each in threading.enumerate() if each.name == "reading"]
