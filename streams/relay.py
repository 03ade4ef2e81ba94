"""The relay: sends outbox rows right after their commit, and those that nobody has sent."""

import asyncio
from collections.abc import Callable, Sequence

import orjson
import structlog

from schemas.errors import PermanentError, TransientError
from streams.bus.base import Outgoing, Sender
from streams.metrics import RELAYED, Recorder
from streams.outbox import TAKEOVER_MS
from streams.tables.base import OutboxRow, Tables, Transaction

log = structlog.get_logger(__name__)

RESEND_MS = 60_000
RESEND_CAP_MS = 3_600_000

_WAITING_ROWS = 20_000
_SENDING_ROWS = 4_000
_SCAN_ROWS = 1_000
_ROUND_ROWS = 500
_ROUND_SECONDS = 0.02
"""A partition that does not answer holds up the others for no longer than this."""
_GATHER_SECONDS = 0.05
"""Rounds begin this far apart where there is a backlog: haste brings its last document no nearer,
and each round costs two requests, a fetch and a fold's transaction."""


class Relay:
    """Sends what was announced at once, and looks every `scan_seconds` for what is overdue.

    A row is removed in the background after its acknowledgement (rows kept until seen: put off,
    60 s doubling to 1 h, until their fold removes them). A crash in between sends it again.
    `is_behind` tells whether the process has more to do than it can.
    """

    def __init__(
        self,
        tables: Tables,
        producer: Sender,
        recorder: Recorder,
        *,
        is_behind: Callable[[], bool] = lambda: False,
        scan_seconds: float = 1.0,
        flush_seconds: float = 0.5,
    ) -> None:
        self._tables = tables
        self._producer = producer
        self._recorder = recorder
        self._is_behind = is_behind
        self._scan_seconds = scan_seconds
        self._flush_seconds = flush_seconds
        self._waiting: asyncio.Queue[OutboxRow] = asyncio.Queue(_WAITING_ROWS)
        self._room = asyncio.Semaphore(_SENDING_ROWS)
        self._sending: set[asyncio.Task[None]] = set()
        self._acknowledged: list[str] = []
        tables.on_commit(self._offer)

    def _offer(self, rows: Sequence[OutboxRow]) -> None:
        for row in rows:
            try:
                self._waiting.put_nowait(row)
            except asyncio.QueueFull:
                return  # The scan finds the rest: every row is in the table.

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_announced())
            group.create_task(self._scan())
            group.create_task(self._flush_often())

    async def close(self, seconds: float) -> None:
        """Send what was announced, wait for the answers within the deadline, and note them."""
        while not self._waiting.empty() and not self._room.locked():
            await self._start(self._waiting.get_nowait())
        if self._sending:
            await asyncio.wait(self._sending, timeout=seconds)
        await self._flush()

    async def _send_announced(self) -> None:
        """Send in rounds: what is announced during one shares the requests of the next."""
        loop = asyncio.get_running_loop()
        while True:
            sent = [await self._start(await self._waiting.get())]
            next_round = loop.time() + _GATHER_SECONDS
            while not self._waiting.empty() and len(sent) < _ROUND_ROWS:
                sent.append(await self._start(self._waiting.get_nowait()))
            await asyncio.wait(sent, timeout=_ROUND_SECONDS)
            if self._is_behind() and self._waiting.qsize() < _ROUND_ROWS:
                await asyncio.sleep(next_round - loop.time())

    async def _start(self, row: OutboxRow) -> asyncio.Task[None]:
        await self._room.acquire()
        task = asyncio.create_task(self._send(row))
        self._sending.add(task)
        task.add_done_callback(self._sent)
        return task

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("event_send_broke", exc_info=task.exception())

    async def _send(self, row: OutboxRow) -> None:
        headers = tuple((name, text.encode()) for name, text in orjson.loads(row.headers))
        key = row.key.encode() if row.raw_key is None else row.raw_key
        record = Outgoing(row.topic, key, row.value, headers)
        try:
            await self._producer.send(record)
        except TransientError as error:
            # The row stays: whoever scans next sends it again.
            self._recorder.add(RELAYED, topic=row.topic, outcome="failed")
            log.info("event_not_sent", topic=row.topic, event_id=row.event_id, error=error.message)
        except PermanentError as error:
            self._recorder.add(RELAYED, topic=row.topic, outcome=error.code.value)
            log.error(
                "event_unsendable", topic=row.topic, event_id=row.event_id, error=error.message
            )
        else:
            self._recorder.add(RELAYED, topic=row.topic, outcome="ok")
            self._acknowledged.append(row.event_id)

    async def _scan(self) -> None:
        while True:
            await asyncio.sleep(self._scan_seconds)
            try:
                while await self._send_overdue() == _SCAN_ROWS:
                    log.info("outbox_overdue", events=_SCAN_ROWS)
            except TransientError as error:
                log.warning("outbox_not_scanned", error=error.message)

    async def _send_overdue(self) -> int:
        if await self._tables.read(lambda tx: tx.one("outbox.any_due")) is None:
            return 0
        rows = await self._tables.write(
            lambda tx: tx.all("outbox.take_due", takeover_ms=TAKEOVER_MS, most=_SCAN_ROWS)
        )
        for row in rows:
            await self._start(
                OutboxRow(
                    row["event_id"],
                    row["topic"],
                    row["key"],
                    row["value"],
                    row["headers"],
                    bool(row["kept_until_seen"]),
                    row["raw_key"],
                )
            )
        return len(rows)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            try:
                await self._flush()
            except TransientError as error:
                log.warning("outbox_not_cleared", error=error.message)

    async def _flush(self) -> None:
        if not self._acknowledged:
            return
        sent, self._acknowledged = self._acknowledged, []
        ids = orjson.dumps(sent).decode()

        async def unit(tx: Transaction) -> None:
            await tx.run("outbox.remove_sent", ids=ids)
            await tx.run(
                "outbox.hold_sent", ids=ids, resend_ms=RESEND_MS, resend_cap_ms=RESEND_CAP_MS
            )

        try:
            await self._tables.write(unit)
        except (TransientError, asyncio.CancelledError):
            # Cancelled at the end of a process, it is noted by `close`.
            self._acknowledged.extend(sent)
            raise
