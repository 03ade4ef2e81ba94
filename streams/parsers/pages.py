"""What parsers say alike of pages: limits, which are wanted, which have no text, warnings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from schemas.errors import Code, PermanentError
from schemas.events import ParseOptions
from schemas.page_ranges import Ranges, count_pages, read_ranges, split_ranges, write_ranges
from streams.parsers.base import Page

MAX_WARNINGS = 100
"""Warnings travel in an event, which has to stay small."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The pages to give of a document, by number, and the warning of those that it lacks."""

    numbers: Sequence[int]
    warnings: tuple[str, ...] = ()


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


def wanted_ranges(options: ParseOptions, limit: int) -> Ranges | None:
    """Read which pages are wanted, None for all of them.

    Raise PermanentError: INVALID_REQUEST for what is no choice of pages, DOCUMENT_TOO_MANY_PAGES
    for more of them than the limit.
    """
    if options.target_pages is None:
        return None
    try:
        ranges = read_ranges(options.target_pages)
    except ValueError as error:
        raise PermanentError(Code.INVALID_REQUEST, f"target_pages: {error}") from None
    wanted = count_pages(ranges)
    if wanted > limit:
        raise PermanentError(
            Code.DOCUMENT_TOO_MANY_PAGES, f"{wanted} pages are wanted, the limit is {limit}"
        )
    return ranges


def select_pages(pages: int, options: ParseOptions, limit: int) -> Selection:
    """Choose from a document of so many pages; `page_missing:7-9` warns of those beyond its end.

    Raise PermanentError as `wanted_ranges` does, DOCUMENT_TOO_MANY_PAGES where all are wanted and
    are too many, and INVALID_REQUEST where none that is wanted is there.
    """
    ranges = wanted_ranges(options, limit)
    if ranges is None:
        if pages > limit:
            raise refuse_pages(pages, limit)
        return Selection(range(1, pages + 1))
    within, beyond = split_ranges(ranges, pages)
    if not within:
        raise PermanentError(
            Code.INVALID_REQUEST,
            f"target_pages is {write_ranges(ranges)[:100]}, the document's last page is {pages}",
        )
    numbers = [number for first, last in within for number in range(first, last + 1)]
    return Selection(numbers, (f"page_missing:{write_ranges(beyond)}",) if beyond else ())


def unused_options(options: ParseOptions) -> tuple[str, ...]:
    """Warn of what was asked of the parse and only LlamaParse can do: `option_not_used:prompt`."""
    asked = {
        "tier": options.tier is not None,
        "languages": bool(options.languages),
        "prompt": options.prompt is not None,
    }
    return tuple(f"option_not_used:{name}" for name, given in asked.items() if given)


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
