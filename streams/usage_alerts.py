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
from schemas.periods import Period, Span, moment_of, span
from streams.tables.base import Row
from streams.usage import Usage
from streams.usage_windows import DAY_MS, Name, Step, span_of

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

_Totals = dict[tuple[Scope, str, Measure], int]
"""What is spent and held, by scope, subject and measure."""


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
    for period in Period:
        window = span(period, now_ms, usage.zone)
        rows = [row for row in budgets if row["period"] == period]
        totals = _totals(usage, period, window) if rows else {}
        for row in rows:
            found += _crossings(row, totals, window, now_ms)
    found += _unusual(usage, now_ms)
    return [one for one in found if not usage.was_said(one.event.id)]


def _totals(usage: Usage, period: Period, window: Span) -> _Totals:
    """Sum once what every budget of the period asks for; there may be thousands of them."""
    step = Step.HOUR if period is Period.HOUR else Step.DAY
    totals: _Totals = defaultdict(int)
    for name, of in usage.spending(step, window.start_ms, window.end_ms):
        amounts: dict[Measure, int] = {
            "micro_usd": of.spent_micro_usd + of.held_micro_usd,
            "pages": of.spent_pages + of.held_pages,
            "requests": of.spent_requests + of.held_requests,
        }
        for measure, amount in amounts.items():
            totals[Scope.DEPLOYMENT, "", measure] += amount
            totals[Scope.TENANT, name.tenant, measure] += amount
            totals[Scope.SERVICE, name.service, measure] += amount
    return totals


def _crossings(row: Row, totals: _Totals, window: Span, now_ms: int) -> Iterator[Raised]:
    for measure in MEASURES:
        limit = row[f"limit_{measure}"]
        if limit is None:
            continue
        counted = totals.get((Scope(row["scope"]), row["subject"], measure), 0)
        used = max(counted, _in_tables(row, measure, window.start_ms))
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
                place = (row["id"], window.start_ms, percent, measure, limit)
                alert_id = derived_id("budget", *place)
                yield _raise(alert_id, body, now_ms, window.end_ms)


def _in_tables(row: Row, measure: Measure, start_ms: int) -> int:
    """Tell what the tables say of the window: more than was counted where a log was lost."""
    if row["start_ms"] != start_ms:
        return 0
    used: Any = row[f"spent_{measure}"] + row[f"reserved_{measure}"]
    return int(used)


def _unusual(usage: Usage, now_ms: int) -> Iterator[Raised]:
    present = span_of(Step.HOUR, now_ms, usage.zone)
    spent = {
        name: window.spent_micro_usd
        for name, window in usage.spending(Step.HOUR, present.start_ms, present.end_ms)
        if window.spent_micro_usd >= LEAST_MICRO_USD
    }
    before: defaultdict[Name, list[int]] = defaultdict(list)
    since_ms = present.start_ms - USUAL_OVER_MS
    for slot in usage.slots() if spent else ():
        if slot.step is Step.HOUR and since_ms <= slot.start_ms < present.start_ms:
            windows = usage.at(slot)
            for name in spent.keys() & windows.keys():
                before[name].append(windows[name].spent_micro_usd)
    for name, micro_usd in spent.items():
        hours = [earlier for earlier in before[name] if earlier > 0]
        if len(hours) < USUAL_HOURS or micro_usd < UNUSUAL_TIMES * (usual := round(fmean(hours))):
            continue
        start = moment_of(present.start_ms)
        body = SpendRateUnusual(name.tenant, name.service, start, micro_usd, usual)
        alert_id = derived_id("spend-rate", name.tenant, name.service, present.start_ms)
        yield _raise(alert_id, body, now_ms, present.end_ms)


def _raise(alert_id: str, body: Alert, now_ms: int, until_ms: int) -> Raised:
    return Raised(Event(alert_id, SOURCE, moment_of(now_ms), body), until_ms)
