"""Interleavings that once broke a promise: rebalances, outages and jumps at the worst moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.job import State
from schemas.topics import TOPICS
from streams.bus.base import Partition, Record
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.job_state import JobState
from streams.leases import Leases
from streams.outbox import put_events
from streams.processor import PositionLostError
from streams.relay import Relay
from streams.sweeper import Sweeper
from streams.tables.base import OnCommit, T, Tables, Transaction, Unit
from tests.fakes import MemoryBus
from tests.harness import TIMINGS, Desk, event_of, open_memory_desk, record_of

P0, P1 = Partition("jobs.events", 0), Partition("jobs.events", 1)
RESULT = ev.BlobRef("acme/j/1/result", "b" * 64, 5)


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


class Queueing:
    """Tables whose writers wait for their turn until it is given."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.waits = asyncio.Event()
        self.turn = asyncio.Event()

    async def write(self, unit: Unit[T]) -> T:
        self.waits.set()
        await self.turn.wait()
        return await self.desk.tables.write(unit)

    async def read(self, unit: Unit[T]) -> T:
        return await self.desk.tables.read(unit)

    def on_commit(self, listener: OnCommit) -> None:
        self.desk.tables.on_commit(listener)


def ground_of(desk: Desk, tables: Tables | None = None) -> FoldGround:
    limit = DeadLetterLimit("job_state", "1", desk.tables, desk.recorder)
    fold = JobState(TIMINGS, chance=lambda: 0.5)
    return FoldGround(fold, tables or desk.tables, "cluster", limit, desk.recorder)


def succeeded(job_id: str) -> ev.ParseSucceeded:
    return ev.ParseSucceeded(job_id, "acme", 1, RESULT, "liteparse", "2", 3)


def batch_of(job_id: str, offset: int = 0) -> dict[Partition, Sequence[Record]]:
    return {P0: [record_of(event_of(succeeded(job_id)), "jobs.events", offset)]}


async def test_a_partition_lost_while_its_batch_waits_is_no_defect(desk: Desk) -> None:
    job = (await desk.upload()).job
    tables = Queueing(desk)
    ground, heir = ground_of(desk, tables), ground_of(desk)
    await ground.positions(frozenset({P0, P1}))
    await heir.positions(frozenset({P0}))
    handling = asyncio.create_task(ground.handle(batch_of(job.id)))
    await tables.waits.wait()
    await ground.positions(frozenset({P1}))
    await heir.handle(batch_of(job.id))
    tables.turn.set()
    with pytest.raises(PositionLostError):
        await asyncio.wait_for(handling, 5)
    assert await desk.rows("positions.letters", before=10, most=10) == []
    with pytest.raises(PositionLostError):
        await ground.handle(batch_of(job.id, 1))


async def test_a_batch_that_waited_goes_by_the_position_that_it_was_read_at(desk: Desk) -> None:
    """The partition goes to another worker, who reads on, and comes back before the turn."""
    first, second = (await desk.upload(1)).job, (await desk.upload(2)).job
    tables = Queueing(desk)
    ground, heir = ground_of(desk, tables), ground_of(desk)
    await ground.positions(frozenset({P0}))
    await heir.positions(frozenset({P0}))
    handling = asyncio.create_task(ground.handle(batch_of(first.id)))
    await tables.waits.wait()
    await heir.handle(batch_of(first.id))
    await heir.handle(batch_of(second.id, 1))
    await ground.positions(frozenset({P0}))
    tables.turn.set()
    with pytest.raises(PositionLostError):
        await asyncio.wait_for(handling, 5)
    assert await ground.positions(frozenset({P0})) == {P0: 2}
    assert (await desk.job(second.id)).state is State.COMPLETE


async def claim(desk: Desk, job_id: str, owner: str = "w") -> None:
    values = {"job_id": job_id, "attempt": 1, "stage": "parse", "owner": owner}

    async def unit(tx: Transaction) -> int:
        return await tx.run("attempts.claim", lease_ms=TIMINGS.lease_ms, **values)

    assert await desk.tables.write(unit) == 1


def sweeper_of(desk: Desk, tables: Tables | None = None) -> Sweeper:
    return Sweeper(tables or desk.tables, TIMINGS, desk.recorder, every_seconds=1)


async def let_sweep(desk: Desk, sweeper: Sweeper, seconds: int) -> list[ev.Body]:
    """Let a tick happen every two seconds, and give what was said."""
    for _ in range(0, seconds, 2):
        desk.clock.pass_ms(2_000)
        await sweeper.tick()
    return [event.body for event in desk.said()]


async def test_a_lease_renewed_while_the_sweeper_waits_for_its_turn_lives(desk: Desk) -> None:
    job = (await desk.upload()).job
    await claim(desk, job.id)
    leases = Leases(desk.tables, "w", TIMINGS.lease_ms, renew_seconds=1)
    leases.hold((job.id, 1, "parse"), on_lost=desk.announced.clear)
    tables = Queueing(desk)
    sweeper = sweeper_of(desk, tables)
    tables.turn.set()
    await let_sweep(desk, sweeper, 14)
    await leases.renew()
    await let_sweep(desk, sweeper, 14)
    desk.clock.pass_ms(2_000)
    tables.waits.clear()
    tables.turn.clear()
    ticking = asyncio.create_task(sweeper.tick())
    await tables.waits.wait()
    await leases.renew()
    desk.clock.pass_ms(2_000)
    tables.turn.set()
    await asyncio.wait_for(ticking, 5)
    assert desk.said() == []


async def test_after_a_long_wait_for_the_tables_no_lease_is_judged(desk: Desk) -> None:
    """Whoever renews leases has waited as long."""
    job = (await desk.upload()).job
    tables = Queueing(desk)
    sweeper = sweeper_of(desk, tables)
    tables.turn.set()
    await let_sweep(desk, sweeper, 14)
    await claim(desk, job.id)
    await let_sweep(desk, sweeper, 16)
    assert desk.said() == []
    tables.waits.clear()
    tables.turn.clear()
    ticking = asyncio.create_task(sweeper.tick())
    await tables.waits.wait()
    desk.clock.pass_ms(20_000)
    tables.turn.set()
    await asyncio.wait_for(ticking, 5)
    assert desk.said() == []
    (lost,) = await let_sweep(desk, sweeper, 20)
    assert isinstance(lost, ev.ParseFailed)


async def test_a_machine_that_slept_gives_its_workers_a_lease_to_renew(desk: Desk) -> None:
    """A process's monotonic clock stands still meanwhile; the table's does not."""
    job = (await desk.upload()).job
    await claim(desk, job.id)
    sweeper = sweeper_of(desk)
    await let_sweep(desk, sweeper, 10)
    desk.said()
    desk.clock.pass_ms(8 * 3_600_000)
    await sweeper.tick()
    assert await let_sweep(desk, sweeper, 14) == []
    (lost,) = await let_sweep(desk, sweeper, 4)
    assert isinstance(lost, ev.ParseFailed)


async def test_a_fold_that_is_away_for_hours_finds_no_flood(desk: Desk) -> None:
    job = (await desk.upload()).job
    late = ev.ParseFailed(job.id, "acme", 1, "parse_timeout", "m", transient=True)
    ground = ground_of(desk)
    await ground.positions(frozenset({P0}))
    await ground.handle({P0: [record_of(event_of(late), "jobs.events")]})
    desk.said()
    said = 0
    for _ in range(8 * 120):
        desk.clock.pass_ms(30_000)
        await sweeper_of(desk).tick()
        said += len(desk.said())
    assert said == 14


async def test_an_attempt_that_its_owner_does_not_hold_expires(desk: Desk) -> None:
    """As after a claim whose answer was lost, or an end that could not be written."""
    held, orphan = (await desk.upload(1)).job, (await desk.upload(2)).job
    await claim(desk, held.id)
    await claim(desk, orphan.id)
    leases = Leases(desk.tables, "w", TIMINGS.lease_ms, renew_seconds=1)
    leases.hold((held.id, 1, "parse"), on_lost=desk.announced.clear)
    sweeper = sweeper_of(desk)
    desk.said()
    for _ in range(20):
        desk.clock.pass_ms(2_000)
        await leases.renew()
        await sweeper.tick()
    assert [
        (e.body.job_id, e.body.code) for e in desk.said() if isinstance(e.body, ev.ParseFailed)
    ] == [(orphan.id, "worker_lost")]


async def test_what_was_sent_when_the_process_ends_is_noted(desk: Desk) -> None:
    tables, bus = Queueing(desk), MemoryBus(partitions=1)
    await bus.ensure_topics(TOPICS)
    relay = Relay(tables, bus, desk.recorder, flush_seconds=0.01)
    running = asyncio.create_task(relay.run())
    moved = event_of(ev.JobMoved("j", "acme", 1, "d", "uploaded", "parsing"))
    await desk.tables.write(lambda tx: put_events(tx, [moved]))
    await asyncio.wait_for(tables.waits.wait(), 5)
    running.cancel()
    await asyncio.wait({running})
    tables.turn.set()
    await relay.close(5)
    (outbox,) = await desk.rows("outbox.depth")
    assert outbox["events"] == 0
