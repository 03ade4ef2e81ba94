"""Plain text, Markdown and CSV, read by the standard library; strict UTF-8."""

import asyncio
import csv
import io
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import Code, PermanentError
from streams.media import CSV, MARKDOWN, PLAIN
from streams.parsers.base import Document, Page, Parsed
from streams.parsers.pages import judge_pages, page_limit, select_pages, unused_options

PAGE_BREAK = "\f"
DELIMITERS = ",;\t|"

_SAMPLE_ROWS = 50


class TextParser:
    """Reads text as it stands; a form feed ends a page, a CSV becomes one Markdown table."""

    name = "text"
    version = platform.python_version()

    def __init__(self, *, max_pages: int) -> None:
        self._max_pages = max_pages

    def accepts(self, media_type: str) -> bool:
        """Tell whether it reads this media type."""
        return media_type in (PLAIN, MARKDOWN, CSV)

    async def parse(self, document: Document) -> Parsed:
        """Read in a thread, so that a large text does not hold up the loop."""
        options = document.options
        there = await asyncio.to_thread(_read, document.path, document.media_type)
        selection = select_pages(len(there), options, page_limit(self._max_pages, options))
        pages = tuple(there[number - 1] for number in selection.numbers)
        warnings = (*unused_options(options), *selection.warnings, *judge_pages(pages))
        return Parsed(pages, self.name, self.version, warnings)


def _read(path: Path, media_type: str) -> tuple[Page, ...]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise PermanentError(Code.SOURCE_MISSING, "the document's file is gone") from None
    text = _decode(raw)
    if media_type == CSV:
        table = csv_to_markdown(text)
        return (Page(1, table, text if table else ""),)
    parts = text.split(PAGE_BREAK)
    if len(parts) > 1 and not parts[-1].strip():
        # A form feed ends a page: after the last one there is no further page.
        parts.pop()
    return tuple(_page(number, part) for number, part in enumerate(parts, 1))


def _page(number: int, part: str) -> Page:
    text = part if part.strip() else ""
    return Page(number, text, text)


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark; people count from the file's first byte.
        mark = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
        raise PermanentError(
            Code.DOCUMENT_NOT_UTF8, f"the byte at position {error.start + mark} is not UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_to_markdown(text: str) -> str:
    """Write a CSV as a Markdown table, its first row as the head, short rows filled up.

    Raise PermanentError(DOCUMENT_BROKEN) when the csv module cannot read it.
    """
    delimiter = find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise PermanentError(
            Code.DOCUMENT_BROKEN, f"not readable as CSV at line {reader.line_num}: {error}"
        ) from None
    if not rows:
        return ""
    columns = max(len(row) for row in rows)
    head, *body = (_row(row, columns) for row in rows)
    return "\n".join([head, "|" + " --- |" * columns, *body]) + "\n"


def find_delimiter(text: str) -> str:
    """Choose the delimiter that cuts most of the first rows into the same number of cells."""
    sample = text[:65_536].splitlines()[:_SAMPLE_ROWS]
    scores: dict[str, tuple[int, int]] = {}
    for delimiter in DELIMITERS:
        try:
            counts = Counter(len(row) for row in csv.reader(sample, delimiter=delimiter) if row)
        except csv.Error:
            continue
        several = {cells: rows for cells, rows in counts.items() if cells > 1}
        best = max(several, key=lambda cells: (several[cells], cells), default=1)
        scores[delimiter] = (several.get(best, 0), best)
    return max(scores, key=lambda delimiter: scores[delimiter], default=DELIMITERS[0])


def _row(cells: Sequence[str], columns: int) -> str:
    filled = [*cells, *[""] * (columns - len(cells))]
    return "| " + " | ".join(_cell(cell) for cell in filled) + " |"


def _cell(cell: str) -> str:
    escaped = cell.strip().replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("\n", "<br>")
