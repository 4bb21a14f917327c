"""The whole suite, as a user drives it: HTTP in, webhooks out, RPC and the command line beside."""

import json
import os
import subprocess
import sys
import time
import uuid
from typing import Any

import urllib3

from contracts.streams import TRACKING
from services.console.progress import is_quiet
from services.console.sink import Sink
from shared.config import Settings
from shared.errors import Unavailable
from shared.eventlog import MongoEventLog
from shared.eventlog.sealed import open_events
from shared.keyring import Keyring
from shared.keystore import MongoKeyStore
from shared.local.suite import ROOT, Suite, eventually
from shared.mongo import MongoTransactor, connect
from shared.rpc import rpc_cluster


class World:
    """A running suite with a source, and ways to look into it."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.settings = Settings.from_env(suite.environment)
        self.client = connect(self.settings.mongodb_url)
        self.keyring = Keyring(
            MongoKeyStore(self.client, self.settings.database("keyring")), self.settings.master_key()
        )
        self.log = MongoEventLog(
            self.client, self.settings.database("log"), MongoTransactor(self.client), self.keyring.fenced
        )
        self.url = f"http://127.0.0.1:{self.settings.collector_port}"
        self.pool = urllib3.PoolManager(maxsize=8, retries=False)
        self.key = self.source = ""
        self.event = f"Order {self.fresh()} Completed"

    def fresh(self) -> str:
        """A word that no other test has: for names of users, segments, sources."""
        return uuid.uuid4().hex[:10]

    def open_source(self) -> None:
        """A source of this test's own."""
        made = self.ask("collector", "create_source", f"source-{self.fresh()}", "first")
        self.key, self.source = made["write_key"], made["source"]

    # In

    def send(self, path: str, body: Any, key: str | None = None, headers: dict[str, str] | None = None) -> Any:
        """One POST; the answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        authorization = urllib3.make_headers(basic_auth=f"{self.key if key is None else key}:")
        return self.pool.request(
            "POST", self.url + path, body=raw, headers={**authorization, **(headers or {})}, timeout=30
        )

    def post(self, path: str, body: Any, **more: Any) -> dict[str, Any]:
        """One POST that must be taken; the answer's body."""
        answer = self.send(path, body, **more)
        assert answer.status == 200, (answer.status, answer.data)
        return answer.json()

    def insist(self, path: str, body: Any, seconds: float = 60) -> None:
        """Sends as SDKs do: again, until it is taken."""
        end = time.monotonic() + seconds
        while True:
            try:
                answer = self.send(path, body)
                if answer.status == 200:
                    return
                assert answer.status == 503, (answer.status, answer.data)
            except urllib3.exceptions.HTTPError:
                pass
            assert time.monotonic() < end, "it was not taken in time"
            time.sleep(0.05)

    # Asking

    def ask(self, service: str, method: str, *arguments: Any, **named: Any) -> Any:
        """An RPC, over a connection of its own."""
        with rpc_cluster(self.settings, timeout=20) as services:
            return getattr(services[service], method)(*arguments, **named)

    def logged(self, source: str | None = None) -> list[dict[str, Any]]:
        """The bodies of what a source has in the log, as they stand there, in no order."""
        events = [
            event
            for partition, head in self.log.heads(TRACKING).items()
            for event in self.log.read(TRACKING, partition, 0, head or 1)
            if event.source == (source or self.source)
        ]
        return [body for body in open_events(self.keyring, events) if body is not None]

    def profile_of(self, user: str) -> str | None:
        """The profile of a user id."""
        return self.ask("identity", "resolve", [["user", user]])

    def count(self, user: str, event: str) -> int:
        """How often somebody has done something, by their profile."""
        profile = self.profile_of(user)
        known = self.ask("profile", "facts", [profile])[profile] if profile else None
        return known["facts"]["events"].get(event, [0])[0] if known else 0

    def quiet(self, seconds: float = 90) -> None:
        """Waits until everything has been handled."""

        def still() -> bool:
            try:
                with rpc_cluster(self.settings, timeout=10) as services:
                    return is_quiet(services, self.log)
            except Exception as error:
                # A service or the broker is being started again.
                if isinstance(error, AssertionError):
                    raise
                return False

        eventually(still, seconds, "the suite is not quiet", 0.2)

    def samla(self, *arguments: str) -> Any:
        """The command line; what it prints with --json, else its text."""
        done = subprocess.run(
            [sys.executable, "-m", "services.console.cli", *arguments], env=self.suite.environment, cwd=ROOT,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def verify(self) -> None:
        """Everything that is derived equals what the log gives."""
        self.quiet()
        for service in ("identity", "profile", "segmentation", "activation", "privacy"):
            report = self.rebuild(service, "--verify")
            assert report["equal"], report

    def rebuild(self, service: str, *options: str) -> dict[str, Any]:
        """A service's projections from the log; the report."""
        done = subprocess.run(
            [sys.executable, "-m", f"services.{service}.rebuild", "--json", *options], env=self.suite.environment,
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    # A usual arrangement

    def buyers(self, sink: Sink, count: int = 1) -> str:
        """A segment of those who ordered so often in this test, sent to the sink for marketing; the segment's id."""
        key = f"buyers-{self.fresh()}"
        definition = {"event": self.event, "count": {"gte": count}, "within": "30d"}
        segment = self.ask("segmentation", "create_segment", key, key, definition)
        made = self.ask("activation", "create_destination", name=key, url=sink.url)
        sink.secrets.append(made["secret"])
        self.ask("activation", "subscribe", made["destination"], segment["segment"], ["entered", "left"], "marketing")
        return str(segment["segment"])

    def agrees(self, user: str, agreed: bool = True, **more: Any) -> None:
        """Somebody says yes (or no) to marketing."""
        context = {"consent": {"categoryPreferences": {"marketing": agreed}}}
        self.post(
            "/v1/identify", {"userId": user, "traits": {"email": f"{user}@example.org"}, "context": context, **more}
        )

    def orders(self, user: str, **more: Any) -> None:
        """Somebody orders."""
        properties = {"revenue": 12.5, "currency": "EUR"}
        self.post("/v1/track", {"userId": user, "event": self.event, "properties": properties, **more})

    def restart(self, name: str) -> None:
        """Starts a process again and waits until it is well."""
        self.suite.start(name)
        self.suite.wait((name,))


def make_suite(home: Any) -> Suite:
    """A suite of the tests' own. Keys are cached for a second only, so that an erasure is soon complete."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "AMQP_URL")}
    return Suite.apart(
        home, environment, SAMLA_ALLOW_LOCAL_WEBHOOKS="1", SAMLA_KEY_CACHE_SECONDS="1", SAMLA_PREFIX="system"
    )


__all__ = ["Sink", "Unavailable", "World", "eventually", "make_suite"]
