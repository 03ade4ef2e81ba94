"""The ground of a listener: idempotent work for each record, several at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from schemas import codec
from schemas.errors import Code, TransientError
from schemas.events import Event
from schemas.topics import Topic
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit, bury
from streams.metrics import PROCESSED, Recorder
from streams.processor import Batch, Listener, Parked, ProcessorStoppedError
from streams.tables.base import Tables
from streams.tracing import bind_message

log = structlog.get_logger(__name__)

_NOT_THE_RECORDS_FAULT = (TransientError, ProcessorStoppedError)


def read_event(record: Record) -> Event:
    """Read a record as an event of ours."""
    return codec.decode(record.value, record.headers)


def key_or_place(record: Record) -> object:
    """Tell records of one key from others; what has no key has no order either."""
    return (record.partition, record.offset) if record.key is None else record.key


class ListenerGround:
    """Runs a listener; a position moves once everything before it is handled.

    `decode` makes of a record what the listener takes, or parks it; what it raises CodecError for
    is buried, and counts.

    What was handled and not committed when a process dies is handled again.
    """

    def __init__(
        self,
        listener: Listener[Any],
        tables: Tables,
        cluster_id: str,
        limit: DeadLetterLimit,
        recorder: Recorder,
        *,
        slots: int,
        decode: Callable[[Record], Any] = read_event,
        in_order_by: Callable[[Record], object] = key_or_place,
    ) -> None:
        self.name = listener.name
        self.topics: tuple[Topic, ...] = listener.topics
        self._listener = listener
        self._tables = tables
        self._cluster_id = cluster_id
        self._limit = limit
        self._recorder = recorder
        self._slots = slots
        self._decode = decode
        self._in_order_by = in_order_by

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        """Read on where the group left off."""
        del assigned
        return {}

    def room(self) -> int:
        """Take as many as are handled at once."""
        return self._slots

    async def wait_for_room(self) -> None:
        """Return at once: a listener holds nothing between batches."""

    async def drain(self, seconds: float) -> None:
        """Return at once: a listener holds nothing between batches."""

    async def handle(self, batch: Batch) -> None:
        """Handle every record; raise for trouble that is not theirs."""
        rows: dict[object, list[Record]] = {}
        for records in batch.values():
            for record in records:
                rows.setdefault(self._in_order_by(record), []).append(record)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._in_order(found)) for found in rows.values()]
        troubles = [trouble for task in tasks if (trouble := task.result()) is not None]
        if troubles:
            raise troubles[0]

    async def _in_order(self, records: Sequence[Record]) -> Exception | None:
        """Give the trouble in place of raising it: it must not cut off the others' work."""
        try:
            for record in records:
                await self._handle(record)
        except _NOT_THE_RECORDS_FAULT as error:
            return error
        return None

    async def _handle(self, record: Record) -> None:
        try:
            event = self._decode(record)
            if isinstance(event, Parked):
                parked: Parked | None = event
            else:
                bind_message(record, event)
                parked = await self._listener.handle(event)
        except _NOT_THE_RECORDS_FAULT:
            raise
        except Exception as error:
            if not isinstance(error, codec.CodecError):
                log.exception("record_failed", processor=self.name)
            await self._limit.stop_at_limit()
            # A record comes again while another one's trouble lasts; it is dead once.
            if await self._bury(record, Code.POISON_EVENT, str(error) or repr(error)):
                self._limit.note(dead=True)
            return
        if parked is not None:
            await self._bury(record, parked.code, parked.reason)
        self._limit.note(dead=False)
        outcome = "parked" if parked is not None else "applied"
        self._recorder.add(PROCESSED, processor=self.name, outcome=outcome)

    async def _bury(self, record: Record, code: Code, reason: str) -> bool:
        return await self._tables.write(
            lambda tx: bury(tx, self.name, self._cluster_id, record, code, reason)
        )
