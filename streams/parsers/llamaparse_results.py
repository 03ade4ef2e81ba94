"""The result of a LlamaParse job: asked for until it is there, downloaded where it is large."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from schemas.errors import Code, TransientError
from streams.foreign_words import clean
from streams.parsers.base import Parsed
from streams.parsers.llamaparse_answers import (
    VERSION_TAG,
    UnexpectedAnswerError,
    failure_of,
    is_vendor_id,
)
from streams.parsers.llamaparse_calls import MEGABYTE, Call, Calls
from streams.parsers.llamaparse_files import FILE_PARTS, LARGEST_RESULT_BYTES, download_result
from streams.parsers.llamaparse_pages import ResultAnswer, join_pages, refuse_or_warn
from streams.parsers.llamaparse_refusals import Refusal, error_of
from streams.parsers.llamaparse_wire import OversizeError

INLINE_BYTES = 8 * MEGABYTE
"""A larger result stays where it is, and is fetched as files from the vendor's storage."""

NOT_YET_WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""A result may be missing for a short while after the job's success."""

LARGE_AT_ONCE = 4
"""What is large takes several times its size while it is read. Who waits for a place does so within
the deadline of its own result: were it one at a time, the last of many would never come."""

_INLINE_PARTS = ("markdown", "text")
_ALWAYS = ("usage", "job_metadata")
_LONGEST_VERSION = 100
_NO_MARKDOWN = "expansion is not available"

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Results:
    """Fetches results; `sleep` waits for one that is not there yet."""

    calls: Calls
    parser: str
    parser_version: str
    call_seconds: float
    secrets: Sequence[str] = field(default=(), repr=False)
    inline_bytes: int = INLINE_BYTES
    largest_bytes: int = LARGEST_RESULT_BYTES
    sleep: Sleep = asyncio.sleep
    _large: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE), repr=False
    )

    async def fetch(self, vendor_job_id: str) -> Parsed:
        """Give a completed job's pages; raise the job's own error where it failed."""
        if not is_vendor_id(vendor_job_id):
            raise TransientError(Code.VENDOR_LOST, "that cannot be a job of LlamaParse")
        try:
            answer = await self._result(vendor_job_id)
            return self._parsed(answer)
        except UnexpectedAnswerError:
            raise TransientError(
                Code.VENDOR_FAILED, "the result has a form that is not known"
            ) from None

    async def _result(self, job_id: str) -> ResultAnswer:
        try:
            answer = await self._get(job_id, _INLINE_PARTS, self.inline_bytes)
        except OversizeError:
            async with self._large:
                answer = await self._get(job_id, FILE_PARTS, INLINE_BYTES)
                self._refuse_unfinished(answer)
                return await download_result(
                    self.calls, answer, self.call_seconds, self.largest_bytes
                )
        self._refuse_unfinished(answer)
        return answer

    async def _get(self, job_id: str, parts: Sequence[str], limit_bytes: int) -> ResultAnswer:
        """Ask until the result is there; where the tier has no markdown, for the text alone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.call_seconds
        waits = iter(NOT_YET_WAITS_SECONDS)
        while True:
            answer = await self._ask(job_id, parts, limit_bytes)
            if isinstance(answer, ResultAnswer):
                return answer
            if answer.status == 400:
                if len(parts) == 1 or _NO_MARKDOWN not in answer.said:
                    raise error_of(answer, "fetch", of_document=True)
                parts = parts[1:]
                continue
            wait = next(waits, None)
            if wait is None or loop.time() + wait > deadline:
                raise TransientError(Code.VENDOR_LOST, "LlamaParse does not have the job's result")
            await self.sleep(wait)

    async def _ask(
        self, job_id: str, parts: Sequence[str], limit_bytes: int
    ) -> ResultAnswer | Refusal:
        call = Call(
            "fetch",
            "GET",
            f"/api/v2/parse/{job_id}",
            self.call_seconds,
            query=[("expand", ",".join((*parts, *_ALWAYS)))],
            expected=frozenset({400, 404}),
            limit_bytes=limit_bytes,
        )
        return await self.calls.ask(call, ResultAnswer)

    def _refuse_unfinished(self, answer: ResultAnswer) -> None:
        failure = failure_of(answer.job, self.secrets)
        if failure is not None:
            raise failure
        if answer.job.status != "COMPLETED":
            raise TransientError(Code.VENDOR_FAILED, "the job has not ended at LlamaParse")

    def _parsed(self, answer: ResultAnswer) -> Parsed:
        pages, failed = join_pages(answer)
        warnings = refuse_or_warn(answer, pages, failed, self.secrets)
        said = " ".join(filter(None, (answer.job.tier, answer.job.tag(VERSION_TAG))))
        version = clean(said, self.secrets, _LONGEST_VERSION)
        return Parsed(
            pages,
            self.parser,
            version or self.parser_version,
            warnings,
            credits=answer.job.bill(),
        )
