"""A Faust agent with the same moves: decode, guard, write its table; a process of its own.

It has less to do than our fold: no inbox, no history, no timers, no outbox, no fsync, and a job
that it does not know is made in memory. What it keeps, it keeps in memory and in its changelog.

    python -m bench.faust_fold SERVERS TOPIC PARTITIONS EVENTS FOLDER
"""

import asyncio
import os
import sys
import time
import uuid
from typing import Any, TextIO

import faust
import msgspec
import uvloop

from schemas import codec
from schemas.events import BlobRef, ParseOptions
from schemas.job import Job, Moved, State, move
from schemas.timings import Clock, Timings
from services.process import collect_seldom


class Fold:
    """Applies events to a table of jobs, and tells when it has seen them all."""

    def __init__(self, table: Any, events: int, outlet: TextIO) -> None:
        self._table = table
        self._outlet = outlet
        self._events = events
        self._seen = 0
        self._complete = 0
        self._began = 0.0

    def apply(self, event: Any) -> None:
        """Decode one record, move its job, and write it back."""
        self._began = self._began or time.perf_counter()
        headers = event.message.headers
        said = codec.decode(event.value, headers.items() if isinstance(headers, dict) else headers)
        body: Any = said.body
        held = self._table.get(event.key)
        job = _new(body) if held is None else msgspec.json.decode(held, type=Job)
        outcome = move(job, body, Clock(int(time.time() * 1000), lambda: 0.5, Timings()))
        if isinstance(outcome, Moved):
            self._table[event.key] = msgspec.json.encode(outcome.job)
            self._complete += outcome.job.state is State.COMPLETE
        self._seen += 1
        if self._seen == self._events:
            self._report()

    def _report(self) -> None:
        seconds = time.perf_counter() - self._began
        self._outlet.write(f'{{"seconds": {seconds}, "complete": {self._complete}}}\n')
        self._outlet.flush()


def _new(body: Any) -> Job:
    return Job(
        id=body.job_id,
        tenant=body.tenant,
        document_id=body.job_id,
        options=ParseOptions(),
        generation=1,
        state=State.UPLOADED,
        attempt=1,
        tries=0,
        losses=0,
        name="bench.pdf",
        media_type="application/pdf",
        source=BlobRef(f"{body.tenant}/{body.job_id}/source", "0" * 64, 20_000),
        created_ms=0,
        updated_ms=0,
    )


def _take_stdout() -> TextIO:
    """Keep the pipe for the answer alone: Faust prints its banner, which goes to stderr."""
    outlet = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return outlet


def main() -> None:
    """Run the agent until the process is ended from outside."""
    servers, topic_name, partitions, events, folder = sys.argv[1:]
    outlet = _take_stdout()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    name = f"bench-faust-{uuid.uuid4().hex[:8]}"
    app = faust.App(
        name,
        broker=f"kafka://{servers}",
        store="memory://",
        topic_partitions=int(partitions),
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=name,
        web_enabled=False,
        datadir=folder,
    )
    topic = app.topic(topic_name, value_serializer="raw", key_serializer="raw")
    table = app.Table("jobs", key_type=bytes, value_type=bytes, partitions=int(partitions))
    fold = Fold(table, int(events), outlet)

    async def job_state(stream: Any) -> None:
        async for event in stream.events():
            fold.apply(event)

    app.agent(topic, concurrency=1)(job_state)
    collect_seldom()
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main()
