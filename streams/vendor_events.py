"""What is said of jobs at parsers elsewhere: each thing once, whoever finds it out."""

from schemas.events import (
    Body,
    Event,
    ParseFailed,
    ParseQueued,
    ParseSucceeded,
    VendorJobSeen,
)
from schemas.ids import derived_id
from schemas.job import Job
from schemas.periods import moment_of
from streams.ends import MESSAGE_CHARACTERS
from streams.parsers.base import VendorJob, VendorState


def queued(job_id: str, tenant: str, attempt: int, parser: str, seen: VendorJob) -> ParseQueued:
    """Say that our attempt is this job there, whether or not it is still wanted."""
    finished = seen.state is not VendorState.PENDING
    return ParseQueued(job_id, tenant, attempt, parser, seen.id, finished=finished)


def failed(job: Job, code: str, message: str, *, transient: bool, parser: str) -> ParseFailed:
    """Say that the job's present attempt has failed there."""
    short = message[:MESSAGE_CHARACTERS]
    return ParseFailed(job.id, job.tenant, job.attempt, code, short, transient, parser)


def said_once(
    body: ParseQueued | ParseSucceeded | ParseFailed,
    vendor_job_id: str,
    job: Job,
    source: str,
    now_ms: int,
) -> Event:
    """Give the event its id by what it says, so that what is said twice counts once."""
    what = type(body).__name__
    event_id = derived_id("vendor", body.parser or "", vendor_job_id, body.attempt, what)
    return Event(event_id, f"/parsewire/{source}", moment_of(now_ms), body, job.traceparent)


def timer_event(job: Job, due_ms: int, body: Body, source: str, now_ms: int) -> Event:
    """Give the event its id by the timer that made it due."""
    event_id = derived_id("step", job.id, job.attempt, due_ms)
    return Event(event_id, f"/parsewire/{source}", moment_of(now_ms), body, job.traceparent)


def seen_event(job: Job, parser: str, vendor_job_id: str, due_ms: int, now_ms: int) -> Event:
    """Tell `callbacks` to look at the job there."""
    body = VendorJobSeen(parser, vendor_job_id)
    event_id = derived_id("seen", parser, vendor_job_id, due_ms)
    return Event(event_id, "/parsewire/vendor_sweep", moment_of(now_ms), body, job.traceparent)
