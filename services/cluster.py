"""Entering a cluster: its topics are there, and what an earlier log knew is offered again."""

import asyncio
from collections.abc import Sequence

import structlog

from schemas.errors import Code, TransientError
from schemas.topics import TOPICS, Topic
from services.config import PREFIX
from streams.backoff import Backoff
from streams.bus.base import Bus
from streams.tables.base import Tables, Transaction

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 60.0


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
            made = await Backoff().retry(lambda: _make_topics(bus, more), TransientError)
    except TimeoutError:
        raise TransientError(
            Code.BUS_UNAVAILABLE,
            f"no broker has let us in within {wait_seconds:g} s: see whether it runs where "
            f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS says, and what was logged of it",
        ) from None

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
    return cluster_id


async def _make_topics(bus: Bus, more: Sequence[Topic]) -> frozenset[str]:
    more = [topic for topic in more if topic.name not in {own.name for own in TOPICS}]
    there = await bus.partition_counts(more) if more else {}
    return await bus.ensure_topics([*TOPICS, *(topic for topic in more if topic.name not in there)])


async def forget_topic(tables: Tables, cluster_id: str, topic: str) -> None:
    """Forget the positions in a topic whose log is shorter than they say."""
    await tables.write(lambda tx: tx.run("positions.forget", cluster_id=cluster_id, topic=topic))
