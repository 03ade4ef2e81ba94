"""The metrics of money: their part of the closed list in `metrics.py`."""

from streams.metric_shape import Metric

ALERTS = Metric(
    "parsewire_alerts_total",
    "counter",
    ("type", "outcome"),
    "Alerts by type: raised, delivered to the webhook, not taken by it (failed), given_up.",
)
SPENT = Metric(
    "parsewire_spent_usd", "gauge", ("service",), "Dollars spent at a service since ever."
)
RESERVED = Metric(
    "parsewire_reserved_usd", "gauge", ("service",), "Dollars held for attempts under way."
)
BUDGET_LEFT = Metric(
    "parsewire_budget_left_ratio",
    "gauge",
    ("budget", "measure"),
    "Share of a budget that is neither spent nor held; below 0 where too much is spent.",
)
BUDGET_FORECAST = Metric(
    "parsewire_budget_forecast_ratio",
    "gauge",
    ("budget",),
    "What a budget's window will have cost at the rate of the last hour, by its limit.",
)
ESTIMATE_ERROR = Metric(
    "parsewire_estimate_error_ratio",
    "gauge",
    ("service",),
    "What was settled by what was held for it, less 1, over 30 days; above 0: estimated too low.",
)
FROZEN = Metric(
    "parsewire_spending_frozen", "gauge", (), "1 while an operator has stopped all spending."
)

MONEY_METRICS: tuple[Metric, ...] = tuple(
    m for m in list(globals().values()) if isinstance(m, Metric)
)
