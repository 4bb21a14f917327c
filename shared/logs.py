"""Structured logs (structlog): JSON for machines, or text to read. Nothing personal is ever in them."""

import logging
import os
import socket
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from shared.config import Settings

PERSONAL: Final = frozenset(
    {"email", "phone", "name", "value", "identifier", "identifiers", "traits", "properties", "body", "ip", "address"}
)
"""Names that a log line must not carry; a processor takes them out, should one slip in."""


def configure(settings: Settings, service: str) -> None:
    """Sets up structlog and the standard library's logging; once a process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_personal_names,
    ]
    drawn = structlog.processors.JSONRenderer() if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, drawn],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # A line in one write: of several processes that write to one file none cuts another's.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=f"{socket.gethostname()}:{os.getpid()}")
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, drawn]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def without_personal_names(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Takes out what must not be logged; says that something was taken out."""
    for name in PERSONAL.intersection(event):
        event[name] = "[withheld]"
    return event


def get_logger(name: str) -> Any:
    """A logger."""
    return structlog.get_logger(name)
