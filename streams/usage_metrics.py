"""The metrics of usage windows: their part of the closed list in `metrics.py`."""

from streams.metric_shape import Metric

SPEND_RATE = Metric(
    "parsewire_usage_spend_micro_usd_per_hour",
    "gauge",
    ("service",),
    "What all tenants spent at a service in the last hour.",
)
ERROR_RATIO = Metric(
    "parsewire_usage_error_ratio",
    "gauge",
    ("service", "stage"),
    "Share of what did not end well in the last 15 minutes; calls are the stages `call.*`.",
)
STAGE_QUANTILE = Metric(
    "parsewire_usage_stage_seconds_quantile",
    "gauge",
    ("service", "stage", "quantile"),
    "Duration of a stage in the last 15 minutes: its 0.5 and 0.95 quantiles.",
)
USAGE_EVENTS = Metric(
    "parsewire_usage_events_total",
    "counter",
    ("outcome",),
    "Events read by the windows: counted, double, late, ignored, unreadable, failed.",
)

USAGE_METRICS: tuple[Metric, ...] = tuple(
    m for m in list(globals().values()) if isinstance(m, Metric)
)
