"""The job_state fold: on real Kafka, fed from memory, and against a Faust agent.

They run in turn, one at a time: each of Faust's runs stands between two of ours and is compared
with their mean, since the machine's speed changes within seconds.
"""

import asyncio
import shutil
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from prometheus_client import CollectorRegistry

from bench.children import open_child
from bench.figures import BenchError, Figure, median_ratio
from bench.fold_events import EVENTS, JOBS, Input, prepare, read_records
from bench.ground import Ground
from schemas.timings import Timings
from schemas.topics import JOBS_EVENTS, Topic
from services.process import collect_seldom
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.metrics import Recorder
from streams.processor import Batch
from streams.runner import Runner
from streams.tables.sqlite import SqliteTables, open_sqlite
from streams.watchdog import Progress

_ROUNDS = 2
"""Runs of Faust a repetition: one of ours is over in a third of its time."""
_RUN_SECONDS = 60.0
_FAUST_SECONDS = 90.0


async def measure_fold(ground: Ground) -> list[Figure]:
    """Run the three folds in turn on the same events, again and again."""
    folder = ground.folder_of("fold")
    given = await prepare(folder, ground.servers)
    records = await read_records(given.bus)
    # As a worker does, and Faust's process here too: what the bench holds is not theirs to search.
    collect_seldom()
    kafka, memory, faust = [await _from_kafka(folder, given)], [], []
    for number in range(1, ground.repeat * _ROUNDS + 1):
        faust.append(await _faust(folder, ground.servers, given.prefix))
        kafka.append(await _from_kafka(folder, given))
        memory.append(await _from_memory(folder, given, records))
        ground.say(
            f"fold {number}: Faust {faust[-1]:,.0f}/s between Kafka {kafka[-2]:,.0f} and "
            f"{kafka[-1]:,.0f}/s, memory {memory[-1]:,.0f}/s"
        )
    around = [statistics.mean(pair) for pair in pairwise(kafka)]
    return [
        Figure("job_state fold on Kafka", statistics.median(kafka), "events/s"),
        Figure("job_state fold fed from memory", statistics.median(memory), "events/s"),
        Figure("Faust agent, the moves alone", statistics.median(faust), "events/s"),
        Figure("fold: Kafka / Faust agent", median_ratio(around, faust), "ratio", at_least=3),
        Figure("fold: Kafka / its own SQL", median_ratio(kafka[1:], memory), "ratio", at_least=0.6),
    ]


class TimedGround:
    """A fold's ground that notes when its first batch began and when the last event was in."""

    def __init__(self, ground: FoldGround) -> None:
        self.name = ground.name
        self.topics: tuple[Topic, ...] = ground.topics
        self.done = asyncio.Event()
        self._ground = ground
        self._began = 0.0
        self._ended = 0.0
        self._handled = 0

    def per_second(self) -> float:
        """Tell the events per second."""
        return self._handled / (self._ended - self._began)

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Read the stored positions."""
        return await self._ground.positions(assigned)

    def room(self) -> int:
        """Tell how many records may be fetched now."""
        return self._ground.room()

    async def wait_for_room(self) -> None:
        """Return once there is room."""
        await self._ground.wait_for_room()

    async def handle(self, batch: Batch) -> None:
        """Apply a batch, and note the time."""
        self._began = self._began or time.perf_counter()
        await self._ground.handle(batch)
        self._ended = time.perf_counter()
        self._handled += sum(map(len, batch.values()))
        if self._handled >= EVENTS:
            self.done.set()

    async def drain(self, seconds: float) -> None:
        """Finish what is held."""
        await self._ground.drain(seconds)


async def _from_memory(folder: Path, given: Input, records: Sequence[Record]) -> float:
    async with _open_fold(folder, given) as (timed, _, _limit):
        await timed.positions(frozenset(record.partition for record in records))
        for batch in _batches(records, timed):
            await timed.handle(batch)
        return timed.per_second()


def _batches(records: Sequence[Record], ground: TimedGround) -> Iterator[Batch]:
    start = 0
    while start < len(records):
        batch: dict[Partition, list[Record]] = {}
        for record in records[start : start + ground.room()]:
            batch.setdefault(record.partition, []).append(record)
            start += 1
        yield batch


async def _from_kafka(folder: Path, given: Input) -> float:
    async with _open_fold(folder, given) as (timed, recorder, limit):
        progress = Progress(timed.name, recorder, stall_seconds=_RUN_SECONDS)
        runner = Runner(timed, given.bus, limit, progress, recorder, drain_seconds=5)
        running = asyncio.create_task(runner.run())
        waiting = asyncio.create_task(timed.done.wait())
        try:
            await asyncio.wait(
                {running, waiting}, timeout=_RUN_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
            runner.stop()
            await asyncio.wait_for(running, 15)
        if not timed.done.is_set():
            raise BenchError(f"the fold did not take {EVENTS} events in {_RUN_SECONDS:g} s")
        return timed.per_second()


@asynccontextmanager
async def _open_fold(
    folder: Path, given: Input
) -> AsyncIterator[tuple[TimedGround, Recorder, DeadLetterLimit]]:
    """Open the fold on a fresh copy of the tables; check at the end that every job is complete."""
    path = folder / f"{uuid.uuid4().hex}.db"
    shutil.copyfile(given.tables, path)
    recorder = Recorder(CollectorRegistry())
    async with open_sqlite(path, recorder) as tables:
        limit = DeadLetterLimit("job_state", "bench", tables, recorder)
        fold = FoldGround(JobState(Timings()), tables, "bench", limit, recorder)
        yield TimedGround(fold), recorder, limit
        await _check(tables)
    path.unlink()


async def _check(tables: SqliteTables) -> None:
    rows = await tables.read(lambda tx: tx.all("jobs.counts"))
    counts = {row["state"]: row["jobs"] for row in rows if row["jobs"]}
    if counts != {"complete": JOBS}:
        raise BenchError(f"{JOBS} jobs should be complete, and the table counts {counts}")


async def _faust(folder: Path, servers: str, prefix: str) -> float:
    opened = open_child(
        "faust",
        "bench.faust_fold",
        servers,
        prefix + JOBS_EVENTS.name,
        str(JOBS_EVENTS.partitions),
        str(EVENTS),
        str(folder / f"faust-{uuid.uuid4().hex[:8]}"),
        folder=folder,
    )
    async with opened as child:
        answer = await child.answer(_FAUST_SECONDS)
    if answer["complete"] != JOBS:
        raise BenchError(f"Faust's table has {answer['complete']} complete jobs of {JOBS}")
    return EVENTS / float(answer["seconds"])
