"""The sweeper: for each due timer it says one event; it never changes a job.

uploaded      unclaimed: offer again, 30 s doubling to 1 h; unreadable offer: poison_event
uploaded, parsing   live lease: later; ended: later; dead: worker_lost
parse_queued  nobody here to ask: later
retry_wait    RetryDue
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from schemas.errors import Code, TransientError
from schemas.events import Body, Event, JobMoved, ParseFailed, RetryDue
from schemas.ids import derived_id
from schemas.job import Job, State, Timings, offer
from streams.jobs import from_row
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.outbox import put_events
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

_SOURCE = "/parsewire/sweeper"
_MOST = 500
_OFFER_CAP_MS = 3_600_000
_SAID_AGAIN_MS = 30_000
_ENDED_MS = 5_000
_STALE_TICK_SECONDS = 5.0
_FRESH_START_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Due:
    """A due step timer with its job, its claim and what became of its offer."""

    job: Job
    due_ms: int
    repeats: int
    lease_ends_ms: int | None
    attempt_ended: bool
    dead_letter: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to say, if anything, and when to look again."""

    outcome: str
    next_ms: int
    body: Body | None = None


def judge(due: Due, now_ms: int, timings: Timings, *, leases_judged: bool) -> Verdict:
    """Decide what a due timer means."""
    job = due.job
    if job.state is State.RETRY_WAIT:
        again = RetryDue(job.id, job.tenant, job.attempt)
        return Verdict("retry_due", now_ms + _SAID_AGAIN_MS, again)
    if job.state is State.PARSED:
        return Verdict("stage_offered", now_ms + _SAID_AGAIN_MS, _said_again(job))
    if job.state is State.PARSE_QUEUED:
        return Verdict("later", now_ms + timings.poll_ms)
    if due.lease_ends_ms is None and job.state is State.UPLOADED:
        return _judge_unclaimed(due, now_ms, timings)
    return _judge_claimed(due, now_ms, leases_judged=leases_judged)


def _judge_claimed(due: Due, now_ms: int, *, leases_judged: bool) -> Verdict:
    if due.attempt_ended:
        return Verdict("later", now_ms + _ENDED_MS)
    if due.lease_ends_ms is not None and due.lease_ends_ms > now_ms:
        return Verdict("later", due.lease_ends_ms + 1)
    if not leases_judged:
        return Verdict("later", now_ms + 1_000)
    lost = _failed(due.job, Code.WORKER_LOST, "the worker's lease ran out", transient=True)
    return Verdict("worker_lost", now_ms + _SAID_AGAIN_MS, lost)


def _judge_unclaimed(due: Due, now_ms: int, timings: Timings) -> Verdict:
    if due.dead_letter is not None:
        poison = _failed(due.job, Code.POISON_EVENT, due.dead_letter, transient=False)
        return Verdict("poison_event", now_ms + _SAID_AGAIN_MS, poison)
    wait_ms = min(_OFFER_CAP_MS, timings.offer_again_ms << min(due.repeats + 1, 20))
    return Verdict("offered_again", now_ms + wait_ms, offer(due.job))


def _failed(job: Job, code: Code, message: str, *, transient: bool) -> ParseFailed:
    return ParseFailed(job.id, job.tenant, job.attempt, code, message[:500], transient)


def _said_again(job: Job) -> JobMoved:
    return JobMoved(
        job_id=job.id,
        tenant=job.tenant,
        attempt=job.attempt,
        document_id=job.document_id,
        from_state=None,
        to_state=job.state.value,
        parser=job.parser,
        pages=job.pages,
        result=job.result,
    )


class Sweeper:
    """Looks at due step timers; any number of sweepers do no harm to each other."""

    def __init__(
        self,
        tables: Tables,
        timings: Timings,
        recorder: Recorder,
        *,
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._timings = timings
        self._recorder = recorder
        self._every_seconds = every_seconds
        self._clock = clock
        self._last_good = clock()
        self._judge_from = clock() + min(_FRESH_START_SECONDS, timings.lease_ms / 1000)

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables only delays."""
        while True:
            try:
                while await self.tick() == _MOST:
                    log.info("sweep_goes_on", timers=_MOST)
            except TransientError as error:
                log.warning("sweep_failed", error=error.message)
            await asyncio.sleep(self._every_seconds)

    async def tick(self) -> int:
        """Handle the due timers, 500 at most, and tell how many there were."""
        rows = await self._tables.read(lambda tx: tx.all("jobs.due_steps", most=_MOST))
        now = self._clock()
        if now - self._last_good > _STALE_TICK_SECONDS:
            # Nobody could renew while the tables were away or the machine slept.
            self._judge_from = now + self._timings.lease_ms / 1000
        self._last_good = now
        if rows:
            due = [_due(row) for row in rows]
            judged = now >= self._judge_from
            await self._tables.write(lambda tx: self._say(tx, due, leases_judged=judged))
        return len(rows)

    async def _say(self, tx: Transaction, dues: list[Due], *, leases_judged: bool) -> None:
        said: list[Event] = []
        for due in dues:
            verdict = judge(due, tx.now_ms, self._timings, leases_judged=leases_judged)
            taken = await tx.run(
                "jobs.take_timer",
                job_id=due.job.id,
                kind="step",
                due_ms=due.due_ms,
                next_ms=verdict.next_ms,
                repeat=1 if verdict.body is not None else 0,
            )
            if taken and verdict.body is not None:
                said.append(_event(due, verdict.body, tx.now_ms))
            self._recorder.add(STEP_TIMERS_FIRED, kind="step", outcome=verdict.outcome)
        await put_events(tx, said)


def _event(due: Due, body: Body, now_ms: int) -> Event:
    event_id = derived_id("step", due.job.id, due.job.attempt, due.due_ms)
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return Event(event_id, _SOURCE, moment, body, due.job.traceparent)


def _due(row: Row) -> Due:
    return Due(
        job=from_row(row),
        due_ms=row["due_ms"],
        repeats=row["repeats"],
        lease_ends_ms=row["deadline_ms"],
        attempt_ended=row["ended_ms"] is not None,
        dead_letter=row["dead_letter"],
    )
