"""A Kafka producer with its own deadline for every send and a limit of bytes in flight."""

import asyncio
import math
from collections import deque
from functools import partial
from itertools import chain
from typing import Any

from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner

from schemas.errors import Code, PermanentError
from schemas.topics import MAX_RECORD_BYTES
from streams.bus.base import Outcome, Outgoing
from streams.bus.kafka_calls import bus_unavailable
from streams.bus.kafka_lanes import Lane

BATCH_BYTES = 256 * 1024


def record_bytes(record: Outgoing) -> int:
    """Tell a record's size: value, key, and the names and values of its headers."""
    size = len(record.value) + (len(record.key) if record.key is not None else 0)
    for name, value in record.headers:
        size += len(name) + len(value)
    return size


class ByteBudget:
    """A semaphore of bytes, first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        """Tell how many bytes may be taken at once."""
        return self._free

    def take_at_once(self, size: int) -> bool:
        """Take `size` bytes where they are free and nobody waits; tell whether that was so."""
        if size > self._free or self._waiting:
            return False
        self._free -= size
        return True

    async def take(self, size: int) -> None:
        """Wait until `size` bytes are free, and take them."""
        if self.take_at_once(size):
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
        if self._waiting:
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
    """Sends records and waits for the acknowledgement of all in-sync replicas; of one loop."""

    def __init__(
        self, client: Any, *, topic_prefix: str, send_timeout_seconds: float, budget: ByteBudget
    ) -> None:
        self._client = client
        self._prefix = topic_prefix
        self._timeout = send_timeout_seconds
        self._budget = budget
        # To ask for the running loop is a call of the system, each time (Python 3.11).
        self._loop = asyncio.get_running_loop()
        # Chooses as every Kafka client does by default; a lane for no key is one at random.
        self._partitioner = DefaultPartitioner()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf
        self._later: set[asyncio.Task[None]] = set()
        self._lanes: dict[str, list[Lane]] = {}

    async def send(self, record: Outgoing) -> None:
        """Return once the broker has acknowledged the record; sends of many tasks share batches.

        Raise PermanentError(RECORD_TOO_LARGE) before sending, TransientError(BUS_UNAVAILABLE)
        when no answer came in time: the record may or may not be in the log then.
        """
        outcome: asyncio.Future[None] = self._loop.create_future()
        self.send_for(record, outcome)
        await outcome

    def send_for(self, record: Outgoing, outcome: Outcome) -> None:
        """Begin at once; `outcome` is told what `send` would return or raise."""
        size = record_bytes(record)
        if size > MAX_RECORD_BYTES:
            why = f"{size} bytes, more than {MAX_RECORD_BYTES}"
            outcome.set_exception(_too_large(record.topic, why))
            return
        deadline = self._loop.time() + self._timeout
        lane = self._lane_of(record)
        if lane is None or not self._budget.take_at_once(size):
            later = self._loop.create_task(self._send_later(record, size, deadline, outcome))
            self._later.add(later)
            later.add_done_callback(self._later.discard)
            return
        self._add(lane, record, size, deadline, outcome)

    async def finish(self) -> None:
        """Wait until what is being sent is answered, as long as a send may last; then give up."""
        ends = self._loop.time() + self._timeout
        while running := self._running():
            _, stuck = await asyncio.wait(running, timeout=max(0.0, ends - self._loop.time()))
            if stuck:
                for task in stuck:
                    task.cancel()
                await asyncio.wait(stuck)
        if self._timer is not None:
            self._timer.cancel()

    def _running(self) -> set[asyncio.Task[None]]:
        lanes = chain.from_iterable(self._lanes.values())
        return self._later | {lane.running for lane in lanes if lane.running is not None}

    async def _send_later(
        self, record: Outgoing, size: int, deadline: float, outcome: Outcome
    ) -> None:
        """Wait for room, or to learn of the topic's partitions, and send then."""
        try:
            async with asyncio.timeout_at(deadline):
                lane = self._lane_of(record) or await self._first_lane_of(record)
                await self._budget.take(size)
        except BaseException as failure:
            if not outcome.done():
                cause = failure if isinstance(failure, Exception) else ProducerClosed()
                outcome.set_exception(self._error_of(record.topic, cause))
            if isinstance(failure, Exception):
                return
            raise
        self._add(lane, record, size, deadline, outcome)

    def _add(
        self, lane: Lane, record: Outgoing, size: int, deadline: float, outcome: Outcome
    ) -> None:
        lane.add(record, size, deadline, outcome)
        self._look_at(deadline)

    def _expire(self) -> None:
        """End what is overdue; one timer serves all, at most a hundred times in a timeout."""
        now, self._looks_at = self._loop.time(), math.inf
        lanes = chain.from_iterable(self._lanes.values())
        left = min(lane.expire(now) for lane in lanes)
        self._look_at(max(left, now + self._timeout / 100))

    def _look_at(self, loop_time: float) -> None:
        """Look then, unless that is to be done before."""
        if loop_time < self._looks_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(loop_time, self._expire)
            self._looks_at = loop_time

    def _lane_of(self, record: Outgoing) -> Lane | None:
        lanes = self._lanes.get(record.topic)
        return self._partitioner(record.key, lanes, lanes) if lanes else None

    async def _first_lane_of(self, record: Outgoing) -> Lane:
        topic = self._prefix + record.topic
        partitions = await self._client.partitions_for(topic)
        if not self._lanes.get(record.topic):
            error_of = partial(self._error_of, record.topic)
            self._lanes[record.topic] = [
                Lane(self._client, topic, number, self._budget.give, error_of)
                for number in sorted(partitions)
            ]
        lane = self._lane_of(record)
        if lane is None:
            raise UnknownTopicOrPartitionError
        return lane

    def _error_of(self, topic: str, failure: BaseException) -> BaseException:
        """Tell the sender what to do next: give up, try again, or learn of a defect."""
        doing = f"send to {topic}"
        error: BaseException = failure
        match failure:
            case TimeoutError():
                why = f"no acknowledgement within {self._timeout:g} s, outcome unknown"
                return bus_unavailable(doing, why)
            case MessageSizeTooLargeError() | RecordListTooLargeError():
                error = _too_large(topic, str(failure))
                error.__cause__ = failure
            case KafkaError() | OSError():
                error = bus_unavailable(doing, failure)
                error.__cause__ = failure
        return error


def _too_large(topic: str, why: str) -> PermanentError:
    return PermanentError(Code.RECORD_TOO_LARGE, f"record for {topic}: {why}")
