"""The reports on costs: what is spent at present, by day, service, tenant, tier or job, and to be.

A tenant of None stands for all of them.
"""

from datetime import tzinfo

from schemas.money import Scope, usd
from schemas.money_bodies import (
    AmountsBody,
    BudgetForecastBody,
    CostLine,
    CostsBody,
    CostsNowBody,
    ForecastBody,
    ForecastsBody,
    WindowBody,
)
from schemas.periods import Span, moment_of
from streams.budget_standing import BudgetStanding, Recent, read_recent, read_standings
from streams.budgets import Amounts
from streams.cost_reports import By, Days, InSpan, read_jobs, read_present, read_report
from streams.forecast import Forecast, forecast
from streams.tables.base import Row, Transaction


async def read_now(tx: Transaction, zone: tzinfo, tenant: str | None) -> CostsNowBody:
    """Read what is spent and held at present."""
    found = await read_present(tx, zone, tenant)
    return CostsNowBody(
        at=moment_of(found.now_ms),
        time_zone=str(zone),
        tenant=tenant,
        today=_window(found.day),
        month=_window(found.month),
        reserved=amounts_body(found.held),
        frozen=found.frozen,
    )


async def read_costs(
    tx: Transaction, by: By, days: Days, zone: tzinfo, tenant: str | None
) -> CostsBody:
    """Read the sums of days, services, tenants or tiers."""
    lines = [_line(row) for row in await read_report(tx, by, days, tenant)]
    total = Amounts(
        sum(line.spent_micro_usd for line in lines),
        sum(line.spent_pages for line in lines),
        sum(line.spent_requests for line in lines),
    )
    return CostsBody(
        by, days.since, days.until, str(zone), tenant, lines, amounts_body(total), None
    )


async def read_job_costs(
    tx: Transaction, days: Days, zone: tzinfo, tenant: str | None, *, before: str, limit: int
) -> CostsBody:
    """Read a page of what jobs cost, the newest first."""
    rows = await read_jobs(tx, days, tenant, before=before, most=limit + 1)
    lines = [_line(row) for row in rows[:limit]]
    following = lines[-1].name if len(rows) > limit else None
    return CostsBody(By.JOB, days.since, days.until, str(zone), tenant, lines, None, following)


async def read_forecasts(tx: Transaction, zone: tzinfo, tenant: str | None) -> ForecastsBody:
    """Read what today, this month and each budget will have cost; a tenant's budgets alone."""
    present, recent = await read_present(tx, zone, tenant), await read_recent(tx)
    budgets = [
        found
        for found in await read_standings(tx, zone, tenant)
        if tenant is None or found.budget.whose.scope is Scope.TENANT
    ]
    return ForecastsBody(
        at=moment_of(present.now_ms),
        time_zone=str(zone),
        tenant=tenant,
        today=_come(present.day, recent, tenant, present.now_ms),
        month=_come(present.month, recent, tenant, present.now_ms),
        budgets=[body for found in budgets if (body := _budget(found)) is not None],
    )


def amounts_body(amounts: Amounts) -> AmountsBody:
    """Show amounts."""
    return AmountsBody(amounts.micro_usd, usd(amounts.micro_usd), amounts.pages, amounts.requests)


def forecast_body(found: Forecast, window: Span) -> ForecastBody:
    """Show a forecast."""
    return ForecastBody(
        window_start=moment_of(window.start_ms),
        window_end=moment_of(window.end_ms),
        spent_micro_usd=found.spent_micro_usd,
        spent_usd=usd(found.spent_micro_usd),
        per_hour_micro_usd=found.micro_usd_per_hour,
        per_hour_usd=usd(found.micro_usd_per_hour),
        at_end_micro_usd=found.at_end_micro_usd,
        at_end_usd=usd(found.at_end_micro_usd),
    )


def _come(found: InSpan, recent: Recent, tenant: str | None, now_ms: int) -> ForecastBody:
    lately = recent.of(Scope.DEPLOYMENT if tenant is None else Scope.TENANT, tenant or "")
    spent = found.spent.micro_usd
    return forecast_body(forecast(spent, found.span, now_ms, recent_micro_usd=lately), found.span)


def _budget(found: BudgetStanding) -> BudgetForecastBody | None:
    limit = found.budget.limits.micro_usd
    if limit is None:
        return None
    body = forecast_body(found.forecast, found.window)
    return BudgetForecastBody(found.budget.whose.id, limit, usd(limit), found.forecast_share, body)


def _window(found: InSpan) -> WindowBody:
    return WindowBody(
        moment_of(found.span.start_ms),
        moment_of(found.span.end_ms),
        amounts_body(found.spent),
        amounts_body(found.held),
    )


def _line(row: Row) -> CostLine:
    return CostLine(
        name=row["name"],
        spent_micro_usd=row["spent_micro_usd"],
        spent_usd=usd(row["spent_micro_usd"]),
        spent_pages=row["spent_pages"],
        spent_requests=row["spent_requests"],
        estimated_micro_usd=row["estimated_micro_usd"],
        estimated_usd=usd(row["estimated_micro_usd"]),
        settled_micro_usd=row["settled_micro_usd"],
        settled_usd=usd(row["settled_micro_usd"]),
    )
