"""LiteParse alone in as many processes as are asked for: documents a second, time of each."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.children import open_child
from bench.stamps import stamped_copy

_READY_SECONDS = 60.0
_PARSE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Alone:
    """What LiteParse did by itself."""

    per_second: float
    median_seconds: float
    """Its own time for one document, beside the other processes."""


async def parse_alone(folder: Path, document: Path, stamp: str, count: int, many: int) -> Alone:
    """Parse `count` stamped copies in `many` processes, from a common start.

    The copies stay: ext4 makes new files slowly for minutes after many are removed.
    """
    copies = folder / f"copies-{stamp}"
    copies.mkdir()
    _write_copies(copies, document, stamp, count)
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(
                open_child(
                    "alone", "bench.lite_alone", str(copies), str(n), str(many), folder=folder
                )
            )
            for n in range(many)
        ]
        await asyncio.gather(*(child.answer(_READY_SECONDS) for child in children))
        started = time.perf_counter()
        for child in children:
            child.tell()
        shares = await asyncio.gather(*(child.answer(_PARSE_SECONDS) for child in children))
        seconds = time.perf_counter() - started
    return Alone(count / seconds, statistics.median(s for share in shares for s in share))


def _write_copies(folder: Path, document: Path, stamp: str, count: int) -> None:
    content = document.read_bytes()
    for number in range(count):
        (folder / f"{number:08d}.pdf").write_bytes(stamped_copy(content, stamp, number))
