"""Asking the services over RPC, with errors that a person can act on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko.exceptions import RemoteError, RpcTimeout, UnknownService

from services.console.admin.services import LOST, Broken, raised
from services.console.given import check_sendable
from shared.config import Settings
from shared.errors import SamlaError, Unavailable
from shared.eventlog import MongoEventLog
from shared.mongo import MongoTransactor, connect
from shared.rpc import rpc_cluster


def ask(service: str, method: str, *arguments: Any, timeout: float = 20, **named: Any) -> Any:
    """The answer of a service's RPC. Raises SamlaError with one line that says what to do."""
    check_sendable([*arguments, *named.values()])
    with asked(service, timeout) as services:
        return getattr(services[service], method)(*arguments, **named)


@contextmanager
def asked(service: str, timeout: float = 20) -> Iterator[Any]:
    """The services, one of which is to be asked: what goes wrong with it is a SamlaError of one line."""
    try:
        with rpc_cluster(Settings.from_env(), timeout=timeout) as services:
            yield services
    except (UnknownService, RpcTimeout) as error:
        raise Unavailable(f"{service} does not answer ({type(error).__name__}): is it up? See `make status`") from error
    except RemoteError as error:
        raise _said(service, raised(service, error)) from error
    except LOST as error:
        raise Unavailable("RabbitMQ does not answer: is the suite up? See `make status`") from error


def _said(service: str, error: Exception) -> SamlaError:
    """An error of ours, with who says it; of a mistake within, its type alone: its text may quote a person."""
    if isinstance(error, Broken):
        return SamlaError(f"{service} failed within ({error.kind}): its log says more")
    return type(error)(f"{service}: {error}") if isinstance(error, SamlaError) else SamlaError(str(error))


def profile_of(who: str) -> str:
    """The profile id of `kind:value`, or the id that was given."""
    identifier = identifier_of(who)
    if identifier is None:
        return who
    found = ask("identity", "resolve", [identifier])
    if found is None:
        raise SamlaError(f"nobody is known by this {identifier[0]}")
    return str(found)


def identifier_of(who: str) -> list[str] | None:
    """[kind, value] of `kind:value`; None where it is an id."""
    kind, colon, value = who.partition(":")
    if not colon:
        return None
    return [kind, value.strip().lower() if kind == "email" else value]


def open_log() -> MongoEventLog:
    """The event log, to read."""
    settings = Settings.from_env()
    client = connect(settings.mongodb_url)
    return MongoEventLog(client, settings.database("log"), MongoTransactor(client))
