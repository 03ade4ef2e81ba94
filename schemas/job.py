"""A job: its states, and the one table of its moves.

from               event             guard            to           step timer
uploaded           ParseStarted      attempt          parsing      look at the lease
uploaded, parsing  ParseQueued       attempt          parse_queued first poll, at once if finished
open               ParseSucceeded    attempt          parsed, then complete (no stage follows)
open               ParseFailed       attempt          retry_wait, or failed_parse when permanent,
                                                      the fifth, or the eleventh lost worker
open               ParseDeferred     attempt          retry_wait   the wait
retry_wait         RetryDue          attempt          uploaded, attempt + 1
unfinished         CancelRequested   -                cancelled    removed
failed, cancelled  RetryRequested    attempt          uploaded, attempt + 1, counts at 0
any but deleted    DeleteRequested   -                deleted (cancelled first when unfinished)

open: uploaded, parsing, parse_queued. Anything else is ignored and changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from schemas import events as ev
from schemas.errors import Code
from schemas.timings import Clock


class State(StrEnum):
    """Where a job stands."""

    UPLOADED = "uploaded"
    PARSING = "parsing"
    PARSE_QUEUED = "parse_queued"
    RETRY_WAIT = "retry_wait"
    PARSED = "parsed"
    COMPLETE = "complete"
    FAILED_PARSE = "failed_parse"
    CANCELLED = "cancelled"
    DELETED = "deleted"


OPEN = frozenset({State.UPLOADED, State.PARSING, State.PARSE_QUEUED})
UNFINISHED = OPEN | {State.RETRY_WAIT, State.PARSED}
RETRYABLE = frozenset({State.FAILED_PARSE, State.CANCELLED})
NOT_DELETED = frozenset(State) - {State.DELETED}

MAX_TRIES = 5
MAX_LOSSES = 10
LONGEST_WAIT_MS, LONGEST_BUDGET_WAIT_MS = 3_600_000, 32 * 86_400_000
"""No clock elsewhere may freeze a job for a year; a budget's next window is a month away."""


class Job(msgspec.Struct, frozen=True):
    """A job's row; times in unix milliseconds UTC."""

    id: str
    tenant: str
    document_id: str
    options: ev.ParseOptions
    generation: int
    state: State
    attempt: int
    tries: int
    losses: int
    name: str | None
    media_type: str
    source: ev.BlobRef
    created_ms: int
    updated_ms: int
    parser: str | None = None
    parser_version: str | None = None
    vendor_job_id: str | None = None
    result: ev.BlobRef | None = None
    pages: int | None = None
    warnings: tuple[str, ...] = ()
    error_code: str | None = None
    error_message: str | None = None
    traceparent: str | None = None
    reference: str | None = None
    """What a producer on the bus calls it."""


class Moved(msgspec.Struct, frozen=True):
    """An applied event: the job as it is now, the states it went through, what is next."""

    job: Job
    through: tuple[State, ...]
    step_due_ms: int | None
    """When somebody looks at the job next; None for a finished one."""
    erase_due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that changes nothing, and why."""

    reason: str


def move(job: Job | None, body: ev.JobInput, clock: Clock) -> Moved | Ignored:
    """Apply one event to a job, or say why it does not apply."""
    if job is None:
        return Ignored("no such job")
    rule = RULES[type(body)]
    if job.state not in rule.sources:
        return Ignored(f"not from {job.state}")
    if rule.same_attempt and body.attempt != job.attempt:
        return Ignored(f"attempt {body.attempt}, the job is at {job.attempt}")
    return rule.apply(job, body, clock)


def offer(job: Job) -> ev.DocumentUploaded:
    """Say that the job's document waits for a worker."""
    return ev.DocumentUploaded(
        job_id=job.id,
        tenant=job.tenant,
        attempt=job.attempt,
        document_id=job.document_id,
        source=job.source,
        media_type=job.media_type,
        name=job.name,
        options=job.options,
        failed_with=job.error_code,
    )


def _start(job: Job, _body: ev.ParseStarted, clock: Clock) -> Moved:
    return _to(job, State.PARSING, clock.now_ms + clock.timings.lease_ms)


def _queue(job: Job, body: ev.ParseQueued, clock: Clock) -> Moved:
    after = replace(job, parser=body.parser, vendor_job_id=body.vendor_job_id)
    wait_ms = 0 if body.finished else clock.timings.poll_ms
    return _to(after, State.PARSE_QUEUED, clock.now_ms + wait_ms)


def _succeed(job: Job, body: ev.ParseSucceeded, _clock: Clock) -> Moved:
    after = replace(
        job,
        state=State.COMPLETE,
        result=body.result,
        parser=body.parser,
        parser_version=body.parser_version,
        pages=body.pages,
        warnings=body.warnings,
        error_code=None,
        error_message=None,
    )
    return Moved(after, (State.PARSED, State.COMPLETE), None)


def _fail(job: Job, body: ev.ParseFailed, clock: Clock) -> Moved:
    lost = body.code == Code.WORKER_LOST
    after = replace(
        job,
        tries=job.tries + (not lost),
        losses=job.losses + lost,
        error_code=body.code,
        error_message=body.message,
        parser=body.parser or job.parser,
    )
    again = after.losses <= MAX_LOSSES if lost else body.transient and after.tries < MAX_TRIES
    if not again:
        return _to(after, State.FAILED_PARSE, None)
    wait_ms = clock.backoff_ms(job.losses if lost else job.tries)
    if body.retry_after_seconds is not None:
        wait_ms += int(min(max(body.retry_after_seconds, 0) * 1000, LONGEST_WAIT_MS))
    return _to(after, State.RETRY_WAIT, clock.now_ms + min(wait_ms, LONGEST_WAIT_MS))


def _defer(job: Job, body: ev.ParseDeferred, clock: Clock) -> Moved:
    longest_ms = LONGEST_BUDGET_WAIT_MS if body.code == Code.BUDGET_SPENT else LONGEST_WAIT_MS
    wait_ms = int(min(max(body.retry_after_seconds or 0, 0) * 1000, longest_ms))
    after = replace(job, error_code=body.code, error_message=None)
    return _to(after, State.RETRY_WAIT, clock.now_ms + wait_ms)


def _retry(job: Job, _body: ev.RetryDue, clock: Clock) -> Moved:
    after = replace(job, attempt=job.attempt + 1, vendor_job_id=None)
    return _to(after, State.UPLOADED, clock.now_ms + clock.timings.offer_again_ms)


def _retry_asked(job: Job, body: ev.RetryRequested, clock: Clock) -> Moved:
    fresh = replace(job, tries=0, losses=0, error_code=None, error_message=None)
    return _retry(fresh, ev.RetryDue(body.job_id, body.tenant, body.attempt), clock)


def _cancel(job: Job, _body: ev.CancelRequested, _clock: Clock) -> Moved:
    # What was parsed is nobody's any more: no later stage may serve it.
    return _to(replace(job, result=None, pages=None, warnings=()), State.CANCELLED, None)


def _delete(job: Job, _body: ev.DeleteRequested, clock: Clock) -> Moved:
    through = (State.CANCELLED, State.DELETED) if job.state in UNFINISHED else (State.DELETED,)
    after = replace(job, state=State.DELETED, result=None)
    return Moved(after, through, None, erase_due_ms=clock.now_ms + clock.timings.erase_ms)


def _to(job: Job, state: State, step_due_ms: int | None) -> Moved:
    return Moved(replace(job, state=state), (state,), step_due_ms)


@dataclass(frozen=True, slots=True)
class Rule:
    """From which states an event moves a job, and whether it must be of the job's attempt."""

    sources: frozenset[State]
    apply: Callable[[Job, Any, Clock], Moved]
    same_attempt: bool = True


RULES: dict[type, Rule] = {
    ev.ParseStarted: Rule(frozenset({State.UPLOADED}), apply=_start),
    ev.ParseQueued: Rule(frozenset({State.UPLOADED, State.PARSING}), apply=_queue),
    ev.ParseSucceeded: Rule(OPEN, apply=_succeed),
    ev.ParseFailed: Rule(OPEN, apply=_fail),
    ev.ParseDeferred: Rule(OPEN, apply=_defer),
    ev.RetryDue: Rule(frozenset({State.RETRY_WAIT}), apply=_retry),
    ev.CancelRequested: Rule(UNFINISHED, apply=_cancel, same_attempt=False),
    ev.RetryRequested: Rule(RETRYABLE, apply=_retry_asked),
    ev.DeleteRequested: Rule(NOT_DELETED, apply=_delete, same_attempt=False),
}
