"""The vendor sweep: asks parsers elsewhere about jobs that nobody has told us of.

ended there                    VendorJobSeen
unknown there                  vendor_lost
pending past its deadline      cancelled there, then vendor_stuck
Nothing is concluded from a parser that does not answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import Event
from schemas.job import Job
from schemas.timings import Timings
from streams.jobs import from_row
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.outbox import put_events
from streams.parsers.base import RemoteParser, VendorJob, VendorState
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction
from streams.vendor_events import failed, seen_event, timer_event

log = structlog.get_logger(__name__)

_MOST = 200
_LISTED_MS = 60_000
"""A job that was created a moment ago may not stand in the vendor's list yet."""
_LONGEST_POLL_MS = 3_600_000
_HOPELESS = 2
"""After how many times its deadline a job is given up that cannot even be cancelled there."""

_SOURCE = "vendor_sweep"


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job whose timer was taken, and since when it is elsewhere."""

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

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables or of a vendor only delays."""
        await repeat(self.tick, self._every_seconds, failed="vendor_sweep_failed")

    async def tick(self) -> None:
        """Take what is due, ask about it, and say what that means."""
        taken = await self._tables.write(self._take)
        for parser in {overdue.parser for overdue in taken}:
            await self._poll(parser, [o for o in taken if o.parser == parser])

    async def _take(self, tx: Transaction) -> list[Overdue]:
        """Put the timers off before anybody is asked, so that a death in between only delays."""
        return [
            overdue
            for row in await tx.all("vendor.due_polls", most=_MOST)
            if await self._taken(tx, overdue := _overdue(row, tx.now_ms))
        ]

    def _wait_ms(self, overdue: Overdue) -> int:
        """Ask a quarter of its age later: soon about a new job, seldom about an old one."""
        return min(max(self._poll_ms, overdue.age_ms // 4), _LONGEST_POLL_MS)

    async def _taken(self, tx: Transaction, overdue: Overdue) -> int:
        return await tx.run(
            "jobs.take_timer",
            job_id=overdue.job.id,
            kind="step",
            due_ms=overdue.due_ms,
            next_ms=tx.now_ms + self._wait_ms(overdue),
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
        if parser is None:
            outcome = "no_parser" if overdue.age_ms > self._job_ms else "later"
        else:
            seen, outcome = await self._judged(parser, overdue, seen)
        self._recorder.add(STEP_TIMERS_FIRED, kind="step", outcome=outcome)
        match outcome:
            case "ended" if seen is not None:
                return seen_event(
                    overdue.job, overdue.parser, seen.id, overdue.due_ms, overdue.now_ms
                )
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

    async def _judged(
        self, parser: RemoteParser, overdue: Overdue, seen: VendorJob | None
    ) -> tuple[VendorJob | None, str]:
        """Judge by the list, then do what has to be done there before that may be said."""
        outcome = judge(overdue, seen, self._job_ms)
        try:
            if outcome == "lost":
                # A list may be behind; a second job for nothing costs money.
                seen = await parser.see(overdue.job.vendor_job_id or "")
                outcome = judge(overdue, seen, self._job_ms)
            if outcome == "stuck":
                await parser.cancel(overdue.job.vendor_job_id or "")
        except (TransientError, PermanentError) as error:
            if outcome == "lost" and error.code is Code.VENDOR_LOST:
                # It stands in no list of ours either.
                return None, outcome
            log.warning("vendor_job_left", job=overdue.job.id, why=outcome, error=error.message)
            # Its settle timer goes on with cancelling: the job itself must not wait for ever.
            if outcome == "lost" or overdue.age_ms <= _HOPELESS * self._job_ms:
                outcome = "later"
        return seen, outcome

    async def _say(self, events: Sequence[Event]) -> None:
        if events:
            await self._tables.write(lambda tx: put_events(tx, events))


def judge(overdue: Overdue, seen: VendorJob | None, job_ms: int) -> str:
    """Decide what a parser's answer, or its lack, means for a job that is overdue."""
    if seen is None:
        return "lost" if overdue.age_ms > _LISTED_MS else "later"
    if seen.state is not VendorState.PENDING:
        return "ended"
    return "stuck" if overdue.age_ms > job_ms else "later"


def _failure(overdue: Overdue, code: Code, message: str) -> Event:
    body = failed(overdue.job, code, message, transient=True, parser=overdue.parser)
    return timer_event(overdue.job, overdue.due_ms, body, _SOURCE, overdue.now_ms)


def _overdue(row: Row, now_ms: int) -> Overdue:
    job = from_row(row)
    return Overdue(job, row["due_ms"], row["queued_ms"], job.parser or "", now_ms)
