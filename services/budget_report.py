"""The report on budgets: each in its present window, with figures for those who may see them."""

from datetime import tzinfo

from schemas.money import Scope, usd
from schemas.money_bodies import BudgetBody, BudgetDetails, BudgetsBody, LimitsBody
from schemas.periods import moment_of
from services.cost_report import amounts_body, forecast_body
from streams.budget_standing import BudgetStanding, read_standings
from streams.budgets import MEASURES, read_frozen
from streams.tables.base import Transaction


async def read_budgets(tx: Transaction, zone: tzinfo, tenant: str | None) -> BudgetsBody:
    """Read every budget, or those that hold for a tenant: its own figures and nobody else's."""
    found = await read_standings(tx, zone, tenant)
    budgets = [budget_body(budget, tenant) for budget in found]
    return BudgetsBody(moment_of(tx.now_ms), str(zone), await read_frozen(tx), budgets)


def budget_body(found: BudgetStanding, tenant: str | None = None) -> BudgetBody:
    """Show a budget to a tenant, or to an operator (None)."""
    whose = found.budget.whose
    may_see = tenant is None or (whose.scope is Scope.TENANT and whose.subject == tenant)
    return BudgetBody(
        id=whose.id,
        scope=whose.scope,
        subject=whose.subject,
        period=whose.period,
        is_spent=found.is_spent,
        details=_details(found) if may_see else None,
    )


def _details(found: BudgetStanding) -> BudgetDetails:
    limits = found.budget.limits
    return BudgetDetails(
        limit=_limits(*(getattr(limits, measure) for measure in MEASURES)),
        hard=found.budget.hard,
        policy=found.budget.policy,
        window_start=moment_of(found.window.start_ms),
        window_end=moment_of(found.window.end_ms),
        spent=amounts_body(found.spent),
        reserved=amounts_body(found.held),
        left=_limits(*(found.left(measure) for measure in MEASURES)),
        forecast=forecast_body(found.forecast, found.window),
    )


def _limits(micro_usd: int | None, pages: int | None, requests: int | None) -> LimitsBody:
    return LimitsBody(micro_usd, None if micro_usd is None else usd(micro_usd), pages, requests)
