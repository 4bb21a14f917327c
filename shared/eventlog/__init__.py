"""The event log: the truth that everything else is rebuilt from."""

from shared.eventlog.event import (
    Appended,
    Event,
    NewEvent,
    derive_id,
    latest_causes,
    partition_of,
)
from shared.eventlog.log import EventLog
from shared.eventlog.memory import MemoryEventLog
from shared.eventlog.mongo import MongoEventLog

__all__ = [
    "Appended",
    "Event",
    "EventLog",
    "MemoryEventLog",
    "MongoEventLog",
    "NewEvent",
    "derive_id",
    "latest_causes",
    "partition_of",
]
