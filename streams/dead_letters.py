"""Dead letters: records that nobody's transient fault keeps from being handled."""

from collections import deque
from itertools import repeat

import orjson

from schemas.errors import Code
from streams.bus.base import Record
from streams.metrics import PROCESSED, PROCESSOR_STOPPED, Recorder
from streams.processor import ProcessorStoppedError
from streams.tables.base import Tables, Transaction

_REASON_CHARACTERS = 2_000


async def bury(
    tx: Transaction, processor: str, cluster_id: str, record: Record, code: Code, reason: str
) -> bool:
    """Keep the record untouched, with why, where from and when; tell whether it was not there."""
    headers = [[name, None if raw is None else raw.hex()] for name, raw in record.headers]
    new = await tx.run(
        "positions.bury",
        processor=processor,
        cluster_id=cluster_id,
        topic=record.partition.topic,
        partition=record.partition.number,
        record_offset=record.offset,
        key=record.key,
        key_text=None if record.key is None else record.key.decode(errors="replace"),
        value=record.value,
        headers=orjson.dumps(headers).decode(),
        code=code.value,
        reason=reason[:_REASON_CHARACTERS],
    )
    return new > 0


class DeadLetterLimit:
    """Counts the dead among the last records, and stops a processor that buries too many.

    A stop is a row: it outlasts restarts, until somebody resumes the processor or another version
    of the program runs.
    """

    def __init__(
        self,
        processor: str,
        version: str,
        tables: Tables,
        recorder: Recorder,
        *,
        most: int = 50,
        window: int = 1000,
    ) -> None:
        self._processor = processor
        self._version = version
        self._tables = tables
        self._recorder = recorder
        self._most = most
        self._window = window
        self._recent: deque[bool] = deque()
        self._dead = 0

    def note(self, *, dead: bool, records: int = 1) -> None:
        """Count records that ended alike."""
        self._recent.extend(repeat(dead, records))
        self._dead += dead * records
        for _ in range(len(self._recent) - self._window):
            self._dead -= self._recent.popleft()
        if dead and records:
            self._recorder.add(PROCESSED, records, processor=self._processor, outcome="dead_letter")

    async def stop_at_limit(self) -> None:
        """Raise ProcessorStoppedError, with the stop written, when the limit is reached."""
        if self._dead < self._most:
            return
        reason = f"{self._dead} of the last {len(self._recent)} records could not be handled"
        await self._tables.write(
            lambda tx: tx.run(
                "positions.stop", processor=self._processor, version=self._version, reason=reason
            )
        )
        self._recent.clear()
        self._dead = 0
        raise ProcessorStoppedError(reason)

    async def is_stopped(self) -> bool:
        """Tell whether the processor must not run; a stop of another version is lifted."""
        row = await self._tables.read(
            lambda tx: tx.one("positions.stop_of", processor=self._processor)
        )
        stopped = row is not None and row["version"] == self._version
        if row is not None and not stopped:
            await self._tables.write(
                lambda tx: tx.run("positions.resume", processor=self._processor)
            )
        self._recorder.set(PROCESSOR_STOPPED, stopped, processor=self._processor)
        return stopped
