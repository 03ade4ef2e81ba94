"""Pages made from a document's bytes, the same for the same bytes."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

PDF_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
MOST_TARGET_PAGES = 100_000
UNSUPPORTED = frozenset({".exe", ".dll", ".bin", ".iso", ".dmg"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall become of a job; what is left out follows from the document.

    `error` fails the whole job with this message, `failed_pages` maps page numbers to errors,
    a `stuck` job stays PENDING for ever unless cancelled.
    """

    pages: Sequence[str] | None = None
    failed_pages: Mapping[int, str] = field(default_factory=dict)
    error: str | None = None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class PageText:
    """One page: its number from 1, and its text or why there is none."""

    number: int
    text: str
    error: str | None = None


def extension(name: str) -> str:
    """Give a file name's extension with its dot, in small letters."""
    return PurePath(name).suffix.lower()


def trouble_with(name: str, content: bytes) -> str | None:
    """Give the error message of a document that cannot be parsed, or None."""
    if extension(name) in UNSUPPORTED:
        return f"UNSUPPORTED_FILE_TYPE: {extension(name)} files are not supported"
    if extension(name) == ".pdf" and b"%PDF-" not in content[:1024]:
        return "PDF_IS_BROKEN: The PDF file is broken and could not be read"
    return None


def page_texts(content: bytes) -> list[str]:
    """Give a document's page texts: of text itself, of all else its number and digest."""
    if b"%PDF-" not in content[:1024]:
        try:
            return content.decode("utf-8").split("\f")
        except UnicodeDecodeError:
            pass
    count = max(1, len(PDF_PAGE.findall(content)))
    digest = hashlib.sha256(content).hexdigest()
    return [f"Page {number} of {digest}" for number in range(1, count + 1)]


def chosen_pages(count: int, target: str | None, most: int | None) -> list[int]:
    """Give the page numbers to parse; target pages go before a maximum."""
    if target:
        return sorted(number for number in numbers_of(target) if number <= count)
    return list(range(1, count + 1))[:most]


def numbers_of(target: str) -> list[int]:
    """Read `1,3,5-8`; raise ValueError for anything else, and for a page named twice."""
    numbers: list[int] = []
    for part in target.split(","):
        first, dash, last = part.strip().partition("-")
        start, stop = int(first), int(last if dash else first) + 1
        if stop - start > MOST_TARGET_PAGES:
            raise ValueError(target)
        numbers += range(start, stop)
    if not numbers or min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise ValueError(target)
    return numbers
