"""A member of a Kafka consumer group whose rebalances hand out no record too early."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from schemas.errors import TransientError
from streams.bus.base import Lag, OnAssigned, OnRevoked, Partition, Record, StaleLogError
from streams.bus.kafka_calls import BrokerContact, answered, bus_unavailable
from streams.bus.kafka_fetch import known_ends, log_end, records_of
from streams.bus.kafka_lag import ReadingAges
from streams.bus.kafka_unreadable import LenientReader

log = logging.getLogger(__name__)


class KafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A member of a consumer group, reading from the log's start where nothing else is said.

    A `fetch` that is cancelled may have taken records with it: close the consumer after that.
    """

    def __init__(
        self,
        client: Any,
        *,
        topic_prefix: str,
        call_timeout_seconds: float,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._prefix = topic_prefix
        self._call_timeout = call_timeout_seconds
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._own: dict[Any, Partition] = {}
        self._starts: dict[Any, int] = {}
        self._ends: dict[Any, int] = {}
        self._ages = ReadingAges(clock)
        self._settling = asyncio.Lock()
        self._unsettled = False
        self._ready = asyncio.Event()
        self._failure: Exception | None = None
        self._reading: asyncio.Task[Any] | None = None
        self._contact = BrokerContact()
        self._reader = LenientReader(client, call_timeout_seconds)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Begin to join; the callbacks run from the next turn of the loop on."""
        self._client.subscribe([self._prefix + topic for topic in topics], listener=self)

    def prepare_to_leave(self) -> None:
        """Make the client tell the group that it leaves.

        The embedded broker counts generations from 0, and aiokafka takes 0 for no membership: a
        ghost would stay for a session, and the next member would wait for it.
        """
        coordinator = self._client._coordinator  # noqa: SLF001  # there is no public way
        if coordinator.generation == 0:
            coordinator.generation = 1

    async def fetch(
        self, *, max_records: int, timeout_seconds: float
    ) -> Mapping[Partition, Sequence[Record]]:
        """Give the next records as soon as there are any; empty after the time-out or a rebalance.

        Raise TransientError(BUS_UNAVAILABLE) when the broker is away, and what a callback raised.
        """
        await self._raise_or_settle()
        batches: Mapping[Any, list[Any]] = {}
        try:
            async with asyncio.timeout(timeout_seconds) as limit:
                await self._ready.wait()
                left_seconds = (limit.when() or 0.0) - asyncio.get_running_loop().time()
                # A deadline from outside could throw away records that were just taken.
                limit.reschedule(None)
                batches = await self._read(max_records, left_seconds)
        except TimeoutError:
            log.debug("no partitions assigned within %g s", timeout_seconds)
        except KafkaError as error:
            raise bus_unavailable("fetch", error) from error
        if not batches:
            await self._contact.check(self._client, self._own)
        for tp, rows in batches.items():
            self._ages.read(self._own[tp], rows[-1].timestamp)
        return {self._own[tp]: records_of(self._own[tp], rows) for tp, rows in batches.items()}

    async def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; raise StaleLogError when it is beyond the log's end."""
        tp = self._named(partition)
        if offset > (end := self._ends.get(tp, -1)):
            end = await log_end(self._client, tp, self._call_timeout)
        if offset > end:
            raise StaleLogError(f"{partition} ends at {end}, before the stored {offset}")
        self._move(tp, offset)

    async def seek_to_start(self, partition: Partition) -> None:
        """Read on from the first record that the log still has."""
        tp = self._named(partition)
        # Held here: a rebalance empties what is known while the broker is asked.
        if (start := self._starts.get(tp)) is None:
            async with answered(f"start of {partition}", self._call_timeout):
                start = (await self._client.beginning_offsets([tp]))[tp]
        self._move(tp, start)

    async def seek_to_end(self, partition: Partition) -> int:
        """Read on from the next record that the log will get, and tell its offset."""
        tp = self._named(partition)
        self._move(tp, end := await log_end(self._client, tp, self._call_timeout))
        return end

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the group the next offsets; partitions no longer assigned are left out.

        A commit that a rebalance overtook is dropped: the new owner goes by its own position.
        """
        offsets = {tp: n for part, n in positions.items() if (tp := self._named(part)) in self._own}
        if not offsets:
            return
        try:
            async with answered("commit", self._call_timeout):
                await self._client.commit(offsets)
        except TransientError as error:
            if not isinstance(error.__cause__, CommitFailedError | IllegalStateError):
                raise
            log.debug("commit overtaken by a rebalance: %s", error)

    def pause(self, partitions: frozenset[Partition]) -> None:
        """Hand out nothing of these until `resume` or a rebalance."""
        self._client.pause(*self._still_own(partitions))

    def resume(self, partitions: frozenset[Partition]) -> None:
        """Hand out records of these again."""
        self._client.resume(*self._still_own(partitions))

    def assignment(self) -> frozenset[Partition]:
        """Tell the partitions that are this member's own at the moment."""
        return frozenset(self._own.values())

    def is_settled(self) -> bool:
        """Tell whether the group has given this member its share, which may be nothing."""
        return self._ready.is_set()

    async def lag(self) -> Mapping[Partition, Lag]:
        """Tell how far reading is behind the log's end; see ReadingAges for the seconds."""
        if not self._ready.is_set() or not self._own:
            return {}
        own = dict(self._own)
        async with answered("lag", self._call_timeout):
            ends = await known_ends(self._client, list(own))
            positions = {tp: await self._client.position(tp) for tp in own if tp in self._own}
        self._ends.update((tp, ends[tp]) for tp in positions)
        return {
            own[tp]: self._ages.lag(own[tp], position, ends[tp])
            for tp, position in positions.items()
        }

    async def on_partitions_revoked(self, _revoked: set[Any]) -> None:
        """Hand out nothing more, and let the owner drain what it holds (called by aiokafka)."""
        self._ready.clear()
        if self._reading is not None:
            self._reading.cancel()
        async with self._settling:
            self._unsettled = False
            own = self.assignment()
            try:
                if own:
                    await self._on_revoked(own)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next fetch raises it
                self._failure = error
            self._own, self._starts, self._ends = {}, {}, {}

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        """Let the owner choose its positions before a record is handed out (called by aiokafka)."""
        async with self._settling:
            self._own = {tp: self._partition(tp) for tp in assigned}
            self._ages.begin(self._own.values())
            self._reader.begin()
            self._unsettled = True
            try:
                await self._settle()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next fetch raises it
                self._failure = error

    async def _raise_or_settle(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._unsettled and not self._settling.locked():
            async with self._settling:
                await self._settle()

    async def _settle(self) -> None:
        if not self._unsettled:
            return
        if self._own:
            async with answered("ends of the assigned partitions", self._call_timeout):
                tps = list(self._own)
                self._starts, self._ends = await asyncio.gather(
                    self._client.beginning_offsets(tps), self._client.end_offsets(tps)
                )
            await self._on_assigned(self.assignment())
        self._unsettled = False
        self._starts = {}
        self._ready.set()

    async def _read(self, max_records: int, timeout_seconds: float) -> Mapping[Any, list[Any]]:
        """Read in a task of its own, so that a rebalance can end the wait.

        Left alone, aiokafka's wait goes on over the rebalance and gives records of the new
        assignment before `on_assigned` has chosen where to read.
        """
        self._reading = asyncio.create_task(
            self._reader.read(self._own, max_records=max_records, seconds=timeout_seconds)
        )
        try:
            batches: Mapping[Any, list[Any]] = await self._reading
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return {}
        finally:
            self._reading = None
        if batches:
            self._contact.heard()
        return batches if self._ready.is_set() else {}

    def _move(self, tp: Any, offset: int) -> None:
        try:
            self._client.seek(tp, offset)
            self._reader.moved(tp, offset)
        except IllegalStateError:
            log.debug("seek of a partition no longer assigned: %s", tp)

    def _still_own(self, partitions: frozenset[Partition]) -> list[Any]:
        return [tp for tp in map(self._named, partitions) if tp in self._own]

    def _named(self, partition: Partition) -> Any:
        return TopicPartition(self._prefix + partition.topic, partition.number)

    def _partition(self, tp: Any) -> Partition:
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)
