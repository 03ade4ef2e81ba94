"""Result links over HTTP: one made by a key's owner, and results given to whoever has one."""

import structlog
from aiohttp import web

from schemas.errors import Code, PermanentError
from schemas.events import BlobRef
from schemas.http import LinkBody, LinkOrder
from schemas.job import Job
from schemas.periods import moment_of
from schemas.result_link import Grant
from services.gateway.answers import answer
from services.gateway.job_routes import find_job, job_id_of
from services.gateway.json_body import read_json
from services.gateway.parts import PARTS
from services.gateway.problems import RefusedError
from services.gateway.result_route import rendered, result_of, wanted_format
from services.keys import Key
from streams.jobs import from_row
from streams.tables.base import Transaction

_GONE = frozenset({Code.SOURCE_MISSING})


async def make_link(request: web.Request, key: Key) -> web.Response:
    """Give a link to the result of a job of one's own."""
    parts, job_id = request.app[PARTS], job_id_of(request)
    order = await read_json(request, LinkOrder)

    async def found(tx: Transaction) -> tuple[Job, int]:
        return await find_job(tx, job_id, key), tx.now_ms // 1000

    job, now = await parts.tables.read(found)
    result_of(job)
    expires_unix = now + (order.seconds or parts.links.seconds)
    return answer(LinkBody(parts.links.link(job, expires_unix), moment_of(expires_unix * 1000)))


async def show_linked_result(request: web.Request) -> web.Response:
    """Give the result that a link opens; who has no good one learns nothing but that."""
    parts = request.app[PARTS]
    grant = parts.links.keys.read(request.match_info["token"])
    if grant is None:
        raise _opens_nothing()
    structlog.contextvars.bind_contextvars(tenant=grant.tenant, job=grant.job_id)
    result = await parts.tables.read(lambda tx: _result(tx, grant))
    named = request.query.get("format")
    wanted = wanted_format(request, "" if named is None else f".{named}")
    try:
        raw = await parts.blobs.read(result)
    except PermanentError as error:
        if error.code in _GONE:
            # It was deleted between the two looks.
            raise _opens_nothing() from None
        raise
    response = await rendered(raw, wanted)
    # Whoever keeps it on the way would give it out after the link's end.
    response.headers["Cache-Control"] = "private, no-store"
    return response


async def _result(tx: Transaction, grant: Grant) -> BlobRef:
    row = await tx.one("jobs.of_tenant", id=grant.job_id, tenant=grant.tenant)
    job = None if row is None else from_row(row)
    if job is None or job.result is None or job.attempt != grant.attempt:
        raise _opens_nothing()
    if tx.now_ms >= grant.expires_unix * 1000:
        raise _opens_nothing()
    return job.result


def _opens_nothing() -> RefusedError:
    return RefusedError(
        Code.NOT_FOUND, "this link opens nothing: it is wrong or old, or the result is gone"
    )
