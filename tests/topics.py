"""A second client at our topics: reads every record, writes any, by confluent-kafka."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

_WAIT_SECONDS = 20.0

Headers = list[tuple[str, str | bytes | None]]
Raw = tuple[bytes | None, bytes | None, Headers]
"""Key, value, headers."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as somebody else reads it."""

    partition: int
    offset: int
    key: str
    value: bytes
    raw_headers: Headers
    raw_key: bytes | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Give its headers as text."""
        return {name: raw.decode() for name, raw in self.raw_headers if isinstance(raw, bytes)}

    @property
    def type(self) -> str:
        """Tell its CloudEvents type."""
        return self.headers["ce_type"]


async def read_topic(servers: str, topic: str) -> list[Seen]:
    """Read a topic from its start to its present end, partition by partition."""
    return await asyncio.to_thread(_read, servers, topic)


async def write_records(
    servers: str,
    topic: str,
    records: Sequence[Raw],
) -> None:
    """Write records as they are."""
    await asyncio.to_thread(_write, servers, topic, records)


async def forget_records(servers: str, topic: str, partition: int, before_offset: int) -> None:
    """Delete a partition's records before an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": servers})
    futures = admin.delete_records([TopicPartition(topic, partition, before_offset)])
    for future in futures.values():
        await asyncio.to_thread(future.result, _WAIT_SECONDS)


def _write(
    servers: str,
    topic: str,
    records: Sequence[Raw],
) -> None:
    # The partition of a key as aiokafka chooses it.
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random"})
    for key, value, headers in records:
        producer.produce(topic, key=key, value=value, headers=headers)
    left = producer.flush(_WAIT_SECONDS)
    assert left == 0, f"{left} records were not written"


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
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            for number in numbers
        }
        wanted = sum(end - start for start, end in ends.values())
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
    key = (message.key() or b"").decode(errors="replace")
    headers = list(message.headers() or ())
    raw = message.key()
    return Seen(message.partition(), message.offset(), key, message.value(), headers, raw)
