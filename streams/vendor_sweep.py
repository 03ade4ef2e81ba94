"""The vendor sweep: asks parsers elsewhere about jobs that nobody has told us of.

parse_queued       ended there: VendorJobSeen; unknown there: vendor_lost;
                   pending past its deadline: cancelled there, then vendor_stuck
dead, with intent  found there: ParseQueued; not found after 2 min: worker_lost
Nothing is concluded from a parser that does not answer.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import Event
from schemas.job import Job, Timings
from streams.jobs import from_row
from streams.lease_judge import LeaseJudge
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.outbox import put_events
from streams.parsers.base import RemoteParser, VendorJob, VendorState
from streams.tables.base import Row, Tables, Transaction
from streams.vendor_events import failed, queued, said_once, seen_event, timer_event

log = structlog.get_logger(__name__)

_MOST_POLLS = 200
_MOST_INTENTS = 20
_LISTED_MS = 60_000
"""A job that was created a moment ago may not stand in the vendor's list yet."""
_FOUND_WITHIN_MS = 120_000
_INTENT_AGAIN_MS = 10_000
_LONGEST_POLL_MS = 3_600_000

_SOURCE = "vendor_sweep"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job whose timer was taken, and since when it is, or may be, elsewhere."""

    job: Job
    due_ms: int
    since_ms: int
    parser: str
    now_ms: int

    @property
    def age_ms(self) -> int:
        """Tell how long it has been there."""
        return self.now_ms - self.since_ms


class VendorSweep:
    """Looks at jobs elsewhere; any number of sweeps do no harm to each other."""

    def __init__(
        self,
        tables: Tables,
        parsers: Mapping[str, RemoteParser],
        recorder: Recorder,
        timings: Timings,
        *,
        job_ms: int,
        every_seconds: float,
    ) -> None:
        self._tables = tables
        self._parsers = parsers
        self._recorder = recorder
        self._poll_ms = timings.poll_ms
        self._job_ms = job_ms
        self._every_seconds = every_seconds
        self._leases = LeaseJudge(timings.lease_ms)

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables or of a vendor only delays."""
        while True:
            try:
                await self.tick()
            except TransientError as error:
                log.warning("vendor_sweep_failed", error=error.message)
            await asyncio.sleep(self._every_seconds)

    async def tick(self) -> None:
        """Take what is due, ask about it, and say what that means."""
        now_ms, polls, intents = await self._tables.write(self._take)
        self._leases.ticked(now_ms)
        for parser in {overdue.parser for overdue in polls}:
            await self._poll(parser, [o for o in polls if o.parser == parser])
        for overdue in intents:
            await self._resolve(overdue)

    async def _take(self, tx: Transaction) -> tuple[int, list[Overdue], list[Overdue]]:
        """Put the timers off before anybody is asked, so that a death in between only delays."""
        polls = [
            overdue
            for row in await tx.all("vendor.due_polls", most=_MOST_POLLS)
            if await self._taken(tx, overdue := _poll_of(row, tx.now_ms), self._wait_ms(overdue))
        ]
        if not self._leases.may_judge(tx.now_ms):
            return tx.now_ms, polls, []
        intents = [
            overdue
            for row in await tx.all("vendor.due_intents", most=_MOST_INTENTS)
            if await self._taken(tx, overdue := _intent_of(row, tx.now_ms), _INTENT_AGAIN_MS)
        ]
        return tx.now_ms, polls, intents

    def _wait_ms(self, overdue: Overdue) -> int:
        """Ask a quarter of its age later: soon about a new job, seldom about an old one."""
        return min(max(self._poll_ms, overdue.age_ms // 4), _LONGEST_POLL_MS)

    async def _taken(self, tx: Transaction, overdue: Overdue, wait_ms: int) -> int:
        return await tx.run(
            "jobs.take_timer",
            job_id=overdue.job.id,
            kind="step",
            due_ms=overdue.due_ms,
            next_ms=tx.now_ms + wait_ms,
            repeat=1,
        )

    async def _poll(self, name: str, overdue: Sequence[Overdue]) -> None:
        parser = self._parsers.get(name)
        found: Mapping[str, VendorJob] = {}
        if parser is not None:
            try:
                found = await parser.look([o.job.vendor_job_id or "" for o in overdue])
            except (TransientError, PermanentError) as error:
                log.warning("vendor_not_asked", parser=name, jobs=len(overdue), error=error.message)
                return
        events = [
            await self._meaning(parser, o, found.get(o.job.vendor_job_id or "")) for o in overdue
        ]
        await self._say([event for event in events if event is not None])

    async def _meaning(
        self, parser: RemoteParser | None, overdue: Overdue, seen: VendorJob | None
    ) -> Event | None:
        job, outcome = (
            overdue.job,
            judge(overdue, seen, known=parser is not None, job_ms=self._job_ms),
        )
        if outcome == "stuck" and parser is not None and not await _cancelled(parser, job):
            outcome = "not_cancelled"
        self._recorder.add(STEP_TIMERS_FIRED, kind="step", outcome=outcome)
        match outcome:
            case "ended" if seen is not None:
                return seen_event(job, overdue.parser, seen.id, overdue.due_ms, overdue.now_ms)
            case "stuck":
                why = f"pending for {overdue.age_ms // 1000} s"
                return _failure(overdue, Code.VENDOR_STUCK, why)
            case "lost":
                return _failure(overdue, Code.VENDOR_LOST, "the parser does not know the job")
            case "no_parser":
                why = f"{overdue.parser} is not configured any more"
                return _failure(overdue, Code.VENDOR_LOST, why)
            case _:
                return None

    async def _resolve(self, overdue: Overdue) -> None:
        """Find out whether a dead worker, or one without an answer, created its job."""
        job, seen = overdue.job, None
        parser = self._parsers.get(overdue.parser)
        if parser is not None:
            since = datetime.fromtimestamp(overdue.since_ms / 1000, UTC)
            try:
                seen = await parser.find(job.id, job.attempt, since)
            except (TransientError, PermanentError) as error:
                log.warning("vendor_not_asked", parser=parser.name, jobs=1, error=error.message)
                return
        outcome, event = "not_found_yet", None
        if seen is not None:
            body = queued(job.id, job.tenant, job.attempt, overdue.parser, seen)
            outcome, event = "found", said_once(body, seen.id, job, _SOURCE, overdue.now_ms)
        elif overdue.age_ms > _FOUND_WITHIN_MS:
            why = "the worker's lease ran out, and no job of it was found"
            outcome, event = "worker_lost", _failure(overdue, Code.WORKER_LOST, why)
        self._recorder.add(STEP_TIMERS_FIRED, kind="step", outcome=outcome)
        await self._say([event] if event is not None else [])

    async def _say(self, events: Sequence[Event]) -> None:
        if events:
            await self._tables.write(lambda tx: put_events(tx, events))


def judge(overdue: Overdue, seen: VendorJob | None, *, known: bool, job_ms: int) -> str:
    """Decide what a parser's answer, or its lack, means for a job that is overdue."""
    late = overdue.age_ms > job_ms
    if not known:
        return "no_parser" if late else "later"
    if seen is None:
        return "lost" if overdue.age_ms > _LISTED_MS else "later"
    if seen.state is not VendorState.PENDING:
        return "ended"
    return "stuck" if late else "later"


async def _cancelled(parser: RemoteParser, job: Job) -> bool:
    try:
        await parser.cancel(job.vendor_job_id or "")
    except (TransientError, PermanentError) as error:
        log.warning("vendor_job_not_cancelled", job=job.id, error=error.message)
        return False
    return True


def _failure(overdue: Overdue, code: Code, message: str) -> Event:
    body = failed(overdue.job, code, message, transient=True, parser=overdue.parser)
    return timer_event(overdue.job, overdue.due_ms, body, _SOURCE, overdue.now_ms)


def _poll_of(row: Row, now_ms: int) -> Overdue:
    job = from_row(row)
    return Overdue(job, row["due_ms"], row["queued_ms"], job.parser or "", now_ms)


def _intent_of(row: Row, now_ms: int) -> Overdue:
    return Overdue(from_row(row), row["due_ms"], row["intent_ms"], row["intent_parser"], now_ms)
