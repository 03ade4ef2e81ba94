"""The parser seam: a document in, pages of markdown out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.events import ParseOptions


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser is given: a local file of verified bytes and what is known of it."""

    job_id: str
    tenant: str
    attempt: int
    path: Path
    sha256: str
    size_bytes: int
    media_type: str
    options: ParseOptions


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number from 1, its markdown and its plain text (empty for a blank page)."""

    number: int
    markdown: str
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser made of a document."""

    pages: Sequence[Page]
    parser: str
    parser_version: str
    warnings: Sequence[str] = ()
    price_micro_usd: int = 0


class Parser(Protocol):
    """Turns documents into pages.

    Raise PermanentError with a DOCUMENT_* code for a document that it cannot serve, TransientError
    for its own trouble. A cancelled `parse` frees what it holds before it returns.
    """

    name: str
    version: str

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        ...

    async def parse(self, document: Document) -> Parsed:
        """Parse one document."""
        ...


ChooseParser = Callable[[str], Parser]
"""Gives the parser that serves a media type; raises PermanentError(UNSUPPORTED_MEDIA_TYPE)."""
