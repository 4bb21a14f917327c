"""Prometheus metrics that services share. Labels name streams, subscriptions and outcomes, never people."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS_CONSUMED: Final = Counter("samla_events_consumed_total", "Events handled", ["subscription"])
EVENTS_PARKED: Final = Counter("samla_events_parked_total", "Events set aside as poison", ["subscription"])
BATCH_SECONDS: Final = Histogram("samla_batch_seconds", "Time to handle a batch", ["subscription"])
LAG: Final = Gauge("samla_lag_events", "Events behind the head of the partition", ["subscription", "partition"])
