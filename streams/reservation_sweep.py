"""The reservation sweep: money that is held for nothing any more is booked at its estimate.

Every end of an attempt gives its money back, and every job elsewhere is settled; this is for the
ends that were never written or were dead letters. A day later nobody can tell what was billed.
"""

import structlog

from streams.billing import Billing
from streams.repeating import repeat
from streams.tables.base import Tables, Transaction

log = structlog.get_logger(__name__)

_LEFT_MS = 24 * 3_600_000
_MOST = 100


class ReservationSweep:
    """Looks for reservations that nobody will end; any number of these do no harm to each other."""

    def __init__(self, tables: Tables, billing: Billing, *, every_seconds: float = 60.0) -> None:
        self._tables = tables
        self._billing = billing
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables only delays."""
        await repeat(self.tick, self._every_seconds, failed="reservation_sweep_failed")

    async def tick(self) -> None:
        """Book what is left over."""
        for job_id, attempt in await self._tables.write(self._give_up):
            log.error("reservation_left_over", job=job_id, attempt=attempt)

    async def _give_up(self, tx: Transaction) -> list[tuple[str, int]]:
        rows = await tx.all("money.left_reservations", before_ms=tx.now_ms - _LEFT_MS, most=_MOST)
        for row in rows:
            await self._billing.give_up(tx, row["job_id"], row["attempt"])
        return [(row["job_id"], row["attempt"]) for row in rows]
