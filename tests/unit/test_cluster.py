"""Entering a cluster: a new log gets all that the old one held and nobody has seen."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from schemas import events as ev
from schemas.errors import Code, TransientError
from schemas.topics import DOCUMENTS_SUBMITTED, Topic
from services.cluster import enter_cluster, forget_topic
from streams.outbox import put_events
from streams.speakers import read_speakers
from streams.tables.base import Row, Transaction
from tests.fakes import MemoryBus
from tests.harness import Desk, event_of, open_memory_desk
from tests.intake_desk import failing


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_memory_desk() as opened:
        yield opened


async def position(desk: Desk, cluster_id: str) -> list[Row]:
    return await desk.rows("positions.stored", cluster_id=cluster_id, consumer_group="g")


async def store(desk: Desk, cluster_id: str) -> None:
    async def unit(tx: Transaction) -> int:
        return await tx.run(
            "positions.begin",
            cluster_id=cluster_id,
            consumer_group="g",
            topic="jobs.events",
            partition=0,
            next_offset=7,
        )

    await desk.tables.write(unit)


async def due(desk: Desk) -> tuple[int, int]:
    steps = await desk.rows("jobs.due_steps", most=10)
    events = await desk.rows("outbox.any_due")
    return len(steps), len(events)


async def test_a_stop_while_topics_are_made_leaves_no_position_of_the_log_before(
    desk: Desk, memory_bus: MemoryBus
) -> None:
    await store(desk, cluster_id := await memory_bus.cluster_id())
    making, answered = asyncio.Event(), asyncio.Event()
    ensure_topics = memory_bus.ensure_topics

    async def slowly(topics: Sequence[Topic]) -> frozenset[str]:
        made = await ensure_topics(topics)
        making.set()
        await answered.wait()
        return made

    bus = failing(memory_bus, ensure_topics=slowly)
    async with asyncio.timeout(5):
        entering = asyncio.create_task(enter_cluster(bus, desk.tables))
        await making.wait()
        entering.cancel()
        await asyncio.sleep(0)
        answered.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
    assert await position(desk, cluster_id) == []


async def test_a_new_cluster_is_offered_everything_again(desk: Desk, memory_bus: MemoryBus) -> None:
    await enter_cluster(memory_bus, desk.tables)
    await desk.upload()
    await desk.tables.write(lambda tx: put_events(tx, [event_of(ev.RetryDue("j", "acme", 1))]))
    await enter_cluster(memory_bus, desk.tables)
    assert await due(desk) == (0, 0)
    memory_bus.replace()
    await enter_cluster(memory_bus, desk.tables)
    assert await due(desk) == (1, 1)


async def test_topics_of_producers_are_made_or_left_as_they_are(
    desk: Desk, memory_bus: MemoryBus
) -> None:
    theirs = replace(DOCUMENTS_SUBMITTED, name="theirs", partitions=3)
    await memory_bus.ensure_topics([theirs])
    topics = read_speakers("documents.submitted:acme,theirs:acme,missing:acme").topics()
    await enter_cluster(memory_bus, desk.tables, topics)
    await enter_cluster(memory_bus, desk.tables, topics)
    assert await memory_bus.partition_counts(topics) == {
        "documents.submitted": 12,
        "theirs": 3,
        "missing": 12,
    }


async def test_positions_in_a_topic_that_had_to_be_made_are_forgotten(
    desk: Desk, memory_bus: MemoryBus
) -> None:
    cluster_id = await memory_bus.cluster_id()
    await store(desk, cluster_id)
    assert await enter_cluster(memory_bus, desk.tables) == cluster_id
    assert await position(desk, cluster_id) == []


async def test_positions_in_a_shorter_log_can_be_forgotten(
    desk: Desk, memory_bus: MemoryBus
) -> None:
    cluster_id = await enter_cluster(memory_bus, desk.tables)
    await store(desk, cluster_id)
    await forget_topic(desk.tables, cluster_id, "jobs.moved")
    assert len(await position(desk, cluster_id)) == 1
    await forget_topic(desk.tables, cluster_id, "jobs.events")
    assert await position(desk, cluster_id) == []


async def test_a_broker_that_does_not_come_is_told_in_words(
    desk: Desk, memory_bus: MemoryBus
) -> None:
    memory_bus.set_away(True)
    with pytest.raises(TransientError, match="PARSEWIRE_KAFKA_BOOTSTRAP_SERVERS") as caught:
        await enter_cluster(memory_bus, desk.tables, wait_seconds=0.01)
    assert caught.value.code == Code.BUS_UNAVAILABLE
