"""Telemetry: measurements on their way to the bus, best effort."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import structlog

from schemas.codec import encode
from schemas.errors import ParsewireError
from schemas.events import Event, ServiceCalled, StageTimed
from schemas.ids import NewId, uuid7
from schemas.topics import key_of, topic_of
from streams.bus.base import Outgoing, Sender
from streams.metrics import TELEMETRY_DROPPED, Recorder

log = structlog.get_logger(__name__)

CAPACITY = 10_000
BATCH = 500
GATHER_SECONDS = 0.2
CLOSE_SECONDS = 2.0


class Telemetry(Protocol):
    """Takes measurements; never blocks and never raises."""

    def emit(self, body: StageTimed | ServiceCalled, traceparent: str | None = None) -> None:
        """Publish a measurement, or drop and count it when the bus is too slow."""
        ...


class BusTelemetry:
    """Holds up to `capacity` measurements, which `run` sends in batches.

    Call it on the event loop alone. What does not fit and what the bus did not take is counted by
    TELEMETRY_DROPPED and never sent again.
    """

    def __init__(
        self,
        producer: Sender,
        recorder: Recorder,
        *,
        source: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: NewId = uuid7,
        capacity: int = CAPACITY,
    ) -> None:
        self._producer = producer
        self._recorder = recorder
        self._source = source
        self._clock = clock
        self._new_id = new_id
        self._capacity = capacity
        self._held: deque[Event] = deque()
        self._something = asyncio.Event()
        self._closing = asyncio.Event()

    def emit(self, body: StageTimed | ServiceCalled, traceparent: str | None = None) -> None:
        """Take a measurement for the next batch, or drop and count it when too many wait."""
        if len(self._held) >= self._capacity:
            self._recorder.add(TELEMETRY_DROPPED)
            return
        self._held.append(Event(self._new_id(), self._source, self._clock(), body, traceparent))
        self._something.set()

    async def run(self, gather_seconds: float = GATHER_SECONDS) -> None:
        """Send until `close`, and then what is still held; small batches wait a little for more."""
        while not self._closing.is_set():
            await self._something.wait()
            await self._wait_for_more(gather_seconds)
            await self._send_batch()
        while self._held:
            await self._send_batch()

    def close(self) -> None:
        """Let `run` end once it has sent what is held."""
        self._closing.set()
        self._something.set()

    def drop(self) -> None:
        """Give up what is held, and count it."""
        if self._held:
            self._recorder.add(TELEMETRY_DROPPED, len(self._held))
            self._held.clear()

    async def _wait_for_more(self, gather_seconds: float) -> None:
        if len(self._held) >= BATCH:
            return
        try:
            async with asyncio.timeout(gather_seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _send_batch(self) -> None:
        batch = [self._held.popleft() for _ in range(min(BATCH, len(self._held)))]
        if not self._held:
            self._something.clear()
        dropped = len(batch)
        try:
            dropped -= sum(await asyncio.gather(*map(self._send, batch)))
        finally:
            if dropped:
                self._recorder.add(TELEMETRY_DROPPED, dropped)

    async def _send(self, event: Event) -> bool:
        try:
            value, headers = encode(event)
            topic = topic_of(event.body).name
            key = key_of(event.body).encode()
            await self._producer.send(Outgoing(topic, key, value, headers))
        except ParsewireError:
            return False
        except Exception:
            log.exception("measurement_not_sent", type=type(event.body).__name__)
            return False
        return True


@asynccontextmanager
async def open_telemetry(
    producer: Sender, recorder: Recorder, *, source: str
) -> AsyncIterator[BusTelemetry]:
    """Send measurements for as long as the context lasts; the last ones get CLOSE_SECONDS."""
    telemetry = BusTelemetry(producer, recorder, source=source)
    running = asyncio.create_task(telemetry.run())
    try:
        yield telemetry
    finally:
        telemetry.close()
        await asyncio.wait({running}, timeout=CLOSE_SECONDS)
        running.cancel()
        await asyncio.wait({running}, timeout=CLOSE_SECONDS)
        telemetry.drop()
