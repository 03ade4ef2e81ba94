"""A fold's batch in parts: a transaction each, in order, and none after a rebalance."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import pytest
import pytest_asyncio

from schemas.events import Event, ParseStarted
from schemas.topics import JOBS_EVENTS, Topic
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.processor import Batch, PositionLostError
from streams.tables.base import OnCommit, T, Tables, Transaction, Unit
from tests.harness import Desk, event_of, open_memory_desk, record_of

P0, P1 = Partition("jobs.events", 0), Partition("jobs.events", 1)
BOTH = frozenset({P0, P1})


class Noting:
    """A fold that notes what it is given."""

    name = "noting"
    topics: tuple[Topic, ...] = (JOBS_EVENTS,)

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.given: list[list[str]] = []

    async def apply(
        self,
        tx: Transaction,  # noqa: ARG002 - a fold's contract
        events: Sequence[Event],
    ) -> None:
        ids = [event.id for event in events]
        if set(ids) & set(self.broken):
            raise KeyError("broken")
        self.given.append(ids)


class Rebalanced:
    """Tables of a worker to whom something happens once its first transaction is over."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.then: Callable[[], Awaitable[object]] | None = None

    async def write(self, unit: Unit[T]) -> T:
        try:
            return await self._desk.tables.write(unit)
        finally:
            then, self.then = self.then, None
            if then is not None:
                await then()

    async def read(self, unit: Unit[T]) -> T:
        return await self._desk.tables.read(unit)

    def on_commit(self, listener: OnCommit) -> None:
        self._desk.tables.on_commit(listener)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


def ground_of(desk: Desk, fold: Noting, tables: Tables | None = None) -> FoldGround:
    tables = tables or desk.tables
    limit = DeadLetterLimit("noting", "1", tables, desk.recorder)
    return FoldGround(fold, tables, "cluster", limit, desk.recorder)


def records_of(partition: Partition, ids: Sequence[str]) -> list[Record]:
    body = ParseStarted("j", "acme", 1, "w")
    made = []
    for offset, event_id in enumerate(ids):
        event = Event(event_id, "/test", event_of(body).time, body)
        made.append(record_of(event, partition.topic, offset, partition.number))
    return made


FIRST = [f"a{n}" for n in range(300)]
SECOND = [f"b{n}" for n in range(400)]


def whole() -> Batch:
    return {P0: records_of(P0, FIRST), P1: records_of(P1, SECOND)}


async def test_a_large_batch_is_applied_in_parts_and_in_order(desk: Desk) -> None:
    fold = Noting()
    ground = ground_of(desk, fold)
    await ground.positions(BOTH)
    assert ground.room() == 1024
    await ground.handle(whole())
    assert [len(ids) for ids in fold.given] == [256, 256, 188]
    assert [one for ids in fold.given for one in ids] == FIRST + SECOND
    assert await ground.positions(BOTH) == {P0: 300, P1: 400}


async def test_a_part_that_fails_is_applied_by_the_record_and_the_others_whole(desk: Desk) -> None:
    fold = Noting("b1")
    ground = ground_of(desk, fold)
    await ground.positions(BOTH)
    await ground.handle(whole())
    assert [len(ids) for ids in fold.given] == [256, *[1] * 255, 188]
    assert [one for ids in fold.given for one in ids] == [*FIRST, "b0", *SECOND[2:]]
    (letter,) = await desk.rows("positions.letters", before=10, most=10)
    assert (letter["partition"], letter["record_offset"]) == (1, 1)
    assert await ground.positions(BOTH) == {P0: 300, P1: 400}


async def test_what_is_left_of_a_batch_is_fetched_anew_after_a_rebalance(desk: Desk) -> None:
    fold, tables = Noting(), Rebalanced(desk)
    ground = ground_of(desk, fold, tables)
    await ground.positions(BOTH)
    tables.then = partial(ground.positions, BOTH)
    with pytest.raises(PositionLostError):
        await ground.handle(whole())
    assert [len(ids) for ids in fold.given] == [256]
    assert await ground.positions(BOTH) == {P0: 256, P1: None}
    await ground.handle({P0: records_of(P0, FIRST)[256:], P1: records_of(P1, SECOND)})
    assert [one for ids in fold.given for one in ids] == FIRST + SECOND


async def test_what_fails_is_not_applied_by_the_record_after_a_rebalance(desk: Desk) -> None:
    """Another worker had the partition meanwhile and went on: its position stays."""
    fold, other_fold, tables = Noting("a1"), Noting("a1"), Rebalanced(desk)
    ground, other = ground_of(desk, fold, tables), ground_of(desk, other_fold)
    await ground.positions(BOTH)

    async def had_meanwhile() -> None:
        await other.positions(BOTH)
        await other.handle({P0: records_of(P0, FIRST[:20])})
        await ground.positions(BOTH)

    tables.then = had_meanwhile
    with pytest.raises(PositionLostError):
        await ground.handle({P0: records_of(P0, FIRST[:10])})
    assert fold.given == []
    assert await ground.positions(BOTH) == {P0: 20, P1: None}
