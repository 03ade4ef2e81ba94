"""LlamaParse, the parser of LlamaCloud: its API v2, in the few calls that a job needs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import orjson

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import (
    Document,
    Gate,
    Parsed,
    SubmissionUnresolvedError,
    VendorJob,
)
from streams.parsers.llamaparse_answers import (
    FileAnswer,
    JobAnswer,
    ListAnswer,
    Nothing,
    is_vendor_id,
    vendor_job,
)
from streams.parsers.llamaparse_calls import Call, Calls, seconds_for
from streams.parsers.llamaparse_order import SUFFIXES, Terms, order_of, refuse_size, upload_form
from streams.parsers.llamaparse_pages import ResultAnswer
from streams.parsers.llamaparse_refusals import NoAnswerError, Refusal
from streams.parsers.llamaparse_results import INLINE_BYTES, Results, Sleep
from streams.parsers.llamaparse_wire import open_files, open_session

IDS_PER_CALL = 50
"""Ids that are asked about at once: they stand in the address, which has its limits."""

LIST_PAGE_SIZE = 50
MOST_LOOK_PAGES, MOST_FIND_PAGES = 5, 200

CLOCK_SLACK = timedelta(minutes=5)
"""How far the vendor's clock may be behind ours."""

_JOBS = "/api/v2/parse"


@dataclass(frozen=True, slots=True)
class LlamaParseOptions:
    """An account and what its jobs are made with; no callback address means that we poll.

    `version` is the tier's dated one. A document may ask for another tier, then of its latest.
    """

    api_key: str = field(repr=False)
    url: str
    tier: str
    version: str
    max_pages: int
    project_id: str | None = None
    call_seconds: float = 30.0
    submit_seconds: float = 30.0
    callback_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    inline_bytes: int = INLINE_BYTES

    def secrets(self) -> tuple[str, ...]:
        """Give what no message may hold."""
        return (self.api_key, *([self.webhook_secret] if self.webhook_secret else []))

    def terms(self) -> Terms:
        """Give what every order says."""
        return Terms(
            self.tier, self.version, self.max_pages, self.callback_url, self.webhook_secret
        )


class LlamaParse:
    """A RemoteParser; make it with `open_llama_parse`."""

    name = "llamaparse"

    def __init__(self, options: LlamaParseOptions, calls: Calls, sleep: Sleep) -> None:
        self.version = f"{options.tier} {options.version}"
        self.submit_seconds = options.submit_seconds
        self._call_seconds = options.call_seconds
        self._terms = options.terms()
        self._secrets = options.secrets()
        self._calls = calls
        self._results = Results(
            calls,
            self.name,
            self.version,
            options.call_seconds,
            self._secrets,
            inline_bytes=options.inline_bytes,
            sleep=sleep,
        )

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        return media_type in SUFFIXES

    def tier(self, options: ParseOptions) -> str | None:
        """Name the tier that such a job is billed by."""
        return self._terms.tier_of(options)

    async def upload(self, document: Document) -> str:
        """Send the bytes as a file there, read from the disk while they are sent."""
        refuse_size(document)
        try:
            # Opened in a thread it would stay open when the caller is cancelled meanwhile.
            file = document.path.open("rb")
        except FileNotFoundError:
            raise PermanentError(Code.SOURCE_MISSING, "the document's file is gone") from None
        with file:
            call = Call(
                "upload",
                "POST",
                "/api/v1/beta/files",
                seconds_for(self._call_seconds, document.size_bytes),
                body=upload_form(document, file),
                of_document=True,
                # A file that was sent and then waits for a turn is sent for nothing.
                pays_for=2,
            )
            return (await self._calls.demand(call, FileAnswer)).id

    async def submit(self, document: Document, file_id: str) -> VendorJob:
        """Create the job by one request that is never repeated.

        Once a connection stands, whatever is not a clear refusal leaves the matter open: a
        time-out, a cut, any 5xx (a balancer's too), a success that cannot be read.
        """
        body = orjson.dumps(order_of(document, file_id, self._terms))
        call = Call(
            *("submit", "POST", _JOBS, self.submit_seconds),
            body=body,
            of_document=True,
            pays_for=0,
        )
        prompt = document.options.prompt
        try:
            answer = await self._calls.demand(call, JobAnswer, (prompt,) if prompt else ())
        except NoAnswerError as error:
            raise SubmissionUnresolvedError(error.message) from error
        job = vendor_job(answer, self._secrets)
        return replace(job, job_id=document.job_id, attempt=document.attempt)

    async def look(self, vendor_job_ids: Sequence[str]) -> Mapping[str, VendorJob]:
        """Ask about jobs, 50 in a call; one that is absent is unknown there."""
        wanted = [name for name in dict.fromkeys(vendor_job_ids) if is_vendor_id(name)]
        found: dict[str, VendorJob] = {}
        for start in range(0, len(wanted), IDS_PER_CALL):
            chunk = set(wanted[start : start + IDS_PER_CALL])
            query = [("job_ids", name) for name in sorted(chunk)]
            async with aclosing(self._list("look", query, MOST_LOOK_PAGES)) as jobs:
                async for job in jobs:
                    if job.id in chunk:
                        found[job.id] = job
                        chunk.discard(job.id)
                    if not chunk:
                        break
        return found

    async def see(self, vendor_job_id: str) -> VendorJob | None:
        """Look at one job, with its bill; None when it is unknown there."""
        if not is_vendor_id(vendor_job_id):
            return None
        answer = await self._calls.ask(
            Call(
                *("see", "GET", f"{_JOBS}/{vendor_job_id}", self._call_seconds),
                query=[("expand", "usage")],
                expected=frozenset({403, 404}),
            ),
            ResultAnswer,
        )
        if not isinstance(answer, Refusal):
            return vendor_job(answer.job, self._secrets)
        if answer.status == 403:
            # Another project's: a webhook may name any job, and must not open the circuit by that.
            raise TransientError(Code.VENDOR_LOST, "LlamaParse does not show the job to our key")
        return None

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        """Look for our attempt's job among all that were created since then."""
        after = (since - CLOCK_SLACK).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        query = [("created_at_on_or_after", after)]
        async with aclosing(self._list("find", query, MOST_FIND_PAGES)) as jobs:
            async for job in jobs:
                if (job.job_id, job.attempt) == (job_id, attempt):
                    return job
        return None

    async def fetch(self, vendor_job_id: str) -> Parsed:
        """Get a completed job's pages; raise the job's own error where it failed."""
        return await self._results.fetch(vendor_job_id)

    async def cancel(self, vendor_job_id: str) -> None:
        """Stop the job; one that has ended or is unknown is no error."""
        if is_vendor_id(vendor_job_id):
            path = f"{_JOBS}/{vendor_job_id}/cancel"
            expected = frozenset({400, 404, 409})
            call = Call("cancel", "POST", path, self._call_seconds, expected=expected)
            await self._calls.ask(call, Nothing)

    async def forget(self, vendor_job_id: str) -> None:
        """Delete the ended job there; raise TransientError for one that has not ended."""
        if is_vendor_id(vendor_job_id):
            path = f"{_JOBS}/{vendor_job_id}"
            call = Call("forget", "DELETE", path, self._call_seconds, expected=frozenset({404}))
            await self._calls.ask(call, Nothing)

    async def _list(
        self, operation: str, query: Sequence[tuple[str, str]], most_pages: int
    ) -> AsyncGenerator[VendorJob, None]:
        """Give a list's jobs, page by page; a list with no end proves nothing of who is absent."""
        token: list[tuple[str, str]] = []
        for _ in range(most_pages):
            call = Call(
                operation,
                "GET",
                _JOBS,
                self._call_seconds,
                query=[*query, ("page_size", str(LIST_PAGE_SIZE)), *token],
            )
            answer = await self._calls.demand(call, ListAnswer)
            for job in answer.items:
                yield vendor_job(job, self._secrets)
            if not answer.next_page_token:
                return
            token = [("page_token", answer.next_page_token)]
        raise TransientError(Code.VENDOR_FAILED, f"the list has more than {most_pages} pages")


@asynccontextmanager
async def open_llama_parse(
    options: LlamaParseOptions, gate: Gate, *, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[LlamaParse]:
    """Lend the parser with its session; raise ValueError for an address without https."""
    async with open_session() as session, open_files(options.url) as files:
        calls = Calls(
            session,
            gate,
            url=options.url,
            api_key=options.api_key,
            project_id=options.project_id,
            secrets=options.secrets(),
            files=files,
        )
        yield LlamaParse(options, calls, sleep)
