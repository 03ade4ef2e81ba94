"""The parse reactor: a document's bytes to a kept result, or to a job elsewhere."""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import structlog

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from schemas.events import (
    BlobRef,
    Body,
    DocumentUploaded,
    ParseDeferred,
    ParseFailed,
    ParseQueued,
    ParseStarted,
    ParseSucceeded,
    StageTimed,
)
from schemas.money import Policy
from schemas.topics import DOCUMENTS_UPLOADED, Topic
from streams.blobs.base import Blobs, result_key, result_keys
from streams.elsewhere import submit
from streams.ends import deferred, failed, succeeded
from streams.metrics import Recorder
from streams.parsers.base import (
    Document,
    LocalRoute,
    Parsed,
    Parser,
    RemoteParser,
    RemoteRoute,
    Routes,
)
from streams.processor import Intend
from streams.purse import Purse
from streams.reservations import BudgetSpentError
from streams.results import encode
from streams.service_call import ServiceCall
from streams.telemetry import Telemetry
from streams.vendor_events import queued

log = structlog.get_logger(__name__)

_WAITS = {
    Code.STORAGE_UNAVAILABLE: timedelta(seconds=10),
    Code.TABLES_UNAVAILABLE: timedelta(seconds=10),
    Code.SHUTDOWN: timedelta(seconds=10),
    Code.CIRCUIT_OPEN: timedelta(seconds=30),
    Code.VENDOR_RATE_LIMITED: timedelta(seconds=30),
    Code.VENDOR_UNAUTHORIZED: timedelta(minutes=5),
    Code.VENDOR_QUOTA_SPENT: timedelta(minutes=5),
}
"""Trouble that is not the document's: it puts the attempt off, and uses up none of its tries."""

_LARGE_PAGES = 50
"""Results of more pages are encoded beside the event loop."""


@dataclass(slots=True)
class _Serving:
    """An offer being served, and the parser that serves it so far."""

    offer: DocumentUploaded
    traceparent: str | None
    intend: Intend
    parser: str | None = None


class Parse:
    """Parses what was uploaded."""

    name = "parse"
    stage = "parse"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(
        self,
        routes: Routes,
        blobs: Blobs,
        purse: Purse,
        telemetry: Telemetry,
        recorder: Recorder,
        *,
        slots: int,
    ) -> None:
        self._routes = routes
        self._purse = purse
        self._blobs = blobs
        self._telemetry = telemetry
        self._recorder = recorder
        self._parsing = asyncio.Semaphore(slots)

    def started(self, offer: DocumentUploaded, worker: str) -> Body:
        """Say that `worker` has claimed the attempt."""
        return ParseStarted(offer.job_id, offer.tenant, offer.attempt, worker)

    async def work(
        self, offer: DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> Body | None:
        """Parse and keep the result, or submit; expected trouble is the event that names it."""
        started = time.perf_counter()
        name, end = await self._serve(offer, traceparent, intend)
        outcome = _outcome(end)
        seconds = time.perf_counter() - started
        timed = StageTimed(offer.tenant, name or "none", self.stage, outcome, seconds)
        self._telemetry.emit(timed, traceparent)
        log.info("parse_ended", tenant=offer.tenant, outcome=outcome, seconds=round(seconds, 4))
        return end

    async def settle(self, offer: DocumentUploaded, end: Body | None, *, kept: bool) -> None:
        """Remove what lost attempts of this job left, or this one's result where it was lost."""
        job = offer.tenant, offer.job_id
        if isinstance(end, ParseSucceeded) and kept:
            lost = [key for n in range(1, offer.attempt) for key in result_keys(*job, n)]
        elif isinstance(end, ParseSucceeded) or (end is None and not kept):
            # Work that was cut off may have kept its result a moment before. What came from
            # elsewhere stays: that may be the result of the job.
            lost = [result_key(*job, offer.attempt)]
        else:
            return
        for key in lost:
            try:
                await self._blobs.delete(key)
            except TransientError as error:
                # The janitor removes what no row names.
                log.warning("blob_not_removed", key=key, error=error.message)

    async def _serve(
        self, offer: DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> tuple[str | None, Body | None]:
        serving = _Serving(offer, traceparent, intend)
        try:
            async with self._blobs.open_local(offer.source) as path:
                end = await self._route(serving, _document(offer, path))
        except BudgetSpentError as error:
            return serving.parser, _unpaid(offer, serving.parser, error)
        except TransientError as error:
            wait = _WAITS.get(error.code)
            if wait is not None:
                return serving.parser, deferred(offer, error, wait)
            return serving.parser, failed(offer, serving.parser, error)
        except PermanentError as error:
            return serving.parser, failed(offer, serving.parser, error)
        return serving.parser, end

    async def _route(self, serving: _Serving, document: Document) -> Body | None:
        route = await self._routes.route(document, serving.offer.failed_with)
        serving.parser = route.parser.name
        if isinstance(route, RemoteRoute):
            try:
                return await self._submit(serving, document, route.parser)
            except ParsewireError as error:
                local = await self._stand_in(document, route, error)
                if local is None:
                    raise
                if _cut_off():
                    raise asyncio.CancelledError from error
                log.info("fell_back", code=error.code.value, parser=local.parser.name)
                route, serving.parser = local, local.parser.name
        return await self._parse(serving, document, route.parser)

    async def _stand_in(
        self, document: Document, failed: RemoteRoute, error: ParsewireError
    ) -> LocalRoute | None:
        if isinstance(error, BudgetSpentError) and error.policy is not Policy.LOCAL:
            return None
        return await self._routes.fall_back(document, failed, error.code)

    async def _submit(
        self, serving: _Serving, document: Document, parser: RemoteParser
    ) -> ParseQueued | None:
        offer = serving.offer
        spend = await self._purse.quote(document, parser)
        document = replace(document, held_pages=spend.pages)
        with self._measured(serving, parser.name, "submit") as call:
            seen = await submit(parser, document, spend, serving.intend)
            if seen is None:
                call.outcome = "unresolved"
                return None
        return queued(offer.job_id, offer.tenant, offer.attempt, parser.name, seen)

    async def _parse(self, serving: _Serving, document: Document, parser: Parser) -> ParseSucceeded:
        offer = serving.offer
        async with self._parsing:
            with self._measured(serving, parser.name, "parse") as call:
                parsed = await parser.parse(document)
                call.pages = len(parsed.pages)
        result = await self._keep(offer, parsed)
        return succeeded(offer.job_id, offer.tenant, offer.attempt, result, parsed)

    def _measured(self, serving: _Serving, parser: str, operation: str) -> ServiceCall:
        return ServiceCall(
            self._recorder,
            self._telemetry,
            parser,
            operation,
            tenant=serving.offer.tenant,
            traceparent=serving.traceparent,
        )

    async def _keep(self, offer: DocumentUploaded, parsed: Parsed) -> BlobRef:
        large = len(parsed.pages) > _LARGE_PAGES
        content = await asyncio.to_thread(encode, parsed) if large else encode(parsed)
        return await self._blobs.put(result_key(offer.tenant, offer.job_id, offer.attempt), content)


def _document(offer: DocumentUploaded, path: Path) -> Document:
    return Document(
        job_id=offer.job_id,
        tenant=offer.tenant,
        attempt=offer.attempt,
        path=path,
        sha256=offer.source.sha256,
        size_bytes=offer.source.size_bytes,
        media_type=offer.media_type,
        options=offer.options,
    )


def _unpaid(
    offer: DocumentUploaded, parser: str | None, error: BudgetSpentError
) -> ParseFailed | ParseDeferred:
    if error.policy is Policy.REJECT:
        return failed(offer, parser, error)
    wait = error.retry_after_seconds
    return ParseDeferred(offer.job_id, offer.tenant, offer.attempt, error.code, wait)


def _cut_off() -> bool:
    """Tell whether the work was cancelled while its submission could not be."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _outcome(end: Body | None) -> str:
    if end is None:
        return "unresolved"
    return end.code if isinstance(end, ParseFailed | ParseDeferred) else "ok"
