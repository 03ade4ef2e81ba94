"""A process: told to stop at any moment it ends, and so it does when its relay breaks."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code, TransientError
from schemas.topics import TOPICS
from services.process import RelayEndedError, open_relayed, unless_stopped
from streams.outbox import put_events
from streams.tables.base import OnCommit, T, Unit
from tests.fakes import MemoryBus
from tests.harness import Desk, event_of, open_memory_desk


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Failing:
    """Tables whose every use fails alike, from when they are told to."""

    def __init__(self, desk: Desk, error: Exception) -> None:
        self.desk = desk
        self.error = error
        self.failing = False

    async def write(self, unit: Unit[T]) -> T:
        if self.failing:
            raise self.error
        return await self.desk.tables.write(unit)

    async def read(self, unit: Unit[T]) -> T:
        if self.failing:
            raise self.error
        return await self.desk.tables.read(unit)

    def on_commit(self, listener: OnCommit) -> None:
        self.desk.tables.on_commit(listener)


async def test_a_relay_that_breaks_ends_the_process(desk: Desk) -> None:
    tables = Failing(desk, sqlite3.IntegrityError("a defect"))
    tables.failing = True
    with pytest.raises(RelayEndedError):
        async with asyncio.timeout(10), open_relayed(tables, MemoryBus(), desk.recorder):
            await asyncio.Event().wait()


async def test_what_ends_the_process_is_not_hidden_by_its_relay(desk: Desk) -> None:
    with pytest.raises(KeyError):
        async with open_relayed(desk.tables, MemoryBus(), desk.recorder):
            raise KeyError("mine")


async def test_tables_that_are_away_at_the_end_are_no_defect(desk: Desk) -> None:
    tables = Failing(desk, TransientError(Code.TABLES_UNAVAILABLE, "away"))
    bus = MemoryBus(partitions=1)
    await bus.ensure_topics(TOPICS)
    async with asyncio.timeout(10), open_relayed(tables, bus, desk.recorder):
        tables.failing = True
        told = event_of(ev.RetryDue("j", "acme", 1))
        await desk.tables.write(lambda tx: put_events(tx, [told]))
        await bus.until(lambda: len(bus.records("jobs.events")) == 1)
    assert len(await desk.rows("outbox.depth")) == 1


async def test_work_is_done_unless_the_process_is_told_to_stop() -> None:
    stopping = asyncio.Event()
    assert await unless_stopped(asyncio.sleep(0, "done"), stopping) == "done"

    async def broken() -> None:
        raise TransientError(Code.BUS_UNAVAILABLE, "no broker")

    with pytest.raises(TransientError, match="no broker"):
        await unless_stopped(broken(), stopping)


async def test_work_under_way_is_cut_off_when_the_process_is_told_to_stop() -> None:
    stopping, ended = asyncio.Event(), asyncio.Event()

    async def long_work() -> str:
        stopping.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "done"

    async with asyncio.timeout(10):
        assert await unless_stopped(long_work(), stopping) is None
    assert ended.is_set()
