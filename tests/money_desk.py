"""A desk for money: a purse, bills at LlamaCloud's price, and short ways to look at sums."""

from dataclasses import dataclass, field

from schemas.money import Spend
from streams.billing import Billing
from streams.parsers.base import Document, RemoteParser
from streams.tables.base import Row
from tests.harness import Desk

KILOCREDIT = 1_250_000
"""Micro-dollars for 1,000 credits."""

BILLING = Billing(lambda _service, _at_ms: KILOCREDIT)


def spend_of(service: str = "llamaparse", *, pages: int = 10, micro_usd: int = 37_500) -> Spend:
    """Give what ten pages of the tier `cost_effective` cost, or what else is asked."""
    return Spend(service, "cost_effective", pages, micro_usd, KILOCREDIT)


@dataclass
class FakePurse:
    """Quotes the same for everything, or raises what it is told."""

    error: Exception | None = None
    quoted: list[str] = field(default_factory=list)

    async def quote(self, document: Document, parser: RemoteParser) -> Spend:
        self.quoted.append(document.job_id)
        if self.error is not None:
            raise self.error
        return spend_of(parser.name)


async def costs_of_day(desk: Desk, by: str = "day") -> list[Row]:
    """Give the sums of the day of the desks' clocks."""
    return await desk.rows(f"costs.by_{by}", since="2027-01-15", until="2027-01-15", tenant=None)
