"""A desk for money: a purse, bills at LlamaCloud's price, and short ways to look at sums."""

from dataclasses import dataclass, field
from datetime import UTC

from schemas.events import CostInput
from schemas.money import Spend
from streams.billing import Billing
from streams.costs import Costs
from streams.parsers.base import Document, RemoteParser
from streams.reservations import Payer, reserve
from streams.tables.base import Row
from tests.harness import Desk

KILOCREDIT = 1_250_000
"""Micro-dollars for 1,000 credits."""

BILLING = Billing(lambda _service, _at_ms: KILOCREDIT, unmetered=("callback",))


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


async def hold(desk: Desk, job_id: str, attempt: int = 1, spend: Spend | None = None) -> None:
    """Hold what ten pages cost for an attempt."""
    payer = Payer(job_id, "acme", attempt, None)
    await desk.tables.write(lambda tx: reserve(tx, payer, spend or spend_of(), UTC))


async def fold_costs(desk: Desk) -> list[CostInput]:
    """Give the costs fold what was said of money since the last time, and tell it, each once."""
    desk.said()
    events, desk.costs[:] = list(desk.costs), []
    await desk.tables.write(lambda tx: Costs(UTC).apply(tx, events))
    bodies = {event.id: event.body for event in events}
    return [body for body in bodies.values() if isinstance(body, CostInput)]


async def held(desk: Desk) -> int:
    """Give the micro-dollars that are held at present."""
    (row,) = await desk.rows("costs.held", since_ms=0, tenant=None)
    return int(row["micro_usd"])


async def spent(desk: Desk) -> int:
    """Give the micro-dollars of the day of the desks' clocks."""
    return sum(row["spent_micro_usd"] for row in await costs_of_day(desk))
