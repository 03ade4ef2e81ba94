"""Reading topics as any consumer does: from their start or their end, over a broker's restarts."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from schemas.errors import Code, TransientError
from schemas.topics import Topic
from streams.backoff import Backoff
from streams.bus.base import Bus, Consumer, Partition, Record, StaleLogError

_FETCH_SECONDS = 0.1
_FETCH_RECORDS = 500
_LOOK_SECONDS = 3.0
"""How often the cluster is asked who it is: one that forgot all gives no error."""

FindBus = Callable[[], Bus]
"""Tells where the broker is; asked anew after each outage, since it may have moved."""


class Reading:
    """Reads topics in a consumer group of its own, and hands each record to `take`.

    A partition goes on where it was read to; on another cluster it begins at its start. Records
    may come twice. `trouble` is told of outages.
    """

    def __init__(
        self,
        find_bus: FindBus,
        topics: Sequence[Topic],
        take: Callable[[Record], None],
        *,
        from_start: bool,
        trouble: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._find_bus = find_bus
        self._topics = topics
        self._take = take
        self._from_start = from_start
        self._trouble = trouble
        self._group = f"tail-{uuid.uuid4().hex[:12]}"
        self._cluster_id: str | None = None
        self._positions: dict[Partition, int] = {}
        self.ready = asyncio.Event()
        """Set once nothing that is written from now on can be missed."""

    async def run(self) -> None:
        """Read until cancelled; raise TransientError only before it was ready."""
        backoff = Backoff(0.2, 5.0)
        while True:
            try:
                await self._read(self._find_bus(), backoff)
            except TransientError as error:
                if not self.ready.is_set():
                    raise
                if not backoff.failures:
                    self._trouble(f"{error.message}: trying again until it is back")
            await backoff.wait()

    async def _read(self, bus: Bus, backoff: Backoff) -> None:
        """Read from one cluster until another one is in its place."""
        cluster_id = await bus.cluster_id()
        await self._check_topics(bus)
        if self._cluster_id not in (None, cluster_id):
            self._trouble("another cluster is there: its topics are read from their start")
            self._positions.clear()
            self._from_start = True
        self._cluster_id = cluster_id

        async def begin(partitions: frozenset[Partition]) -> None:
            for partition in partitions:
                await self._seek(consumer, partition)
            self.ready.set()
            if backoff.failures:
                self._trouble("the broker is there: reading on")
            backoff.succeeded()

        async with bus.open_consumer(
            self._group, self._topics, on_assigned=begin, on_revoked=_nothing
        ) as consumer:
            if self._from_start:
                self.ready.set()
            loop = asyncio.get_running_loop()
            look_at = loop.time() + _LOOK_SECONDS
            while True:
                await self._fetch(consumer)
                if loop.time() >= look_at:
                    if await bus.cluster_id() != cluster_id:
                        return
                    look_at = loop.time() + _LOOK_SECONDS

    async def _check_topics(self, bus: Bus) -> None:
        there = await bus.partition_counts(self._topics)
        missing = [topic.name for topic in self._topics if topic.name not in there]
        if missing:
            raise TransientError(
                Code.BUS_UNAVAILABLE,
                f"the broker has no topic {', '.join(missing)} under this prefix "
                "(PARSEWIRE_TOPIC_PREFIX); a worker makes it at its start",
            )

    async def _seek(self, consumer: Consumer, partition: Partition) -> None:
        position = self._positions.get(partition)
        if position is not None:
            try:
                await consumer.seek(partition, position)
            except StaleLogError:
                await consumer.seek_to_start(partition)
        elif not self._from_start:
            self._positions[partition] = await consumer.seek_to_end(partition)

    async def _fetch(self, consumer: Consumer) -> None:
        batch = await consumer.fetch(max_records=_FETCH_RECORDS, timeout_seconds=_FETCH_SECONDS)
        for partition, records in batch.items():
            for record in records:
                self._take(record)
                self._positions[partition] = record.offset + 1


@asynccontextmanager
async def open_reading(reading: Reading) -> AsyncIterator[None]:
    """Read beside the block, which begins once the reading is ready; raise what it raises."""
    running = asyncio.create_task(reading.run())
    ready = asyncio.create_task(reading.ready.wait())
    try:
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            yield
    finally:
        for task in (running, ready):
            task.cancel()
        await asyncio.wait({running, ready})
    if not running.cancelled():
        await running


async def _nothing(_partitions: frozenset[Partition]) -> None:
    """Keep nothing that would have to be given back."""
