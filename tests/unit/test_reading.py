"""Reading beside a broker that goes away, comes back, or is replaced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from schemas.errors import TransientError
from schemas.topics import JOBS_MOVED
from services.cli.reading import Reading, open_reading
from streams.bus.base import Outgoing, Record
from tests.fakes import MemoryBus

SECONDS = 20.0


class Reader:
    """What was read, and what was said of outages."""

    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.said: list[str] = []
        self._changed = asyncio.Event()

    def take(self, record: Record) -> None:
        self.values.append(record.value)
        self._changed.set()

    def trouble(self, line: str) -> None:
        self.said.append(line)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @asynccontextmanager
    async def open(self, bus: MemoryBus, *, from_start: bool = False) -> AsyncIterator[None]:
        reading = Reading(
            lambda: bus, [JOBS_MOVED], self.take, from_start=from_start, trouble=self.trouble
        )
        async with open_reading(reading):
            yield


def write(bus: MemoryBus, *values: bytes) -> None:
    for value in values:
        bus.append(Outgoing("jobs.moved", value, value, ()))


async def test_what_was_there_before_is_left_out_unless_asked_for(memory_bus: MemoryBus) -> None:
    await memory_bus.ensure_topics([JOBS_MOVED])
    write(memory_bus, b"old")
    late, early = Reader(), Reader()
    async with late.open(memory_bus), early.open(memory_bus, from_start=True):
        write(memory_bus, b"new")
        await late.until(lambda: b"new" in late.values)
        await early.until(lambda: len(early.values) == 2)
    assert late.values == [b"new"]
    assert sorted(filter(None, early.values)) == [b"new", b"old"]


async def test_an_outage_loses_nothing_and_is_said_once(memory_bus: MemoryBus) -> None:
    await memory_bus.ensure_topics([JOBS_MOVED])
    reader = Reader()
    async with reader.open(memory_bus):
        write(memory_bus, b"before")
        await reader.until(lambda: reader.values == [b"before"])
        memory_bus.set_away(True)
        await reader.until(lambda: len(reader.said) == 1)
        # Nobody reads these partitions yet, and none of them may begin at its end again.
        write(memory_bus, *(b"%d" % number for number in range(40)))
        memory_bus.set_away(False)
        await reader.until(lambda: len(reader.values) == 41)
    assert sorted(filter(None, reader.values[1:])) == sorted(b"%d" % n for n in range(40))
    assert reader.said == [
        "the memory bus is away: trying again until it is back",
        "the broker is there: reading on",
    ]


async def test_another_cluster_is_read_from_its_start(memory_bus: MemoryBus) -> None:
    await memory_bus.ensure_topics([JOBS_MOVED])
    reader = Reader()
    async with reader.open(memory_bus):
        write(memory_bus, b"before")
        await reader.until(lambda: reader.values == [b"before"])
        memory_bus.set_away(True)
        await reader.until(lambda: len(reader.said) == 1)
        memory_bus.replace()
        memory_bus.set_away(False)
        await memory_bus.ensure_topics([JOBS_MOVED])
        write(memory_bus, b"after")
        await reader.until(lambda: reader.values == [b"before", b"after"])
    assert "another cluster is there: its topics are read from their start" in reader.said


@pytest.mark.parametrize("from_start", [True, False])
async def test_who_finds_nothing_at_first_is_told_so(
    memory_bus: MemoryBus, *, from_start: bool
) -> None:
    with pytest.raises(TransientError, match=r"no topic jobs\.moved under this prefix"):
        async with Reader().open(memory_bus, from_start=from_start):
            pytest.fail("it was not ready")
    memory_bus.set_away(True)
    with pytest.raises(TransientError, match="is away"):
        async with Reader().open(memory_bus, from_start=from_start):
            pytest.fail("it was not ready")
