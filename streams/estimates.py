"""Estimates: what a parse elsewhere may cost at most, said before anything is spent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from schemas.errors import Code, PermanentError, TransientError
from schemas.money import Spend
from schemas.page_ranges import count_pages
from schemas.prices import Prices
from streams.media import CSV, MARKDOWN, PDF, PLAIN
from streams.parsers.base import Document, RemoteParser
from streams.parsers.pages import page_limit, select_pages, wanted_ranges

log = structlog.get_logger(__name__)

LEAST_PAGE_BYTES = 500
LEAST_PAGE_LINES = 40
"""A page of text that is full has so many bytes or lines, whoever cuts it into pages."""

LEAST_PDF_PAGE_BYTES = 64
"""A page of a PDF takes so many bytes for its own object alone, unless it is packed with others."""

_TEXTS = frozenset({PLAIN, MARKDOWN, CSV})
_CHUNK_BYTES = 1 << 20

_UNCOUNTABLE = frozenset({Code.PARSE_TIMEOUT, Code.PARSER_CRASHED, Code.PARSER_UNAVAILABLE})
"""What the local parser stumbles over may be read elsewhere: it must not be lost by the count."""

CountPages = Callable[[Document], Awaitable[int | None]]
"""Counts a PDF's pages; None for one that cannot be opened."""


async def uncounted(document: Document) -> int | None:
    """Count nothing: where there is no local parser, every PDF may have as many as are allowed."""
    del document
    return None


class Estimates:
    """Estimates by the pages that the local parser counts, or else by an upper bound."""

    def __init__(
        self,
        prices: Prices,
        count_pages: CountPages,
        *,
        max_pages: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prices = prices
        self._count_pages = count_pages
        self._max_pages = max_pages
        self._clock = clock

    async def of(self, document: Document, parser: RemoteParser) -> Spend:
        """Say what its parse costs at most, by the prices of this moment.

        Raise PermanentError as the local parser does of pages (DOCUMENT_TOO_MANY_PAGES,
        INVALID_REQUEST), and PRICE_UNKNOWN.
        """
        options = document.options
        pages = await self._pages(document)
        at_ms = int(self._clock() * 1000)
        return self._prices.quote(parser.name, parser.tier(options), pages, at_ms, options)

    async def _pages(self, document: Document) -> int:
        options = document.options
        limit = page_limit(self._max_pages, options)
        ranges = wanted_ranges(options, limit)
        counted = await self._counted(document)
        if counted:
            return len(select_pages(counted, options, limit).numbers)
        # Without a choice of pages LlamaParse is asked for one more than the limit.
        most = limit + 1 if ranges is None else count_pages(ranges)
        if document.media_type == PDF:
            return min(most, 1 + document.size_bytes // LEAST_PDF_PAGE_BYTES)
        if document.media_type in _TEXTS and document.size_bytes < most * LEAST_PAGE_BYTES:
            return min(most, await asyncio.to_thread(most_text_pages, document.path))
        return most

    async def _counted(self, document: Document) -> int | None:
        if document.media_type != PDF:
            return None
        try:
            return await self._count_pages(document)
        except TransientError as error:
            if error.code not in _UNCOUNTABLE:
                raise
            log.warning("pages_not_counted", code=error.code.value)
            return None


def most_text_pages(path: Path) -> int:
    """Bound the pages of a text: a page ends when it is full, or by a form feed.

    Raise PermanentError(SOURCE_MISSING) where the file is gone.
    """
    size = lines = breaks = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                lines += max(chunk.count(b"\n"), chunk.count(b"\r"))
                breaks += chunk.count(b"\f")
    except FileNotFoundError:
        raise PermanentError(Code.SOURCE_MISSING, "the document's file is gone") from None
    return 1 + size // LEAST_PAGE_BYTES + lines // LEAST_PAGE_LINES + breaks
