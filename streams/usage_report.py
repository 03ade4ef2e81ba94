"""Usage reports: the windows as gauges without tenants, and as JSON with everything."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from schemas.periods import moment_of
from streams.durations import quantile
from streams.forecast import RECENT_MS
from streams.metric_shape import Metric
from streams.metrics import Recorder
from streams.usage import Usage
from streams.usage_metrics import ERROR_RATIO, SPEND_RATE, STAGE_QUANTILE
from streams.usage_windows import MINUTE_MS, SPENDING, Name, Slot, Step, Window, span_of

RECENT_STAGES_MS = 15 * MINUTE_MS
QUANTILES = (0.5, 0.95)

_MONEY = (
    *("spent_micro_usd", "spent_pages", "spent_requests"),
    *("held_micro_usd", "held_pages", "held_requests"),
)

_Labels = tuple[tuple[str, str], ...]


class UsageGauges:
    """Shows the windows by metrics; a series that ends goes to 0."""

    def __init__(self, usage: Usage, recorder: Recorder) -> None:
        self._usage = usage
        self._recorder = recorder
        self._shown: set[tuple[Metric, _Labels]] = set()

    def show(self) -> None:
        """Set every gauge."""
        found: dict[tuple[Metric, _Labels], float] = {}
        for service, micro_usd in self._spent().items():
            found[SPEND_RATE, (("service", service),)] = micro_usd
        for (service, stage), window in self._stages().items():
            labels: _Labels = (("service", service), ("stage", stage))
            found[ERROR_RATIO, labels] = window.error_share()
            for share in QUANTILES:
                seconds = quantile(window.seconds, share) or 0.0
                found[STAGE_QUANTILE, (*labels, ("quantile", f"{share:g}"))] = seconds
        gone = dict.fromkeys(self._shown - found.keys(), 0.0)
        for (metric, named), value in (gone | found).items():
            self._recorder.set(metric, value, **dict(named))
        self._shown = set(found)

    def _spent(self) -> dict[str, int]:
        sums: defaultdict[str, int] = defaultdict(int)
        for name, window in _recent(self._usage, RECENT_MS):
            if name.stage == SPENDING:
                sums[name.service] += window.spent_micro_usd
        return sums

    def _stages(self) -> dict[tuple[str, str], Window]:
        sums: dict[tuple[str, str], Window] = {}
        for name, window in _recent(self._usage, RECENT_STAGES_MS):
            if name.stage != SPENDING:
                total = sums.setdefault((name.service, name.stage), Window(0))
                total.count += window.count
                total.errors += window.errors
                for bucket, count in window.seconds.items():
                    total.seconds[bucket] = total.seconds.get(bucket, 0) + count
        return sums


def describe_windows(usage: Usage, at_ms: int | None = None) -> list[dict[str, Any]]:
    """Give the windows that a moment lies in, the present one if none is named."""
    moment_ms = usage.now_ms() if at_ms is None else at_ms
    return [line for step in Step for line in _describe(usage, step, moment_ms, usage.zone)]


def _describe(usage: Usage, step: Step, at_ms: int, zone: tzinfo) -> Iterator[dict[str, Any]]:
    window_span = span_of(step, at_ms, zone)
    for name, window in usage.at(Slot(step, window_span.start_ms)).items():
        yield {
            "step": step,
            "start": moment_of(window_span.start_ms),
            "end": moment_of(window_span.end_ms),
            **_described(name, window),
        }


def _described(name: Name, window: Window) -> dict[str, Any]:
    who = {"tenant": name.tenant, "service": name.service}
    if name.stage == SPENDING:
        return who | {amount: getattr(window, amount) for amount in _MONEY}
    return who | {
        "stage": name.stage,
        "count": window.count,
        "errors": window.errors,
        "error_share": window.error_share(),
        "pages": window.pages,
        "p50_seconds": quantile(window.seconds, 0.5),
        "p95_seconds": quantile(window.seconds, 0.95),
    }


def _recent(usage: Usage, over_ms: int) -> Iterator[tuple[Name, Window]]:
    since_ms = usage.now_ms() - over_ms
    for slot in usage.slots():
        if slot.step is Step.MINUTE and slot.start_ms > since_ms:
            yield from usage.at(slot).items()
