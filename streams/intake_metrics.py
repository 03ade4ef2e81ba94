"""Metrics of the intake: what producers on the bus are answered."""

from streams.metric_shape import Metric

SUBMISSIONS = Metric(
    "parsewire_submissions_total",
    "counter",
    ("outcome",),
    "Submissions on the bus by outcome: accepted, duplicate, again (an id that was answered "
    "before), or the code of the refusal.",
)

INTAKE_METRICS = (SUBMISSIONS,)
