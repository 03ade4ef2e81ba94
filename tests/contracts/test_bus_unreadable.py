"""Records that aiokafka's own decoder refuses, on the embedded broker and on real Kafka."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Producer

from schemas import codec
from schemas.topics import Topic
from streams.bus.base import Consumer, OnRevoked, Partition, Record
from streams.bus.kafka import KafkaBus

LETTERS = Topic("letters", "anything", (), 2, 1)
HERE, THERE = Partition("letters", 0), Partition("letters", 1)
SECONDS = 40.0

NONE, GZIP, ZSTD = 0, 1, 4

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
    bus = KafkaBus(servers, topic_prefix=topic_prefix, session_timeout_seconds=3)
    await bus.ensure_topics([LETTERS])
    return bus


class Liar(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]  # aiokafka has no types
    """Says that it has packed its records."""

    def _maybe_compress(self) -> bool:
        return True


async def write(
    servers: str,
    topic: str,
    partition: int,
    records: Sequence[Raw],
    compression: int = NONE,
    builder: type[_DefaultRecordBatchBuilderPy] = _DefaultRecordBatchBuilderPy,
) -> None:
    """Write records as one batch, as a producer without scruples does."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        # The compiled builder takes no broken name.
        batch._builder = builder(2, compression, 0, -1, -1, -1, 2**20)
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


PACKINGS = pytest.mark.parametrize("packing", ["gzip", "snappy", "lz4", "zstd"])


async def three_are_read(bus: KafkaBus, value: bytes) -> None:
    async with opened(bus) as consumer:
        assert of(HERE, await read(consumer, 3)) == [(0, value), (1, value), (2, value)]


@PACKINGS
async def test_whatever_a_producer_packs_with_is_read(
    bus: KafkaBus, servers: str, topic_prefix: str, packing: str
) -> None:
    value = b"packed with " + packing.encode() + bytes(3_000)
    async with AIOKafkaProducer(bootstrap_servers=servers, compression_type=packing) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic_prefix + "letters", value, partition=0)
    await three_are_read(bus, value)


@pytest.mark.kafka
@PACKINGS
async def test_whatever_librdkafka_packs_with_is_read(
    kafka_bootstrap: str, topic_prefix: str, packing: str
) -> None:
    bus = KafkaBus(kafka_bootstrap, topic_prefix=topic_prefix, session_timeout_seconds=3)
    await bus.ensure_topics([LETTERS])
    value = b"packed with " + packing.encode() + bytes(3_000)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "compression.type": packing})
    for _ in range(3):
        producer.produce(topic_prefix + "letters", value, partition=0)
    assert await asyncio.to_thread(producer.flush, 20) == 0
    await three_are_read(bus, value)


def batch_in(record: Record, reason: str) -> None:
    """Check that the record stands for a batch, and says why it does."""
    assert record.key is None
    assert [name for name, _ in record.headers] == ["ce_pwunreadable"]
    with pytest.raises(codec.CodecError, match=f"a batch that cannot be unpacked: {reason}"):
        codec.decode(record.value, record.headers)


async def test_a_batch_that_is_huge_unpacked_costs_itself_alone(
    bus: KafkaBus, servers: str, topic_prefix: str
) -> None:
    topic = topic_prefix + "letters"
    bomb = (bytes(20_000_000), ())
    await write(servers, topic, 0, [fine(b"0")])
    await write(servers, topic, 0, [bomb], compression=GZIP)
    await write(servers, topic, 0, [fine(b"2")])
    await write(servers, topic, 1, [fine(b"a"), fine(b"b")])
    async with opened(bus) as consumer:
        records = await read(consumer, 5)
    here = sorted((r for r in records if r.partition == HERE), key=lambda record: record.offset)
    assert [record.offset for record in here] == [0, 1, 2]
    assert (here[0].value, here[2].value) == (b"0", b"2")
    batch_in(here[1], "gzip of more than 16777216 bytes")
    # What is kept for people to see is what its producer sent, not what it grows to.
    assert 19_000 < len(here[1].value or b"") < 21_000
    assert of(THERE, records) == [(0, b"a"), (1, b"b")]


@pytest.mark.embedded
@pytest.mark.parametrize(("packing", "reason"), [(GZIP, "broken gzip"), (ZSTD, "broken zstd")])
async def test_a_batch_that_is_not_packed_as_it_says_costs_itself_alone(
    embedded_bootstrap: str, topic_prefix: str, packing: int, reason: str
) -> None:
    servers, topic = embedded_bootstrap, topic_prefix + "letters"
    bus = KafkaBus(servers, topic_prefix=topic_prefix, session_timeout_seconds=3)
    await bus.ensure_topics([LETTERS])
    await write(servers, topic, 0, [fine(b"0"), fine(b"1")], packing, Liar)
    await write(servers, topic, 0, [fine(b"2")])
    await write(servers, topic, 1, [fine(b"a")])
    async with opened(bus) as consumer:
        records = await read(consumer, 3)
        await consumer.commit({record.partition: record.offset + 1 for record in records})
    async with opened(bus) as consumer:
        assert not await consumer.fetch(max_records=10, timeout_seconds=2)
    stands_for_both, after = [record for record in records if record.partition == HERE]
    batch_in(stands_for_both, reason)
    assert (stands_for_both.offset, after.offset, after.value) == (1, 2, b"2")
    assert of(THERE, records) == [(0, b"a")]


@pytest.mark.kafka
@pytest.mark.parametrize("read_around", [False, True])
async def test_what_a_transaction_took_back_was_never_said(
    kafka_bootstrap: str, topic_prefix: str, *, read_around: bool
) -> None:
    servers, topic = kafka_bootstrap, topic_prefix + "letters"
    bus = KafkaBus(servers, topic_prefix=topic_prefix, session_timeout_seconds=3)
    await bus.ensure_topics([LETTERS])

    def transactions() -> Producer:
        producer = Producer({"bootstrap.servers": servers, "transactional.id": topic_prefix})
        producer.init_transactions(30)
        for value, end in (
            (b"no", producer.abort_transaction),
            (b"yes", producer.commit_transaction),
        ):
            producer.begin_transaction()
            producer.produce(topic, value, partition=0)
            producer.flush(20)
            end(20)
        producer.begin_transaction()
        producer.produce(topic, b"who knows", partition=0)
        producer.flush(20)
        return producer

    if read_around:
        await write(servers, topic, 0, [BROKEN])
    first = 1 if read_around else 0
    producer = await asyncio.to_thread(transactions)
    async with opened(bus) as consumer:
        records = await read(consumer, 1 + first)
        assert of(HERE, records)[first:] == [(first + 2, b"yes")]
        assert not await consumer.fetch(max_records=10, timeout_seconds=2)
        assert (await consumer.lag())[HERE].messages == 0
        await asyncio.to_thread(producer.commit_transaction, 20)
        assert of(HERE, await read(consumer, 1)) == [(first + 4, b"who knows")]
