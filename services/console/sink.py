"""A webhook sink to try things with: takes messages, verifies their signatures, counts, and shows.

    python -m services.console.sink --port 9000 --secret whsec_...        # a process of its own
    with Sink(secret) as sink: ... sink.url ... sink.received             # in a test, the demo, a benchmark

What it answers can be told it: `sink.answers` is a list of statuses for the next requests, and the path of a
request decides where that is empty: /status/503, /status/429?retry-after=2, /slow/3, anything else 200.
`sink.ill` is for how many messages the first attempt is answered with 503.
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


class Received(NamedTuple):
    """One request that came."""

    id: str
    """webhook-id: the same over all attempts at one message."""
    verified: bool
    answered: int
    time: float
    """Seconds since 1970."""
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class Sink:
    """The sink. `secrets` may be added to at any time; a message is verified if one of them fits."""

    def __init__(self, *secrets: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.secrets: list[str] = list(secrets)
        self.received: list[Received] = []
        self.answers: list[int] = []
        self.ill = 0
        self._server = _Server((host, port), _Handler)
        self._server.sink = self
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where to send to."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def start(self) -> str:
        """Starts to listen, in a thread; its URL."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sink", daemon=True).start()
        return self.url

    def stop(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "Sink":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def serve(self) -> None:
        """Listens in this thread until interrupted."""
        self._server.serve_forever()

    @property
    def accepted(self) -> list[Received]:
        """Verified requests that were answered with 2xx."""
        return [each for each in self.received if each.verified and 200 <= each.answered <= 299]

    def counts(self) -> dict[str, Any]:
        """What came, as numbers: requests, verified ones, accepted messages (each once), by type."""
        with self._lock:
            received = list(self.received)
        accepted = {each.id: each for each in received if each.verified and 200 <= each.answered <= 299}
        return {
            "requests": len(received),
            "verified": sum(each.verified for each in received),
            "messages": len(accepted),
            "types": dict(Counter(str(each.message.get("type")) for each in accepted.values())),
            "answers": {str(status): n for status, n in Counter(each.answered for each in received).items()},
        }

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        """One request: the status and the headers to answer with."""
        arrived = time.time()
        status, extra = self._answer(path, headers.get("webhook-id", ""))
        verified = self._verified(headers, body)
        got = Received(headers.get("webhook-id", ""), verified, status, arrived, path, headers, body)
        with self._lock:
            self.received.append(got)
        return status, extra

    def _answer(self, path: str, identity: str) -> tuple[int, dict[str, str]]:
        with self._lock:
            if self.answers:
                return self.answers.pop(0), {}
            if self.ill and all(each.id != identity for each in self.received):
                self.ill -= 1
                return 503, {}
        url = urlsplit(path)
        _, _, rest = url.path.partition("/")
        word, _, value = rest.partition("/")
        if word == "slow":
            time.sleep(float(value))
        status = int(value) if word == "status" else 200
        wait = parse_qs(url.query).get("retry-after")
        return status, {"Retry-After": wait[0]} if wait else {}

    def _verified(self, headers: dict[str, str], body: bytes) -> bool:
        return any(_fits(secret, headers, body) for secret in self.secrets)


def _fits(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except (WebhookVerificationError, ValueError):
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    sink: Sink


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Status line, headers and body leave in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        """A webhook."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, extra = self.server.sink.take(self.path, headers, body)
        self._reply(status, extra, b"")

    def do_GET(self) -> None:
        """Counts, as JSON: for whoever runs the sink as a process of its own."""
        self._reply(200, {"Content-Type": "application/json"}, json.dumps(self.server.sink.counts()).encode())

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Messages are about people: nothing of them is printed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs until interrupted, then prints the counts."""
    parser = argparse.ArgumentParser(prog="python -m services.console.sink", description="A webhook sink.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--secret", action="append", default=[], help="whsec_...; may be given several times")
    options = parser.parse_args(arguments)
    sink = Sink(*options.secret, host=options.host, port=options.port)
    print(f"listening on {sink.url}; GET it for counts", flush=True)
    try:
        sink.serve()
    except KeyboardInterrupt:
        pass
    finally:
        print(json.dumps(sink.counts()), flush=True)


if __name__ == "__main__":
    main()
