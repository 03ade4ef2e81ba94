"""LlamaParse against the double of LlamaCloud: its gate, its documents, its way as one parse."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from streams.parsers.base import Document, Parsed, VendorJob, VendorState
from streams.parsers.llamaparse import LlamaParse, LlamaParseOptions
from tests.doubles.llamacloud.behaviour import API_KEY
from tests.doubles.llamacloud.catalogue import ENDS
from tests.doubles.llamacloud.cloud import LlamaCloud

JOB_ID = "0190a1b2-0000-7000-8000-000000000001"
TWO_PAGES = b"first page\fsecond page"


class OpenGate:
    """A gate that lets everything through, and writes down what passed and how it ended."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.paid: list[int] = []
        self.noted: list[tuple[str, Code | None]] = []
        self.on_enter: dict[str, Callable[[], object]] = {}

    async def enter(self, operation: str, calls: int = 1) -> None:
        self.entered.append(operation)
        self.paid.append(calls)
        self.on_enter.get(operation, bool)()

    async def note(self, operation: str, failure: Code | None) -> None:
        self.noted.append((operation, failure))


class CloudParser:
    """The whole way of a document through LlamaParse as one `parse`, for the parsers' contract."""

    def __init__(self, parser: LlamaParse, cloud: LlamaCloud) -> None:
        self._parser = parser
        self._cloud = cloud
        self.name = parser.name
        self.version = parser.version

    def accepts(self, media_type: str) -> bool:
        return self._parser.accepts(media_type)

    async def parse(self, document: Document) -> Parsed:
        job = await self._parser.submit(document, await self._parser.upload(document))
        await self._cloud.until(lambda: self._cloud.jobs[job.id].status in ENDS)
        ended = (await self._parser.look([job.id]))[job.id]
        if ended.state is not VendorState.COMPLETED:
            raise failure_of(ended)
        # A document's second parse is served by their cache, and billed at nothing.
        return replace(await self._parser.fetch(job.id), credits=None)


def failure_of(job: VendorJob) -> PermanentError | TransientError:
    """Give the error that a vendor's failed job stands for."""
    kind = TransientError if job.transient else PermanentError
    return kind(job.code or Code.INTERNAL_ERROR, job.message or "")


def document_of(
    path: Path,
    raw: bytes = TWO_PAGES,
    *,
    media_type: str = "text/plain",
    attempt: int = 1,
    job_id: str = JOB_ID,
    options: ParseOptions | None = None,
) -> Document:
    """Write bytes into a file and describe them."""
    path.write_bytes(raw)
    return Document(
        job_id=job_id,
        tenant="acme",
        attempt=attempt,
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        size_bytes=len(raw),
        media_type=media_type,
        options=options or ParseOptions(),
    )


def options_for(
    url: str,
    *,
    call_seconds: float = 30.0,
    submit_seconds: float = 30.0,
    tier: str = "cost_effective",
    version: str = "2026-09-28",
    max_pages: int = 400,
    callback_url: str | None = None,
    inline_bytes: int = 8 << 20,
    project_id: str | None = None,
) -> LlamaParseOptions:
    """Give an account at this address."""
    return LlamaParseOptions(
        api_key=API_KEY,
        url=url,
        tier=tier,
        version=version,
        max_pages=max_pages,
        project_id=project_id,
        call_seconds=call_seconds,
        submit_seconds=submit_seconds,
        callback_url=callback_url,
        webhook_secret="whsec-of-this-test",
        inline_bytes=inline_bytes,
    )


class Naps:
    """A sleep that takes no time, and writes down how long it would have."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Oracle:
    """A server that answers every request with what it was told, and keeps what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[web.Response] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def say(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Put an answer behind the others; the last one is given again and again."""
        self.answers.append(web.Response(body=body, status=status, headers=headers))

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request."""
        self.asked.append((request.method, request.path_qs, dict(request.headers)))
        await request.read()
        first = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(body=first.body, status=first.status, headers=first.headers)


@asynccontextmanager
async def open_oracle() -> AsyncIterator[Oracle]:
    """Serve an oracle on this machine."""
    oracle = Oracle()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", oracle.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        oracle.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield oracle
    finally:
        await runner.cleanup()


def operations(cloud: LlamaCloud) -> Sequence[str]:
    """Give what the double was asked for, in order."""
    return [call.operation for call in cloud.calls]
