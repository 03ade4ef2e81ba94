"""The sweeper: for each due timer it says one event; it never changes a job.

uploaded      unclaimed: offer again, 30 s doubling to 1 h; unreadable offer: poison_event
uploaded, parsing   live lease: later; dead: worker_lost
                    ended: later, until its end event is a dead letter: poison_event
retry_wait    RetryDue

Jobs that are at a parser elsewhere, or may be, are looked at by `vendor_sweep.py`.
"""

from dataclasses import dataclass

import structlog

from schemas.errors import Code
from schemas.events import Body, Event, JobMoved, ParseFailed, RetryDue
from schemas.ids import derived_id
from schemas.job import Job, State, offer
from schemas.periods import moment_of
from schemas.timings import Timings
from streams.ends import MESSAGE_CHARACTERS
from streams.jobs import from_row
from streams.lease_judge import LeaseJudge
from streams.metrics import STEP_TIMERS_FIRED, Recorder
from streams.outbox import put_events
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

_SOURCE = "/parsewire/sweeper"
_MOST = 250
"""A tick of so many takes the tables for 15 ms."""
_SAID_AGAIN_MS = 30_000
_SAID_AGAIN_CAP_MS = 3_600_000
_ENDED_MS = 30_000


@dataclass(frozen=True, slots=True)
class Due:
    """A due step timer with its job, its claim and why its offer, or its end, was buried."""

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
        return Verdict("retry_due", now_ms + _again_ms(due), again)
    if job.state is State.PARSED:
        return Verdict("stage_offered", now_ms + _again_ms(due), _said_again(job))
    if due.lease_ends_ms is None and job.state is State.UPLOADED:
        return _judge_unclaimed(due, now_ms, timings)
    return _judge_claimed(due, now_ms, leases_judged=leases_judged)


def _judge_claimed(due: Due, now_ms: int, *, leases_judged: bool) -> Verdict:
    if due.attempt_ended:
        if due.dead_letter is not None:
            return _poisoned(due, due.dead_letter, now_ms)
        return Verdict("later", now_ms + _ENDED_MS)
    if due.lease_ends_ms is not None and due.lease_ends_ms > now_ms:
        return Verdict("later", due.lease_ends_ms + 1)
    if not leases_judged:
        return Verdict("later", now_ms + 1_000)
    lost = _failed(due.job, Code.WORKER_LOST, "the worker's lease ran out", transient=True)
    return Verdict("worker_lost", now_ms + _again_ms(due), lost)


def _judge_unclaimed(due: Due, now_ms: int, timings: Timings) -> Verdict:
    if due.dead_letter is not None:
        return _poisoned(due, due.dead_letter, now_ms)
    wait_ms = min(_SAID_AGAIN_CAP_MS, timings.offer_again_ms << min(due.repeats + 1, 20))
    return Verdict("offered_again", now_ms + wait_ms, offer(due.job))


def _poisoned(due: Due, why: str, now_ms: int) -> Verdict:
    poison = _failed(due.job, Code.POISON_EVENT, why, transient=False)
    return Verdict("poison_event", now_ms + _again_ms(due), poison)


def _again_ms(due: Due) -> int:
    """Wait longer each time: while the fold is away, every event said again fills the outbox."""
    return min(_SAID_AGAIN_CAP_MS, _SAID_AGAIN_MS << min(due.repeats, 20))


def _failed(job: Job, code: Code, message: str, *, transient: bool) -> ParseFailed:
    short = message[:MESSAGE_CHARACTERS]
    return ParseFailed(job.id, job.tenant, job.attempt, code, short, transient)


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
        reference=job.reference,
    )


class Sweeper:
    """Looks at due step timers; any number of sweepers do no harm to each other."""

    def __init__(
        self, tables: Tables, timings: Timings, recorder: Recorder, *, every_seconds: float
    ) -> None:
        self._tables = tables
        self._timings = timings
        self._recorder = recorder
        self._every_seconds = every_seconds
        self._leases = LeaseJudge(timings.lease_ms)

    async def run(self) -> None:
        """Tick until cancelled; trouble of the tables only delays."""
        await repeat(self._tick, self._every_seconds, failed="sweep_failed")

    async def _tick(self) -> bool:
        """Tell whether there may be more."""
        return await self.tick() == _MOST

    async def tick(self) -> int:
        """Handle the due timers, `_MOST` at most, and tell how many there were."""
        # Leases are read in the transaction that judges them: they are renewed while it waits.
        now_ms, handled = await self._tables.write(self._sweep)
        self._leases.ticked(now_ms)
        return handled

    async def _sweep(self, tx: Transaction) -> tuple[int, int]:
        judged = self._leases.may_judge(tx.now_ms)
        due = [_due(row) for row in await tx.all("jobs.due_steps", most=_MOST)]
        await self._say(tx, due, leases_judged=judged)
        return tx.now_ms, len(due)

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
    moment = moment_of(now_ms)
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
