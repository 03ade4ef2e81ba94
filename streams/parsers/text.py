"""Plain text, Markdown and CSV, read by the standard library; strict UTF-8."""

import asyncio
import csv
import io
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.errors import Code, PermanentError
from streams.media import CSV, MARKDOWN, PLAIN
from streams.parsers.base import Document, Page, Parsed
from streams.parsers.pages import judge_pages, page_limit, select_pages, unused_options

PAGE_BREAK = "\f"
DELIMITERS = ",;\t|"

MOST_BYTES = 32 << 20
MOST_CELLS = 10_000_000
"""A text is held in memory, some five times over; of a table's size its bytes alone say nothing."""

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
        if document.size_bytes > MOST_BYTES:
            raise _too_large(f"a text may have {MOST_BYTES} bytes, not {document.size_bytes}")
        options = document.options
        limit = page_limit(self._max_pages, options)
        text = await asyncio.to_thread(_read, document.path)
        if document.media_type == CSV:
            selection = select_pages(1, options, limit)
            table = await asyncio.to_thread(csv_to_markdown, text)
            pages: tuple[Page, ...] = (Page(1, table, text if table else ""),)
        else:
            selection = select_pages(_count_pages(text), options, limit)
            pages = await asyncio.to_thread(_cut, text, selection.numbers)
        warnings = (*unused_options(options), *selection.warnings, *judge_pages(pages))
        return Parsed(pages, self.name, self.version, warnings)


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise PermanentError(Code.SOURCE_MISSING, "the document's file is gone") from None
    return _decode(raw)


def _count_pages(text: str) -> int:
    """Count without making them: a text may have a page break for every byte."""
    breaks = text.count(PAGE_BREAK)
    # A form feed ends a page: after the last one there is no further page.
    ended = breaks > 0 and not text[text.rindex(PAGE_BREAK) :].strip()
    return breaks if ended else breaks + 1


def _cut(text: str, numbers: Sequence[int]) -> tuple[Page, ...]:
    """Cut out the pages of these numbers, which ascend."""
    pages, start, wanted = [], 0, frozenset(numbers)
    for number in range(1, numbers[-1] + 1):
        end = text.find(PAGE_BREAK, start)
        if number in wanted:
            pages.append(_page(number, text[start : len(text) if end < 0 else end]))
        start = end + 1
    return tuple(pages)


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

    Raise PermanentError: DOCUMENT_BROKEN when the csv module cannot read it, DOCUMENT_TOO_LARGE
    when it would have too many cells.
    """
    delimiter = find_delimiter(text)
    rows = columns = 0
    for row in _rows(text, delimiter):
        rows, columns = rows + 1, max(columns, len(row))
    if rows * columns > MOST_CELLS:
        # A long row among many short ones: a kilobyte of it could fill the memory.
        raise _too_large(f"a table may have {MOST_CELLS} cells, not {rows} rows of {columns}")
    table = io.StringIO()
    for number, row in enumerate(_rows(text, delimiter)):
        table.write(_row(row, columns) + "\n")
        if number == 0:
            table.write("|" + " --- |" * columns + "\n")
    return table.getvalue()


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Read the rows that are not empty, one by one."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from (row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise PermanentError(
            Code.DOCUMENT_BROKEN, f"not readable as CSV at line {reader.line_num}: {error}"
        ) from None


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


def _too_large(why: str) -> PermanentError:
    return PermanentError(Code.DOCUMENT_TOO_LARGE, why)
