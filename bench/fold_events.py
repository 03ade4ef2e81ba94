"""The fold's input: uploaded jobs in a table, and the events of their parse in a topic."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry

from bench.figures import BenchError
from schemas import codec
from schemas.events import BlobRef, Body, Event, ParseOptions, ParseStarted, ParseSucceeded
from schemas.ids import uuid7
from schemas.timings import Timings
from schemas.topics import JOBS_EVENTS
from streams.admission import Submission, Terms, admit
from streams.bus.base import Outgoing, Partition, Record
from streams.bus.kafka import KafkaBus
from streams.metrics import Recorder
from streams.outbox import put_events
from streams.tables.base import OutboxRow, Tables, Transaction
from streams.tables.sqlite import open_sqlite

JOBS = 12_000
EVENTS = 2 * JOBS
TENANT = "bench"

_UNIT = 1_000
_SLOTS = 8
"""A job's end follows its start after so many other events, as with that many slots."""
_READ_SECONDS = 60.0
_TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@dataclass(frozen=True, slots=True)
class Input:
    """What each run of a fold begins with."""

    tables: Path
    """A closed database with JOBS uploaded jobs, to be copied."""
    bus: KafkaBus
    prefix: str


async def prepare(folder: Path, servers: str) -> Input:
    """Admit the jobs, and write the events of their parse to a topic of their own."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    bus = KafkaBus(servers, topic_prefix=prefix, client_id="bench")
    await bus.ensure_topics([JOBS_EVENTS])
    path = folder / "uploaded.db"
    async with open_sqlite(path, Recorder(CollectorRegistry())) as tables:
        jobs = await _admit_jobs(tables)
        events = _interleaved(jobs)
        # The outbox holds them until the fold has seen them, as it does for a worker's own.
        for start in range(0, EVENTS, _UNIT):
            await _put(tables, events[start : start + _UNIT])
    await _produce(bus, events)
    return Input(path, bus, prefix)


async def read_records(bus: KafkaBus) -> list[Record]:
    """Read the whole topic into memory, in the order in which a consumer gets it."""
    records: list[Record] = []

    async def from_the_start(assigned: frozenset[Partition]) -> None:
        for partition in assigned:
            await consumer.seek_to_start(partition)

    async def nothing(_revoked: frozenset[Partition]) -> None:
        return

    opened = bus.open_consumer(
        f"reader-{uuid.uuid4().hex}", [JOBS_EVENTS], on_assigned=from_the_start, on_revoked=nothing
    )
    async with asyncio.timeout(_READ_SECONDS), opened as consumer:
        while len(records) < EVENTS:
            batch = await consumer.fetch(max_records=2_000, timeout_seconds=1)
            records += [record for part in batch.values() for record in part]
    if len(records) != EVENTS:
        raise BenchError(f"{len(records)} records in the topic, {EVENTS} were written")
    return records


async def _admit_jobs(tables: Tables) -> list[Submission]:
    offered: list[OutboxRow] = []
    tables.on_commit(offered.extend)
    jobs = [_submission(number) for number in range(JOBS)]

    async def unit(tx: Transaction, part: Sequence[Submission]) -> None:
        for job in part:
            await admit(tx, job, Terms(Timings()))

    for start in range(0, JOBS, _UNIT):
        part = jobs[start : start + _UNIT]
        await tables.write(lambda tx, part=part: unit(tx, part))  # type: ignore[misc]  # bound now
    ids = orjson.dumps([row.event_id for row in offered]).decode()
    await tables.write(lambda tx: tx.run("outbox.remove_sent", ids=ids))
    return jobs


async def _put(tables: Tables, events: Sequence[Event]) -> None:
    await tables.write(lambda tx: put_events(tx, events))


def _submission(number: int) -> Submission:
    job_id = uuid7()
    return Submission(
        job_id=job_id,
        tenant=TENANT,
        source=BlobRef(f"{TENANT}/{job_id}/source", f"{number:064x}", 20_000),
        media_type="application/pdf",
        name=f"{number}.pdf",
        options=ParseOptions(),
        force=False,
        traceparent=_TRACE,
    )


def _interleaved(jobs: Sequence[Submission]) -> list[Event]:
    events: list[Event] = []
    for number in range(JOBS + _SLOTS):
        if number < JOBS:
            events.append(_event(_started(jobs[number])))
        if number >= _SLOTS:
            events.append(_event(_succeeded(jobs[number - _SLOTS])))
    return events


def _started(job: Submission) -> ParseStarted:
    return ParseStarted(job.job_id, TENANT, 1, "worker-bench-1")


def _succeeded(job: Submission) -> ParseSucceeded:
    result = BlobRef(f"{TENANT}/{job.job_id}/1/result", job.source.sha256, 9_000)
    return ParseSucceeded(job.job_id, TENANT, 1, result, "liteparse", "2.18.0", 1)


def _event(body: Body) -> Event:
    return Event(uuid7(), "/parsewire/parse/worker-bench-1", datetime.now(UTC), body, _TRACE)


async def _produce(bus: KafkaBus, events: Sequence[Event]) -> None:
    async with bus.open_producer() as producer:
        for start in range(0, len(events), _UNIT):
            part = events[start : start + _UNIT]
            await asyncio.gather(*(producer.send(_outgoing(event)) for event in part))


def _outgoing(event: Event) -> Outgoing:
    value, headers = codec.encode(event)
    job_id: str = event.body.job_id  # type: ignore[union-attr]  # only events of jobs are made here
    return Outgoing(JOBS_EVENTS.name, job_id.encode(), value, headers)
