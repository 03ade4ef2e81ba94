"""What a million finished jobs cost: the same calls on a full table and on one of a thousand."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from bench.figures import BenchError, Figure, median_ratio
from bench.full_table import FIRST_MS, TENANT, fill, job_id
from bench.ground import Ground
from schemas.events import BlobRef, Event, ParseOptions, ParseStarted
from schemas.ids import uuid7
from schemas.timings import Timings
from streams.admission import Submission, Terms, admit
from streams.jobs import from_row
from streams.metrics import Recorder
from streams.outbox import put_events
from streams.sweeper import Sweeper
from streams.tables.base import Tables, Transaction
from streams.tables.sqlite import open_sqlite

SMALL, LARGE = 1_000, 1_000_000

_GOAL = 1.5
_CALLS = {"upload": 100, "claim": 50, "page": 100, "history": 100}
"""Half of what is uploaded is never claimed: the sweep has both kinds to judge."""
_SWEEPS = 10
_PAGE = 51
_BORN_MS = FIRST_MS + LARGE + 3_600_000
_TIMERS_PASS_MS = 2 * 3_600_000


class Subject:
    """One table, and the calls that are measured on it."""

    def __init__(self, jobs: int) -> None:
        self.now_ms = _BORN_MS
        self.tables: Tables
        self._jobs = jobs
        self._recorder = Recorder(CollectorRegistry())
        self._chance = random.Random(jobs)
        self._number = 0
        self._unclaimed: list[str] = []

    @asynccontextmanager
    async def opened(self, path: Path) -> AsyncIterator["Subject"]:
        """Make the table, fill it, and open it."""
        async with open_sqlite(path, self._recorder):
            pass
        await asyncio.to_thread(fill, path, self._jobs)
        async with open_sqlite(path, self._recorder, clock_ms=lambda: self.now_ms) as self.tables:
            yield self

    async def upload(self) -> None:
        """Admit a document."""
        self.now_ms += 1
        self._number += 1
        submission = self._submission()
        await self.tables.write(lambda tx: admit(tx, submission, Terms(Timings())))
        self._unclaimed.append(submission.job_id)

    async def claim(self) -> None:
        """Claim the document that was admitted last, as the reactor does."""
        claimed = self._unclaimed.pop()

        async def unit(tx: Transaction) -> int:
            changed = await tx.run(
                "attempts.claim",
                job_id=claimed,
                attempt=1,
                stage="parse",
                owner="bench",
                lease_ms=15_000,
            )
            body = ParseStarted(claimed, TENANT, 1, "bench")
            await put_events(tx, [Event(uuid7(), "/bench", datetime.now(UTC), body)])
            return changed

        if await self.tables.write(unit) != 1:
            raise BenchError(f"job {claimed} could not be claimed")

    async def page(self) -> None:
        """Read a page of jobs from somewhere in the list."""
        before = job_id(self._chance.randrange(_PAGE, self._jobs))
        rows = await self.tables.read(
            lambda tx: tx.all("jobs.page", tenant=TENANT, before=before, most=_PAGE)
        )
        if len([from_row(row) for row in rows]) != _PAGE:
            raise BenchError(f"a page has {len(rows)} jobs, and should have {_PAGE}")

    async def history(self) -> None:
        """Read the history of one job."""
        asked = job_id(self._chance.randrange(self._jobs))
        rows = await self.tables.read(lambda tx: tx.all("jobs.history", job_id=asked, most=1_001))
        if len(rows) != 4:
            raise BenchError(f"job {asked} has {len(rows)} lines of history, and should have 4")

    async def sweep(self) -> None:
        """Handle the timers of every unfinished job (all were left to come due)."""
        sweeper = Sweeper(self.tables, Timings(), self._recorder, every_seconds=1)
        if await sweeper.tick() == 0:
            raise BenchError("no timer was due")

    def _submission(self) -> Submission:
        new_id = uuid7(self.now_ms)
        return Submission(
            job_id=new_id,
            tenant=TENANT,
            source=BlobRef(f"{TENANT}/{new_id}/source", f"{self._number:064x}", 20_000),
            media_type="application/pdf",
            name="bench.pdf",
            options=ParseOptions(),
            force=False,
            traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        )


async def measure_growth(ground: Ground) -> list[Figure]:
    """Call the same on both tables in turn, so that both see the same disk and the same noise."""
    folder = ground.folder_of("growth")
    small, large = Subject(SMALL), Subject(LARGE)
    medians: dict[str, tuple[list[float], list[float]]] = {}
    started = time.perf_counter()
    async with small.opened(folder / "small.db"), large.opened(folder / "large.db"):
        size = (folder / "large.db").stat().st_size
        ground.say(
            f"{LARGE:,} jobs, their attempts and {4 * LARGE:,} lines of history: "
            f"{size / 1e9:.2f} GB in {time.perf_counter() - started:.0f} s"
        )
        for _ in range(ground.repeat):
            for name, few, many in await _repetition(small, large):
                fews, manies = medians.setdefault(name, ([], []))
                fews.append(few)
                manies.append(many)
    return [figure for name, (f, m) in medians.items() for figure in _figures(name, f, m)]


async def _repetition(small: Subject, large: Subject) -> list[tuple[str, float, float]]:
    found = []
    for name, calls in _CALLS.items():
        found.append((name, *await _alternate(small, large, name, calls)))
    sweeps = []
    for _ in range(_SWEEPS):
        for subject in (small, large):
            subject.now_ms += _TIMERS_PASS_MS
        sweeps.append(await _alternate(small, large, "sweep", 1))
    few, many = (statistics.median(side) for side in zip(*sweeps, strict=True))
    return [*found, ("sweep", few, many)]


async def _alternate(small: Subject, large: Subject, name: str, calls: int) -> tuple[float, float]:
    few, many = [], []
    for _ in range(calls):
        few.append(await _timed(getattr(small, name)))
        many.append(await _timed(getattr(large, name)))
    return statistics.median(few), statistics.median(many)


async def _timed(call: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def _figures(name: str, few: list[float], many: list[float]) -> list[Figure]:
    return [
        Figure(f"{name}: with {SMALL:,} finished jobs", statistics.median(few) * 1e3, "ms"),
        Figure(f"{name}: with {LARGE:,} finished jobs", statistics.median(many) * 1e3, "ms"),
        Figure(f"{name}: {LARGE:,} / {SMALL:,}", median_ratio(many, few), "ratio", at_most=_GOAL),
    ]
