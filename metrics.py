"""The counters, gauges and histograms for Prometheus. No label takes a value from outside as it is: each
new value would be one more series, for ever.
"""
# [Task]: T096 [From]: specs/reliability.md

import os
from functools import partial
from tempfile import TemporaryFile

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from errors import StartupError

# prometheus_client's own variable: the folder in which workers share their numbers, read at import.
SHARED_FOLDER = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if SHARED_FOLDER is not None:
    try:
        TemporaryFile(dir=SHARED_FOLDER or os.devnull).close()
    except OSError:
        raise StartupError(
            "PROMETHEUS_MULTIPROC_DIR is no folder to write to; make one, empty before each start, or unset it."
        ) from None

HTTP_REQUESTS = Histogram(
    "todo_http_requests",
    "Requests by route, and how long they took.",
    ["route", "method", "status"],
    unit="seconds",
    # From the time of a warm request to the time limits.
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
# A gauge whose values are added up over the workers that are alive.
SharedGauge = partial(Gauge, multiprocess_mode="livesum")
CONNECTIONS_IN_USE = SharedGauge("todo_pool_connections_in_use", "Connections to the database that requests hold.")
REQUESTS_WAITING = SharedGauge("todo_pool_requests_waiting", "Requests that wait for a connection to the database.")
OPEN_STREAMS = SharedGauge("todo_open_streams", "Open streams of live changes.")
TIMEOUTS = Counter("todo_timeouts", "Time limits that were reached.", ["limit"])
DATABASE_FAULTS = Counter("todo_database_faults", "What was wrong with the database.", ["fault"])
TOKEN_VERDICTS = Counter("todo_token_verdicts", "Verdicts on the tokens of requests for tasks.", ["verdict"])
LIMITS_REACHED = Counter("todo_limits_reached", "Requests that a limit refused.", ["limit"])
EVENTS_TOLD = Counter("todo_events_told", "Changes that streams were told.")

# Each series is there from the start, as 0: an alert on an increase misses a series' first value.
for limit in ("pool", "connect", "statement", "request", "body"):
    TIMEOUTS.labels(limit)
for verdict in ("accepted", "expired", "invalid", "missing", "forbidden", "unverifiable"):
    TOKEN_VERDICTS.labels(verdict)
for limit in ("rate", "user_streams", "worker_streams"):
    LIMITS_REACHED.labels(limit)


def all_metrics() -> CollectorRegistry:
    """Returns the metrics of this process, or of all that share its folder, if there is one."""
    if SHARED_FOLDER is None:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # prometheus_client's has no types
    return registry
