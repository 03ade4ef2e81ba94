"""The runner: a processor on its ground, fed by a consumer, started again after trouble."""

import asyncio
from collections.abc import Mapping

import structlog

from schemas.errors import TransientError
from streams.backoff import Backoff
from streams.bus.base import Bus, Consumer, Partition, StaleLogError
from streams.dead_letters import DeadLetterLimit
from streams.metrics import PROCESSOR_RESTARTS, Recorder
from streams.processor import (
    Batch,
    Ground,
    LogReplacedError,
    PositionLostError,
    ProcessorStoppedError,
)
from streams.watchdog import Progress

log = structlog.get_logger(__name__)

_FETCH_SECONDS = 0.5
_COMMIT_SECONDS = 1.0


class Runner:
    """Runs one processor until it is told to stop."""

    def __init__(
        self,
        ground: Ground,
        bus: Bus,
        limit: DeadLetterLimit,
        progress: Progress,
        recorder: Recorder,
        *,
        drain_seconds: float,
        stopped_look_seconds: float = 2.0,
    ) -> None:
        self._ground = ground
        self._bus = bus
        self._limit = limit
        self._progress = progress
        self._recorder = recorder
        self._drain_seconds = drain_seconds
        self._stopped_look_seconds = stopped_look_seconds
        self._fetching: asyncio.Future[Batch] | None = None
        self._handling: asyncio.Timeout | None = None
        self._stopping = asyncio.Event()
        self._uncommitted: dict[Partition, int] = {}
        self._replaced: LogReplacedError | None = None
        self._paused: frozenset[Partition] = frozenset()

    def stop(self) -> None:
        """Take no more records; `run` returns when what is held is done or given back."""
        self._stopping.set()
        if self._fetching is not None:
            self._fetching.cancel()
        if self._handling is not None:
            self._handling.reschedule(asyncio.get_running_loop().time() + self._drain_seconds)

    async def run(self) -> None:
        """Consume until stopped; raise LogReplacedError when the log is not the one known."""
        try:
            await self._run()
        finally:
            # Only here: work that is held needs no consumer, so trouble of the bus does not end it.
            await self._ground.drain(self._drain_seconds)

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                if await self._limit.is_stopped():
                    await self._pause(self._stopped_look_seconds)
                else:
                    await self._consume(backoff)
            except ProcessorStoppedError as error:
                log.error("processor_stopped", processor=self._ground.name, reason=str(error))
            except TransientError as error:
                log.warning("processor_waits", processor=self._ground.name, error=error.message)
                self._recorder.add(
                    PROCESSOR_RESTARTS, processor=self._ground.name, reason=error.code.value
                )
                await self._pause(backoff.next_seconds())

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _consume(self, backoff: Backoff) -> None:
        self._uncommitted.clear()
        self._paused = frozenset()
        opened = self._bus.open_consumer(
            self._ground.name,
            self._ground.topics,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
        )
        async with opened as self._consumer:
            self._progress.begin(self._consumer)
            try:
                await self._loop(self._consumer, backoff)
            finally:
                self._progress.end()
                await self._commit(self._consumer)

    async def _loop(self, consumer: Consumer, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        committed = loop.time()
        while not self._stopping.is_set():
            if self._replaced is not None:
                raise self._replaced
            self._progress.raise_if_stalled()
            room = self._ground.room()
            self._steer(consumer, paused=room == 0)
            if room == 0:
                await self._wait_for_room()
                continue
            batch = await self._fetch(consumer, room)
            if batch:
                await self._handle(consumer, batch)
                backoff.succeeded()
            if loop.time() - committed >= _COMMIT_SECONDS:
                await self._commit(consumer)
                committed = loop.time()

    async def _fetch(self, consumer: Consumer, room: int) -> Batch:
        """Fetch, or give nothing when the stop comes meanwhile."""
        fetching = consumer.fetch(max_records=room, timeout_seconds=_FETCH_SECONDS)
        self._fetching = asyncio.ensure_future(fetching)
        try:
            return await self._fetching
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            return {}
        finally:
            self._fetching = None

    async def _wait_for_room(self) -> None:
        """Wait with the partitions paused, so that nothing is handed out that is not taken."""
        try:
            await asyncio.wait_for(self._ground.wait_for_room(), _FETCH_SECONDS)
        except TimeoutError:
            log.debug("no_room", processor=self._ground.name)
        self._progress.waited()

    async def _handle(self, consumer: Consumer, batch: Batch) -> None:
        # The stop may have come while these records did.
        seconds = self._drain_seconds if self._stopping.is_set() else None
        try:
            async with asyncio.timeout(seconds) as self._handling:
                await self._ground.handle(batch)
        except TimeoutError:
            if not self._stopping.is_set():
                raise
            # A document from a slow server: what is not committed is handled by the next worker.
            log.warning("handling_cut_off", processor=self._ground.name)
            return
        except PositionLostError as error:
            log.warning("position_lost", processor=self._ground.name, error=str(error))
            await self._on_assigned(consumer.assignment())
            return
        finally:
            self._handling = None
        for partition, records in batch.items():
            self._uncommitted[partition] = records[-1].offset + 1
        self._progress.handled(sum(map(len, batch.values())))

    def _steer(self, consumer: Consumer, *, paused: bool) -> None:
        wanted = consumer.assignment() if paused else frozenset()
        if wanted - self._paused:
            consumer.pause(wanted - self._paused)
        if self._paused - wanted:
            consumer.resume(self._paused & consumer.assignment())
        self._paused = wanted

    async def _on_assigned(self, assigned: frozenset[Partition]) -> None:
        self._paused -= assigned
        positions: Mapping[Partition, int | None] = await self._ground.positions(assigned)
        for partition, offset in positions.items():
            try:
                if offset is None:
                    await self._consumer.seek_to_start(partition)
                else:
                    await self._consumer.seek(partition, offset)
            except StaleLogError as error:
                self._replaced = LogReplacedError(partition.topic, str(error))

    async def _on_revoked(self, revoked: frozenset[Partition]) -> None:
        await self._commit(self._consumer)
        for partition in revoked:
            self._uncommitted.pop(partition, None)

    async def _commit(self, consumer: Consumer) -> None:
        if not self._uncommitted:
            return
        positions, self._uncommitted = self._uncommitted, {}
        try:
            await consumer.commit(positions)
        except TransientError as error:
            # The table holds what is done; the group's offset only shows it to lag tools.
            log.info("offsets_not_committed", processor=self._ground.name, error=error.message)
