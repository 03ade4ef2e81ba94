"""The parse reactor: a document's bytes to a kept result, and the event that says so."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
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
from streams.parsers.base import ChooseParser, Document, Parsed, Parser
from streams.processor import Intend
from streams.results import encode
from streams.telemetry import Telemetry

log = structlog.get_logger(__name__)

_OUR_WAIT = timedelta(seconds=10)
_NOT_THE_DOCUMENTS = frozenset({Code.STORAGE_UNAVAILABLE, Code.SHUTDOWN})
"""Trouble of ours: it puts the attempt off, and uses up none of the document's tries."""

_MOST_WARNINGS = 200
_MESSAGE_CHARACTERS = 500
_LARGE_PAGES = 50
"""Results of more pages are encoded beside the event loop."""


class Parse:
    """Parses what was uploaded."""

    name = "parse"
    stage = "parse"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(
        self,
        choose: ChooseParser,
        blobs: Blobs,
        telemetry: Telemetry,
        recorder: Recorder,
        *,
        slots: int,
    ) -> None:
        self._choose = choose
        self._parsing = asyncio.Semaphore(slots)
        self._blobs = blobs
        self._telemetry = telemetry
        self._recorder = recorder

    def started(self, offer: DocumentUploaded, worker: str) -> Body:
        """Say that `worker` has claimed the attempt."""
        return ParseStarted(offer.job_id, offer.tenant, offer.attempt, worker)

    async def work(
        self, offer: DocumentUploaded, traceparent: str | None, intend: Intend
    ) -> Body | None:
        """Parse and keep the result; expected trouble becomes the event that names it."""
        del intend
        started = time.perf_counter()
        name, end = await self._serve(offer, traceparent)
        outcome = end.code if isinstance(end, ParseFailed | ParseDeferred) else "ok"
        seconds = time.perf_counter() - started
        timed = StageTimed(offer.tenant, name or "none", self.stage, outcome, seconds)
        self._telemetry.emit(timed, traceparent)
        log.info("parse_ended", tenant=offer.tenant, outcome=outcome, seconds=round(seconds, 4))
        return end

    async def settle(self, offer: DocumentUploaded, end: Body | None, *, kept: bool) -> None:
        """Remove what lost attempts of this job left, or this one's result where it was lost."""
        if kept and not isinstance(end, ParseSucceeded):
            return
        # Work that was cut off may have kept its result a moment before.
        for attempt in range(1, offer.attempt) if kept else [offer.attempt]:
            try:
                await self._blobs.delete(result_key(offer.tenant, offer.job_id, attempt))
            except TransientError as error:
                # The janitor removes what no row names.
                log.warning("blob_not_removed", attempt=attempt, error=error.message)

    async def _serve(
        self, offer: DocumentUploaded, traceparent: str | None
    ) -> tuple[str | None, Body]:
        name: str | None = None
        try:
            parser = self._choose(offer.media_type)
            name = parser.name
            parsed = await self._call(parser, offer, traceparent)
            result = await self._keep(offer, parsed)
        except TransientError as error:
            if error.code in _NOT_THE_DOCUMENTS:
                return name, _deferred(offer, error)
            return name, _failed(offer, name, error, error.retry_after_seconds)
        except PermanentError as error:
            return name, _failed(offer, name, error)
        return name, _succeeded(offer, parsed, result)

    async def _call(
        self, parser: Parser, offer: DocumentUploaded, traceparent: str | None
    ) -> Parsed:
        async with self._blobs.open_local(offer.source) as path, self._parsing:
            document = _document(offer, path)
            started = time.perf_counter()
            outcome, pages = "cancelled", 0
            try:
                parsed = await parser.parse(document)
                outcome, pages = "ok", len(parsed.pages)
            except (TransientError, PermanentError) as error:
                outcome = error.code.value
                raise
            finally:
                seconds = time.perf_counter() - started
                self._recorder.add(PARSER_CALLS, parser=parser.name, outcome=outcome)
                self._recorder.observe(PARSER_SECONDS, seconds, parser=parser.name)
                self._recorder.add(PARSER_PAGES, pages, parser=parser.name)
                call = ServiceCalled(offer.tenant, parser.name, "parse", outcome, seconds, pages)
                self._telemetry.emit(call, traceparent)
        return parsed

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


def _succeeded(offer: DocumentUploaded, parsed: Parsed, result: BlobRef) -> ParseSucceeded:
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


def _deferred(offer: DocumentUploaded, error: TransientError) -> ParseDeferred:
    until = datetime.now(UTC) + _OUR_WAIT
    return ParseDeferred(offer.job_id, offer.tenant, offer.attempt, error.code, until)


def _failed(
    offer: DocumentUploaded,
    parser: str | None,
    error: ParsewireError,
    retry_after_seconds: float | None = None,
) -> ParseFailed:
    return ParseFailed(
        job_id=offer.job_id,
        tenant=offer.tenant,
        attempt=offer.attempt,
        code=error.code,
        message=error.message[:_MESSAGE_CHARACTERS],
        transient=isinstance(error, TransientError),
        parser=parser,
        retry_after_seconds=retry_after_seconds,
    )
