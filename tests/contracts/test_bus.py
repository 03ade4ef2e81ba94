"""What every bus must do: in memory, on the embedded broker, on real Kafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from msgspec import structs

from schemas.errors import Code, PermanentError, TransientError
from schemas.topics import JOBS_MOVED, MAX_RECORD_BYTES, Topic
from services.embedded_broker import free_port, open_embedded_broker, start_embedded_broker
from streams.bus.base import Bus, Consumer, Outgoing, Partition, Record, StaleLogError
from streams.bus.kafka import KafkaBus
from tests.fakes import MemoryBus

LETTERS = Topic("letters", "anything", (), 2, 1)
SECONDS = 40.0


@pytest.fixture(
    params=[
        "memory",
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def bus(request: pytest.FixtureRequest, topic_prefix: str) -> Bus:
    if request.param == "memory":
        return MemoryBus()
    servers = request.getfixturevalue(f"{request.param}_bootstrap")
    session_seconds = 2 if request.param == "embedded" else 6
    return KafkaBus(servers, topic_prefix=topic_prefix, session_timeout_seconds=session_seconds)


class Member:
    """A member of a group that notes what it is told."""

    def __init__(self, start: str = "") -> None:
        self.consumer: Consumer | None = None
        self.assigned: asyncio.Queue[frozenset[Partition]] = asyncio.Queue()
        self.revoked: list[frozenset[Partition]] = []
        self.start = start

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        assert self.consumer is not None
        for partition in partitions if self.start else ():
            await self.consumer.seek_to_start(partition)
        self.assigned.put_nowait(partitions)

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        self.revoked.append(partitions)

    @asynccontextmanager
    async def join(self, bus: Bus, group: str = "readers") -> AsyncIterator[Consumer]:
        async with bus.open_consumer(
            group, [LETTERS], on_assigned=self.on_assigned, on_revoked=self.on_revoked
        ) as consumer:
            self.consumer = consumer
            yield consumer


async def send(bus: Bus, *values: bytes, key: bytes | None = b"k") -> None:
    async with bus.open_producer() as producer:
        for value in values:
            await producer.send(Outgoing("letters", key, value, ()))


async def read(consumer: Consumer, count: int) -> list[Record]:
    """Read until `count` records have come."""
    records: list[Record] = []
    async with asyncio.timeout(SECONDS):
        while len(records) < count:
            batches = await consumer.fetch(max_records=100, timeout_seconds=1)
            records += [record for batch in batches.values() for record in batch]
    return records


async def values(consumer: Consumer, count: int) -> list[bytes | None]:
    return [record.value for record in await read(consumer, count)]


async def until_owning(consumer: Consumer, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(consumer.assignment()) != count:
            await consumer.fetch(max_records=1, timeout_seconds=0.1)


async def test_reading_begins_at_the_logs_end_where_that_is_asked(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"a", b"b", b"c")
    async with Member().join(bus) as consumer:
        await until_owning(consumer, 2)
        ends = {place: await consumer.seek_to_end(place) for place in consumer.assignment()}
        assert sorted(ends.values()) == [0, 3]
        await send(bus, b"d", b"e")
        assert await values(consumer, 2) == [b"d", b"e"]


async def test_topics_are_made_once_and_their_partitions_checked(bus: Bus) -> None:
    assert await bus.ensure_topics([LETTERS]) == frozenset({"letters"})
    assert await bus.ensure_topics([LETTERS]) == frozenset()
    with pytest.raises(PermanentError, match="2 partitions and must have 3") as caught:
        await bus.ensure_topics([replace(LETTERS, partitions=3)])
    assert caught.value.code is Code.INVALID_REQUEST


async def test_counting_partitions_makes_nothing(bus: Bus) -> None:
    assert await bus.partition_counts([LETTERS]) == {}
    assert await bus.ensure_topics([LETTERS]) == frozenset({"letters"})
    assert await bus.partition_counts([LETTERS, JOBS_MOVED]) == {"letters": 2}


async def test_a_record_arrives_as_it_was_sent(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    headers = (("ce_type", b"com.parsewire.Letter"), ("ce_id", b"\x00\xff"))
    async with bus.open_producer() as producer:
        await producer.send(Outgoing("letters", b"key \xe2\x82\xac", b"\x00value", headers))
    async with Member().join(bus) as consumer:
        [record] = await read(consumer, 1)
    assert (record.key, record.value) == (b"key \xe2\x82\xac", b"\x00value")
    assert record.headers == (("ce_type", b"com.parsewire.Letter"), ("ce_id", b"\x00\xff"))
    assert record.partition.topic == "letters"
    assert record.offset == 0
    assert record.timestamp_ms > 1_600_000_000_000


async def test_records_of_one_key_keep_their_order(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    async with bus.open_producer() as producer:
        records = [Outgoing("letters", b"k", b"%d" % n, ()) for n in range(500)]
        await asyncio.gather(*(producer.send(record) for record in records))
    async with Member().join(bus) as consumer:
        found = await read(consumer, 500)
    assert [int(record.value or b"") for record in found] == list(range(500))
    assert [record.offset for record in found] == list(range(500))


async def test_max_records_bounds_a_fetch_and_nothing_is_lost(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"1", b"2", b"3", b"4", b"5")
    found: list[bytes | None] = []
    async with Member().join(bus) as consumer, asyncio.timeout(SECONDS):
        while len(found) < 5:
            batches = await consumer.fetch(max_records=2, timeout_seconds=1)
            taken = [record.value for batch in batches.values() for record in batch]
            assert len(taken) <= 2
            found += taken
    assert found == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_new_group_reads_from_the_logs_start(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"old", b"older")
    async with Member().join(bus, "one") as consumer:
        assert await values(consumer, 2) == [b"old", b"older"]
    async with Member().join(bus, "two") as consumer:
        assert await values(consumer, 2) == [b"old", b"older"]


async def test_reading_goes_on_from_a_stored_position(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0", b"1", b"2")
    async with Member().join(bus) as consumer:
        first = (await read(consumer, 3))[0].partition
        await consumer.seek(first, 1)
        assert await values(consumer, 2) == [b"1", b"2"]
        await consumer.seek(first, 3)
        await send(bus, b"3")
        assert await values(consumer, 1) == [b"3"]
        await consumer.seek_to_start(first)
        assert await values(consumer, 4) == [b"0", b"1", b"2", b"3"]


async def test_a_position_beyond_the_logs_end_is_refused(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0")
    async with Member().join(bus) as consumer:
        [record] = await read(consumer, 1)
        await consumer.seek(record.partition, 1)
        with pytest.raises(StaleLogError):
            await consumer.seek(record.partition, 2)


async def test_the_end_of_a_log_whose_last_batch_has_many_records_is_no_stale_position(
    bus: Bus,
) -> None:
    await bus.ensure_topics([LETTERS])
    async with bus.open_producer() as producer:
        records = [Outgoing("letters", b"k", b"%d" % n, ()) for n in range(50)]
        await asyncio.gather(*(producer.send(record) for record in records))
    async with Member().join(bus) as consumer:
        where = (await read(consumer, 50))[0].partition
    async with Member().join(bus, "another") as consumer:
        await until_owning(consumer, 2)
        await consumer.seek(where, 50)
        assert (await consumer.lag())[where].messages == 0
        with pytest.raises(StaleLogError):
            await consumer.seek(where, 51)
        await consumer.seek(where, 48)
        assert (await consumer.lag())[where].messages == 2
        assert await values(consumer, 2) == [b"48", b"49"]


async def test_where_to_read_is_chosen_before_a_record_is_handed_out(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, *(b"%d" % n for n in range(20)))
    started, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Member):
        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            started.set()
            await go_on.wait()
            assert self.consumer is not None
            assert where in partitions
            await self.consumer.seek(where, 15)

    async with Member().join(bus, "scout") as consumer:
        where = (await read(consumer, 20))[0].partition
    async with Slow().join(bus) as consumer, asyncio.timeout(SECONDS):
        while not started.is_set():
            assert not await consumer.fetch(max_records=9, timeout_seconds=0.1)
        assert not await consumer.fetch(max_records=9, timeout_seconds=0.3)
        go_on.set()
        assert await values(consumer, 5) == [b"15", b"16", b"17", b"18", b"19"]


async def test_what_a_callback_raises_is_raised_by_fetch_and_it_is_tried_again(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0")
    failures = [StaleLogError("first"), TransientError(Code.TABLES_UNAVAILABLE, "second")]

    class Failing(Member):
        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            if failures:
                raise failures.pop(0)
            await super().on_assigned(partitions)

    member = Failing()
    async with member.join(bus) as consumer:
        with pytest.raises(StaleLogError, match="first"):
            await read(consumer, 1)
        with pytest.raises(TransientError, match="second"):
            await read(consumer, 1)
        assert await values(consumer, 1) == [b"0"]
    assert member.assigned.get_nowait() == {Partition("letters", 0), Partition("letters", 1)}


async def test_a_paused_partition_waits_until_it_is_resumed(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    async with Member().join(bus) as consumer:
        await until_owning(consumer, 2)
        consumer.pause(consumer.assignment() | {Partition("letters", 99)})
        await send(bus, b"0")
        assert not await consumer.fetch(max_records=1, timeout_seconds=0.5)
        consumer.resume(consumer.assignment())
        assert await values(consumer, 1) == [b"0"]


async def test_a_group_goes_on_from_what_it_committed(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0", b"1", b"2")
    async with Member().join(bus) as consumer:
        records = await read(consumer, 3)
        await consumer.commit({records[0].partition: 2, Partition("letters", 99): 7})
    async with Member().join(bus) as consumer:
        assert await values(consumer, 1) == [b"2"]


async def test_two_members_share_the_partitions(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    both = {Partition("letters", 0), Partition("letters", 1)}
    one, two = Member(), Member()
    async with one.join(bus) as first:
        await until_owning(first, 2)
        async with asyncio.timeout(SECONDS):
            assert await one.assigned.get() == both
        async with two.join(bus) as second:
            await asyncio.gather(until_owning(first, 1), until_owning(second, 1))
            assert first.assignment() | second.assignment() == both
            assert one.revoked == [both]
            async with asyncio.timeout(SECONDS):
                assert await one.assigned.get() == first.assignment()
                assert await two.assigned.get() == second.assignment()
        await until_owning(first, 2)
    assert len(one.revoked) == 2


async def test_a_share_of_nothing_is_settled_too(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    async with Member().join(bus) as one, Member().join(bus) as two, Member().join(bus) as three:
        assert not three.is_settled()
        members = (one, two, three)
        async with asyncio.timeout(SECONDS):
            while not all(m.is_settled() for m in members) or not _shared(members):
                await asyncio.gather(
                    *(m.fetch(max_records=1, timeout_seconds=0.1) for m in members)
                )
        assert sorted(len(member.assignment()) for member in members) == [0, 1, 1]


def _shared(members: Sequence[Consumer]) -> bool:
    return sum(len(member.assignment()) for member in members) == 2


async def test_what_was_read_can_be_committed_as_it_is_revoked(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0", b"1")

    class Committing(Member):
        async def on_revoked(self, partitions: frozenset[Partition]) -> None:
            await super().on_revoked(partitions)
            assert self.consumer is not None
            await self.consumer.commit({where: 2})

    member, other = Committing(), Member()
    async with member.join(bus) as first:
        where = (await read(first, 2))[0].partition
        async with other.join(bus) as second:
            await asyncio.gather(until_owning(first, 1), until_owning(second, 1))
            await send(bus, b"2")
            owner = first if where in first.assignment() else second
            assert await values(owner, 1) == [b"2"]


async def test_a_record_that_is_too_large_is_refused_before_it_is_sent(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    async with bus.open_producer() as producer:
        fits = Outgoing("letters", b"12345", b"v" * (MAX_RECORD_BYTES - 12), (("name", b"123"),))
        await producer.send(fits)
        for larger in (
            structs.replace(fits, key=b"123456"),
            structs.replace(fits, headers=(("names", b"123"),)),
            structs.replace(fits, headers=(("name", b"1234"),)),
            structs.replace(fits, value=fits.value + b"v"),
        ):
            with pytest.raises(PermanentError) as caught:
                await producer.send(larger)
            assert caught.value.code is Code.RECORD_TOO_LARGE
    async with Member().join(bus) as consumer:
        assert [record.value for record in await read(consumer, 1)] == [fits.value]
        assert not await consumer.fetch(max_records=1, timeout_seconds=0.3)


async def test_an_outcome_is_told_what_a_send_would_return_or_raise(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    loop = asyncio.get_running_loop()
    sent = [loop.create_future() for _ in range(3)]
    refused = loop.create_future()
    async with bus.open_producer() as producer:
        for number, outcome in enumerate(sent):
            producer.send_for(Outgoing("letters", b"one key", b"%d" % number, ()), outcome)
        producer.send_for(Outgoing("letters", None, b"v" * (MAX_RECORD_BYTES + 1), ()), refused)
        async with asyncio.timeout(SECONDS):
            assert await asyncio.gather(*sent) == [None, None, None]
            with pytest.raises(PermanentError) as caught:
                await refused
    assert caught.value.code is Code.RECORD_TOO_LARGE
    async with Member().join(bus) as consumer:
        assert [record.value for record in await read(consumer, 3)] == [b"0", b"1", b"2"]


async def test_lag_counts_what_is_unread(bus: Bus) -> None:
    await bus.ensure_topics([LETTERS])
    await send(bus, b"0", b"1", b"2")
    async with Member().join(bus) as consumer:
        records = await read(consumer, 3)
        where = records[0].partition
        lags = await consumer.lag()
        assert lags.keys() == {Partition("letters", 0), Partition("letters", 1)}
        assert {(lag.messages, lag.seconds) for lag in lags.values()} == {(0, 0.0)}
        consumer.pause(frozenset({where}))
        await send(bus, b"3", b"4")
        lag = (await consumer.lag())[where]
        assert lag.messages == 2
        assert 0 < lag.seconds < SECONDS
        await consumer.seek(where, 1)
        assert (await consumer.lag())[where].messages == 4


async def test_a_bus_that_is_away_says_so() -> None:
    bus = MemoryBus()
    await bus.ensure_topics([LETTERS])
    async with Member().join(bus) as consumer, bus.open_producer() as producer:
        bus.set_away(True)
        await _all_unavailable(bus, producer, consumer)
        bus.set_away(False)
        await producer.send(Outgoing("letters", None, b"0", ()))
        assert await values(consumer, 1) == [b"0"]


@pytest.mark.embedded
async def test_a_broker_that_died_is_told_by_every_call(tmp_path: Path, topic_prefix: str) -> None:
    broker = await start_embedded_broker(tmp_path / "broker.log")
    bus = KafkaBus(
        broker.bootstrap_servers,
        topic_prefix=topic_prefix,
        send_timeout_seconds=1,
        call_timeout_seconds=2,
        session_timeout_seconds=2,
    )
    try:
        await bus.ensure_topics([LETTERS])
        async with Member().join(bus) as consumer, bus.open_producer() as producer:
            await until_owning(consumer, 2)
            await producer.send(Outgoing("letters", None, b"0", ()))
            await broker.stop()
            await _all_unavailable(bus, producer, consumer)
    finally:
        await broker.stop()


async def _all_unavailable(bus: Bus, producer: Any, consumer: Consumer) -> None:
    async def fetches() -> None:
        while True:
            await consumer.fetch(max_records=1, timeout_seconds=1)

    record = Outgoing("letters", None, b"lost", ())
    calls = (bus.cluster_id(), bus.ensure_topics([LETTERS]), producer.send(record), fetches())
    async with asyncio.timeout(SECONDS):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TransientError] * 4
    assert {getattr(outcome, "code", None) for outcome in outcomes} == {Code.BUS_UNAVAILABLE}


async def test_nobody_at_the_address_is_a_clear_error(topic_prefix: str) -> None:
    bus = KafkaBus(f"127.0.0.1:{free_port()}", topic_prefix=topic_prefix, call_timeout_seconds=2)
    for opening in (bus.open_producer(), Member().join(bus)):
        with pytest.raises(TransientError) as caught:
            async with opening:
                pytest.fail("there is no broker")
        assert caught.value.code is Code.BUS_UNAVAILABLE


async def test_a_replaced_cluster_has_another_id() -> None:
    bus = MemoryBus()
    before = await bus.cluster_id()
    assert await bus.cluster_id() == before
    bus.replace()
    assert await bus.cluster_id() != before


@pytest.mark.embedded
async def test_every_embedded_broker_is_a_cluster_of_its_own(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        async with open_embedded_broker(tmp_path / "broker.log") as broker:
            ids.append(await KafkaBus(broker.bootstrap_servers).cluster_id())
            assert ids[-1] == broker.cluster_id
    assert ids[0] != ids[1]


@pytest.mark.kafka
async def test_another_client_reads_what_was_sent(kafka_bootstrap: str, topic_prefix: str) -> None:
    bus = KafkaBus(kafka_bootstrap, topic_prefix=topic_prefix)
    await bus.ensure_topics([LETTERS])
    async with bus.open_producer() as producer:
        await producer.send(Outgoing("letters", b"k", b"v", (("ce_id", b"1"), ("empty", b""))))
    config = {
        "bootstrap.servers": kafka_bootstrap,
        "group.id": topic_prefix + "other",
        "auto.offset.reset": "earliest",
    }
    message = await asyncio.to_thread(_read_with_librdkafka, config, topic_prefix + "letters")
    assert (message.key(), message.value()) == (b"k", b"v")
    assert message.headers() == [("ce_id", b"1"), ("empty", b"")]


@pytest.mark.kafka
async def test_a_strangers_clock_counts_for_nothing_where_the_broker_stamps(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    bus = KafkaBus(kafka_bootstrap, topic_prefix=topic_prefix)
    await bus.ensure_topics([replace(LETTERS, stamped_on_arrival=True)])
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_bootstrap})
    in_1970, in_2100 = 1_000, 4_102_444_800_000
    for moment_ms in (in_1970, in_2100):
        producer.produce(topic_prefix + "letters", b"v", timestamp=moment_ms)
    assert await asyncio.to_thread(producer.flush, SECONDS) == 0
    async with Member().join(bus) as consumer:
        records = await read(consumer, 2)
    assert all(1_700_000_000_000 < record.timestamp_ms < in_2100 for record in records)


def _read_with_librdkafka(config: dict[str, str], topic: str) -> Any:
    consumer = confluent_kafka.Consumer(config)
    try:
        consumer.subscribe([topic])
        [message] = consumer.consume(1, timeout=SECONDS)
        return message
    finally:
        consumer.close()
