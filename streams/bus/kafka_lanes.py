"""Lanes: the records of one partition each, sent in batches, one batch at a time."""

import asyncio
import math
from collections.abc import Callable
from itertools import islice
from typing import Any

from aiokafka.errors import ProducerClosed, UnknownTopicOrPartitionError

from streams.bus.base import Outcome, Outgoing

Held = dict[Outcome, tuple[Outgoing, int, float]]
"""Records, their sizes in bytes, and their deadlines by the loop's time, by who is told."""


class Lane:
    """Gathers records while a batch is under way; what has gathered is the next batch.

    A timer and a hand-over to the client for each record would cost more than all else that is
    done for it.
    """

    def __init__(
        self,
        client: Any,
        topic: str,
        partition: int,
        give_bytes: Callable[[int], None],
        error_of: Callable[[BaseException], BaseException],
    ) -> None:
        self._client = client
        self._topic = topic
        self._partition = partition
        self._give_bytes = give_bytes
        self._error_of = error_of
        self._waiting: Held = {}
        self._under_way: Held = {}
        self.running: asyncio.Task[None] | None = None

    def add(self, record: Outgoing, size: int, deadline: float, outcome: Outcome) -> None:
        """Send the record with the next batch; its bytes are given back when it is held no more."""
        self._waiting[outcome] = (record, size, deadline)
        if self.running is None:
            self.running = asyncio.create_task(self._run())

    def expire(self, now: float) -> float:
        """End what is overdue, and give the next deadline; `inf` where there is none.

        What is not on its way yet is not sent then; what is, nobody here knows whether it arrives.
        """
        held = [*self._under_way.items(), *self._waiting.items()]
        ended = [outcome for outcome, (_, _, deadline) in held if deadline <= now or outcome.done()]
        for outcome in ended:
            if outcome in self._waiting:
                self._give_bytes(self._waiting.pop(outcome)[1])
            if not outcome.done():
                outcome.set_exception(self._error_of(TimeoutError()))
        return min((deadline for _, (_, _, deadline) in held if deadline > now), default=math.inf)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send_batch()
        finally:
            self.running = None
            left, self._waiting = self._waiting, {}
            self._settle(left, ProducerClosed())

    async def _send_batch(self) -> None:
        batch = self._client.create_batch()
        self._under_way = self._take_into(batch)
        failure: BaseException | None = ProducerClosed()
        try:
            # Of those taken, all may have been given up, or be no records.
            failure = await self._acknowledged(batch) if batch.record_count() else None
        except Exception as error:  # noqa: BLE001  # each sender is told what it means
            failure = error
        finally:
            ended, self._under_way = self._under_way, {}
            self._settle(ended, failure)

    async def _acknowledged(self, batch: Any) -> BaseException | None:
        """Hand the batch over; its errors are raised, but where the partition is no more."""
        if self._partition not in await self._client.partitions_for(self._topic):
            gone: BaseException = UnknownTopicOrPartitionError()
            return gone
        sent = await self._client.send_batch(batch, self._topic, partition=self._partition)
        await sent
        return None

    def _take_into(self, batch: Any) -> Held:
        """Move what fits from those who wait into the batch."""
        waiting, self._waiting = self._waiting, {}
        for count, (outcome, (record, _, _)) in enumerate(waiting.items()):
            if not outcome.done() and not _joins(batch, record, outcome):
                self._waiting = dict(islice(waiting.items(), count, None)) | self._waiting
                return dict(islice(waiting.items(), count))
        return waiting

    def _settle(self, held: Held, failure: BaseException | None) -> None:
        """Answer all that were held, and give their bytes back."""
        for outcome in held:
            if outcome.done():
                continue
            if failure is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(self._error_of(failure))
        self._give_bytes(sum([size for _, size, _ in held.values()]))


def _joins(batch: Any, record: Outgoing, outcome: Outcome) -> bool:
    """Add the record; tell whether the batch had room. One that is no record spoils no batch."""
    headers = list(record.headers)
    try:
        added = batch.append(timestamp=None, key=record.key, value=record.value, headers=headers)
    except Exception as error:  # noqa: BLE001  # its sender is told
        outcome.set_exception(error)
        return True
    return added is not None
