"""Where each budget stands: what is spent and held of its present window, and what it comes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from schemas.money import Policy, Scope
from schemas.periods import Period, Span
from streams.budgets import MEASURES, Amounts, Budget, Limits, Whose
from streams.forecast import RECENT_MS, Forecast, forecast
from streams.reservations import standing
from streams.tables.base import Row, Transaction


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget in its present window."""

    budget: Budget
    window: Span
    spent: Amounts
    held: Amounts
    forecast: Forecast

    def left(self, measure: str) -> int | None:
        """Tell what is left in a measure, below 0 where too much is spent; None: no limit."""
        limit: int | None = getattr(self.budget.limits, measure)
        if limit is None:
            return None
        taken: int = getattr(self.spent, measure) + getattr(self.held, measure)
        return limit - taken

    @property
    def forecast_share(self) -> float | None:
        """Tell the forecast as a share of the limit of money; None where there is none, or 0."""
        limit = self.budget.limits.micro_usd
        return self.forecast.at_end_micro_usd / limit if limit else None

    @property
    def is_spent(self) -> bool:
        """Tell whether nothing is left in one of its measures."""
        return any((left := self.left(measure)) is not None and left <= 0 for measure in MEASURES)


@dataclass(frozen=True, slots=True)
class Recent:
    """What was spent lately, by tenant and service."""

    rows: Sequence[Row]

    def of(self, scope: Scope, subject: str) -> int:
        """Sum it for whom a budget is, in micro-dollars."""
        return sum(
            row["micro_usd"]
            for row in self.rows
            if scope is Scope.DEPLOYMENT or row[scope.value] == subject
        )


async def read_recent(tx: Transaction) -> Recent:
    """Read what was spent within the time by which rates are reckoned."""
    return Recent(await tx.all("costs.recent", since_ms=tx.now_ms - RECENT_MS))


async def read_standings(
    tx: Transaction, zone: tzinfo, tenant: str | None = None
) -> list[BudgetStanding]:
    """Read every budget, or those that hold for a tenant, by their ids."""
    rows = await standing(tx, zone, tenant)
    recent = await read_recent(tx) if rows else Recent(())
    return [_read(row, recent, tx.now_ms) for row in rows]


def _read(row: Row, recent: Recent, now_ms: int) -> BudgetStanding:
    whose = Whose(Scope(row["scope"]), row["subject"], Period(row["period"]))
    limits = Limits(*(row[f"limit_{measure}"] for measure in MEASURES))
    window = Span(row["start_ms"], row["end_ms"])
    spent = _amounts("spent", row)
    lately = recent.of(whose.scope, whose.subject)
    return BudgetStanding(
        Budget(whose, limits, bool(row["hard"]), Policy(row["policy"])),
        window,
        spent,
        _amounts("reserved", row),
        forecast(spent.micro_usd, window, now_ms, recent_micro_usd=lately),
    )


def _amounts(kind: str, row: Row) -> Amounts:
    return Amounts(*(row[f"{kind}_{measure}"] for measure in MEASURES))
