"""Fakes: a bus in memory that keeps the promises of the real ones, and a parser elsewhere."""

import asyncio
import time
import uuid
import zlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from schemas.errors import Code, PermanentError, TransientError
from schemas.events import ParseOptions
from schemas.topics import MAX_RECORD_BYTES, Topic
from streams.bus.base import (
    Lag,
    OnAssigned,
    OnRevoked,
    Outcome,
    Outgoing,
    Partition,
    Record,
    StaleLogError,
)
from streams.parsers.base import Document, Page, Parsed, VendorJob, VendorState


def tell(sending: Coroutine[Any, Any, None], outcome: Outcome) -> None:
    """Send on a task of its own, and tell how it ended."""

    def end(task: asyncio.Task[None]) -> None:
        _TELLING.discard(task)
        error = task.exception()
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    task = asyncio.create_task(sending)
    _TELLING.add(task)
    task.add_done_callback(end)


_TELLING: set[asyncio.Task[None]] = set()


class MemoryBus:
    """A cluster in memory; `away` and `replace` play an outage and a broker that forgot all."""

    def __init__(
        self, *, partitions: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self.logs: dict[Partition, list[Record]] = {}
        self.committed: dict[str, dict[Partition, int]] = {}
        self.groups: dict[str, list[MemoryConsumer]] = {}
        self.generations: dict[str, int] = {}
        self._partitions = partitions
        self._counts: dict[str, int] = {}
        self.away = False
        self._cluster_id = uuid.uuid4().hex
        self._changed = asyncio.Event()

    def set_away(self, away: bool) -> None:
        """Take the broker away, or let it come back."""
        self.away = away
        self.notify()

    def replace(self) -> None:
        """Put an empty cluster in its place, as when a broker in memory is started again."""
        self._cluster_id = uuid.uuid4().hex
        for kept in (self._counts, self.logs, self.committed):
            kept.clear()
        self.notify()

    def answer(self) -> None:
        """Raise TransientError(BUS_UNAVAILABLE) while the broker is away."""
        if self.away:
            raise TransientError(Code.BUS_UNAVAILABLE, "the memory bus is away")

    def notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that changes of this bus bring about."""
        while not condition():
            await self._changed.wait()

    async def cluster_id(self) -> str:
        self.answer()
        return self._cluster_id

    async def ensure_topics(self, topics: Sequence[Topic]) -> frozenset[str]:
        self.answer()
        made = frozenset(topic.name for topic in topics if topic.name not in self._counts)
        for topic in topics:
            wanted = self._partitions or topic.partitions
            found = self._counts.setdefault(topic.name, wanted)
            if found != wanted:
                message = f"topic {topic.name} has {found} partitions and must have {wanted}"
                raise PermanentError(Code.INVALID_REQUEST, message)
            self.logs |= {p: self.logs.get(p, []) for p in self.partitions_of(topic.name)}
        return made

    async def partition_counts(self, topics: Sequence[Topic]) -> Mapping[str, int]:
        self.answer()
        return {t.name: self._counts[t.name] for t in topics if t.name in self._counts}

    def partitions_of(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(self._counts.get(topic, 0))]

    def records(self, topic: str) -> list[Record]:
        """Give all records of a topic, partition by partition."""
        return [record for p in self.partitions_of(topic) for record in self.logs[p]]

    def append(self, record: Outgoing) -> Record:
        """Write a record as any client may, whatever is in it."""
        count = self._counts.get(record.topic)
        if count is None:
            raise TransientError(Code.BUS_UNAVAILABLE, f"send to {record.topic}: no such topic")
        number = zlib.crc32(record.key or uuid.uuid4().bytes) % count
        partition = Partition(record.topic, number)
        log, now_ms = self.logs[partition], int(self.clock() * 1000)
        log.append(Record(partition, len(log), record.key, record.value, record.headers, now_ms))
        self.notify()
        return log[-1]

    @asynccontextmanager
    async def open_producer(self) -> "AsyncIterator[MemoryBus]":
        self.answer()
        yield self

    def send_for(self, record: Outgoing, outcome: Outcome) -> None:
        tell(self.send(record), outcome)

    async def send(self, record: Outgoing) -> None:
        headers = sum(len(name) + len(value) for name, value in record.headers)
        size = len(record.value) + len(record.key or b"") + headers
        if size > MAX_RECORD_BYTES:
            raise PermanentError(Code.RECORD_TOO_LARGE, f"record for {record.topic}: {size} bytes")
        # As over the wire, others run before the answer comes.
        await asyncio.sleep(0)
        self.answer()
        self.append(record)

    @asynccontextmanager
    async def open_consumer(
        self, group: str, topics: Sequence[Topic], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> "AsyncIterator[MemoryConsumer]":
        self.answer()
        names = frozenset(topic.name for topic in topics)
        consumer = MemoryConsumer(self, group, names, (on_assigned, on_revoked))
        self.groups.setdefault(group, []).append(consumer)
        self._rebalance(group)
        coordinating = asyncio.create_task(consumer.coordinate())
        try:
            yield consumer
        finally:
            self.groups[group].remove(consumer)
            self._rebalance(group)
            coordinating.cancel()
            await asyncio.wait({coordinating})

    def _rebalance(self, group: str) -> None:
        self.generations[group] = self.generations.get(group, 0) + 1
        self.notify()


class MemoryConsumer:
    """A member of a group on a memory bus; its rebalances run in a task beside `fetch`."""

    def __init__(
        self, bus: MemoryBus, group: str, topics: frozenset[str], on: tuple[OnAssigned, OnRevoked]
    ) -> None:
        self.topics, self.joined = topics, 0
        self._bus, self._group = bus, group
        self._on_assigned, self._on_revoked = on
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._settled = False
        self._failure: Exception | None = None

    async def coordinate(self) -> None:
        while True:
            await self._bus.until(self._outdated)
            self._settled = False
            if self._positions:
                await self._call(self._on_revoked)
            self._positions, self._paused = {}, set()
            self.joined = self._bus.generations[self._group]
            self._bus.notify()
            await self._bus.until(lambda: self._complete() or self._outdated())
            committed = self._bus.committed.get(self._group, {})
            theirs = (p for topic in self.topics for p in self._bus.partitions_of(topic))
            self._positions = {p: committed.get(p, 0) for p in theirs if self._is_mine(p)}
            while not self._settled and not self._outdated():
                self._settled = await self._call(self._on_assigned)
            self._bus.notify()

    async def _call(self, callback: OnAssigned | OnRevoked) -> bool:
        try:
            await callback(self.assignment())
        except Exception as error:  # noqa: BLE001  # whatever it is, the next fetch raises it
            self._failure = error
            self._bus.notify()
            await self._bus.until(lambda: self._failure is None)
            return False
        return True

    def _outdated(self) -> bool:
        return self.joined != self._bus.generations[self._group]

    def _complete(self) -> bool:
        return all(member.joined == self.joined for member in self._bus.groups[self._group])

    def _is_mine(self, partition: Partition) -> bool:
        members = [m for m in self._bus.groups[self._group] if partition.topic in m.topics]
        return members[partition.number % len(members)] is self

    async def fetch(
        self, *, max_records: int, timeout_seconds: float
    ) -> Mapping[Partition, Sequence[Record]]:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._bus.until(lambda: bool(self._bus.away or self._failure or self._next()))
        except TimeoutError:
            return {}
        self._bus.answer()
        failure, self._failure = self._failure, None
        if failure is not None:
            self._bus.notify()
            raise failure
        batches: dict[Partition, list[Record]] = {}
        for partition in self._next():
            start = self._positions[partition]
            taken = self._bus.logs[partition][start : start + max_records]
            max_records -= len(taken)
            if taken:
                batches[partition] = taken
                self._positions[partition] = start + len(taken)
        return batches

    def _next(self) -> list[Partition]:
        """List the partitions with something to hand out; one beyond its log's end starts anew."""
        if not self._settled or self._outdated():
            return []
        for partition, position in self._positions.items():
            if position > self._end(partition):
                self._positions[partition] = 0
        active = self.assignment() - self._paused
        return sorted(p for p in active if self._positions[p] < self._end(p))

    def _end(self, partition: Partition) -> int:
        return len(self._bus.logs.get(partition, ()))

    async def seek(self, partition: Partition, offset: int) -> None:
        self._bus.answer()
        if offset > self._end(partition):
            raise StaleLogError(f"{partition} ends at {self._end(partition)}, before {offset}")
        if partition in self._positions:
            self._positions[partition] = offset
            self._bus.notify()

    async def seek_to_start(self, partition: Partition) -> None:
        await self.seek(partition, 0)

    async def seek_to_end(self, partition: Partition) -> int:
        end = self._end(partition)
        await self.seek(partition, end)
        return end

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        self._bus.answer()
        own = {p: offset for p, offset in positions.items() if p in self._positions}
        self._bus.committed.setdefault(self._group, {}).update(own)

    def pause(self, partitions: frozenset[Partition]) -> None:
        self._paused |= partitions & self.assignment()

    def resume(self, partitions: frozenset[Partition]) -> None:
        self._paused -= partitions
        self._bus.notify()

    def assignment(self) -> frozenset[Partition]:
        return frozenset(self._positions)

    def is_settled(self) -> bool:
        return self._settled and not self._outdated()

    async def lag(self) -> Mapping[Partition, Lag]:
        self._bus.answer()
        return {p: self._lag(self._bus.logs.get(p, [])[n:]) for p, n in self._positions.items()}

    def _lag(self, unread: list[Record]) -> Lag:
        age = self._bus.clock() - unread[0].timestamp_ms / 1000 if unread else 0.0
        return Lag(len(unread), max(0.0, age))


class FakeRemote:
    """A parser elsewhere that does as it is told; `calls` notes each operation with its subject."""

    version = "9"
    submit_seconds = 10.0

    def __init__(self, name: str = "llamaparse") -> None:
        self.name = name
        self.jobs: dict[str, VendorJob] = {}
        self.unlisted: set[str] = set()
        """Jobs that stand in no list, as new ones may not."""
        self.results: dict[str, Parsed] = {}
        self.failures: dict[str, Exception] = {}
        """By operation: what every call of it raises."""
        self.during: dict[str, Callable[[], Awaitable[object]]] = {}
        """By operation: what happens before it is answered."""
        self.calls: list[tuple[str, str]] = []
        self.held_pages: list[int | None] = []
        """Of each submission: how many pages money was held for."""
        self.answers = VendorState.PENDING
        """How a submission finds its job."""

    def add(
        self, vendor_job_id: str, state: VendorState = VendorState.PENDING, **more: object
    ) -> None:
        """Put a job there, or change one; one that is completed has a result of two pages."""
        known = self.jobs.get(vendor_job_id, VendorJob(vendor_job_id, state))
        self.jobs[vendor_job_id] = replace(known, state=state, **more)  # type: ignore[arg-type]  # as VendorJob's
        pages = [Page(n, f"# {n}", f"{n}") for n in (1, 2)]
        self.results.setdefault(vendor_job_id, Parsed(pages, self.name, self.version))

    def operations(self) -> list[str]:
        """Give the operations called so far, in order."""
        return [operation for operation, _ in self.calls]

    def accepts(self, media_type: str) -> bool:
        return media_type == "application/pdf"

    def tier(self, options: ParseOptions) -> str | None:
        return options.tier or "cost_effective"

    async def upload(self, document: Document) -> str:
        await self._called("upload", document.job_id)
        return f"file-{document.job_id}"

    async def submit(self, document: Document, file_id: str) -> VendorJob:
        vendor_job_id = f"{document.job_id}-{document.attempt}"
        self.held_pages.append(document.held_pages)
        await self._called("submit", file_id)
        known = {"job_id": document.job_id, "attempt": document.attempt}
        self.add(vendor_job_id, self.answers, **known)
        return self.jobs[vendor_job_id]

    async def look(self, vendor_job_ids: Sequence[str]) -> Mapping[str, VendorJob]:
        await self._called("look", ",".join(sorted(vendor_job_ids)))
        listed = set(vendor_job_ids) - self.unlisted
        return {name: job for name, job in self.jobs.items() if name in listed}

    async def see(self, vendor_job_id: str) -> VendorJob | None:
        await self._called("see", vendor_job_id)
        return self.jobs.get(vendor_job_id)

    async def find(self, job_id: str, attempt: int, since: datetime) -> VendorJob | None:
        await self._called("find", f"{job_id}/{attempt} since {since.timestamp():.0f}")
        named = (job for job in self.jobs.values() if job.id not in self.unlisted)
        return next((job for job in named if (job.job_id, job.attempt) == (job_id, attempt)), None)

    async def fetch(self, vendor_job_id: str) -> Parsed:
        await self._called("fetch", vendor_job_id)
        return self.results[vendor_job_id]

    async def cancel(self, vendor_job_id: str) -> None:
        await self._called("cancel", vendor_job_id)
        job = self.jobs.get(vendor_job_id)
        if job is not None and job.state is VendorState.PENDING:
            self.add(vendor_job_id, VendorState.CANCELLED)

    async def forget(self, vendor_job_id: str) -> None:
        await self._called("forget", vendor_job_id)
        self.jobs.pop(vendor_job_id, None)

    async def _called(self, operation: str, subject: str) -> None:
        self.calls.append((operation, subject))
        if operation in self.during:
            await self.during[operation]()
        if operation in self.failures:
            raise self.failures[operation]
