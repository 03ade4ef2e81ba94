"""A document's way to a parser elsewhere: its bytes, our intent to spend, one submission."""

import asyncio

import structlog

from schemas.errors import Code, TransientError
from schemas.money import Spend
from streams.parsers.base import Document, RemoteParser, SubmissionUnresolvedError, VendorJob
from streams.processor import Intend

log = structlog.get_logger(__name__)


async def submit(
    parser: RemoteParser, document: Document, spend: Spend, intend: Intend
) -> VendorJob | None:
    """Have a job created there, for so much at most; None where nobody knows whether it was.

    Raise what the parser raises when there surely is no job, and what forbids to spend.
    """
    file_id = await parser.upload(document)
    lease_seconds = await intend(spend)
    if lease_seconds < parser.submit_seconds:
        raise TransientError(Code.TABLES_UNAVAILABLE, "noting the intent to spend took too long")
    try:
        return await _to_its_end(asyncio.ensure_future(parser.submit(document, file_id)))
    except SubmissionUnresolvedError as error:
        log.warning("submission_unresolved", parser=parser.name, error=str(error))
        return None


async def _to_its_end(submitting: asyncio.Future[VendorJob]) -> VendorJob:
    """Wait although cancelled: a job that was created and is not known is paid for nothing."""
    while not submitting.done():
        try:
            await asyncio.wait([submitting])
        except asyncio.CancelledError:
            log.info("cancelled_while_submitting")
    return submitting.result()
