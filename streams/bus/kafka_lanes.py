"""Lanes: the records of one partition each, sent in batches, one batch at a time."""

import asyncio
from collections import deque
from collections.abc import Iterable
from struct import unpack_from
from typing import Any

from aiokafka.errors import ProducerClosed, UnknownTopicOrPartitionError

from streams.bus.base import Outgoing

Outcome = asyncio.Future[BaseException | None]
"""What became of a record: None once it is acknowledged, else why it is not."""

_SEED, _FACTOR, _WORD = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Hash a key as Java's client does (`Utils.murmur2`), in a third of aiokafka's time."""
    size = len(key)
    words, rest = divmod(size, 4)
    hashed = _SEED ^ size
    for word in unpack_from(f"<{words}I", key):
        mixed = word * _FACTOR & _WORD
        hashed = (hashed * _FACTOR & _WORD) ^ ((mixed ^ mixed >> 24) * _FACTOR & _WORD)
    if rest:
        hashed = (hashed ^ int.from_bytes(key[-rest:], "little")) * _FACTOR & _WORD
    hashed = (hashed ^ hashed >> 13) * _FACTOR & _WORD
    return hashed ^ hashed >> 15


def partition_of(key: bytes, count: int) -> int:
    """Choose a key's partition as every Kafka client does by default."""
    return (murmur2(key) & 0x7FFFFFFF) % count


class Lane:
    """Gathers records while a batch is under way; what has gathered is the next batch.

    A future, a timer and a hand-over to the client for each record would cost more than all else
    that is done for it.
    """

    def __init__(self, client: Any, topic: str, partition: int) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._waiting: dict[Outcome, Outgoing] = {}
        self.running: asyncio.Task[None] | None = None

    def add(self, record: Outgoing, outcome: Outcome) -> None:
        """Send the record with the next batch; its outcome is settled then, or from outside."""
        self._waiting[outcome] = record
        if self.running is None:
            self.running = asyncio.create_task(self._run())

    def forget(self, outcome: Outcome) -> None:
        """Hold the record no longer: what is not on its way yet is not sent."""
        self._waiting.pop(outcome, None)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send_batch()
        finally:
            self.running = None
            _settle(self._waiting, ProducerClosed())
            self._waiting = {}

    async def _send_batch(self) -> None:
        batch = self._client.create_batch()
        taken = self._take_into(batch)
        failure: BaseException | None = ProducerClosed()
        try:
            failure = await self._acknowledged(batch)
        except Exception as error:  # noqa: BLE001  # each sender judges and raises it
            failure = error
        finally:
            _settle(taken, failure)

    async def _acknowledged(self, batch: Any) -> BaseException | None:
        """Hand the batch over; its errors are raised, but where the partition is no more."""
        if self._partition not in await self._client.partitions_for(self._topic):
            gone: BaseException = UnknownTopicOrPartitionError()
            return gone
        sent = await self._client.send_batch(batch, self._topic, partition=self._partition)
        await sent
        return None

    def _take_into(self, batch: Any) -> list[Outcome]:
        """Move what fits from those who wait into the batch."""
        taken = []
        waiting = self._waiting
        for outcome, record in waiting.items():
            if not outcome.done() and not _joins(batch, record, outcome):
                break
            taken.append(outcome)
        if len(taken) == len(waiting):
            self._waiting = {}
        else:
            for outcome in taken:
                del waiting[outcome]
        return taken


class Deadlines:
    """Ends what is overdue: one timer for all, since each has the same time from its start."""

    def __init__(self) -> None:
        self._watched: deque[tuple[float, Outcome]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, outcome: Outcome, loop_time: float) -> None:
        """Settle it with a TimeoutError at that time of the loop."""
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        watched.append((loop_time, outcome))
        if self._timer is None:
            self._timer = outcome.get_loop().call_at(loop_time, self._expire)

    def _expire(self) -> None:
        self._timer = None
        watched = self._watched
        while watched:
            loop_time, outcome = watched[0]
            loop = outcome.get_loop()
            if not outcome.done():
                if loop_time > loop.time():
                    self._timer = loop.call_at(loop_time, self._expire)
                    return
                outcome.set_result(TimeoutError())
            watched.popleft()


def _joins(batch: Any, record: Outgoing, outcome: Outcome) -> bool:
    """Add the record; tell whether the batch had room. One that is no record spoils no batch."""
    headers = list(record.headers)
    try:
        added = batch.append(timestamp=None, key=record.key, value=record.value, headers=headers)
    except (TypeError, ValueError) as error:
        outcome.set_result(error)
        return True
    return added is not None


def _settle(outcomes: Iterable[Outcome], failure: BaseException | None) -> None:
    for outcome in outcomes:
        if not outcome.done():
            outcome.set_result(failure)
