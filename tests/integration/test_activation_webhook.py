"""The webhook adapter on real sockets: what it sends, where it does not, and how it gives up."""

import datetime
import ipaddress
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.activation.adapters.webhook import Webhook
from services.activation.domain import signing
from services.console.sink import Sink

KEY = b"k" * 32
SECRET = signing.secret_of(KEY)
MESSAGE = "d" * 32
BODY = b'{"type":"segment.entered"}'


@pytest.fixture
def sink():
    with Sink(SECRET) as running:
        yield running


@pytest.fixture
def webhook():
    made = Webhook(allow_local=True, seconds=1.0)
    yield made
    made.close()


def send(webhook, url, **more):
    return webhook.send(url, [KEY], MESSAGE, BODY, **more)


def test_a_message_arrives_signed(webhook, sink):
    """The reference package verifies the very bytes that came; the id and the correlation are in the headers."""
    answer = send(webhook, sink.url + "hook?a=1", extra={"x-correlation-id": "c0ffee"})
    assert (answer.status, answer.reason) == (200, "http_200")
    [got] = sink.received
    assert got.verified
    assert (got.id, got.path, got.body) == (MESSAGE, "/hook?a=1", BODY)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-correlation-id"] == "c0ffee"
    assert got.headers["host"] == sink.url.split("/")[2]


def test_each_attempt_is_signed_anew_under_the_same_id(sink):
    seconds = iter([time.time(), time.time() + 5])
    webhook = Webhook(allow_local=True, now=lambda: next(seconds))
    send(webhook, sink.url)
    send(webhook, sink.url)
    first, second = sink.received
    assert first.id == second.id
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert first.verified
    assert second.verified


def test_a_message_under_another_secret_is_not_verified(webhook, sink):
    webhook.send(sink.url, [b"x" * 32], MESSAGE, BODY)
    assert not sink.received[0].verified


@pytest.mark.parametrize("status", [204, 400, 410, 429, 500, 503])
def test_statuses_come_back_as_they_are(webhook, sink, status):
    assert send(webhook, f"{sink.url}status/{status}") == (status, f"http_{status}", None)


def test_retry_after_comes_back(webhook, sink):
    assert send(webhook, f"{sink.url}status/429?retry-after=7").retry_after == "7"


def test_a_redirect_is_not_followed(webhook, raw_server):
    """It is an answer like any other, and a failure."""
    url, seen = raw_server(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    assert send(webhook, url).status == 307
    assert len(seen) == 1


def test_a_connection_is_used_again(webhook, raw_server):
    url, seen = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", keep=True)
    assert [send(webhook, url).status for _ in range(3)] == [200] * 3
    assert len(seen) == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew(webhook, raw_server):
    url, seen = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", keep=False)
    assert [send(webhook, url).status for _ in range(3)] == [200] * 3
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "connection_lost"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "bad_answer"),
        (b"HTTP/1.1 OK\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "bad_answer"),
    ],
)
def test_what_is_no_http_is_a_reason_not_an_error(webhook, raw_server, answer, reason):
    url, _ = raw_server(answer)
    assert send(webhook, url) == (None, reason, None)


def test_a_body_without_end_is_not_read_to_its_end(webhook, raw_server):
    """The status counts; the connection goes."""
    url, _ = raw_server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    assert send(webhook, url).status == 200


def test_a_server_that_does_not_answer_costs_the_time_limit(webhook, raw_server):
    url, _ = raw_server(None)
    started = time.monotonic()
    assert send(webhook, url) == (None, "timeout", None)
    assert 0.9 < time.monotonic() - started < 2


def test_dripping_bytes_win_no_time(webhook, raw_server):
    """The limit is for the whole attempt, not for each read."""
    url, _ = raw_server(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000, drip=0.1)
    started = time.monotonic()
    assert send(webhook, url).reason == "timeout"
    assert time.monotonic() - started < 2


def test_nobody_listens(webhook):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert send(webhook, f"http://127.0.0.1:{port}/") == (None, "connect_failed", None)


def test_a_name_that_does_not_exist(webhook):
    assert send(webhook, "http://does-not-exist.invalid/").reason == "name_unknown"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.8"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "127.0.0.1"]],
)
def test_a_name_for_an_address_inside_is_refused_and_not_connected_to(addresses, sink):
    """What counts is the address; one that is refused refuses them all."""
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    webhook = Webhook(allow_local=False, seconds=1.0, resolve=resolving(*addresses))
    assert send(webhook, f"https://innocent.example:{port}/") == (None, "address_refused", None)
    assert sink.received == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "[::ffff:7f00:1]", "localhost"])
def test_odd_spellings_of_an_inside_address_are_refused(host, sink):
    """Decimal, hexadecimal, short, octal, mapped: they all become a number before they are judged."""
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    answer = send(Webhook(allow_local=False, seconds=1.0), f"https://{host}:{port}/")
    assert answer.reason in ("address_refused", "url_refused", "name_unknown")
    assert sink.received == []


def test_the_address_that_was_checked_is_the_one_connected_to(sink):
    """A name that would resolve to something else a moment later changes nothing."""
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    answers = iter([["127.0.0.1"], ["203.0.113.1"]])
    asked = []

    def resolve(host, port):
        asked.append(host)
        return resolving(*next(answers))(host, port)

    assert send(Webhook(allow_local=True, seconds=1.0, resolve=resolve), f"http://hooks.example:{port}/").status == 200
    assert asked == ["hooks.example"]
    assert sink.received[0].headers["host"] == f"hooks.example:{port}"


def test_a_second_address_is_tried_where_the_first_takes_no_connection(sink):
    port = int(sink.url.rsplit(":", 1)[1].strip("/"))
    webhook = Webhook(allow_local=True, seconds=1.0, resolve=resolving("127.0.0.9", "127.0.0.1"))
    assert send(webhook, f"http://hooks.example:{port}/").status == 200


def test_tls_is_verified_with_the_name_of_the_url(tls_server):
    """Sent to the checked address, but with the name's certificate."""
    port, context = tls_server("hooks.example")
    webhook = Webhook(allow_local=True, seconds=2.0, resolve=resolving("127.0.0.1"), context=context)
    assert send(webhook, f"https://hooks.example:{port}/").status == 200


def test_a_certificate_for_another_name_is_refused(tls_server):
    port, context = tls_server("other.example")
    webhook = Webhook(allow_local=True, seconds=2.0, resolve=resolving("127.0.0.1"), context=context)
    assert send(webhook, f"https://hooks.example:{port}/") == (None, "tls_failed", None)


def test_a_certificate_of_an_unknown_authority_is_refused(tls_server):
    port, _ = tls_server("hooks.example")
    webhook = Webhook(allow_local=True, seconds=2.0, resolve=resolving("127.0.0.1"))
    assert send(webhook, f"https://hooks.example:{port}/") == (None, "tls_failed", None)


def resolving(*addresses):
    """A resolver that gives these addresses for any name."""

    def resolve(host, port):
        return [(socket.AF_INET6, (a, port, 0, 0)) if ":" in a else (socket.AF_INET, (a, port)) for a in addresses]

    return resolve


@pytest.fixture
def raw_server():
    """Makes servers that answer each request with given bytes: (answer, keep=, drip=) -> (url, connections)."""
    listeners = []

    def make(answer, keep=False, drip=0.0):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        seen = []
        threading.Thread(target=serve, args=(listener, answer, keep, drip, seen), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/", seen

    yield make
    for listener in listeners:
        listener.close()


def serve(listener, answer, keep, drip, seen):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        seen.append(connection)
        threading.Thread(target=talk, args=(connection, answer, keep, drip), daemon=True).start()


def talk(connection, answer, keep, drip):
    try:
        while connection.recv(65_536):
            if answer is None:
                continue
            for piece in [bytes([each]) for each in answer] if drip else [answer]:
                connection.sendall(piece)
                time.sleep(drip)
            if not keep:
                return
    except OSError:
        pass
    finally:
        if answer is not None and not keep:
            connection.close()


@pytest.fixture
def tls_server(tmp_path):
    """Makes HTTPS servers for a name: name -> (port, a context that trusts it)."""
    sinks = []

    def make(name):
        certificate, key = self_signed(name)
        path = tmp_path / "tls.pem"
        path.write_bytes(certificate + key)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(path)
        running = Sink(SECRET)
        running._server.socket = serving.wrap_socket(running._server.socket, server_side=True)
        sinks.append(running)
        running.start()
        trusting = ssl.create_default_context(cadata=certificate.decode())
        return int(running.url.rsplit(":", 1)[1].strip("/")), trusting

    yield make
    for each in sinks:
        each.stop()


def self_signed(name):
    """(certificate, key) in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
