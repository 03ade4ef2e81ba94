"""Alerts that the usage windows raise; each is said once."""

from dataclasses import dataclass
from typing import Literal

from schemas.fields import Aware, Count

Measure = Literal["micro_usd", "pages", "requests"]


@dataclass(frozen=True, slots=True)
class BudgetThresholdCrossed:
    """A share of a budget is spent or held; `used` may be above the ledger's sum for a while.

    What was counted and not committed when the windows' process was killed is counted again.
    """

    budget: str
    tenant: str
    """The budget's tenant, else empty."""
    percent: Count
    measure: Measure
    used: Count
    limit: Count
    window_start: Aware
    window_end: Aware


@dataclass(frozen=True, slots=True)
class SpendRateUnusual:
    """A tenant spends at a service, this hour, far more than in its hours before."""

    tenant: str
    service: str
    window_start: Aware
    micro_usd: Count
    usual_micro_usd: Count
    """The mean of the hours before that had any spending."""
