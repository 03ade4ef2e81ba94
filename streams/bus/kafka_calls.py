"""Bounds on calls to Kafka: a deadline, our error codes, and a log that an outage cannot flood."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError

from schemas.errors import Code, TransientError

log = logging.getLogger(__name__)

SILENCE_SECONDS = 5.0
"""A broker that has not answered for so long is asked; aiokafka itself tells of no outage."""


def bus_unavailable(doing: str, why: object) -> TransientError:
    """Say that the broker did not do its part."""
    text = str(why) or type(why).__name__
    return TransientError(Code.BUS_UNAVAILABLE, f"{doing}: {text}")


@asynccontextmanager
async def answered(doing: str, within_seconds: float) -> AsyncIterator[None]:
    """Give calls to the broker a deadline; its troubles become TransientError(BUS_UNAVAILABLE)."""
    try:
        async with asyncio.timeout(within_seconds):
            yield
    except TimeoutError:
        raise bus_unavailable(doing, f"no answer within {within_seconds:g} s") from None
    except (KafkaError, OSError) as error:
        raise bus_unavailable(doing, error) from error


async def start_client(client: Any, doing: str, within_seconds: float) -> None:
    """Start an aiokafka client; one that does not start is closed again."""
    try:
        async with answered(doing, within_seconds):
            await client.start()
    except BaseException:
        await stop_client(client, client.stop, within_seconds)
        raise


async def stop_client(
    client: Any, stop: Callable[[], Awaitable[None]], within_seconds: float
) -> None:
    """Stop an aiokafka client within a deadline, and close its connections whatever happens.

    During an outage aiokafka's own stop may wait for answers that never come, or end cancelled by
    a task of its own, its connections and its metadata task left behind.
    """
    stopping = asyncio.ensure_future(stop())
    await asyncio.wait({stopping}, timeout=within_seconds)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=1)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    log.warning("kafka client did not stop by itself and was cut off: %s", type(client).__name__)
    connections = getattr(client, "_client", None) or getattr(client, "client", None)
    if connections is not None:
        await asyncio.wait({asyncio.ensure_future(connections.close())}, timeout=1)


class BrokerContact:
    """Tells whether a consumer's silence is its topics' or the broker's."""

    def __init__(self) -> None:
        self._heard_at = time.monotonic()

    def heard(self) -> None:
        """Take note that the broker answers."""
        self._heard_at = time.monotonic()

    async def check(self, consumer: Any, partitions: Iterable[Any]) -> None:
        """Ask after a long silence; raise TransientError(BUS_UNAVAILABLE) when nobody answers."""
        if time.monotonic() - self._heard_at < SILENCE_SECONDS:
            return
        polled_ms = max((consumer.last_poll_timestamp(tp) or 0 for tp in partitions), default=0)
        if time.time() - polled_ms / 1000 > SILENCE_SECONDS:
            async with answered("ask the broker", SILENCE_SECONDS):
                await consumer.topics()
        self.heard()


class _Thinner(logging.Handler):
    """Passes on the first line of each kind, then one per interval with the count of the others."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self._interval = interval_seconds
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind = (record.name, record.levelno, str(record.msg))
        passed_at, held_back = self._seen.get(kind, (float("-inf"), 0))
        now = self._clock()
        if now - passed_at < self._interval:
            self._seen[kind] = (passed_at, held_back + 1)
            return
        self._seen[kind] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more like it)"
            record.args = None
        logging.getLogger().handle(record)


def thin_client_logs(
    interval_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
) -> None:
    """Let aiokafka say each kind of thing once per interval: an outage gives hundreds of lines.

    Replaces the handlers of the logger `aiokafka`; what passes goes to the root logger's handlers.
    """
    client_log = logging.getLogger("aiokafka")
    client_log.handlers = [_Thinner(interval_seconds, clock)]
    client_log.propagate = False
