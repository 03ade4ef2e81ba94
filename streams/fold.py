"""The ground of a fold: batches, positions and effects in one transaction."""

import time
from collections.abc import Mapping

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

_NOT_THE_RECORDS_FAULT = (TransientError, PositionLostError, ProcessorStoppedError)


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
        self._size = 256

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Read the stored positions; what is not stored begins at the log's start."""
        rows = await self._tables.read(
            lambda tx: tx.all(
                "positions.stored", cluster_id=self._cluster_id, consumer_group=self.name
            )
        )
        stored = {_partition(row): row["next_offset"] for row in rows}
        self._known = {partition: stored.get(partition) for partition in assigned}
        return dict(self._known)

    def room(self) -> int:
        """Fetch as many as one transaction of 15 ms takes."""
        return self._size

    async def wait_for_room(self) -> None:
        """Return at once: a fold holds nothing between batches."""

    async def drain(self, seconds: float) -> None:
        """Return at once: a fold holds nothing between batches."""

    async def handle(self, batch: Batch) -> None:
        """Apply the batch; when it fails, apply it record by record and bury what fails alone."""
        # A record handed out again after a transaction whose answer was lost is behind the
        # position: applied already.
        fresh = {
            partition: [r for r in records if r.offset >= (self._known.get(partition) or 0)]
            for partition, records in batch.items()
        }
        fresh = {partition: records for partition, records in fresh.items() if records}
        if not fresh:
            return
        started = time.perf_counter()
        try:
            await self._apply(fresh)
        except _NOT_THE_RECORDS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - found and buried record by record
            log.warning("batch_failed", processor=self.name, error=repr(error))
            await self._apply_one_by_one(fresh)
        else:
            self._adapt(time.perf_counter() - started, sum(map(len, fresh.values())))

    async def _apply(self, batch: Batch) -> None:
        expected = self._expected(batch)
        events: list[Event] = []
        undecodable: list[tuple[Record, str]] = []
        for records in batch.values():
            for record in records:
                try:
                    events.append(codec.decode(record.value, record.headers))
                except codec.CodecError as error:
                    undecodable.append((record, error.message))
        if len(undecodable) > 1:
            # One by one, so that the limit holds within a batch too.
            raise codec.CodecError(f"{len(undecodable)} records of the batch are no events")
        if undecodable:
            await self._limit.stop_at_limit()

        async def unit(tx: Transaction) -> None:
            await self._advance(tx, batch, expected)
            await self._fold.apply(tx, events)
            for record, reason in undecodable:
                await self._keep(tx, record, reason)

        await self._tables.write(unit)
        self._moved(batch)
        for _ in events:
            self._limit.note(dead=False)
        for _ in undecodable:
            self._limit.note(dead=True)
        self._recorder.add(PROCESSED, len(events), processor=self.name, outcome="applied")

    async def _apply_one_by_one(self, batch: Batch) -> None:
        for partition, records in batch.items():
            for record in records:
                single = {partition: [record]}
                try:
                    await self._apply(single)
                except _NOT_THE_RECORDS_FAULT:
                    raise
                except Exception as error:  # noqa: BLE001 - kept as a dead letter with its reason
                    await self._bury(single, record, repr(error))

    async def _bury(self, single: Batch, record: Record, reason: str) -> None:
        await self._limit.stop_at_limit()
        expected = self._expected(single)

        async def unit(tx: Transaction) -> None:
            await self._advance(tx, single, expected)
            await self._keep(tx, record, reason)

        await self._tables.write(unit)
        self._moved(single)
        self._limit.note(dead=True)

    async def _keep(self, tx: Transaction, record: Record, reason: str) -> None:
        """Keep a dead letter; its event was seen, else the relay sends it again for ever."""
        await bury(tx, self.name, self._cluster_id, record, Code.POISON_EVENT, reason)
        ids = [
            raw.decode(errors="replace") for name, raw in record.headers if name == "ce_id" and raw
        ]
        await tx.run("outbox.remove_seen", ids=orjson.dumps(ids).decode())

    def _expected(self, batch: Batch) -> dict[Partition, int | None]:
        """Take the positions as they are now: a rebalance may replace them while a write waits."""
        try:
            return {partition: self._known[partition] for partition in batch}
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


def _partition(row: Row) -> Partition:
    return Partition(row["topic"], row["partition"])
