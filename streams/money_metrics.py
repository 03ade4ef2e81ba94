"""The metrics of money: their part of the closed list in `metrics.py`."""

from streams.metric_shape import Metric

ALERTS = Metric(
    "parsewire_alerts_total",
    "counter",
    ("type", "outcome"),
    "Alerts by type: raised, delivered to the webhook, not taken by it (failed), given_up.",
)

MONEY_METRICS: tuple[Metric, ...] = tuple(
    m for m in list(globals().values()) if isinstance(m, Metric)
)
