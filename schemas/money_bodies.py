"""HTTP bodies of money: costs, forecasts and budgets; what operators ask of them.

Amounts are whole micro-dollars, and beside them the same in dollars as decimal text.
"""

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from schemas.money import Policy


@dataclass(frozen=True, slots=True)
class AmountsBody:
    """Money, pages and requests."""

    micro_usd: int
    usd: str
    pages: int
    requests: int


@dataclass(frozen=True, slots=True)
class LimitsBody:
    """A budget's limits, or what is left of them; null where it does not limit."""

    micro_usd: int | None
    usd: str | None
    pages: int | None
    requests: int | None


@dataclass(frozen=True, slots=True)
class ForecastBody:
    """What a window will have cost at its end, if all goes on as in the last hour."""

    window_start: datetime
    window_end: datetime
    spent_micro_usd: int
    spent_usd: str
    per_hour_micro_usd: int
    per_hour_usd: str
    at_end_micro_usd: int
    at_end_usd: str


@dataclass(frozen=True, slots=True)
class WindowBody:
    """A day or month that is not over."""

    window_start: datetime
    window_end: datetime
    spent: AmountsBody
    reserved: AmountsBody


@dataclass(frozen=True, slots=True)
class CostsNowBody:
    """What is spent and held at present, of one tenant or of all (null).

    `reserved` is every open reservation; `frozen` the policy while all spending is stopped.
    """

    at: datetime
    time_zone: str
    tenant: str | None
    today: WindowBody
    month: WindowBody
    reserved: AmountsBody
    frozen: str | None


@dataclass(frozen=True, slots=True)
class CostLine:
    """A line of a report: a day, service, tenant, tier (empty: none) or job.

    `estimated` is what was held for what is `settled`; later corrections are in `spent` alone.
    """

    name: str
    spent_micro_usd: int
    spent_usd: str
    spent_pages: int
    spent_requests: int
    estimated_micro_usd: int
    estimated_usd: str
    settled_micro_usd: int
    settled_usd: str


@dataclass(frozen=True, slots=True)
class CostsBody:
    """A report on days, the last one within; jobs come in pages and have no total.

    `next` is the `before` of the page after it.
    """

    by: str
    since: str
    until: str
    time_zone: str
    tenant: str | None
    lines: list[CostLine]
    total: AmountsBody | None
    next: str | None


@dataclass(frozen=True, slots=True)
class BudgetForecastBody:
    """What a budget's window will have cost; `share` of its limit."""

    id: str
    limit_micro_usd: int
    limit_usd: str
    share: float | None
    forecast: ForecastBody


@dataclass(frozen=True, slots=True)
class ForecastsBody:
    """Today, this month, and each budget that limits money."""

    at: datetime
    time_zone: str
    tenant: str | None
    today: ForecastBody
    month: ForecastBody
    budgets: list[BudgetForecastBody]


@dataclass(frozen=True, slots=True)
class BudgetDetails:
    """What operators see of every budget, and tenants of their own."""

    limit: LimitsBody
    hard: bool
    policy: str
    window_start: datetime
    window_end: datetime
    spent: AmountsBody
    reserved: AmountsBody
    left: LimitsBody
    forecast: ForecastBody


@dataclass(frozen=True, slots=True)
class BudgetBody:
    """A budget in its present window; `is_spent` when nothing is left in one of its measures."""

    id: str
    scope: str
    subject: str
    period: str
    is_spent: bool
    details: BudgetDetails | None


@dataclass(frozen=True, slots=True)
class BudgetsBody:
    """The budgets that hold; `frozen` is the policy while all spending is stopped."""

    at: datetime
    time_zone: str
    frozen: str | None
    budgets: list[BudgetBody]


@dataclass(frozen=True, slots=True)
class FrozenBody:
    """Whether all spending is stopped, and what becomes of documents meanwhile."""

    frozen: str | None


class BudgetOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator sets: dollars as text (`"12.50"`) or in micro-dollars, pages, requests."""

    limit_usd: str | None = None
    limit_micro_usd: int | None = None
    limit_pages: int | None = None
    limit_requests: int | None = None
    hard: bool = True
    policy: Policy = Policy.REJECT


class FreezeOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of documents while all spending is stopped."""

    policy: Policy = Policy.WAIT
