"""The artifacts reader: what a self-hosted parser says of our jobs, and the results it sends along.

Here the content comes in the webhook itself: nobody there can be asked. It is believed because
the service's secret signed it, and counts only for an attempt that was submitted to it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from schemas.artifact_webhook import ArtifactWebhook, read_artifact_webhook
from schemas.callback_job import their_id, vendor_job_id
from schemas.errors import Code, PermanentError
from schemas.events import ParseFailed, ParseQueued, ParseSucceeded, WebhookReceived
from schemas.ids import is_uuid
from schemas.job import OPEN, Job, State
from streams.artifact_pages import read_pages
from streams.billing import Billing
from streams.blobs.base import Blobs, elsewhere_key
from streams.ends import succeeded
from streams.foreign_words import clean
from streams.jobs import from_row
from streams.outbox import put_events
from streams.parsers.base import Parsed, VendorJob, VendorState
from streams.parsers.pages import judge_pages, page_limit, refuse_pages
from streams.processor import Parked
from streams.results import encode
from streams.tables.base import Tables, Transaction
from streams.vendor_events import failed, queued, said_once

log = structlog.get_logger(__name__)

_SOURCE = "callbacks"
_BESIDE_BYTES = 100_000
"""Larger bodies are read and hashed beside the event loop."""

_LONGEST_VERSION = 100

T = TypeVar("T")

End = ParseSucceeded | ParseFailed


class Artifacts:
    """Reads the webhooks of one self-hosted parser; reading one again changes nothing."""

    def __init__(
        self, parser: str, tables: Tables, blobs: Blobs, billing: Billing, *, max_pages: int
    ) -> None:
        self._parser = parser
        self._tables = tables
        self._blobs = blobs
        self._billing = billing
        self._max_pages = max_pages

    async def read(self, event_id: str, received: WebhookReceived, content: bytes) -> Parked | None:
        """Take what one webhook says; park it where it fits no job of ours."""
        del event_id, received
        large = len(content) > _BESIDE_BYTES
        sent = await _done(large, read_artifact_webhook, content)
        if sent is None:
            return _unknown("the body has no job_id, document_id and status as they must be")
        job = await self._tables.read(lambda tx: self._owner(tx, sent))
        if job is None:
            log.info("artifacts_ignored", job=sent.job_id, status=sent.status)
            return None
        if isinstance(job, Parked):
            return job
        if sent.status == "processing":
            await self._queue(job, sent)
            return None
        end = await self._end(job, sent, large=large)
        await self._tables.write(lambda tx: self._say_end(tx, job, sent, end))
        return None

    async def _owner(self, tx: Transaction, sent: ArtifactWebhook) -> Job | Parked | None:
        """Give the job whose present attempt it answers; None for one that is over."""
        row = await tx.one("jobs.by_id", id=sent.job_id) if is_uuid(sent.job_id) else None
        if row is None:
            return _unknown("it names no job of ours")
        job, attempt = from_row(row), sent.attempt()
        if job.document_id != sent.document_id:
            return _unknown("its document_id is not the job's")
        if attempt is not None and not 1 <= attempt <= job.attempt:
            return _unknown("its correlation_id is no attempt of the job's")
        if job.state not in OPEN or (attempt is not None and attempt < job.attempt):
            return None
        if job.state is State.PARSE_QUEUED:
            here = job.parser == self._parser
        else:
            # The parser may be faster than the answer to our own call.
            tried = await tx.all("attempts.of_job", job_id=job.id)
            here = attempt is not None and any(
                (line["attempt"], line["intent_parser"]) == (attempt, self._parser)
                for line in tried
            )
        return job if here else _unknown(f"the job's attempt is not at {self._parser}")

    async def _end(self, job: Job, sent: ArtifactWebhook, *, large: bool) -> End:
        if sent.status == "failed":
            said = clean(sent.error) if isinstance(sent.error, str) else ""
            why = f"the parser failed: {said or 'it does not say why'}"
            transient = sent.transient is not False
            return failed(job, Code.VENDOR_FAILED, why, transient=transient, parser=self._parser)
        price = await self._tables.read(lambda tx: self._billing.price(tx, self._parser, job, None))
        try:
            parsed, content = await _done(large, self._result, job, sent, price)
        except PermanentError as error:
            return failed(job, error.code, error.message, transient=False, parser=self._parser)
        # It may be sent twice: what the first one's event names must not change under it.
        key = elsewhere_key(job.tenant, job.id, job.attempt)
        result = await self._blobs.put_first(key, content)
        return succeeded(job.id, job.tenant, job.attempt, result, parsed)

    def _result(
        self, job: Job, sent: ArtifactWebhook, price_micro_usd: int | None
    ) -> tuple[Parsed, bytes]:
        pages = read_pages(sent.artifacts)
        limit = page_limit(self._max_pages, job.options)
        if len(pages) > limit:
            raise refuse_pages(len(pages), limit)
        version = f"{sent.told('parser_name')} {sent.told('parser_version')}"
        version = clean(version, longest=_LONGEST_VERSION) or "unknown"
        parsed = Parsed(pages, self._parser, version, judge_pages(pages))
        return parsed, encode(parsed, price_micro_usd)

    async def _queue(self, job: Job, sent: ArtifactWebhook) -> None:
        """Say that the job is there, where its submission's answer has not said so."""
        if job.state is State.PARSE_QUEUED:
            return
        seen = VendorJob(_named(job, sent), VendorState.PENDING)
        body = queued(job.id, job.tenant, job.attempt, self._parser, seen)
        await self._tables.write(lambda tx: _say(tx, body, seen.id, job))

    async def _say_end(self, tx: Transaction, job: Job, sent: ArtifactWebhook, end: End) -> None:
        """Say how it ended, and that no bill will come."""
        named = _named(job, sent)
        await _say(tx, end, named, job)
        there = {"parser": self._parser, "vendor_job_id": named}
        await tx.run("vendor.book", job_id=job.id, attempt=job.attempt, **there)
        await self._billing.settle(tx, **there, outcome="billed", credits_billed=0.0)


async def _say(tx: Transaction, body: ParseQueued | End, named: str, job: Job) -> None:
    await put_events(tx, [said_once(body, named, job, _SOURCE, tx.now_ms)])


async def _done(large: bool, work: Callable[..., T], *given: Any) -> T:  # noqa: FBT001 - of data
    return await asyncio.to_thread(work, *given) if large else work(*given)


def _named(job: Job, sent: ArtifactWebhook) -> str:
    if job.state is State.PARSE_QUEUED and job.vendor_job_id is not None:
        return job.vendor_job_id
    return vendor_job_id(job.id, job.attempt, their_id(sent.parse_job_id))


def _unknown(reason: str) -> Parked:
    log.info("webhook_parked", reason=reason)
    return Parked(Code.WEBHOOK_UNKNOWN, reason)
