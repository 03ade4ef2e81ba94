"""LlamaParse's results as pages: joined by number, judged page by page, counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from schemas.errors import Code, PermanentError, TransientError
from schemas.page_ranges import count_pages, read_ranges, write_ranges
from streams.foreign_words import clean
from streams.parsers.base import Page
from streams.parsers.llamaparse_answers import (
    LIMIT_TAG,
    PAGES_TAG,
    JobAnswer,
    UnexpectedAnswerError,
)
from streams.parsers.pages import MAX_WARNINGS

PAGE_COUNTS = ("job_pages", "page_count", "num_pages", "total_pages", "pages")
"""Where `job_metadata`, whose form is not documented, may tell the number of pages."""

_LONGEST_REASON = 120
_MOST_CHOSEN = 10_000
"""More are not looked through: the warning has to stay small."""

PageNumber = Annotated[int, Meta(ge=1, le=10_000_000)]


@dataclass(frozen=True, slots=True)
class MarkdownPage:
    """One page of the markdown result: its markdown, or why there is none."""

    page_number: PageNumber
    success: bool = True
    markdown: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TextPage:
    """One page of the text result."""

    page_number: PageNumber
    text: str


@dataclass(frozen=True, slots=True)
class MarkdownResult:
    """The markdown result."""

    pages: list[MarkdownPage]


@dataclass(frozen=True, slots=True)
class TextResult:
    """The text result."""

    pages: list[TextPage]


@dataclass(frozen=True, slots=True)
class ContentFile:
    """A result file that can be fetched for a short while."""

    size_bytes: int = 0
    exists: bool | None = None
    presigned_url: str | None = None


@dataclass(frozen=True, slots=True)
class ResultAnswer:
    """A job with what was asked of its result."""

    job: JobAnswer
    markdown: MarkdownResult | None = None
    text: TextResult | None = None
    job_metadata: dict[str, Any] | None = None
    result_content_metadata: dict[str, ContentFile] | None = None


def join_pages(answer: ResultAnswer) -> tuple[list[Page], dict[int, str]]:
    """Join markdown and text by page number; give the pages, and why those without any failed.

    What only one of the two results has stands for both. Raise UnexpectedAnswerError for a page
    that comes twice.
    """
    markdown = {page.page_number: page for page in answer.markdown.pages} if answer.markdown else {}
    text = {page.page_number: page.text for page in answer.text.pages} if answer.text else {}
    told = len(answer.markdown.pages) if answer.markdown else 0
    if len(markdown) < told or (answer.text and len(text) < len(answer.text.pages)):
        raise UnexpectedAnswerError("a page comes twice")
    pages: list[Page] = []
    failed: dict[int, str] = {}
    for number in sorted(markdown.keys() | text.keys()):
        page = markdown.get(number)
        if page is not None and not page.success:
            failed[number] = page.error or ""
            pages.append(Page(number, "", ""))
            continue
        marked = page.markdown if page else None
        plain = text.get(number, "").strip("\n")
        pages.append(_page(number, plain if marked is None else marked, plain))
    return pages, failed


def _page(number: int, markdown: str, text: str) -> Page:
    if not markdown.strip():
        return Page(number, text, text) if text.strip() else Page(number, "", "")
    return Page(number, markdown, text if text.strip() else markdown.strip("\n"))


def refuse_or_warn(
    answer: ResultAnswer, pages: Sequence[Page], failed: dict[int, str], secrets: Sequence[str]
) -> tuple[str, ...]:
    """Warn of pages, in order: `page_failed:4:why`, `page_missing:5`, `page_has_no_text:3`.

    Of chosen pages one warning names all that are missing: `page_missing:5-6,8`.

    Raise PermanentError: DOCUMENT_TOO_MANY_PAGES, or DOCUMENT_HAS_NO_TEXT when no page failed and
    none has text. When pages failed and no other has text, or none came at all, that is no proof
    against the document: raise TransientError(VENDOR_FAILED).
    """
    limit = answer.job.count(LIMIT_TAG)
    if limit is not None and len(pages) > limit:
        raise PermanentError(
            Code.DOCUMENT_TOO_MANY_PAGES, f"the document has more pages than the limit, {limit}"
        )
    if not any(page.text for page in pages):
        raise _nothing(pages, failed, secrets)
    said = [
        (number, f"page_failed:{number}:{clean(why, secrets, _LONGEST_REASON)}")
        for number, why in failed.items()
    ]
    said += [
        (page.number, f"page_has_no_text:{page.number}")
        for page in pages
        if not page.text and page.number not in failed
    ]
    said += _missing(answer, pages)
    warnings = [words for _, words in sorted(said)[:MAX_WARNINGS]]
    if len(said) > MAX_WARNINGS:
        warnings.append(f"warnings_left_out:{len(said) - MAX_WARNINGS}")
    return tuple(warnings)


def _nothing(
    pages: Sequence[Page], failed: dict[int, str], secrets: Sequence[str]
) -> PermanentError | TransientError:
    if not pages:
        return TransientError(Code.VENDOR_FAILED, "LlamaParse gave a result without pages")
    if failed:
        number, why = min(failed.items())
        reason = clean(why, secrets, _LONGEST_REASON)
        return TransientError(
            Code.VENDOR_FAILED,
            f"{len(failed)} of {len(pages)} pages failed, none has text; page {number}: {reason}",
        )
    return PermanentError(
        Code.DOCUMENT_HAS_NO_TEXT, f"LlamaParse found text on none of {len(pages)} pages"
    )


def _missing(answer: ResultAnswer, pages: Sequence[Page]) -> list[tuple[int, str]]:
    """Warn of numbers that are not there: of the chosen pages, or up to the document's last."""
    there = {page.number for page in pages}
    if answer.job.count(LIMIT_TAG) is None:
        lacking = sorted(_chosen(answer.job) - there)
        if not lacking:
            return []
        ranges = read_ranges(",".join(map(str, lacking)))
        return [(lacking[0], f"page_missing:{write_ranges(ranges)}")]
    told = max(_told_pages(answer.job_metadata or {}), *there)
    # A figure far beyond the pages is another figure.
    most = min(told, len(pages) + 10_000)
    lost = (number for number in range(1, most + 1) if number not in there)
    return [(number, f"page_missing:{number}") for number in lost]


def _chosen(job: JobAnswer) -> set[int]:
    try:
        ranges = read_ranges(job.tag(PAGES_TAG) or "")
    except ValueError:
        return set()
    if count_pages(ranges) > _MOST_CHOSEN:
        return set()
    return {number for first, last in ranges for number in range(first, last + 1)}


def _told_pages(metadata: dict[str, Any]) -> int:
    for name in PAGE_COUNTS:
        value = metadata.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
