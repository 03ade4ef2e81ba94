"""A ledger that a test fills: money held, billed and given back as the processors do it."""

from datetime import UTC, datetime, tzinfo
from typing import Any

from schemas.cost_events import CostReleased, CostSettled
from schemas.events import CostInput, Event
from schemas.ids import uuid7
from schemas.money import Scope, Spend
from schemas.periods import Period, moment_of
from streams.budgets import Budget, Limits, Whose, set_budget
from streams.costs import Costs
from streams.reservations import Payer, reserve
from streams.tables.base import OutboxRow, Row, Tables
from tests.harness import decode_row, event_of
from tests.money_desk import spend_of


class Ledger:
    """Books into tables, and lets the costs fold see what was said of money."""

    def __init__(self, tables: Tables, zone: tzinfo = UTC) -> None:
        self._tables = tables
        self._zone = zone
        self._announced: list[OutboxRow] = []
        tables.on_commit(self._announced.extend)

    async def limit(
        self,
        scope: Scope = Scope.DEPLOYMENT,
        subject: str = "",
        period: Period = Period.DAY,
        *,
        micro_usd: int | None = 1_000_000,
        pages: int | None = None,
        requests: int | None = None,
        **more: Any,
    ) -> str:
        """Set a budget of a dollar a day, or what is asked, and give its id."""
        whose = Whose(scope, subject, period)
        budget = Budget(whose, Limits(micro_usd, pages, requests), **more)
        await self._tables.write(lambda tx: set_budget(tx, budget, "ann@host", self._zone))
        return whose.id

    async def hold(
        self,
        tenant: str = "acme",
        spend: Spend | None = None,
        *,
        job_id: str | None = None,
        attempt: int = 1,
    ) -> Payer:
        """Hold ten pages' money for an attempt, and let the ledger know."""
        payer = Payer(job_id or uuid7(), tenant, attempt, None)
        await self._tables.write(lambda tx: reserve(tx, payer, spend or spend_of(), self._zone))
        await self.fold_said()
        return payer

    async def settle(self, payer: Payer, micro_usd: int, *, at: datetime | None = None) -> None:
        """Bill an attempt's ten pages, on the day of its reservation, or `at` another."""
        await self.fold(
            CostSettled(
                **await self._of(payer, at),
                vendor_job_id=f"v-{payer.job_id}",
                basis="billed",
                pages=10,
                micro_usd=micro_usd,
                credits=micro_usd / 1250,
            )
        )

    async def release(self, payer: Payer) -> None:
        """Give back what an attempt holds."""
        await self.fold(CostReleased(**await self._of(payer, None), reason="circuit_open"))

    async def spend(
        self, at: datetime, micro_usd: int, *, tenant: str = "acme", **more: Any
    ) -> None:
        """Book a bill of ten pages for which nothing was held, on a day of the past."""
        values = {"service": "llamaparse", "tier": "cost_effective", "pages": 10, **more}
        job_id = values.pop("job_id", None) or uuid7()
        await self.fold(
            CostSettled(
                job_id=job_id,
                tenant=tenant,
                attempt=1,
                booked_at=at,
                vendor_job_id=f"v-{job_id}",
                basis="billed",
                micro_usd=micro_usd,
                **values,
            )
        )

    async def fold(self, *bodies: CostInput) -> None:
        """Let the costs fold apply events."""
        await self._apply([event_of(body) for body in bodies])

    async def fold_said(self) -> None:
        """Let the costs fold apply what was said of money since the last time."""
        rows, self._announced[:] = list(self._announced), []
        events = [decode_row(row) for row in rows]
        await self._apply([event for event in events if isinstance(event.body, CostInput)])

    async def rows(self, query: str, **values: Any) -> list[Row]:
        """Run a query."""
        return await self._tables.read(lambda tx: tx.all(query, **values))

    async def _apply(self, events: list[Event]) -> None:
        await self._tables.write(lambda tx: Costs(self._zone).apply(tx, events))

    async def _of(self, payer: Payer, at: datetime | None) -> dict[str, Any]:
        (row,) = await self.rows("money.reservation", job_id=payer.job_id, attempt=payer.attempt)
        return {
            "job_id": payer.job_id,
            "tenant": payer.tenant,
            "attempt": payer.attempt,
            "service": row["service"],
            "tier": row["tier"],
            "booked_at": at or moment_of(row["reserved_ms"]),
        }
