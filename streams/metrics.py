"""Metrics: the closed list of names, and a recorder that never blocks and never raises."""

from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.intake_metrics import INTAKE_METRICS
from streams.metric_shape import Metric
from streams.money_metrics import MONEY_METRICS
from streams.series import Series
from streams.usage_metrics import USAGE_METRICS

log = structlog.get_logger(__name__)

HTTP_REQUESTS = Metric(
    "parsewire_http_requests_total",
    "counter",
    ("method", "route", "status"),
    "Requests answered by the gateway.",
)
HTTP_SECONDS = Metric(
    "parsewire_http_request_seconds",
    "histogram",
    ("method", "route"),
    "Time from a request's head to its answer.",
)
HTTP_IN_PROGRESS = Metric(
    "parsewire_http_requests_in_progress", "gauge", (), "Requests that the gateway is at."
)
UPLOAD_STAGE_SECONDS = Metric(
    "parsewire_upload_stage_seconds",
    "histogram",
    ("stage",),
    "Time of an upload's stages: read, hash, blob, table.",
)
UPLOADS = Metric(
    "parsewire_uploads_total",
    "counter",
    ("outcome",),
    "Uploads by outcome: accepted, duplicate, or the code of the refusal.",
)
UPLOAD_BYTES = Metric(
    "parsewire_upload_bytes_total", "counter", (), "Document bytes taken, after decompression."
)
WEBHOOKS = Metric(
    "parsewire_webhooks_total",
    "counter",
    ("source", "outcome"),
    "Webhooks by source and outcome: accepted, or the code of the refusal.",
)
SLOTS = Metric("parsewire_worker_slots", "gauge", ("processor",), "Slots for documents at once.")
SLOTS_BUSY = Metric("parsewire_worker_slots_busy", "gauge", ("processor",), "Slots at work.")
QUEUE_DEPTH = Metric(
    "parsewire_worker_queue_records",
    "gauge",
    ("processor",),
    "Records fetched and waiting for a slot.",
)
LOOP_DELAY = Metric(
    "parsewire_loop_delay_seconds", "gauge", (), "How late the event loop woke up last time."
)
LAG_MESSAGES = Metric(
    "parsewire_consumer_lag_messages",
    "gauge",
    ("processor", "topic", "partition"),
    "Records of an assigned partition that are not yet read.",
)
LAG_SECONDS = Metric(
    "parsewire_consumer_lag_seconds",
    "gauge",
    ("processor", "topic", "partition"),
    "Age of the oldest unread record of an assigned partition.",
)
PROCESSED = Metric(
    "parsewire_processed_total",
    "counter",
    ("processor", "outcome"),
    "Records handled: applied, ignored, skipped, dead_letter.",
)
BATCH_SECONDS = Metric(
    "parsewire_batch_seconds", "histogram", ("processor",), "Time of one fold's transaction."
)
PROCESSOR_STOPPED = Metric(
    "parsewire_processor_stopped",
    "gauge",
    ("processor",),
    "1 while too many dead letters keep the processor stopped.",
)
PROCESSOR_RESTARTS = Metric(
    "parsewire_processor_restarts_total",
    "counter",
    ("processor", "reason"),
    "Times a processor was started again within its process.",
)
STEP_TIMERS_FIRED = Metric(
    "parsewire_timers_fired_total", "counter", ("kind", "outcome"), "Due timers by what was done."
)
PARSER_CALLS = Metric(
    "parsewire_parser_calls_total",
    "counter",
    ("parser", "outcome"),
    "Calls of a parser by outcome: ok, or the code of the failure.",
)
PARSER_SECONDS = Metric(
    "parsewire_parser_seconds", "histogram", ("parser",), "Time of a parser's call."
)
PARSER_PAGES = Metric("parsewire_parser_pages_total", "counter", ("parser",), "Pages parsed.")
ROUTES = Metric(
    "parsewire_routes_total",
    "counter",
    ("parser", "reason"),
    "Documents by the parser that they were sent to, and why it was that one.",
)
GATE_CALLS = Metric(
    "parsewire_gate_calls_total",
    "counter",
    ("service", "operation", "outcome"),
    "Calls to a service elsewhere: entered, or the code of the refusal at the gate.",
)
GATE_WAIT_SECONDS = Metric(
    "parsewire_gate_wait_seconds",
    "histogram",
    ("service",),
    "Time that calls waited at the gate for the shared rate.",
)
CIRCUIT_STATE = Metric(
    "parsewire_circuit_state",
    "gauge",
    ("service",),
    "The circuit of a service elsewhere: 0 closed, 1 half open, 2 open, 3 until a person acts.",
)
RATE_TOKENS = Metric(
    "parsewire_rate_tokens",
    "gauge",
    ("service",),
    "Calls that the shared rate allows at once; below 0 so many wait.",
)
JOBS = Metric("parsewire_jobs", "gauge", ("state",), "Jobs in the table by state.")
OLDEST_UNFINISHED = Metric(
    "parsewire_oldest_unfinished_job_seconds", "gauge", (), "Age of the oldest unfinished job."
)
UNTIMED_JOBS = Metric(
    "parsewire_unfinished_jobs_without_timer",
    "gauge",
    (),
    "Unfinished jobs that nobody will look at; anything but 0 is a defect.",
)
OUTBOX = Metric("parsewire_outbox_events", "gauge", (), "Events in the outbox.")
OUTBOX_OLDEST = Metric(
    "parsewire_outbox_oldest_seconds", "gauge", (), "Age of the oldest event in the outbox."
)
DEAD_LETTERS = Metric("parsewire_dead_letters", "gauge", ("processor",), "Dead letters kept.")
RELAYED = Metric(
    "parsewire_relayed_total", "counter", ("topic", "outcome"), "Outbox events sent: ok, failed."
)
TABLE_SECONDS = Metric(
    "parsewire_table_transaction_seconds",
    "histogram",
    (),
    "Time of one group commit, the wait for the lock file included.",
)
TABLE_UNITS = Metric(
    "parsewire_table_units_total", "counter", ("outcome",), "Units of work committed or failed."
)
TELEMETRY_DROPPED = Metric(
    "parsewire_telemetry_dropped_total",
    "counter",
    (),
    "Measurements not published because the bus was too slow for them.",
)

METRICS: tuple[Metric, ...] = (
    *(m for m in list(globals().values()) if isinstance(m, Metric)),
    *INTAKE_METRICS,
    *MONEY_METRICS,
    *USAGE_METRICS,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Recorder:
    """Records the closed list into one Prometheus registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._collectors: dict[str, Counter | Gauge | Histogram] = {}
        self._children: dict[tuple[object, ...], Any] = {}
        for metric in METRICS:
            self._collectors[metric.name] = _collector(metric, registry)

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Count up."""
        try:
            self._child(metric, labels).inc(amount)
        except Exception:
            log.exception("metric_not_recorded", metric=metric.name)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Add one observation to a histogram, in seconds."""
        try:
            self._child(metric, labels).observe(value)
        except Exception:
            log.exception("metric_not_recorded", metric=metric.name)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        try:
            self._child(metric, labels).set(value)
        except Exception:
            log.exception("metric_not_recorded", metric=metric.name)

    def forget(self, metric: Metric, **labels: str) -> None:
        """Show a series no more: of what is gone, the last value would stay for ever."""
        if self._children.pop((metric.name, *labels.items()), None) is not None:
            self._collectors[metric.name].remove(*(labels[name] for name in metric.labels))

    def series(self, metric: Metric, **labels: str) -> Series:
        """Give one series of a counter or histogram."""
        return Series(metric.name, self._child(metric, labels))

    def follow(self, metric: Metric, value: Callable[[], float]) -> None:
        """Let a gauge without labels show what `value` gives whenever somebody looks."""
        self._child(metric, {}).set_function(value)

    def _child(self, metric: Metric, labels: dict[str, str]) -> Any:
        # To look a child up in its collector costs more than to count with it.
        key = (metric.name, *labels.items())
        child = self._children.get(key)
        if child is None:
            collector = self._collectors[metric.name]
            child = collector.labels(**labels) if labels else collector
            self._children[key] = child
        return child


def _collector(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(
        metric.name, metric.meaning, metric.labels, registry=registry, buckets=_SECONDS
    )
