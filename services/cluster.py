"""Entering a cluster: its topics are there, and what an earlier log knew is offered again."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from schemas.errors import Code, TransientError
from schemas.topics import TOPICS, Topic
from services.config import PREFIX
from streams.backoff import Backoff
from streams.bus.base import Bus
from streams.tables.base import Tables, Transaction

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 60.0
_REST_SECONDS = 10.0


async def enter_cluster(
    bus: Bus,
    tables: Tables,
    more: Sequence[Topic] = (),
    *,
    wait_seconds: float = _WAIT_SECONDS,
) -> str:
    """Make the missing topics and give the cluster's id; wait a minute for an absent broker.

    Those of `more` that are there are others' and stay as they are, however many partitions.

    Where the cluster or a topic is new, positions in it are forgotten, every event in the outbox
    is due to be sent and every waiting document to be offered: what the log before held is gone.
    Raise TransientError(BUS_UNAVAILABLE) where the wait was in vain.
    """
    try:
        async with asyncio.timeout(wait_seconds):
            cluster_id = await Backoff().retry(bus.cluster_id, TransientError)
            # A topic that is made and not noted would be read from the old one's position.
            await _to_its_end(_make_and_note(bus, tables, cluster_id, more))
    except TimeoutError:
        raise TransientError(
            Code.BUS_UNAVAILABLE,
            f"no broker has let us in within {wait_seconds:g} s: see whether it runs where "
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS says, and what was logged of it",
        ) from None
    return cluster_id


async def _make_and_note(bus: Bus, tables: Tables, cluster_id: str, more: Sequence[Topic]) -> None:
    made = await Backoff().retry(lambda: _make_topics(bus, more), TransientError)

    async def unit(tx: Transaction) -> int:
        new = await tx.run("positions.meet_cluster", cluster_id=cluster_id)
        for topic in made:
            await tx.run("positions.forget", cluster_id=cluster_id, topic=topic)
        if not new and not made:
            return 0
        # What the old log had acknowledged and no fold has seen is in the outbox alone.
        await tx.run("outbox.resend_all_now")
        return await tx.run("jobs.offer_all_now")

    offered = await tables.write(unit)
    log.info("cluster_entered", cluster=cluster_id, topics_made=len(made), offered_again=offered)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do what must not be left half done: who is cut off meanwhile waits a while for it."""
    working = asyncio.ensure_future(work)
    try:
        await asyncio.shield(working)
    finally:
        await asyncio.wait({working}, timeout=_REST_SECONDS)
        working.cancel()


async def _make_topics(bus: Bus, more: Sequence[Topic]) -> frozenset[str]:
    more = [topic for topic in more if topic.name not in {own.name for own in TOPICS}]
    there = await bus.partition_counts(more) if more else {}
    return await bus.ensure_topics([*TOPICS, *(topic for topic in more if topic.name not in there)])


async def forget_topic(tables: Tables, cluster_id: str, topic: str) -> None:
    """Forget the positions in a topic whose log is shorter than they say."""
    await tables.write(lambda tx: tx.run("positions.forget", cluster_id=cluster_id, topic=topic))
