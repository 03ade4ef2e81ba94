"""Uploads: a document's bytes kept, then its job admitted, then 202."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from aiohttp import web

from schemas.errors import Code, ParsewireError, TransientError
from schemas.events import BlobRef
from schemas.http import UploadBody
from schemas.ids import uuid7
from services.gateway.answers import answer, links_of
from services.gateway.body import Body
from services.gateway.incoming import DocumentWriter, Incoming, read_document
from services.gateway.parts import PARTS, TRACEPARENT, Parts
from services.gateway.problems import DisconnectedError, RefusedError
from services.keys import Key
from streams.admission import Admitted, Submission, admit
from streams.blobs.base import Blobs, source_key
from streams.metrics import UPLOAD_BYTES, UPLOAD_STAGE_SECONDS, UPLOADS
from streams.reservations import BudgetSpentError

log = structlog.get_logger(__name__)

_RETRY_AFTER_SECONDS = 1


class Places:
    """How many uploads are read at once; a queue of them would only hold sockets and memory."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place; raise RefusedError(OVERLOADED) where none is free."""
        if self._free == 0:
            raise RefusedError(
                Code.OVERLOADED,
                "all places for uploads are taken",
                headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


PLACES = web.AppKey("places", Places)


async def upload(request: web.Request, key: Key) -> web.Response:
    """Take one document and answer once it is durable."""
    parts = request.app[PARTS]
    try:
        with request.app[PLACES].taken():
            admitted = await _take(request, key, parts)
    except ParsewireError as error:
        parts.recorder.add(UPLOADS, outcome=error.code.value)
        raise
    except DisconnectedError:
        parts.recorder.add(UPLOADS, outcome="disconnected")
        raise
    except Exception:
        parts.recorder.add(UPLOADS, outcome=Code.INTERNAL_ERROR.value)
        raise
    parts.recorder.add(UPLOADS, outcome="duplicate" if admitted.duplicate else "accepted")
    job = admitted.job
    log.debug("upload_taken", job=job.id, duplicate=admitted.duplicate)
    links = links_of(job.id)
    body = UploadBody(job.id, job.document_id, job.state.value, admitted.duplicate, links)
    return answer(body, status=200 if admitted.duplicate else 202, location=links.self)


async def _take(request: web.Request, key: Key, parts: Parts) -> Admitted:
    job_id = uuid7()
    body = Body(request, parts.limits)
    check = partial(parts.rules.check_options, key.tenant)
    async with parts.blobs.open_writer(source_key(key.tenant, job_id)) as writer:
        document = DocumentWriter(writer, parts.limits)
        incoming = await read_document(request, body, document, check)
        started = time.perf_counter()
        try:
            blob = await writer.keep()
        except TransientError:
            # The name may be there already when the disk refuses to make it durable.
            await _forget(parts.blobs, source_key(key.tenant, job_id))
            raise
    kept_seconds = document.write_seconds + time.perf_counter() - started - writer.hash_seconds
    admitted = await _admit(parts, _submission(job_id, key, blob, incoming, request[TRACEPARENT]))
    parts.recorder.add(UPLOAD_BYTES, incoming.size_bytes)
    parts.recorder.observe(UPLOAD_STAGE_SECONDS, body.waited_seconds, stage="read")
    parts.recorder.observe(UPLOAD_STAGE_SECONDS, writer.hash_seconds, stage="hash")
    parts.recorder.observe(UPLOAD_STAGE_SECONDS, kept_seconds, stage="blob")
    return admitted


async def _admit(parts: Parts, submission: Submission) -> Admitted:
    started = time.perf_counter()
    terms = parts.rules.terms
    try:
        admitted = await parts.tables.write(lambda tx: admit(tx, submission, terms))
    except TransientError:
        # As with a cancelled wait, the commit may have been made: a blob that no row names is the
        # janitor's, and costs less than a job without its bytes.
        raise
    except BudgetSpentError as error:
        await _forget(parts.blobs, submission.source.key)
        wait = str(math.ceil(error.retry_after_seconds))
        raise RefusedError(error.code, error.message, headers={"Retry-After": wait}) from error
    except Exception:
        await _forget(parts.blobs, submission.source.key)
        raise
    parts.recorder.observe(UPLOAD_STAGE_SECONDS, time.perf_counter() - started, stage="table")
    if admitted.duplicate:
        await _forget(parts.blobs, submission.source.key)
    return admitted


async def _forget(blobs: Blobs, key: str) -> None:
    """Remove a blob that no row names; what cannot be removed is left to the janitor."""
    try:
        await blobs.delete(key)
    except TransientError as error:
        log.warning("blob_not_removed", blob=key, error=error.message)


def _submission(
    job_id: str, key: Key, blob: BlobRef, incoming: Incoming, traceparent: str
) -> Submission:
    return Submission(
        job_id=job_id,
        tenant=key.tenant,
        source=blob,
        media_type=incoming.media_type,
        name=incoming.name,
        options=incoming.options.parse,
        force=incoming.options.force,
        traceparent=traceparent,
    )
