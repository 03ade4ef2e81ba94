"""What every local parser says alike of its pages: limits, pages without text, warnings."""

from collections.abc import Collection, Sequence

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from streams.parsers.base import Page

MAX_WARNINGS = 100
"""Warnings travel in an event, which has to stay small."""


def page_limit(deployment_max_pages: int, options: ParseOptions) -> int:
    """Give the lower of what the deployment allows and what the producer asked for."""
    if options.max_pages is None:
        return deployment_max_pages
    return min(deployment_max_pages, options.max_pages)


def refuse_pages(pages: int, limit: int) -> PermanentError:
    """Say that there are too many pages, with both numbers."""
    return PermanentError(
        Code.DOCUMENT_TOO_MANY_PAGES, f"the document has {pages} pages, the limit is {limit}"
    )


def judge_pages(pages: Sequence[Page], failed: Collection[int] = ()) -> tuple[str, ...]:
    """Warn of the pages that gave no text, in page order: `page_has_no_text:3`, `page_failed:4`.

    Raise PermanentError: DOCUMENT_BROKEN when every page failed, DOCUMENT_HAS_NO_TEXT when none
    has text.
    """
    blank = [page.number for page in pages if page.number not in failed and not page.text]
    if len(failed) == len(pages):
        raise PermanentError(Code.DOCUMENT_BROKEN, "none of the document's pages can be read")
    if len(blank) + len(failed) == len(pages):
        raise PermanentError(
            Code.DOCUMENT_HAS_NO_TEXT, f"none of the {len(pages)} pages has a text layer"
        )
    said = sorted([(n, "page_has_no_text") for n in blank] + [(n, "page_failed") for n in failed])
    warnings = [f"{what}:{number}" for number, what in said[:MAX_WARNINGS]]
    if len(said) > MAX_WARNINGS:
        warnings.append(f"warnings_left_out:{len(said) - MAX_WARNINGS}")
    return tuple(warnings)
