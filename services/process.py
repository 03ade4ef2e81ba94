"""A process of Parsewire: how it is told to stop, how it ends, and its relay."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from schemas.errors import TransientError
from streams.bus.base import Bus, Producer
from streams.metrics import Recorder
from streams.relay import Relay
from streams.tables.base import Tables

EXIT_START_ANEW = 75
"""Exit code (EX_TEMPFAIL) that asks the supervisor for a new process on the present log."""

_RELAY_CLOSE_SECONDS = 5.0

_COLLECT_AFTER = (20_000, 20, 20)
"""Containers made before a garbage collection, and how many of each make one of the next kind.

Hundreds of requests under way are no garbage: at Python's 700 an eighth of a busy gateway's time
goes into looking at them."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


class RelayEndedError(Exception):
    """The relay has ended by a defect: events would wait for another process to send them."""


def collect_seldom() -> None:
    """Leave what has been loaded out of every garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def stop_on_signals() -> asyncio.Event:
    """Give an event that SIGTERM or SIGINT sets."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def unless_stopped(work: Coroutine[Any, Any, T], stopping: asyncio.Event) -> T | None:
    """Give what the work gives; None where the process is told to stop first: it is cut off."""
    working, asked = asyncio.ensure_future(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        asked.cancel()
        await asyncio.wait({working, asked})


@asynccontextmanager
async def open_relayed(
    tables: Tables, bus: Bus, recorder: Recorder, *, is_behind: Callable[[], bool] = lambda: False
) -> AsyncIterator[Producer]:
    """Open a producer with the relay at work on it; what was announced is sent before the end.

    `is_behind` tells whether the process has more to do than it can.
    Raise RelayEndedError, and end what is at work inside, when the relay breaks.
    """
    async with bus.open_producer() as producer:
        relay = Relay(tables, producer, recorder, is_behind=is_behind)
        running = asyncio.create_task(relay.run(), name="relay")
        try:
            async with _ended_with(running):
                yield producer
        finally:
            running.cancel()
            await asyncio.wait([running])
            try:
                await relay.close(_RELAY_CLOSE_SECONDS)
            except TransientError as error:
                # What was sent and not noted is sent again, and seen once.
                log.warning("outbox_not_cleared", error=error.message)


@asynccontextmanager
async def _ended_with(running: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel the body when `running` breaks: without its relay a process only seems to work."""
    body = asyncio.current_task()

    def end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and body is not None:
            body.cancel()

    running.add_done_callback(end)
    try:
        yield
    except asyncio.CancelledError:
        if body is not None and running.done() and not running.cancelled():
            body.uncancel()
            raise RelayEndedError("the relay has ended") from running.exception()
        raise
    finally:
        running.remove_done_callback(end)
