"""A second client's view of our topics: every record, read by confluent-kafka."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

_WAIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as somebody else reads it."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: dict[str, str]

    @property
    def type(self) -> str:
        """Tell its CloudEvents type."""
        return self.headers["ce_type"]


async def read_topic(servers: str, topic: str) -> list[Seen]:
    """Read a topic from its start to its present end, partition by partition."""
    return await asyncio.to_thread(_read, servers, topic)


def _read(servers: str, topic: str) -> list[Seen]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"reader-of-{topic}",
            "enable.auto.commit": False,
        }
    )
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in numbers
        }
        wanted = sum(ends.values())
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
        found: list[Seen] = []
        end = time.monotonic() + _WAIT_SECONDS
        while len(found) < wanted and time.monotonic() < end:
            found += [_seen(message) for message in consumer.consume(500, timeout=1)]
    finally:
        consumer.close()
    assert len(found) >= wanted, f"{len(found)} of {wanted} records of {topic} were read"
    return sorted(found, key=lambda record: (record.partition, record.offset))


def _seen(message: Any) -> Seen:
    assert message.error() is None, message.error()
    headers = {name: raw.decode() for name, raw in message.headers() or ()}
    key = (message.key() or b"").decode()
    return Seen(message.partition(), message.offset(), key, message.value(), headers)
