"""Page ranges: which pages of a document somebody wants, from 1, written as in `1,3-5`."""

import re
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]
"""First and last page of each range, in order, with a gap between each two."""

_PART = re.compile(r"([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?", re.ASCII)


def read_ranges(text: str) -> Ranges:
    """Read ranges, in whatever order and however they overlap; raise ValueError with what is wrong.

    Numbers have six digits at most.
    """
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()[:20]!r} is neither a page from 1 nor a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {first}-{last} runs backwards")
        found.append((first, last))
    return _joined(found)


def write_ranges(ranges: Ranges) -> str:
    """Write ranges in the one form that makes equal choices equal."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def count_pages(ranges: Ranges) -> int:
    """Count the pages, each once."""
    return sum(last - first + 1 for first, last in ranges)


def first_pages(ranges: Ranges, most: int) -> Ranges:
    """Give the first of the pages, so many at most."""
    taken: list[tuple[int, int]] = []
    for first, last in ranges:
        if most > 0:
            taken.append((first, min(last, first + most - 1)))
            most -= last - first + 1
    return tuple(taken)


def split_ranges(ranges: Ranges, pages: int) -> tuple[Ranges, Ranges]:
    """Give what lies within a document of so many pages, and what lies beyond."""
    within = [(first, min(last, pages)) for first, last in ranges if first <= pages]
    beyond = [(max(first, pages + 1), last) for first, last in ranges if last > pages]
    return tuple(within), tuple(beyond)


def _joined(parts: Iterable[tuple[int, int]]) -> Ranges:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)
