"""The runner: positions, pauses, stops and trouble, on a bus in memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from schemas.errors import Code, TransientError
from schemas.topics import DOCUMENTS_UPLOADED, Topic
from streams.bus.base import Outgoing, Partition
from streams.dead_letters import DeadLetterLimit
from streams.processor import Batch, LogReplacedError, PositionLostError, ProcessorStoppedError
from streams.runner import Runner
from streams.watchdog import Progress
from tests.fakes import MemoryBus
from tests.harness import Desk, open_memory_desk

TOPIC = "documents.uploaded"


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Notes:
    """A ground that notes the offsets it is given."""

    name = "notes"
    topics: tuple[Topic, ...] = (DOCUMENTS_UPLOADED,)

    def __init__(self) -> None:
        self.stored: dict[Partition, int | None] = {}
        self.given: asyncio.Queue[int] = asyncio.Queue()
        self.errors: list[Exception] = []
        self.free = asyncio.Event()
        self.free.set()
        self.drained = 0
        self.drain_seconds = 1.0

    async def positions(self, assigned: frozenset[Partition]) -> Mapping[Partition, int | None]:
        return {p: offset for p, offset in self.stored.items() if p in assigned}

    def room(self) -> int:
        return 1 if self.free.is_set() else 0

    async def wait_for_room(self) -> None:
        await self.free.wait()

    async def handle(self, batch: Batch) -> None:
        if self.errors:
            raise self.errors.pop(0)
        for records in batch.values():
            for record in records:
                self.given.put_nowait(record.offset)

    async def drain(self, seconds: float) -> None:
        assert seconds == self.drain_seconds
        self.drained += 1

    async def next(self) -> int:
        return await asyncio.wait_for(self.given.get(), 10)


async def bus_with(records: int) -> MemoryBus:
    bus = MemoryBus(partitions=1)
    await bus.ensure_topics([DOCUMENTS_UPLOADED])
    for number in range(records):
        bus.append(Outgoing(TOPIC, b"k", str(number).encode(), ()))
    return bus


@asynccontextmanager
async def running(
    desk: Desk, bus: MemoryBus, ground: Notes, limit: DeadLetterLimit | None = None
) -> AsyncIterator[Runner]:
    limit = limit or DeadLetterLimit("notes", "1", desk.tables, desk.recorder)
    progress = Progress("notes", desk.recorder, stall_seconds=60)
    runner = Runner(
        ground,
        bus,
        limit,
        progress,
        desk.recorder,
        drain_seconds=ground.drain_seconds,
        stopped_look_seconds=0.01,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await asyncio.wait_for(task, 10)


P0 = Partition(TOPIC, 0)


async def test_reads_from_the_stored_position_and_not_the_groups(desk: Desk) -> None:
    bus = await bus_with(5)
    bus.committed["notes"] = {P0: 1}
    ground = Notes()
    ground.stored = {P0: 3}
    async with running(desk, bus, ground):
        assert [await ground.next(), await ground.next()] == [3, 4]


async def test_without_a_stored_position_a_fold_begins_at_the_logs_start(desk: Desk) -> None:
    bus = await bus_with(2)
    bus.committed["notes"] = {P0: 2}
    ground = Notes()
    ground.stored = {P0: None}
    async with running(desk, bus, ground):
        assert await ground.next() == 0


async def test_work_that_outlasts_the_deadline_is_cut_off_and_comes_again(desk: Desk) -> None:
    bus = await bus_with(2)
    ground, reached = Notes(), asyncio.Event()
    ground.drain_seconds = 0.05

    async def endless(batch: Batch) -> None:
        assert batch
        reached.set()
        await asyncio.Event().wait()

    ground.handle = endless  # type: ignore[method-assign]  # one that never ends
    async with running(desk, bus, ground):
        await asyncio.wait_for(reached.wait(), 10)
    assert ground.drained == 1
    assert bus.committed.get("notes", {}) == {}
    ground = Notes()
    async with running(desk, bus, ground):
        assert await ground.next() == 0


class StoppingBus(MemoryBus):
    """Stops a runner when records are there, and who waits for them has not yet gone on."""

    runner: Runner

    @asynccontextmanager
    async def open_consumer(self, *about: Any, **more: Any) -> AsyncIterator[Any]:
        async with super().open_consumer(*about, **more) as consumer:
            fetch = consumer.fetch

            async def stop_too(**wanted: Any) -> Batch:
                found = await fetch(**wanted)
                if found:
                    asyncio.get_running_loop().call_soon(self.runner.stop)
                return found

            consumer.fetch = stop_too  # type: ignore[method-assign]  # with a stop at its end
            yield consumer


async def test_work_that_begins_as_the_stop_comes_is_cut_off_too(desk: Desk) -> None:
    bus = StoppingBus(partitions=1)
    await bus.ensure_topics([DOCUMENTS_UPLOADED])
    bus.append(Outgoing(TOPIC, b"k", b"0", ()))
    ground, ended = Notes(), asyncio.Event()
    ground.drain_seconds = 0.05

    async def endless(batch: Batch) -> None:
        assert batch
        await asyncio.Event().wait()

    async def drain(seconds: float) -> None:
        assert seconds
        ended.set()

    ground.handle = endless  # type: ignore[method-assign]  # one that never ends
    ground.drain = drain  # type: ignore[method-assign]  # one that tells
    async with running(desk, bus, ground) as bus.runner:
        await asyncio.wait_for(ended.wait(), 10)
    assert bus.committed.get("notes", {}) == {}


async def test_a_reactor_goes_on_where_its_group_left_off(desk: Desk) -> None:
    bus = await bus_with(3)
    bus.committed["notes"] = {P0: 2}
    ground = Notes()
    async with running(desk, bus, ground):
        assert await ground.next() == 2
    assert bus.committed["notes"] == {P0: 3}
    assert ground.drained == 1


async def test_a_position_beyond_the_end_ends_the_processor(desk: Desk) -> None:
    bus = await bus_with(2)
    ground = Notes()
    ground.stored = {P0: 9}
    with pytest.raises(LogReplacedError) as caught:
        async with asyncio.timeout(10), running(desk, bus, ground) as runner:
            await asyncio.wait_for(_ended(runner, bus), 10)
    assert caught.value.topic == TOPIC


async def _ended(runner: Runner, bus: MemoryBus) -> None:
    await bus.until(lambda: runner._replaced is not None)


async def test_no_room_pauses_and_room_resumes(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    async with running(desk, bus, ground):
        assert await ground.next() == 0
        ground.free.clear()
        bus.append(Outgoing(TOPIC, b"k", b"x", ()))
        await asyncio.sleep(0)
        ground.free.set()
        assert await ground.next() == 1


async def test_trouble_gives_the_records_back(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    ground.stored = {P0: 0}
    ground.errors = [TransientError(Code.TABLES_UNAVAILABLE, "away")] * 2
    async with running(desk, bus, ground):
        assert await ground.next() == 0


async def test_trouble_leaves_the_work_that_is_held_alone(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    ground.errors = [TransientError(Code.BUS_UNAVAILABLE, "away")]
    async with running(desk, bus, ground):
        assert await ground.next() == 0
        assert ground.drained == 0
    assert ground.drained == 1


class Shaken(DeadLetterLimit):
    """A limit whose first look finds the tables away."""

    looks = 0

    async def is_stopped(self) -> bool:
        self.looks += 1
        if self.looks == 1:
            raise TransientError(Code.TABLES_UNAVAILABLE, "away")
        return await super().is_stopped()


async def test_tables_that_are_away_at_the_start_only_delay(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    limit = Shaken("notes", "1", desk.tables, desk.recorder)
    async with running(desk, bus, ground, limit):
        assert await ground.next() == 0


class Overtaken(Notes):
    """A ground whose position another worker moves at its first batch."""

    async def handle(self, batch: Batch) -> None:
        if self.stored == {P0: 0}:
            self.stored = {P0: 2}
            raise PositionLostError("moved")
        await super().handle(batch)


async def test_a_lost_position_is_read_again(desk: Desk) -> None:
    bus = await bus_with(3)
    ground = Overtaken()
    ground.stored = {P0: 0}
    async with running(desk, bus, ground):
        assert await ground.next() == 2


async def test_a_stopped_processor_waits_for_a_person(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    ground.stored = {P0: 0}
    await desk.tables.write(
        lambda tx: tx.run("positions.stop", processor="notes", version="1", reason="r")
    )
    async with running(desk, bus, ground):
        await desk.rows("positions.stops")
        assert ground.given.empty()
        await desk.tables.write(lambda tx: tx.run("positions.resume", processor="notes"))
        assert await ground.next() == 0


async def test_stopping_after_too_many_dead_letters_leaves_the_group(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    ground.errors = [ProcessorStoppedError("50 of the last 50")]
    async with running(desk, bus, ground):
        assert await ground.next() == 0
        assert ground.drained == 0
    assert ground.drained == 1


async def test_an_outage_of_the_bus_only_delays(desk: Desk) -> None:
    bus = await bus_with(1)
    ground = Notes()
    async with running(desk, bus, ground):
        assert await ground.next() == 0
        bus.set_away(True)
        bus.set_away(False)
        bus.append(Outgoing(TOPIC, b"k", b"x", ()))
        assert await ground.next() == 1
