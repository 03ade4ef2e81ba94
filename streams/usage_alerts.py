"""Usage alerts: which budgets have passed a threshold, and who spends unusually fast.

An alert's id follows from what it is about, so that saying it twice is saying it once.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from schemas.alert_events import BudgetThresholdCrossed, Measure, SpendRateUnusual
from schemas.events import Alert, Event
from schemas.ids import derived_id
from schemas.money import MICRO, Scope
from schemas.periods import Period, moment_of, span
from streams.tables.base import Row
from streams.usage import Usage
from streams.usage_windows import DAY_MS, HOUR_MS, Name, Step, Window, span_of

THRESHOLDS = (50, 80, 100)
"""Percents of a budget at which an alert is raised."""

MEASURES: tuple[Measure, ...] = ("micro_usd", "pages", "requests")

USUAL_HOURS = 6
"""So many earlier hours with spending are needed before anything can be unusual."""

USUAL_OVER_MS = 7 * DAY_MS
"""How far back they are looked for."""

UNUSUAL_TIMES = 4
"""So many times the mean of those hours is unusual."""

LEAST_MICRO_USD = MICRO
"""A dollar: an hour below it is nobody's surprise."""

SOURCE = "/parsewire/usage"


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert as an event, and until when its id must be remembered."""

    event: Event
    until_ms: int


def raised(usage: Usage, budgets: list[Row]) -> list[Raised]:
    """Give the alerts that hold at present and were not said before.

    `budgets` are rows of `reservations.standing`, which may be a while old.
    """
    now_ms = usage.now_ms()
    found: list[Raised] = []
    for row in budgets:
        found += _crossings(usage, row, now_ms)
    found += _unusual(usage, now_ms)
    return [one for one in found if not usage.was_said(one.event.id)]


def _crossings(usage: Usage, row: Row, now_ms: int) -> Iterator[Raised]:
    period = Period(row["period"])
    window = span(period, now_ms, usage.zone)
    step = Step.HOUR if period is Period.HOUR else Step.DAY
    counted = [
        of
        for name, of in usage.spending(step, window.start_ms, window.end_ms)
        if _concerns(row, name)
    ]
    for measure in MEASURES:
        limit = row[f"limit_{measure}"]
        if limit is None:
            continue
        used = max(_used(counted, measure), _in_tables(row, measure, window.start_ms))
        for percent in THRESHOLDS:
            if used > 0 and used * 100 >= limit * percent:
                body = BudgetThresholdCrossed(
                    row["id"],
                    row["subject"] if row["scope"] == Scope.TENANT else "",
                    percent,
                    measure,
                    used,
                    limit,
                    moment_of(window.start_ms),
                    moment_of(window.end_ms),
                )
                alert_id = derived_id("budget", row["id"], window.start_ms, percent, measure)
                yield _raise(alert_id, body, now_ms, window.end_ms)


def _used(windows: list[Window], measure: Measure) -> int:
    total = 0
    for window in windows:
        amounts: dict[Measure, int] = {
            "micro_usd": window.spent_micro_usd + window.held_micro_usd,
            "pages": window.spent_pages + window.held_pages,
            "requests": window.spent_requests + window.held_requests,
        }
        total += amounts[measure]
    return total


def _in_tables(row: Row, measure: Measure, start_ms: int) -> int:
    """Tell what the tables say of the window: more than was counted where a log was lost."""
    if row["start_ms"] != start_ms:
        return 0
    used: Any = row[f"spent_{measure}"] + row[f"reserved_{measure}"]
    return int(used)


def _concerns(row: Row, name: Name) -> bool:
    match Scope(row["scope"]):
        case Scope.DEPLOYMENT:
            return True
        case Scope.TENANT:
            return bool(row["subject"] == name.tenant)
        case Scope.SERVICE:
            return bool(row["subject"] == name.service)


def _unusual(usage: Usage, now_ms: int) -> Iterator[Raised]:
    present = span_of(Step.HOUR, now_ms, usage.zone)
    before: defaultdict[Name, list[int]] = defaultdict(list)
    for name, window in usage.spending(
        Step.HOUR, present.start_ms - USUAL_OVER_MS, present.start_ms
    ):
        if window.spent_micro_usd > 0:
            before[name].append(window.spent_micro_usd)
    for name, window in usage.spending(Step.HOUR, present.start_ms, present.end_ms):
        hours, spent = before[name], window.spent_micro_usd
        if len(hours) < USUAL_HOURS or spent < LEAST_MICRO_USD:
            continue
        usual = round(fmean(hours))
        if spent >= UNUSUAL_TIMES * usual:
            start = moment_of(present.start_ms)
            body = SpendRateUnusual(name.tenant, name.service, start, spent, usual)
            alert_id = derived_id("spend-rate", name.tenant, name.service, present.start_ms)
            yield _raise(alert_id, body, now_ms, present.start_ms + HOUR_MS)


def _raise(alert_id: str, body: Alert, now_ms: int, until_ms: int) -> Raised:
    return Raised(Event(alert_id, SOURCE, moment_of(now_ms), body), until_ms)
