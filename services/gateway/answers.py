"""Answers: JSON responses, and a job's row as its owner sees it."""

from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from schemas.errors import Code
from schemas.http import JobBody, JobCost, JobError, Links
from schemas.job import Job
from schemas.meanings import MEANINGS
from schemas.periods import moment_of
from streams.jobs import given_options
from streams.tables.base import Row

API = "/api/v1"

_JSON = "application/json"
_OPTIONS = orjson.OPT_UTC_Z


def answer(body: Any, *, status: int = 200, location: str | None = None) -> web.Response:
    """Answer with a body of `schemas.http` as JSON."""
    headers = {"Content-Type": _JSON}
    if location is not None:
        headers["Location"] = location
    return web.Response(status=status, body=orjson.dumps(body, option=_OPTIONS), headers=headers)


def links_of(job_id: str) -> Links:
    """Give the paths of a job."""
    base = f"{API}/jobs/{job_id}"
    return Links(
        self=base,
        history=f"{base}/history",
        result=f"{base}/result",
        retry=f"{base}/retry",
        cancel=f"{base}/cancel",
    )


def job_body(job: Job, cost: JobCost, waits_until_ms: int | None) -> JobBody:
    """Show a job with what it costs, and until when it waits."""
    return JobBody(
        job_id=job.id,
        document_id=job.document_id,
        state=job.state.value,
        attempt=job.attempt,
        generation=job.generation,
        name=job.name,
        media_type=job.media_type,
        size_bytes=job.source.size_bytes,
        sha256=job.source.sha256,
        options=given_options(job.options),
        parser=job.parser,
        parser_version=job.parser_version,
        pages=job.pages,
        warnings=job.warnings,
        error=_error(job),
        created_at=moment_of(job.created_ms),
        updated_at=moment_of(job.updated_ms),
        links=links_of(job.id),
        cost=cost,
        waits_until=None if waits_until_ms is None else moment_of(waits_until_ms),
    )


def event_moments(row: Row) -> tuple[datetime, datetime]:
    """Give when an event happened, and when it was recorded."""
    return moment_of(row["event_ms"]), moment_of(row["recorded_ms"])


def _error(job: Job) -> JobError | None:
    if job.error_code is None:
        return None
    known = job.error_code in Code.__members__.values()
    meaning = MEANINGS[Code(job.error_code) if known else Code.INTERNAL_ERROR]
    return JobError(job.error_code, meaning.title, job.error_message, meaning.advice)
