"""Admission: a kept document becomes a job, or joins the one that it already has."""

from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo

from schemas.errors import Code
from schemas.events import BlobRef, Event, ParseOptions, RetryRequested
from schemas.ids import document_id, uuid7
from schemas.job import RETRYABLE, Job, State, offer
from schemas.money import Policy
from schemas.periods import moment_of
from schemas.timings import Timings
from streams.jobs import from_row, options_text
from streams.media import TEXTS
from streams.outbox import put_events
from streams.reservations import LEAST, BudgetSpentError, check
from streams.settings import Defaults, read_effective
from streams.tables.base import Row, Transaction

_SOURCE = "/parsewire/admission"

_BYTES_LOST = (Code.SOURCE_MISSING, Code.SOURCE_CORRUPT)


@dataclass(frozen=True, slots=True)
class Submission:
    """A document whose bytes are kept, under the id of the job that it will be if it is new."""

    job_id: str
    tenant: str
    source: BlobRef
    media_type: str
    name: str | None
    options: ParseOptions
    force: bool
    traceparent: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job that serves a submission; `duplicate` when it was there before."""

    job: Job
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every submission: the moves' waits, the environment, whose days count."""

    timings: Timings
    defaults: Defaults = field(default_factory=Defaults)
    zone: tzinfo = UTC


async def admit(tx: Transaction, submission: Submission, terms: Terms) -> Admitted:
    """Insert the job with its timer, first history line and offer; or join the newest one.

    A failed or cancelled job that is joined is asked to retry; one that lost its bytes is not
    joined. The caller removes the blob of a duplicate, and of a new document for which there is no
    money: BudgetSpentError.
    """
    document = document_id(submission.tenant, submission.source.sha256)
    options = options_text(submission.options)
    # Most documents are new. A job's row stays for ever, if only as a tombstone, so where there
    # is any generation there is the first.
    generation = 1
    while not await _insert(tx, submission, document, options, generation):
        newest = await tx.one(
            "jobs.newest_generation",
            tenant=submission.tenant,
            document_id=document,
            options=options,
        )
        if newest is None:
            raise RuntimeError("a job is in the way of an insert, and is not there")
        if not submission.force and _may_be_joined(newest):
            return await _join(tx, from_row(newest), submission.traceparent)
        generation = newest["generation"] + 1
    await _refuse_unpaid(tx, submission, terms)
    job = _new_job(submission, document, generation, tx.now_ms)
    await _begin(tx, job, terms.timings)
    return Admitted(job, duplicate=False)


async def _refuse_unpaid(tx: Transaction, submission: Submission, terms: Terms) -> None:
    """Refuse what would need money where a budget that rejects is spent already."""
    if not terms.defaults.elsewhere or submission.media_type in TEXTS:
        return
    mode = submission.options.mode or (await read_effective(tx, terms.defaults)).mode
    if mode not in ("real", "hybrid"):
        return
    least = replace(LEAST, service=terms.defaults.remote_parser)
    try:
        await check(tx, submission.tenant, least, terms.zone)
    except BudgetSpentError as error:
        if error.policy is Policy.REJECT:
            raise


async def _insert(
    tx: Transaction, submission: Submission, document: str, options: str, generation: int
) -> bool:
    inserted = await tx.run(
        "jobs.insert",
        id=submission.job_id,
        tenant=submission.tenant,
        document_id=document,
        options=options,
        generation=generation,
        name=submission.name,
        media_type=submission.media_type,
        source_blob=submission.source.key,
        source_sha256=submission.source.sha256,
        source_bytes=submission.source.size_bytes,
        traceparent=submission.traceparent,
        reference=submission.reference,
    )
    return inserted > 0


async def _begin(tx: Transaction, job: Job, timings: Timings) -> None:
    event = Event(uuid7(tx.now_ms), _SOURCE, moment_of(tx.now_ms), offer(job), job.traceparent)
    await tx.run("jobs.count_moves", state=State.UPLOADED.value, change=1)
    await tx.run(
        "jobs.set_timer",
        job_id=job.id,
        kind="step",
        due_ms=tx.now_ms + timings.offer_again_ms,
    )
    await tx.run(
        "jobs.remember",
        event_id=event.id,
        job_id=job.id,
        type="DocumentUploaded",
        attempt=1,
        from_state=None,
        to_state=State.UPLOADED.value,
        ignored=None,
        code=None,
        message=None,
        event_ms=tx.now_ms,
    )
    await put_events(tx, [event])


def _may_be_joined(newest: Row) -> bool:
    """Tell whether the newest generation has its bytes: those given anew would be dropped."""
    lost = newest["state"] in RETRYABLE and newest["error_code"] in _BYTES_LOST
    return not lost and newest["state"] != State.DELETED


async def _join(tx: Transaction, job: Job, traceparent: str) -> Admitted:
    if job.state in RETRYABLE:
        asked = RetryRequested(job.id, job.tenant, job.attempt)
        await put_events(tx, [Event(uuid7(), _SOURCE, moment_of(tx.now_ms), asked, traceparent)])
    return Admitted(job, duplicate=True)


def _new_job(submission: Submission, document: str, generation: int, now_ms: int) -> Job:
    return Job(
        id=submission.job_id,
        tenant=submission.tenant,
        document_id=document,
        options=submission.options,
        generation=generation,
        state=State.UPLOADED,
        attempt=1,
        tries=0,
        losses=0,
        name=submission.name,
        media_type=submission.media_type,
        source=submission.source,
        created_ms=now_ms,
        updated_ms=now_ms,
        traceparent=submission.traceparent,
        reference=submission.reference,
    )
