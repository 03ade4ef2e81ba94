"""Jobs over HTTP: one, many, a job's history, and asking to retry or cancel."""

from aiohttp import web

from schemas.errors import Code
from schemas.events import CancelRequested, Event, JobInput, RetryRequested
from schemas.http import AskedBody, HistoryBody, HistoryLine, JobBody, JobsBody
from schemas.ids import is_uuid, uuid7
from schemas.job import RETRYABLE, UNFINISHED, Job, State
from schemas.periods import moment_of
from services.gateway.answers import answer, event_moments, links_of
from services.gateway.job_bodies import job_bodies
from services.gateway.parts import PARTS, TRACEPARENT
from services.gateway.problems import RefusedError
from services.keys import Key
from streams.jobs import from_row
from streams.outbox import put_events
from streams.tables.base import Row, Transaction

_SOURCE = "/parsewire/gateway"
_PAGE, _MOST = 50, 200
_LONGEST_HISTORY = 1_000
_AFTER_ALL_IDS = "~"
_SHOWN = frozenset(State) - {State.DELETED}


def job_id_of(request: web.Request) -> str:
    """Give the path's job id; one that is none is not found, as any other unknown one."""
    job_id = request.match_info["job_id"]
    if not is_uuid(job_id):
        raise not_found()
    return job_id


def not_found() -> RefusedError:
    """Refuse a job that is missing or another tenant's: nobody learns which."""
    return RefusedError(Code.NOT_FOUND, "there is no such job")


async def find_job(tx: Transaction, job_id: str, key: Key) -> Job:
    """Give the tenant's own job, or raise RefusedError 404."""
    row = await tx.one("jobs.of_tenant", id=job_id, tenant=key.tenant)
    if row is None:
        raise not_found()
    return from_row(row)


async def show_job(request: web.Request, key: Key) -> web.Response:
    """Show one job."""
    job_id = job_id_of(request)

    async def found(tx: Transaction) -> list[JobBody]:
        return await job_bodies(tx, [await find_job(tx, job_id, key)])

    (body,) = await request.app[PARTS].tables.read(found)
    return answer(body)


async def show_jobs(request: web.Request, key: Key) -> web.Response:
    """Show a page of jobs, the newest first."""
    for name in request.query:
        if name not in ("state", "limit", "before"):
            raise _invalid(f"there is no parameter {name[:40]!r}; known are: state, limit, before")
    state = request.query.get("state")
    if state is not None and state not in _SHOWN:
        raise _invalid(f"there is no state {state[:40]!r}; there are: {', '.join(sorted(_SHOWN))}")
    before = request.query.get("before", _AFTER_ALL_IDS)
    if before != _AFTER_ALL_IDS and not is_uuid(before):
        raise _invalid("before must be the id that a page gave as next")
    limit = _limit(request.query.get("limit", str(_PAGE)))

    async def page(tx: Transaction) -> JobsBody:
        values = {"tenant": key.tenant, "before": before, "most": limit + 1}
        if state is None:
            rows = await tx.all("jobs.page", **values)
        else:
            rows = await tx.all("jobs.page_in_state", state=state, **values)
        jobs = await job_bodies(tx, [from_row(row) for row in rows[:limit]])
        return JobsBody(jobs, jobs[-1].job_id if len(rows) > limit else None)

    return answer(await request.app[PARTS].tables.read(page))


async def show_history(request: web.Request, key: Key) -> web.Response:
    """Show every event of a job, the ignored ones too."""
    job_id = job_id_of(request)

    async def history(tx: Transaction) -> list[Row]:
        await find_job(tx, job_id, key)
        return await tx.all("jobs.history", job_id=job_id, most=_LONGEST_HISTORY + 1)

    rows = await request.app[PARTS].tables.read(history)
    lines = [_line(row) for row in rows[:_LONGEST_HISTORY]]
    return answer(HistoryBody(job_id, lines, more=len(rows) > _LONGEST_HISTORY))


async def retry(request: web.Request, key: Key) -> web.Response:
    """Ask to run a failed or cancelled job again."""
    parts = request.app[PARTS]
    job_id = job_id_of(request)
    job = await parts.tables.read(lambda tx: find_job(tx, job_id, key))
    if job.state in RETRYABLE and not await parts.blobs.exists(job.source.key):
        raise RefusedError(
            Code.SOURCE_MISSING,
            "the document's bytes are gone, so that it cannot be parsed again",
            status=409,
            members={"state": job.state.value},
        )
    return await _ask(request, key, "retry", RetryRequested, RETRYABLE)


async def cancel(request: web.Request, key: Key) -> web.Response:
    """Ask to cancel an unfinished job."""
    return await _ask(request, key, "cancel", CancelRequested, UNFINISHED)


async def _ask(
    request: web.Request,
    key: Key,
    asked: str,
    make: type[RetryRequested] | type[CancelRequested],
    allowed: frozenset[State],
) -> web.Response:
    job_id = job_id_of(request)
    traceparent = request[TRACEPARENT]

    async def ask(tx: Transaction) -> Job:
        job = await find_job(tx, job_id, key)
        if job.state not in allowed:
            raise RefusedError(
                Code.CONFLICT,
                f"a job that is {job.state} cannot be asked to {asked}",
                members={"state": job.state.value},
            )
        body: JobInput = make(job.id, job.tenant, job.attempt)
        now = moment_of(tx.now_ms)
        await put_events(tx, [Event(uuid7(tx.now_ms), _SOURCE, now, body, traceparent)])
        return job

    job = await request.app[PARTS].tables.write(ask)
    body = AskedBody(job.id, asked, job.state.value, job.attempt, links_of(job.id))
    return answer(body, status=202)


def _line(row: Row) -> HistoryLine:
    at, recorded_at = event_moments(row)
    return HistoryLine(
        at=at,
        recorded_at=recorded_at,
        type=row["type"],
        attempt=row["attempt"],
        from_state=row["from_state"],
        to_state=row["to_state"],
        ignored=row["ignored"],
        code=row["code"],
        message=row["message"],
    )


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST:
        return int(text)
    raise _invalid(f"limit must be a whole number from 1 to {_MOST}")


def _invalid(message: str) -> RefusedError:
    return RefusedError(Code.INVALID_REQUEST, message)
