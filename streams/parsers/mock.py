"""A parser that parses nothing: its pages follow from the content's hash, and say so."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from schemas.errors import Code, PermanentError, TransientError
from streams.media import ACCEPTED
from streams.parsers.base import Document, Page, Parsed
from streams.parsers.pages import page_limit, select_pages, unused_options

MAX_PAGES = 5

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class MockBehaviour:
    """How the mock behaves: delays in seconds, failures as rates from 0 to 1.

    Transient failures and crashes are drawn for each attempt, permanent ones for each content.
    A crash is an exception that no parser is supposed to raise.
    """

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    transient_rate: float = 0.0
    permanent_rate: float = 0.0
    crash_rate: float = 0.0


class MockParser:
    """Makes 1 to 5 pages that follow from the document's sha256; the same bytes, the same pages."""

    name = "mock"
    version = "1"

    def __init__(
        self,
        *,
        max_pages: int,
        behaviour: MockBehaviour | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._max_pages = max_pages
        self._behaviour = behaviour or MockBehaviour()
        self._sleep = sleep

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        return media_type in ACCEPTED

    async def parse(self, document: Document) -> Parsed:
        """Wait, fail or answer as the hash and the attempt decide."""
        behaviour = self._behaviour
        sha256, attempt = document.sha256, document.attempt
        jitter = behaviour.jitter_seconds * _draw(sha256, attempt, "jitter")
        if behaviour.latency_seconds + jitter > 0:
            await self._sleep(behaviour.latency_seconds + jitter)
        if _draw(sha256, attempt, "crash") < behaviour.crash_rate:
            raise RuntimeError("mock crash, as asked for")
        if _draw(sha256, attempt, "transient") < behaviour.transient_rate:
            raise TransientError(Code.PARSER_UNAVAILABLE, "mock failure, as asked for")
        if _draw(sha256, 0, "permanent") < behaviour.permanent_rate:
            raise PermanentError(Code.DOCUMENT_BROKEN, "mock refusal, as asked for")
        count = 1 + int(_draw(sha256, 0, "pages") * MAX_PAGES)
        options = document.options
        selection = select_pages(count, options, page_limit(self._max_pages, options))
        pages = tuple(_page(number, count, sha256) for number in selection.numbers)
        warnings = (*unused_options(options), *selection.warnings)
        return Parsed(pages, self.name, self.version, warnings)


def _page(number: int, count: int, sha256: str) -> Page:
    title = f"Mock page {number} of {count}"
    line = f"This is output of the mock parser; no document was read. Content sha256: {sha256}."
    return Page(number, f"# {title}\n\n{line}", f"{title}\n\n{line}")


def _draw(sha256: str, attempt: int, what: str) -> float:
    """Give a number in [0, 1) that depends on its arguments alone."""
    digest = hashlib.sha256(f"{sha256}/{attempt}/{what}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
