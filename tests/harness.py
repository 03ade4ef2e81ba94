"""A bench for processors: tables in a folder, a clock that is set by hand, jobs put in."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from schemas import codec
from schemas.events import BlobRef, Body, CostInput, Event, ParseOptions, ParseQueued
from schemas.ids import uuid7
from schemas.job import Job
from schemas.timings import Timings
from schemas.topics import JOBS_EVENTS, topic_of
from streams.admission import Admitted, Submission, Terms, admit
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.jobs import from_row
from streams.metrics import Recorder
from streams.tables.base import OutboxRow, Row, Tables, Transaction
from streams.tables.sqlite import open_sqlite
from tests.memory_tables import empty_tables, open_memory_tables

NOW = 1_800_000_000_000
TIMINGS = Timings(offer_again_ms=30_000, lease_ms=15_000)


class FakeClock:
    """Milliseconds that pass when told to."""

    def __init__(self, now_ms: int = NOW) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def seconds(self) -> float:
        """Give the same time in seconds, for what measures in them."""
        return self.now_ms / 1000

    def pass_ms(self, milliseconds: int) -> None:
        """Let time pass."""
        self.now_ms += milliseconds


class Desk:
    """Tables with what they announced, and short ways to look into them."""

    def __init__(self, tables: Tables, clock: FakeClock, recorder: Recorder) -> None:
        self.tables = tables
        self.clock = clock
        self.recorder = recorder
        self.announced: list[OutboxRow] = []
        self.costs: list[Event] = []
        """What was said of money; `said` puts it here."""
        tables.on_commit(self.announced.extend)

    def said(self) -> list[Event]:
        """Give every event announced so far, decoded, and forget them; those of money apart."""
        rows, self.announced[:] = list(self.announced), []
        events = [decode_row(row) for row in rows]
        self.costs += [event for event in events if isinstance(event.body, CostInput)]
        return [event for event in events if not isinstance(event.body, CostInput)]

    async def upload(self, number: int = 1, **changes: Any) -> Admitted:
        """Admit a document that differs by its number."""
        submission = submission_of(number, **changes)
        return await self.tables.write(lambda tx: admit(tx, submission, Terms(TIMINGS)))

    async def job(self, job_id: str) -> Job:
        """Give a job."""
        row = await self.tables.read(lambda tx: tx.one("jobs.by_id", id=job_id))
        assert row is not None
        return from_row(row)

    async def rows(self, query: str, **values: Any) -> list[Row]:
        """Run a query."""
        return await self.tables.read(lambda tx: tx.all(query, **values))

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement that no query has, and give its rows."""

        async def unit(tx: Transaction) -> list[Any]:
            found: list[Any] = tx._connection.execute(statement, values).fetchall()  # type: ignore[attr-defined]  # SQLite's own
            return found

        return await self.tables.write(unit)

    async def history(self, job_id: str) -> list[tuple[str, str | None, str | None]]:
        """Give (type, from, to) of a job's history."""
        rows = await self.rows("jobs.history", job_id=job_id, most=100)
        return [(row["type"], row["from_state"], row["to_state"]) for row in rows]

    async def untimed(self) -> int:
        """Count the unfinished jobs without a step timer."""
        (row,) = await self.rows("jobs.unfinished_without_timer")
        return int(row["jobs"])


def lay_tables(folder: Path) -> Path:
    """Give the file of the folder's tables, made where there is none.

    To make them anew takes longer than most of the tests that need some.
    """
    path = folder / "tables.db"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(empty_tables())
    return path


@asynccontextmanager
async def open_desk(folder: Path) -> AsyncIterator[Desk]:
    """Open tables in a folder under a clock that stands still."""
    clock = FakeClock()
    recorder = Recorder(CollectorRegistry())
    async with open_sqlite(lay_tables(folder), recorder, clock_ms=clock) as tables:
        yield Desk(tables, clock, recorder)


@asynccontextmanager
async def open_memory_desk() -> AsyncIterator[Desk]:
    """Open tables in memory, which costs a tenth, under a clock that stands still."""
    clock = FakeClock()
    recorder = Recorder(CollectorRegistry())
    with open_memory_tables(recorder, clock) as tables:
        yield Desk(tables, clock, recorder)


def submission_of(number: int = 1, **changes: Any) -> Submission:
    """Make a submission of the document with this number."""
    job_id = uuid7()
    values: dict[str, Any] = {
        "job_id": job_id,
        "tenant": "acme",
        "source": BlobRef(f"acme/{job_id}/source", f"{number:064x}", 10),
        "media_type": "application/pdf",
        "name": f"{number}.pdf",
        "options": ParseOptions(),
        "force": False,
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    return Submission(**(values | changes))


def event_of(body: Body, event_id: str | None = None) -> Event:
    """Put a body in an envelope."""
    return Event(event_id or uuid7(), "/test", datetime(2027, 1, 15, 8, tzinfo=UTC), body)


def record_of(event: Event, topic: str, offset: int = 0, partition: int = 0) -> Record:
    """Make the record that carries an event."""
    value, headers = codec.encode(event)
    key = getattr(event.body, "job_id", "k").encode()
    return Record(Partition(topic, partition), offset, key, value, headers, NOW)


def decode_row(row: OutboxRow) -> Event:
    """Read an event back from its outbox row."""
    return codec.decode(row.value, header_pairs(row))


def header_pairs(row: OutboxRow) -> list[tuple[str, bytes]]:
    """Give an outbox row's headers as a record has them."""
    return [(name, text.encode()) for name, text in orjson.loads(row.headers)]


async def fold_events(desk: Desk, *bodies: Body) -> None:
    """Give the job_state fold these events, after those that it was given before."""
    await fold_whole(desk, [event_of(body) for body in bodies])


async def fold_said(desk: Desk) -> list[Body]:
    """Give the fold what was said to it since the last time, and tell all that was said."""
    said = desk.said()
    await fold_whole(desk, [event for event in said if topic_of(event.body) is JOBS_EVENTS])
    return [event.body for event in said]


async def fold_whole(desk: Desk, events: Sequence[Event]) -> None:
    """Give the fold these events, their ids as they are."""
    limit = DeadLetterLimit("job_state", "1", desk.tables, desk.recorder)
    fold = JobState(TIMINGS, chance=lambda: 0.5)
    ground = FoldGround(fold, desk.tables, "harness", limit, desk.recorder)
    partition = Partition(JOBS_EVENTS.name, 0)
    stored = await ground.positions(frozenset({partition}))
    first = stored[partition] or 0
    records = [record_of(event, partition.topic, first + n) for n, event in enumerate(events)]
    await ground.handle({partition: records})


async def claim(desk: Desk, job: Job, *, intends: str | None = None) -> None:
    """Claim the attempt for a worker, with its intent to spend where a parser is named."""
    mine = {"job_id": job.id, "attempt": job.attempt, "stage": "parse", "owner": "w"}

    async def unit(tx: Transaction) -> None:
        assert await tx.run("attempts.claim", lease_ms=TIMINGS.lease_ms, **mine) == 1
        if intends is not None:
            wanted = {"parser": intends, "lease_ms": TIMINGS.lease_ms, **mine}
            assert await tx.run("attempts.intend", **wanted) == 1

    await desk.tables.write(unit)


async def queue(desk: Desk, vendor_job_id: str = "v1", number: int = 1) -> Job:
    """Put in a job that is at LlamaParse under this id."""
    job = (await desk.upload(number)).job
    await fold_events(desk, ParseQueued(job.id, job.tenant, 1, "llamaparse", vendor_job_id))
    desk.said()
    return await desk.job(job.id)
