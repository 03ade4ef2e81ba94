"""Records that aiokafka's own decoder refuses, on the embedded broker and on real Kafka."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from schemas import codec
from schemas.topics import Topic
from streams.bus.base import Consumer, OnRevoked, Partition, Record
from streams.bus.kafka import KafkaBus

LETTERS = Topic("letters", "anything", (), 2, 1)
HERE, THERE = Partition("letters", 0), Partition("letters", 1)
SECONDS = 40.0

NONE, GZIP = 0, 1

Raw = tuple[bytes, tuple[tuple[str, bytes | None], ...]]
"""Value and headers."""


class BrokenName(str):
    """A header's name whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        del encoding, errors
        return b"ce_\xff"


BROKEN: Raw = (b"broken", (("ce_id", b"1"), (BrokenName("n"), b"x"), ("empty", None)))
BROKEN_HEADERS = (
    ("ce_id", b"1"),
    ("ce_\\xff", b"x"),
    ("empty", None),
    ("ce_pwunreadable", b"the name of header 2 is not UTF-8: 63655fff"),
)


def fine(value: bytes) -> Raw:
    return (value, (("ce_id", b"1"),))


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def servers(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_bootstrap"))


@pytest.fixture
async def bus(servers: str, topic_prefix: str) -> KafkaBus:
    bus = KafkaBus(servers, topic_prefix=topic_prefix, session_timeout_seconds=6)
    await bus.ensure_topics([LETTERS])
    return bus


async def write(
    servers: str, topic: str, partition: int, records: Sequence[Raw], compression: int = NONE
) -> None:
    """Write records as one batch, as a producer without scruples does."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        # The compiled builder takes no broken name.
        batch._builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 2**20)
        for value, headers in records:
            batch.append(timestamp=1_700_000_000_000, key=b"k", value=value, headers=list(headers))
        await (await producer.send_batch(batch, topic, partition=partition))


async def nothing(_partitions: frozenset[Partition]) -> None:
    """Go by what the group committed."""


def opened(bus: KafkaBus, on_revoked: OnRevoked = nothing) -> Any:
    return bus.open_consumer("readers", [LETTERS], on_assigned=nothing, on_revoked=on_revoked)


async def read(consumer: Consumer, count: int, max_records: int = 100) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(SECONDS):
        while len(records) < count:
            batches = await consumer.fetch(max_records=max_records, timeout_seconds=1)
            taken = [record for batch in batches.values() for record in batch]
            assert len(taken) <= max_records
            records += taken
    return records


def of(partition: Partition, records: Sequence[Record]) -> list[tuple[int, bytes | None]]:
    return [(record.offset, record.value) for record in records if record.partition == partition]


@pytest.mark.parametrize("compression", [NONE, GZIP])
async def test_a_header_name_that_is_no_text_costs_its_record_alone(
    bus: KafkaBus, servers: str, topic_prefix: str, compression: int
) -> None:
    topic = topic_prefix + "letters"
    await write(
        servers, topic, 0, [fine(b"0"), BROKEN, BROKEN, fine(b"3")], compression=compression
    )
    await write(servers, topic, 0, [BROKEN])
    await write(servers, topic, 1, [fine(b"a"), fine(b"b")])
    async with opened(bus) as consumer:
        records = await read(consumer, 7)
        assert of(HERE, records) == [
            (0, b"0"),
            (1, b"broken"),
            (2, b"broken"),
            (3, b"3"),
            (4, b"broken"),
        ]
        assert of(THERE, records) == [(0, b"a"), (1, b"b")]
        broken = [record for record in records if record.value == b"broken"]
        assert [record.headers for record in broken] == [BROKEN_HEADERS] * 3
        assert {(record.key, record.timestamp_ms) for record in broken} == {
            (b"k", 1_700_000_000_000)
        }
        with pytest.raises(codec.CodecError, match="the name of header 2 is not UTF-8: 63655fff"):
            codec.decode(broken[0].value, broken[0].headers)
        await write(servers, topic, 0, [fine(b"5")])
        await write(servers, topic, 1, [fine(b"c")])
        after = await read(consumer, 2)
        assert of(HERE, after) == [(5, b"5")]
        assert of(THERE, after) == [(2, b"c")]


async def test_reading_around_it_keeps_to_the_bound_and_to_the_position(
    bus: KafkaBus, servers: str, topic_prefix: str
) -> None:
    topic = topic_prefix + "letters"
    await write(servers, topic, 0, [fine(b"0"), BROKEN, fine(b"2"), fine(b"3"), BROKEN])
    await write(servers, topic, 1, [fine(b"a"), fine(b"b")])
    async with opened(bus) as consumer:
        first = await read(consumer, 1, max_records=1)
        committed = {record.partition: record.offset + 1 for record in first}
        await consumer.commit(committed)
    async with opened(bus) as consumer:
        rest = await read(consumer, 6, max_records=1)
        assert sorted(first + rest, key=lambda r: (r.partition, r.offset)) == (
            sorted(await again_from_the_start(consumer), key=lambda r: (r.partition, r.offset))
        )
        assert of(HERE, first + rest) == [
            (0, b"0"),
            (1, b"broken"),
            (2, b"2"),
            (3, b"3"),
            (4, b"broken"),
        ]


async def again_from_the_start(consumer: Consumer) -> list[Record]:
    for partition in (HERE, THERE):
        await consumer.seek_to_start(partition)
    return await read(consumer, 7, max_records=3)


async def test_a_paused_partition_stays_paused_while_another_is_read_around(
    bus: KafkaBus, servers: str, topic_prefix: str
) -> None:
    topic = topic_prefix + "letters"
    async with opened(bus) as consumer:
        await write(servers, topic, 1, [fine(b"a")])
        assert of(THERE, await read(consumer, 1)) == [(0, b"a")]
        consumer.pause(frozenset({THERE}))
        await write(servers, topic, 1, [fine(b"b")])
        await write(servers, topic, 0, [BROKEN, fine(b"1")])
        records = await read(consumer, 2)
        assert [record.partition for record in records] == [HERE, HERE]
        consumer.resume(frozenset({THERE}))
        assert of(THERE, await read(consumer, 1)) == [(1, b"b")]
