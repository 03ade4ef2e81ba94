"""The parse reactor: a document's bytes to a kept result, and the event that says so."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import (
    BlobRef,
    Body,
    DocumentUploaded,
    ParseDeferred,
    ParseFailed,
    ParseStarted,
    ParseSucceeded,
    ServiceCalled,
    StageTimed,
)
from schemas.topics import DOCUMENTS_UPLOADED, Topic
from streams.blobs.base import Blobs, result_key
from streams.metrics import PARSER_CALLS, PARSER_PAGES, PARSER_SECONDS, Recorder
from streams.parsers.base import Document, Parsed, Parser
from streams.results import encode
from streams.telemetry import Telemetry

log = structlog.get_logger(__name__)

_STORAGE_WAIT = timedelta(seconds=10)
_MOST_WARNINGS = 200
_LARGE_PAGES = 50
"""Results of more pages are encoded beside the event loop."""


class Parse:
    """Parses what was uploaded."""

    name = "parse"
    stage = "parse"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(
        self, parser: Parser, blobs: Blobs, telemetry: Telemetry, recorder: Recorder
    ) -> None:
        self._parser = parser
        self._blobs = blobs
        self._telemetry = telemetry
        self._recorder = recorder

    def started(self, offer: DocumentUploaded, worker: str) -> Body:
        """Say that `worker` has claimed the attempt."""
        return ParseStarted(offer.job_id, offer.tenant, offer.attempt, worker)

    async def work(self, offer: DocumentUploaded, traceparent: str | None) -> Body:
        """Parse and keep the result; expected trouble becomes the event that names it."""
        started = time.perf_counter()
        end = await self._try(offer, traceparent)
        outcome = end.code if isinstance(end, ParseFailed | ParseDeferred) else "ok"
        seconds = time.perf_counter() - started
        self._telemetry.emit(
            StageTimed(offer.tenant, self._parser.name, self.stage, outcome, seconds), traceparent
        )
        log.info("parse_ended", tenant=offer.tenant, outcome=outcome, seconds=round(seconds, 4))
        return end

    async def settle(self, offer: DocumentUploaded, end: Body, *, kept: bool) -> None:
        """Remove what lost attempts of this job left, or this one's result where it was lost."""
        if not isinstance(end, ParseSucceeded):
            return
        others = range(1, offer.attempt) if kept else [offer.attempt]
        for attempt in others:
            try:
                await self._blobs.delete(result_key(offer.tenant, offer.job_id, attempt))
            except TransientError as error:
                # The janitor removes what no row names.
                log.warning("blob_not_removed", attempt=attempt, error=error.message)

    async def _try(self, offer: DocumentUploaded, traceparent: str | None) -> Body:
        try:
            parsed = await self._call(offer, traceparent)
            result = await self._keep(offer, parsed)
        except TransientError as error:
            if error.code is Code.STORAGE_UNAVAILABLE:
                until = datetime.now(UTC) + _STORAGE_WAIT
                return ParseDeferred(offer.job_id, offer.tenant, offer.attempt, error.code, until)
            return self._failed(offer, error, retry_after_seconds=error.retry_after_seconds)
        except PermanentError as error:
            return self._failed(offer, error)
        return ParseSucceeded(
            job_id=offer.job_id,
            tenant=offer.tenant,
            attempt=offer.attempt,
            result=result,
            parser=parsed.parser,
            parser_version=parsed.parser_version,
            pages=len(parsed.pages),
            warnings=tuple(parsed.warnings[:_MOST_WARNINGS]),
        )

    async def _call(self, offer: DocumentUploaded, traceparent: str | None) -> Parsed:
        async with self._blobs.open_local(offer.source) as path:
            document = Document(
                job_id=offer.job_id,
                tenant=offer.tenant,
                attempt=offer.attempt,
                path=path,
                sha256=offer.source.sha256,
                size_bytes=offer.source.size_bytes,
                media_type=offer.media_type,
                options=offer.options,
            )
            started = time.perf_counter()
            try:
                parsed = await self._parser.parse(document)
            except (TransientError, PermanentError) as error:
                self._called(offer, error.code, started, traceparent)
                raise
        self._called(offer, "ok", started, traceparent, parsed)
        return parsed

    def _called(
        self,
        offer: DocumentUploaded,
        outcome: str,
        started: float,
        traceparent: str | None,
        parsed: Parsed | None = None,
    ) -> None:
        parser = parsed.parser if parsed else self._parser.name
        pages = len(parsed.pages) if parsed else 0
        seconds = time.perf_counter() - started
        self._recorder.add(PARSER_CALLS, parser=parser, outcome=outcome)
        self._recorder.observe(PARSER_SECONDS, seconds, parser=parser)
        self._recorder.add(PARSER_PAGES, pages, parser=parser)
        call = ServiceCalled(offer.tenant, parser, "parse", outcome, seconds, pages)
        self._telemetry.emit(call, traceparent)

    async def _keep(self, offer: DocumentUploaded, parsed: Parsed) -> BlobRef:
        large = len(parsed.pages) > _LARGE_PAGES
        content = await asyncio.to_thread(encode, parsed) if large else encode(parsed)
        return await self._blobs.put(result_key(offer.tenant, offer.job_id, offer.attempt), content)

    def _failed(
        self,
        offer: DocumentUploaded,
        error: TransientError | PermanentError,
        retry_after_seconds: float | None = None,
    ) -> ParseFailed:
        return ParseFailed(
            job_id=offer.job_id,
            tenant=offer.tenant,
            attempt=offer.attempt,
            code=error.code,
            message=error.message[:500],
            transient=isinstance(error, TransientError),
            parser=self._parser.name,
            retry_after_seconds=retry_after_seconds,
        )
