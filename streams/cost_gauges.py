"""Money's gauges: read from the kept sums every few seconds in one place, never by a scrape."""

from collections.abc import Iterable
from datetime import tzinfo

import structlog

from schemas.money import MICRO
from schemas.periods import day_of
from streams.budget_standing import BudgetStanding, read_standings
from streams.budgets import MEASURES, read_frozen
from streams.metric_shape import Metric
from streams.metrics import Recorder
from streams.money_metrics import (
    BUDGET_FORECAST,
    BUDGET_LEFT,
    ESTIMATE_ERROR,
    FROZEN,
    RESERVED,
    SPENT,
)
from streams.repeating import repeat
from streams.tables.base import Tables, Transaction

log = structlog.get_logger(__name__)

_DAYS_MS = 30 * 24 * 3_600_000

_Series = tuple[Metric, tuple[tuple[str, str], ...]]


class CostGauges:
    """Shows what is spent, held and left; what is gone is shown no more."""

    def __init__(
        self, tables: Tables, recorder: Recorder, zone: tzinfo, *, every_seconds: float = 10.0
    ) -> None:
        self._tables = tables
        self._recorder = recorder
        self._zone = zone
        self._every_seconds = every_seconds
        self._shown: set[_Series] = set()

    async def run(self) -> None:
        """Read until cancelled; trouble of the tables only delays."""
        await repeat(self.show, self._every_seconds, failed="cost_gauges_not_read")

    async def show(self) -> None:
        """Read once and set every gauge."""
        found = await self._tables.read(self._read)
        for (metric, labels), value in found.items():
            self._recorder.set(metric, value, **dict(labels))
        for metric, labels in self._shown - found.keys():
            self._recorder.forget(metric, **dict(labels))
        self._shown = set(found)

    async def _read(self, tx: Transaction) -> dict[_Series, float]:
        found: dict[_Series, float] = {(FROZEN, ()): float(await read_frozen(tx) is not None)}
        since = day_of(tx.now_ms - _DAYS_MS, self._zone)
        for row in await tx.all("costs.spent_by_service", since=since):
            service = (("service", row["service"]),)
            found[SPENT, service] = row["spent_micro_usd"] / MICRO
            found[RESERVED, service] = 0.0
            if row["estimated_micro_usd"]:
                found[ESTIMATE_ERROR, service] = (
                    row["settled_micro_usd"] / row["estimated_micro_usd"] - 1
                )
        for row in await tx.all("costs.held_by_service"):
            found[RESERVED, (("service", row["service"]),)] = row["micro_usd"] / MICRO
        return found | _budgets(await read_standings(tx, self._zone))


def _budgets(standings: Iterable[BudgetStanding]) -> dict[_Series, float]:
    found: dict[_Series, float] = {}
    for standing in standings:
        budget = ("budget", standing.budget.whose.id)
        for measure in MEASURES:
            limit, left = getattr(standing.budget.limits, measure), standing.left(measure)
            if left is not None:
                # Nothing is ever left of a budget of nothing.
                found[BUDGET_LEFT, (budget, ("measure", measure))] = left / limit if limit else 0.0
        if standing.forecast_share is not None:
            found[BUDGET_FORECAST, (budget,)] = standing.forecast_share
    return found
