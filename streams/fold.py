"""The ground of a fold: batches, positions and effects in one transaction."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import orjson
import structlog

from schemas import codec
from schemas.errors import Code, TransientError
from schemas.events import Event
from schemas.topics import Topic
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit, bury
from streams.metrics import BATCH_SECONDS, PROCESSED, Recorder
from streams.processor import Batch, Fold, PositionLostError, ProcessorStoppedError
from streams.tables.base import Row, Tables, Transaction

log = structlog.get_logger(__name__)

_TRANSACTION_SECONDS = 0.015
"""Others wait while a batch holds the tables."""

_SMALLEST, _LARGEST = 32, 2_000

_AT_ONCE = 4
"""Transactions that one fetch is for: while one commits, the records of the next are decoded."""

_NOT_THE_RECORDS_FAULT = (TransientError, PositionLostError, ProcessorStoppedError)


class _Part:
    """The records of one transaction, and their events once they are decoded.

    They were chosen by the positions of one reading of them, and count for no other.
    """

    def __init__(self, batch: Batch, reading: int) -> None:
        self.batch = batch
        self.reading = reading
        self.records = sum(map(len, batch.values()))
        self.events: list[Event] = []
        self.undecodable: list[tuple[Record, str]] = []
        self._decoded = False

    def decode(self) -> None:
        """Decode the records, once."""
        if self._decoded:
            return
        events: list[Event] = []
        undecodable: list[tuple[Record, str]] = []
        for records in self.batch.values():
            for record in records:
                try:
                    events.append(codec.decode(record.value, record.headers))
                except codec.CodecError as error:
                    undecodable.append((record, error.message))
        self.events, self.undecodable, self._decoded = events, undecodable, True


class FoldGround:
    """Runs a fold so that each record takes effect once, whoever dies and whoever doubles."""

    def __init__(
        self,
        fold: Fold,
        tables: Tables,
        cluster_id: str,
        limit: DeadLetterLimit,
        recorder: Recorder,
    ) -> None:
        self.name = fold.name
        self.topics: tuple[Topic, ...] = fold.topics
        self._fold = fold
        self._tables = tables
        self._cluster_id = cluster_id
        self._limit = limit
        self._recorder = recorder
        self._known: dict[Partition, int | None] = {}
        self._readings = 0
        self._size = 256

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Read the stored positions; what is not stored begins at the log's start."""
        rows = await self._tables.read(
            lambda tx: tx.all(
                "positions.stored", cluster_id=self._cluster_id, consumer_group=self.name
            )
        )
        stored = {_partition(row): row["next_offset"] for row in rows}
        self._readings += 1
        self._known = {partition: stored.get(partition) for partition in assigned}
        return dict(self._known)

    def room(self) -> int:
        """Fetch as many as a few transactions of 15 ms take."""
        return self._size * _AT_ONCE

    async def wait_for_room(self) -> None:
        """Return at once: a fold holds nothing between batches."""

    async def drain(self, seconds: float) -> None:
        """Return at once: a fold holds nothing between batches."""

    async def handle(self, batch: Batch) -> None:
        """Apply the batch; what fails is applied record by record, and what fails alone buried."""
        reading = self._readings
        parts = [_Part(part, reading) for part in _parts(self._fresh(batch), self._size)]
        for part, following in zip_longest(parts, parts[1:]):
            await self._handle(part, following)

    def _fresh(self, batch: Batch) -> Batch:
        """Leave out what is behind the position: applied, and handed out again.

        So it is after a transaction whose answer was lost.
        """
        fresh = {}
        for partition, records in batch.items():
            position = self._known.get(partition) or 0
            fresh[partition] = [record for record in records if record.offset >= position]
        return fresh

    async def _handle(self, part: _Part, following: _Part | None) -> None:
        try:
            await self._apply(part, following)
        except _NOT_THE_RECORDS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - found and buried record by record
            log.warning("batch_failed", processor=self.name, error=repr(error))
            await self._apply_one_by_one(part)

    async def _apply(self, part: _Part, following: _Part | None = None) -> None:
        expected = self._expected(part)
        part.decode()
        if len(part.undecodable) > 1:
            # One by one, so that the limit holds within a batch too.
            raise codec.CodecError(f"{len(part.undecodable)} records of the batch are no events")
        if part.undecodable:
            await self._limit.stop_at_limit()
        loop, began = asyncio.get_running_loop(), 0.0

        async def unit(tx: Transaction) -> None:
            nonlocal began
            began = time.perf_counter()
            await self._advance(tx, part.batch, expected)
            await self._fold.apply(tx, part.events)
            for record, reason in part.undecodable:
                await self._keep(tx, record, reason)
            if following is not None:
                # Not before: the two would take Python's lock from each other at every statement.
                loop.call_soon_threadsafe(following.decode)

        await self._tables.write(unit)
        self._adapt(time.perf_counter() - began, part.records)
        self._moved(part.batch)
        self._limit.note(dead=False, records=len(part.events))
        self._limit.note(dead=True, records=len(part.undecodable))
        self._recorder.add(PROCESSED, len(part.events), processor=self.name, outcome="applied")

    async def _apply_one_by_one(self, part: _Part) -> None:
        for partition, records in part.batch.items():
            for record in records:
                single = _Part({partition: [record]}, part.reading)
                try:
                    await self._apply(single)
                except _NOT_THE_RECORDS_FAULT:
                    raise
                except Exception as error:  # noqa: BLE001 - kept as a dead letter with its reason
                    await self._bury(single, record, repr(error))

    async def _bury(self, single: _Part, record: Record, reason: str) -> None:
        await self._limit.stop_at_limit()
        expected = self._expected(single)

        async def unit(tx: Transaction) -> None:
            await self._advance(tx, single.batch, expected)
            await self._keep(tx, record, reason)

        await self._tables.write(unit)
        self._moved(single.batch)
        self._limit.note(dead=True)

    async def _keep(self, tx: Transaction, record: Record, reason: str) -> None:
        """Keep a dead letter; its event was seen, else the relay sends it again for ever."""
        await bury(tx, self.name, self._cluster_id, record, Code.POISON_EVENT, reason)
        ids = [
            raw.decode(errors="replace") for name, raw in record.headers if name == "ce_id" and raw
        ]
        await tx.run("outbox.remove_seen", ids=orjson.dumps(ids).decode())

    def _expected(self, part: _Part) -> dict[Partition, int | None]:
        """Take the positions as they are now: a rebalance may replace them while a write waits."""
        if self._readings != part.reading:
            raise PositionLostError("positions were read again: what is left is fetched anew")
        try:
            return {partition: self._known[partition] for partition in part.batch}
        except KeyError as error:
            raise PositionLostError(f"{error.args[0]} is another worker's by now") from None

    async def _advance(
        self, tx: Transaction, batch: Batch, expected: Mapping[Partition, int | None]
    ) -> None:
        for partition, records in batch.items():
            before = expected[partition]
            changed = await tx.run(
                "positions.begin" if before is None else "positions.advance",
                cluster_id=self._cluster_id,
                consumer_group=self.name,
                topic=partition.topic,
                partition=partition.number,
                expected=before,
                next_offset=records[-1].offset + 1,
            )
            if changed != 1:
                raise PositionLostError(f"{partition} is not at {before} any more")

    def _moved(self, batch: Batch) -> None:
        for partition, records in batch.items():
            self._known[partition] = records[-1].offset + 1

    def _adapt(self, seconds: float, records: int) -> None:
        self._recorder.observe(BATCH_SECONDS, seconds, processor=self.name)
        if records * 2 > self._size and seconds > 0:
            fitting = int(records * _TRANSACTION_SECONDS / seconds)
            self._size = max(_SMALLEST, min(_LARGEST, (self._size + fitting) // 2))


def _parts(batch: Batch, most: int) -> Iterator[Batch]:
    """Cut a batch into parts of so many records at most, each partition's in their order."""
    part: dict[Partition, Sequence[Record]] = {}
    room = most
    for partition, records in batch.items():
        start = 0
        while start < len(records):
            taken = part[partition] = records[start : start + room]
            start += len(taken)
            room -= len(taken)
            if room == 0:
                yield part
                part, room = {}, most
    if part:
        yield part


def _partition(row: Row) -> Partition:
    return Partition(row["topic"], row["partition"])
