"""The settling of vendor jobs: those that nobody wants are stopped, and every bill is asked for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.job import State
from streams.billing import Billing
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.parsers.base import RemoteParser, VendorJob, VendorState
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

_MOST = 50
_AGAIN_MS = 10_000
_AGAIN_CAP_MS = 3_600_000
_LISTED_MS = 60_000
_FAILED_JOBS_BILL_MS = 3_600_000
_BILL_MS = 24 * 3_600_000
"""Bills arrive late; one that has not come after a day never does."""
_FORGET_MS = 7 * _BILL_MS


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A vendor job with its age; `wanted` while its job still waits for its result."""

    parser: str
    vendor_job_id: str
    age_ms: int
    settled: bool
    wanted: bool


@dataclass(frozen=True, slots=True)
class _Due:
    job_id: str
    next_ms: int
    vendor_jobs: tuple[Unsettled, ...]


def outcome_of(age_ms: int, seen: VendorJob | None) -> str | None:
    """Tell how a vendor job is settled; None while its bill may still come."""
    if seen is None:
        return "never_told" if age_ms > _LISTED_MS else None
    if seen.credits is not None and seen.state is not VendorState.PENDING:
        return "billed"
    if seen.state in (VendorState.FAILED, VendorState.CANCELLED):
        return "unbilled" if age_ms > _FAILED_JOBS_BILL_MS else None
    return "never_told" if age_ms > _BILL_MS else None


class VendorSettle:
    """Handles due settle timers; any number of them do no harm to each other.

    `unmetered` names the parsers that send no bills.
    """

    def __init__(
        self,
        tables: Tables,
        parsers: Mapping[str, RemoteParser],
        recorder: Recorder,
        billing: Billing,
        *,
        forget: bool,
        every_seconds: float,
        unmetered: Collection[str] = (),
    ) -> None:
        self._tables = tables
        self._parsers = parsers
        self._recorder = recorder
        self._billing = billing
        self._forget = forget
        self._every_seconds = every_seconds
        self._unmetered = frozenset(unmetered)

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables or of a vendor only delays."""
        await repeat(self.tick, self._every_seconds, failed="settling_failed")

    async def tick(self) -> None:
        """Settle what can be settled of the due jobs, and look at the rest again later."""
        for due in await self._tables.write(self._take):
            done = [await self._settled(vendor_job) for vendor_job in due.vendor_jobs]
            outcome = "settled" if all(done) else "later"
            self._recorder.add(STEP_TIMERS_FIRED, kind="settle", outcome=outcome)
            if all(done):
                await self._end(due)

    async def _take(self, tx: Transaction) -> list[_Due]:
        found = []
        for row in await tx.all("vendor.due_settles", most=_MOST):
            next_ms = tx.now_ms + min(_AGAIN_MS << min(row["repeats"], 20), _AGAIN_CAP_MS)
            taken = await tx.run(
                "jobs.take_timer",
                job_id=row["id"],
                kind="settle",
                due_ms=row["due_ms"],
                next_ms=next_ms,
                repeat=1,
            )
            if taken:
                rows = await tx.all("vendor.of_job", job_id=row["id"])
                open_ones = [
                    self._read(row, line, tx.now_ms) for line in rows if self._is_open(line)
                ]
                found.append(_Due(row["id"], next_ms, tuple(open_ones)))
        return found

    def _is_open(self, line: Row) -> bool:
        return line["settled_ms"] is None or bool(self._forget and line["kept_there"])

    def _read(self, job: Row, line: Row, now_ms: int) -> Unsettled:
        current = job["vendor_job_id"] == line["vendor_job_id"]
        return Unsettled(
            parser=line["parser"],
            vendor_job_id=line["vendor_job_id"],
            age_ms=now_ms - line["queued_ms"],
            settled=line["settled_ms"] is not None,
            wanted=current and job["state"] == State.PARSE_QUEUED,
        )

    async def _settled(self, vendor_job: Unsettled) -> bool:
        """Do the next step for one vendor job, and tell whether nothing is left to do for it."""
        parser = self._parsers.get(vendor_job.parser)
        if vendor_job.parser in self._unmetered and not vendor_job.wanted:
            return await self._settle_unmetered(vendor_job)
        if parser is None:
            return await self._give_up(vendor_job)
        if vendor_job.wanted:
            return False
        try:
            if not vendor_job.settled and not await self._ask(parser, vendor_job):
                return False
        except (TransientError, PermanentError) as error:
            log.info("vendor_job_not_settled", parser=parser.name, error=error.message)
            return error.code is Code.VENDOR_LOST and await self._give_up(vendor_job)
        return not self._forget or await self._forgotten(parser, vendor_job)

    async def _forgotten(self, parser: RemoteParser, vendor_job: Unsettled) -> bool:
        """Have it deleted there; what a parser will not delete in a week is left to it."""
        try:
            await parser.forget(vendor_job.vendor_job_id)
            await self._note_forgotten(vendor_job)
        except (TransientError, PermanentError) as error:
            log.info("vendor_job_not_forgotten", parser=parser.name, error=error.message)
            return vendor_job.age_ms > _FORGET_MS
        return True

    async def _ask(self, parser: RemoteParser, vendor_job: Unsettled) -> bool:
        seen = await parser.see(vendor_job.vendor_job_id)
        if seen is not None and seen.state is VendorState.PENDING:
            await parser.cancel(vendor_job.vendor_job_id)
        outcome = outcome_of(vendor_job.age_ms, seen)
        if outcome is None:
            return False
        bill = seen.credits if seen is not None and outcome == "billed" else None
        await self._settle(vendor_job, outcome, bill)
        return True

    async def _settle_unmetered(self, vendor_job: Unsettled) -> bool:
        await self._settle(vendor_job, "billed", 0.0)
        await self._note_forgotten(vendor_job)
        return True

    async def _give_up(self, vendor_job: Unsettled) -> bool:
        """Wait a day for a parser that is not configured, or a job not shown; then settle."""
        if vendor_job.age_ms <= _BILL_MS:
            return False
        if not vendor_job.settled:
            await self._settle(vendor_job, "never_told", None)
        return True

    async def _settle(self, vendor_job: Unsettled, outcome: str, bill: float | None) -> None:
        named = _named(vendor_job)
        await self._tables.write(
            lambda tx: self._billing.settle(tx, **named, outcome=outcome, credits_billed=bill)
        )

    async def _note_forgotten(self, vendor_job: Unsettled) -> None:
        await self._tables.write(lambda tx: tx.run("vendor.forgotten", **_named(vendor_job)))

    async def _end(self, due: _Due) -> None:
        await self._tables.write(
            lambda tx: tx.run("vendor.end_settle", job_id=due.job_id, due_ms=due.next_ms)
        )


def _named(vendor_job: Unsettled) -> dict[str, str]:
    return {"parser": vendor_job.parser, "vendor_job_id": vendor_job.vendor_job_id}
