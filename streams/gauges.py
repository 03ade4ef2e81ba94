"""Table-wide gauges: read from the tables every few seconds in one place, never by a scrape."""

import structlog

from schemas.job import State
from streams.metrics import (
    DEAD_LETTERS,
    JOBS,
    OLDEST_UNFINISHED,
    OUTBOX,
    OUTBOX_OLDEST,
    UNTIMED_JOBS,
    Recorder,
)
from streams.repeating import repeat
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)


class Gauges:
    """Shows what the tables hold."""

    def __init__(self, tables: Tables, recorder: Recorder, *, every_seconds: float = 5.0) -> None:
        self._tables = tables
        self._recorder = recorder
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Read until cancelled; trouble of the tables only delays."""
        await repeat(self.show, self._every_seconds, failed="gauges_not_read")

    async def show(self) -> None:
        """Read once and set every gauge."""
        await self._tables.read(self._read)

    async def _read(self, tx: Transaction) -> None:
        jobs = {row["state"]: row["jobs"] for row in await tx.all("jobs.counts")}
        for state in State:
            self._recorder.set(JOBS, jobs.get(state.value, 0), state=state.value)
        self._recorder.set(OLDEST_UNFINISHED, _age(await tx.one("jobs.oldest_unfinished"), tx))
        untimed = await tx.one("jobs.unfinished_without_timer")
        self._recorder.set(UNTIMED_JOBS, untimed["jobs"] if untimed else 0)
        outbox = await tx.one("outbox.depth")
        self._recorder.set(OUTBOX, outbox["events"] if outbox else 0)
        self._recorder.set(OUTBOX_OLDEST, _age(outbox, tx))
        for row in await tx.all("positions.letter_counts"):
            self._recorder.set(DEAD_LETTERS, row["letters"], processor=row["processor"])


def _age(row: Row | None, tx: Transaction) -> float:
    oldest_ms = row["created_ms"] if row else None
    return 0.0 if oldest_ms is None else max(0.0, (tx.now_ms - oldest_ms) / 1000)
