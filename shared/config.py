"""All settings: from the environment, typed, checked at the start, in this one place."""

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shared.errors import SettingsError

SERVICES: Final = ("collector", "identity", "profile", "segmentation", "activation", "privacy")
"""In the order of their health ports."""
MASTER_KEY_BYTES: Final = 32
MOST_PROCESSES: Final = 64


def _text(value: str) -> str:
    return value


def _url(*schemes: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if urlsplit(value).scheme not in schemes:
            raise ValueError(f"must be a URL with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return check


def _port(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 65_535:
        raise ValueError("must be a port, 1 to 65535")
    return int(value)


def _processes(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= MOST_PROCESSES:
        raise ValueError(f"must be processes, 1 to {MOST_PROCESSES}")
    return int(value)


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number <= 60:
        raise ValueError("must be seconds, more than 0 and at most 60")
    return number


def _token(value: str) -> str:
    if value and not re.fullmatch(r"[!-~]{16,}", value):
        raise ValueError("must be 16 characters or more, none of them a space: `openssl rand -hex 32` makes one")
    return value


def _megabytes(value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 1_000_000:
        raise ValueError("must be megabytes, 1 to 1000000")
    return int(value)


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return value == "1"


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", value):
        raise ValueError("must be lower-case letters, digits and _, at most 31, a letter first")
    return value


def _format(value: str) -> str:
    if value not in ("json", "text"):
        raise ValueError("must be json or text")
    return value


def _setting(name: str, default: str, read: Callable[[str], Any], meaning: str) -> Any:
    return field(metadata={"name": name, "default": default, "read": read, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process is told. `from_env` reads and checks it; every field names its variable."""

    mongodb_url: str = _setting(
        "MONGODB_URL",
        "mongodb://127.0.0.1:${SAMLA_MONGODB_PORT}/?replicaSet=samla",
        _url("mongodb", "mongodb+srv"),
        "the MongoDB replica set; unset: a local one of our own",
    )
    amqp_url: str = _setting(
        "AMQP_URL",
        "amqp://guest:guest@127.0.0.1:${SAMLA_AMQP_PORT}//",
        _url("amqp", "amqps", "pyamqp"),
        "the RabbitMQ broker and vhost; unset: a local node of our own",
    )
    mongodb_port: int = _setting("SAMLA_MONGODB_PORT", "27417", _port, "the port of our own MongoDB")
    amqp_port: int = _setting("SAMLA_AMQP_PORT", "5972", _port, "the port of our own RabbitMQ")
    collector_port: int = _setting("COLLECTOR_PORT", "8080", _port, "the collector's HTTP door")
    collector_processes: int = _setting(
        "COLLECTOR_PROCESSES",
        "1",
        _processes,
        "processes of that door: one does everything; of more, one appends, the others serve",
    )
    collector_url: str = _setting(
        "COLLECTOR_URL", "http://127.0.0.1:${COLLECTOR_PORT}", _url("http", "https"), "where the console's imports go"
    )
    console_port: int = _setting("CONSOLE_PORT", "8090", _port, "the console's admin API")
    admin_token: str = _setting(
        "SAMLA_ADMIN_TOKEN", "", _token, "what the admin API asks for; must be set where SAMLA_BIND is not loopback"
    )
    upload_mb: int = _setting("SAMLA_UPLOAD_MB", "2048", _megabytes, "the biggest file that the admin API takes, in MB")
    health_port: int = _setting(
        "SAMLA_HEALTH_PORT", "8100", _port, "/health and /metrics of the services: this port and the five after it"
    )
    home: Path = _setting("SAMLA_HOME", ".samla", Path, "the data folder of the local suite")
    prefix: str = _setting("SAMLA_PREFIX", "samla", _prefix, "what the names of its databases begin with")
    master_key_text: str = _setting(
        "SAMLA_MASTER_KEY", "", _text, "32 bytes in base64 or hex, wraps all keys; unset: made in SAMLA_HOME"
    )
    key_cache_seconds: float = _setting(
        "SAMLA_KEY_CACHE_SECONDS", "60", _seconds, "how long a process may hold a subject's key; at most 60"
    )
    allow_local_webhooks: bool = _setting(
        "SAMLA_ALLOW_LOCAL_WEBHOOKS", "0", _flag, "1: webhooks may go to addresses of this machine and its networks"
    )
    bind: str = _setting("SAMLA_BIND", "127.0.0.1", _text, "the address that the HTTP doors listen on")
    log_format: str = _setting("SAMLA_LOG", "json", _format, "json, or text to read on a terminal")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings, or SettingsError with one line about the first that is wrong."""
        values = {}
        for each in fields(cls):
            name = each.metadata["name"]
            written = environment.get(name, "") or each.metadata["default"]
            try:
                values[each.name] = each.metadata["read"](written)
            except ValueError as error:
                raise SettingsError(f"{name} {error}") from None
        for url in ("mongodb_url", "amqp_url"):
            values[url] = (
                values[url]
                .replace("${SAMLA_MONGODB_PORT}", str(values["mongodb_port"]))
                .replace("${SAMLA_AMQP_PORT}", str(values["amqp_port"]))
            )
        values["collector_url"] = values["collector_url"].replace("${COLLECTOR_PORT}", str(values["collector_port"]))
        return cls(**values)

    @classmethod
    def described(cls) -> list[tuple[str, str, str]]:
        """(variable, default, meaning) of every setting."""
        return [(f.metadata["name"], f.metadata["default"], f.metadata["meaning"]) for f in fields(cls)]

    def database(self, service: str) -> str:
        """The name of a service's database (or of `log`, `keyring`)."""
        return f"{self.prefix}_{service}"

    def port_of(self, service: str) -> int:
        """The port of a service's /health and /metrics."""
        return self.health_port + SERVICES.index(service)

    def master_key(self) -> bytes:
        """32 bytes. Unset, it is made once in SAMLA_HOME, but only where MongoDB is on this machine:
        elsewhere a lost file would lose everybody's data."""
        if self.master_key_text:
            return _key_bytes(self.master_key_text)
        if not is_local(self.mongodb_url):
            raise SettingsError("SAMLA_MASTER_KEY must be set where MongoDB is not on this machine")
        return _kept_key(self.home / "master.key")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens on this address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_local(url: str) -> bool:
    """Whether every host of a MongoDB URL is this machine."""
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    names = {host.rpartition(":")[0] or host for host in hosts}
    return names <= {"127.0.0.1", "localhost", "[::1]"}


def _key_bytes(written: str) -> bytes:
    for decode in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True)):
        try:
            key = decode(written)
        except (ValueError, binascii.Error):
            continue
        if len(key) == MASTER_KEY_BYTES:
            return key
    raise SettingsError(f"SAMLA_MASTER_KEY must be {MASTER_KEY_BYTES} bytes in base64 or hex")


def _kept_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    if not path.exists():
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(os.urandom(MASTER_KEY_BYTES).hex())
        try:
            # A link fails where another process was first, so that all hold the same key.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return _key_bytes(path.read_text().strip())
