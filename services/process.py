"""A process of Parsewire: how it is told to stop, how it ends, and its relay."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.bus.base import Bus, Producer
from streams.metrics import Recorder
from streams.relay import Relay
from streams.tables.base import Tables

EXIT_START_ANEW = 75
"""Exit code (EX_TEMPFAIL) that asks the supervisor for a new process on the present log."""

_RELAY_CLOSE_SECONDS = 5.0


def stop_on_signals() -> asyncio.Event:
    """Give an event that SIGTERM or SIGINT sets."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


@asynccontextmanager
async def open_relayed(tables: Tables, bus: Bus, recorder: Recorder) -> AsyncIterator[Producer]:
    """Open a producer with the relay at work on it; what was announced is sent before the end."""
    async with bus.open_producer() as producer:
        relay = Relay(tables, producer, recorder)
        running = asyncio.create_task(relay.run(), name="relay")
        try:
            yield producer
        finally:
            running.cancel()
            await asyncio.wait([running])
            await relay.close(_RELAY_CLOSE_SECONDS)
