"""LiteParse, the local PDF parser: one child process per slot, killed at the deadline."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from schemas.errors import Code, ParsewireError, PermanentError, TransientError
from streams.media import PDF
from streams.parsers.base import Document, Page, Parsed
from streams.parsers.lite_links import open_links
from streams.parsers.lite_process import LiteProcess, start_process
from streams.parsers.pages import (
    judge_pages,
    page_limit,
    select_pages,
    unused_options,
    wanted_ranges,
)

log = structlog.get_logger(__name__)

CHILD = (sys.executable, "-P", str(Path(__file__).with_name("lite_child.py")))

SELF_DESTRUCTION_SECONDS = 5.0
"""How long after the deadline a child ends itself, should its parent be gone."""

LOOK_SECONDS = 10.0
"""How long a look may last: it takes two or three milliseconds a page."""

ERRORS: tuple[tuple[str, Code, str], ...] = (
    ("password required", Code.DOCUMENT_ENCRYPTED, "the PDF needs a password"),
    ("unsupported security", Code.DOCUMENT_ENCRYPTED, "the PDF's encryption is not supported"),
    ("file not found", Code.SOURCE_MISSING, "the document's file is gone"),
    ("invalid pdf format", Code.DOCUMENT_BROKEN, "the PDF's structure cannot be read"),
    ("unsupported file format", Code.DOCUMENT_BROKEN, "the document is not a PDF"),
    ("page not found", Code.DOCUMENT_BROKEN, "the PDF's pages cannot be read"),
    ("pdf error:", Code.DOCUMENT_BROKEN, "the PDF cannot be read"),
)
"""What LiteParse 2.18 says, in lower case, and what that means here; it has no codes."""


class LiteParser:
    """Parses PDFs in `slots` processes; make it with `open_lite_parser`."""

    name = "liteparse"

    def __init__(
        self,
        *,
        slots: int,
        max_pages: int,
        timeout_seconds: float,
        links: Path,
        memory_limit_bytes: int | None = None,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.version = version("liteparse")
        self._max_pages = max_pages
        self._timeout_seconds = timeout_seconds
        self._links = links
        self._memory_limit_bytes = memory_limit_bytes
        self._command = command
        self._slots = asyncio.Semaphore(slots)
        self._slot_count = slots
        self._closing = False
        self._started = 0
        self._idle: list[LiteProcess] = []
        self._busy: set[LiteProcess] = set()
        self._dying: set[asyncio.Task[None]] = set()

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        return media_type == PDF

    async def parse(self, document: Document) -> Parsed:
        """Parse one PDF; the wait for a free child does not count towards the deadline.

        Raise TransientError PARSE_TIMEOUT or PARSER_CRASHED; the child is replaced then, and when
        the caller is cancelled.
        """
        options = document.options
        limit = page_limit(self._max_pages, options)
        request = self._request(document, self._timeout_seconds) | {
            "max_pages": limit,
            "ranges": wanted_ranges(options, limit),
        }
        async with self._lent_child(self._timeout_seconds) as child:
            total, pages, failed = await _converse(child, request)
        selection = select_pages(total, options, limit)
        warnings = (*unused_options(options), *selection.warnings, *judge_pages(pages, failed))
        return Parsed(pages, self.name, self.version, warnings)

    async def looks_scanned(self, document: Document) -> bool:
        """Tell whether none of the first pages (20) has text that can be read.

        A document that cannot be opened is no scan. Raise TransientError as `parse` does.
        """
        return (await self._glance(document, "look")).get("scanned") is True

    async def count_pages(self, document: Document) -> int | None:
        """Count the pages, which costs a millisecond; None where it cannot be opened.

        Raise TransientError as `parse` does.
        """
        return (await self._glance(document, "count")).get("counted")

    async def warm_up(self) -> None:
        """Start a child for every slot ahead of the first document."""
        starts = (self._start() for _ in range(self._slot_count))
        children = await asyncio.gather(*starts, return_exceptions=True)
        self._idle += [child for child in children if isinstance(child, LiteProcess)]
        for child in children:
            if isinstance(child, BaseException):
                raise child

    async def close(self) -> None:
        """Kill what is still at work, and stop every child."""
        self._closing = True
        for child in self._busy:
            child.kill()
        for _ in range(self._slot_count):
            await self._slots.acquire()
        await asyncio.gather(*(child.stop() for child in self._idle), *self._dying)
        self._idle.clear()

    async def _glance(self, document: Document, what: str) -> dict[str, Any]:
        seconds = min(self._timeout_seconds, LOOK_SECONDS)
        request = self._request(document, seconds) | {what: True}
        async with self._lent_child(seconds) as child, aclosing(child.ask(request)) as answers:
            return await anext(answers)

    @asynccontextmanager
    async def _lent_child(self, seconds: float) -> AsyncIterator[LiteProcess]:
        async with self._slots:
            child = await self._take()
            try:
                async with asyncio.timeout(seconds):
                    yield child
            except TimeoutError:
                raise TransientError(
                    Code.PARSE_TIMEOUT, f"not parsed within {seconds:g} s"
                ) from None
            finally:
                self._give_back(child)

    def _request(self, document: Document, seconds: float) -> dict[str, Any]:
        return {
            "path": str(document.path.absolute()),
            "deadline_seconds": seconds + SELF_DESTRUCTION_SECONDS,
        }

    async def _take(self) -> LiteProcess:
        self._refuse_when_closing()
        while self._idle and not self._idle[-1].idle:
            self._discard(self._idle.pop())
        if not self._idle:
            self._idle.append(await self._start())
            # `close` may have begun while the child was starting; it stops the idle ones.
            self._refuse_when_closing()
        child = self._idle.pop()
        self._busy.add(child)
        return child

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise TransientError(Code.SHUTDOWN, "the parser is being closed")

    def _give_back(self, child: LiteProcess) -> None:
        self._busy.discard(child)
        if child.idle:
            self._idle.append(child)
        else:
            self._discard(child)

    def _discard(self, child: LiteProcess) -> None:
        log.info("parser_process_replaced", pid=child.pid)
        child.kill()
        task = asyncio.create_task(child.gone())
        self._dying.add(task)
        task.add_done_callback(self._dying.discard)

    async def _start(self) -> LiteProcess:
        self._started += 1
        return await start_process(
            self._command,
            link=self._links / f"{self._started}.pdf",
            max_pages=self._max_pages,
            memory_limit_bytes=self._memory_limit_bytes,
        )


@asynccontextmanager
async def open_lite_parser(
    *,
    slots: int,
    max_pages: int,
    timeout_seconds: float,
    memory_limit_bytes: int | None = None,
    command: Sequence[str] = CHILD,
) -> AsyncIterator[LiteParser]:
    """Lend a parser whose children are started, and stop them all at the end."""
    with open_links() as links:
        parser = LiteParser(
            slots=slots,
            max_pages=max_pages,
            timeout_seconds=timeout_seconds,
            links=links,
            memory_limit_bytes=memory_limit_bytes,
            command=command,
        )
        try:
            await parser.warm_up()
            yield parser
        finally:
            await parser.close()


async def _converse(
    child: LiteProcess, request: dict[str, Any]
) -> tuple[int, list[Page], list[int]]:
    """Give the document's page count, the pages in order, and the numbers of those that failed."""
    total = 0
    pages: list[Page] = []
    failed: list[int] = []
    async with aclosing(child.ask(request)) as answers:
        async for answer in answers:
            if "error" in answer:
                raise _explain(answer["error"])
            if "pages" in answer:
                pages += [Page(*page) for page in answer["pages"]]
                failed += answer["failed"]
            total = answer.get("done", total)
    pages += [Page(number, "", "") for number in failed]
    return total, sorted(pages, key=lambda page: page.number), failed


def _explain(said: str) -> ParsewireError:
    lowered = said.lower()
    for part, code, message in ERRORS:
        if part in lowered:
            return PermanentError(code, message)
    log.warning("liteparse_error_unknown", said=said[:200])
    return TransientError(Code.PARSER_CRASHED, "LiteParse failed in a way that is not known")
