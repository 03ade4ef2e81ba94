"""A Kafka producer with its own deadline for every send and a limit of bytes in flight."""

import asyncio
from collections import deque
from itertools import chain
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from schemas.errors import Code, PermanentError
from schemas.topics import MAX_RECORD_BYTES
from streams.bus.base import Outgoing
from streams.bus.kafka_calls import bus_unavailable

BATCH_BYTES = 256 * 1024


def record_bytes(record: Outgoing) -> int:
    """Tell a record's size: value, key, and the names and values of its headers."""
    own = len(record.value) + (len(record.key) if record.key is not None else 0)
    return own + sum(map(len, chain.from_iterable(record.headers)))


class ByteBudget:
    """A semaphore of bytes, first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        """Tell how many bytes may be taken at once."""
        return self._free

    async def take(self, size: int) -> None:
        """Wait until `size` bytes are free, and take them."""
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # A turn that was given and cancelled at once would keep its bytes for ever.
            if turn.done() and not turn.cancelled():
                self._free += size
            self._give_turns()
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        self._give_turns()

    def _give_turns(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            self._waiting.popleft()


class KafkaProducer:
    """Sends records and waits for the acknowledgement of all in-sync replicas."""

    def __init__(
        self, client: Any, *, topic_prefix: str, send_timeout_seconds: float, budget: ByteBudget
    ) -> None:
        self._client = client
        self._prefix = topic_prefix
        self._timeout = send_timeout_seconds
        self._budget = budget

    async def send(self, record: Outgoing) -> None:
        """Return once the broker has acknowledged the record; sends of many tasks share batches.

        Raise PermanentError(RECORD_TOO_LARGE) before sending, TransientError(BUS_UNAVAILABLE)
        when no answer came in time: the record may or may not be in the log then.
        """
        size = record_bytes(record)
        if size > MAX_RECORD_BYTES:
            raise _too_large(record, f"{size} bytes, more than {MAX_RECORD_BYTES}")
        try:
            async with asyncio.timeout(self._timeout):
                await self._budget.take(size)
                try:
                    await self._acknowledged(record)
                finally:
                    self._budget.give(size)
        except TimeoutError:
            why = f"no acknowledgement within {self._timeout:g} s, outcome unknown"
            raise bus_unavailable(f"send to {record.topic}", why) from None
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise _too_large(record, str(error)) from error
        except (KafkaError, OSError) as error:
            raise bus_unavailable(f"send to {record.topic}", error) from error

    async def _acknowledged(self, record: Outgoing) -> None:
        sent = await self._client.send(
            self._prefix + record.topic, record.value, record.key, headers=list(record.headers)
        )
        await sent


def _too_large(record: Outgoing, why: str) -> PermanentError:
    return PermanentError(Code.RECORD_TOO_LARGE, f"record for {record.topic}: {why}")
