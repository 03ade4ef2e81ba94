"""The parts of the Kafka bus that need no broker."""

import asyncio
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NotLeaderForPartitionError

from schemas.errors import Code, PermanentError, TransientError
from schemas.topics import MAX_RECORD_BYTES
from streams.bus.base import Lag, Outgoing, Partition
from streams.bus.kafka import KafkaBus
from streams.bus.kafka_calls import stop_client, thin_client_logs
from streams.bus.kafka_consumer import KafkaConsumer
from streams.bus.kafka_lag import ReadingAges
from streams.bus.kafka_lanes import Lane
from streams.bus.kafka_producer import ByteBudget, KafkaProducer

HERE = Partition("letters", 0)


class Batch:
    """An aiokafka batch that holds two records at most."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes,
        headers: list[tuple[str, bytes]],
    ) -> object | None:
        assert timestamp is None
        assert key in (None, b"k")
        assert headers == []
        if value == b"no record":
            raise TypeError("no record")
        if value == b"no memory":
            raise MemoryError("no memory")
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return object()

    def record_count(self) -> int:
        return len(self.values)


class StuckClient:
    """An aiokafka producer whose broker answers when the test says so."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[bytes], asyncio.Future[None]]] = []
        self.under_way = asyncio.Event()

    async def partitions_for(self, topic: str) -> set[int]:
        assert topic == "p.letters"
        return {0}

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[None]:
        assert (topic, partition) == ("p.letters", 0)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.batches.append((batch.values, answer))
        self.under_way.set()
        return answer


async def test_a_send_has_its_own_deadline_and_frees_its_bytes() -> None:
    client, budget = StuckClient(), ByteBudget(100)
    producer = KafkaProducer(client, topic_prefix="p.", send_timeout_seconds=0.01, budget=budget)
    record = Outgoing("letters", None, b"v" * 60, ())
    outcomes = await asyncio.gather(
        producer.send(record), producer.send(record), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [TransientError, TransientError]
    assert getattr(outcomes[0], "code", None) is Code.BUS_UNAVAILABLE
    assert "outcome unknown" in str(outcomes[0])
    assert [values for values, _ in client.batches] == [[b"v" * 60]], "the second never had room"
    assert budget.free_bytes == 40, "the client holds the first one still"
    [(_, answer)] = client.batches
    answer.set_result(None)
    await producer.finish()
    assert budget.free_bytes == 100
    assert len(client.batches) == 1, "nobody waits for it any more"


async def test_what_gathers_while_a_batch_is_under_way_is_the_next_one() -> None:
    client, budget = StuckClient(), ByteBudget(10**6)
    producer = KafkaProducer(client, topic_prefix="p.", send_timeout_seconds=60, budget=budget)

    def begin(value: bytes) -> asyncio.Task[None]:
        return asyncio.create_task(producer.send(Outgoing("letters", b"k", value, ())))

    async def next_batch() -> tuple[list[bytes], asyncio.Future[None]]:
        async with asyncio.timeout(5):
            await client.under_way.wait()
        client.under_way.clear()
        return client.batches[-1]

    first = begin(b"1")
    values, answer = await next_batch()
    assert values == [b"1"]
    broken, *others = [begin(value) for value in (b"no record", b"2", b"3", b"4")]
    await asyncio.sleep(0)
    assert len(client.batches) == 1, "one batch at a time"
    answer.set_result(None)
    await first
    values, answer = await next_batch()
    assert values == [b"2", b"3"], "as many as it holds, and the broken one spoils nothing"
    with pytest.raises(TypeError, match="no record"):
        await broken
    answer.set_exception(NotLeaderForPartitionError())
    outcomes = await asyncio.gather(*others[:2], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TransientError, TransientError]
    values, answer = await next_batch()
    assert values == [b"4"]
    answer.set_result(None)
    await others[2]
    assert budget.free_bytes == 10**6


async def test_what_is_cancelled_or_no_record_is_not_sent_and_frees_its_bytes() -> None:
    client, budget = StuckClient(), ByteBudget(10**6)
    producer = KafkaProducer(client, topic_prefix="p.", send_timeout_seconds=60, budget=budget)
    first = asyncio.create_task(producer.send(Outgoing("letters", b"k", b"1", ())))
    async with asyncio.timeout(5):
        await client.under_way.wait()
    gone = asyncio.create_task(producer.send(Outgoing("letters", b"k", b"2", ())))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    broken = asyncio.create_task(producer.send(Outgoing("letters", b"k", b"no record", ())))
    await asyncio.sleep(0)
    client.batches[0][1].set_result(None)
    await first
    with pytest.raises(TypeError, match="no record"):
        await broken
    await producer.finish()
    assert [values for values, _ in client.batches] == [[b"1"]], "and no empty batch"
    assert budget.free_bytes == 10**6


async def test_whatever_keeps_a_record_from_its_batch_keeps_no_other() -> None:
    client, budget = StuckClient(), ByteBudget(10**6)
    producer = KafkaProducer(client, topic_prefix="p.", send_timeout_seconds=60, budget=budget)
    values = (b"1", b"no memory", b"2")
    sends = [producer.send(Outgoing("letters", b"k", value, ())) for value in values]
    sending = [asyncio.create_task(send) for send in sends]
    async with asyncio.timeout(5):
        await client.under_way.wait()
    [(together, answer)] = client.batches
    assert together == [b"1", b"2"]
    answer.set_result(None)
    outcomes = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), MemoryError, type(None)]
    assert budget.free_bytes == 10**6


class Told:
    """An outcome that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[BaseException | None] = []

    def done(self) -> bool:
        return bool(self.told)

    def set_result(self, _result: None, /) -> None:
        self.told.append(None)

    def set_exception(self, error: BaseException, /) -> None:
        self.told.append(error)


async def test_what_is_overdue_is_ended_and_no_other() -> None:
    client, given = StuckClient(), list[int]()
    lane = Lane(client, "p.letters", 0, given.append, lambda error: error)
    sent, also_sent, waiting, left = outcomes = [Told() for _ in range(4)]
    for number, outcome in enumerate(outcomes):
        record = Outgoing("letters", b"k", b"%d" % number, ())
        lane.add(record, 10 + number, 100.0 + number, outcome)
    async with asyncio.timeout(5):
        await client.under_way.wait()
    assert lane.expire(99.9) == 100.0
    assert not any(outcome.done() for outcome in outcomes)
    assert lane.expire(100.0) == 101.0
    assert [type(error) for error in sent.told] == [TimeoutError]
    assert given == [], "the client holds it still"
    # Its sender waits no more.
    left.set_result(None)
    lane.expire(102.0)
    assert [len(outcome.told) for outcome in outcomes] == [1, 1, 1, 1]
    assert [type(outcome.told[0]) for outcome in (also_sent, waiting)] == [TimeoutError] * 2
    assert given == [12, 13]
    assert lane.expire(103.0) == math.inf
    [(values, answer)] = client.batches
    assert values == [b"0", b"1"]
    answer.set_result(None)
    assert lane.running is not None
    await lane.running
    assert sum(given) == sum(range(10, 14))
    assert len(client.batches) == 1, "nobody waits for the others any more"
    assert [len(outcome.told) for outcome in outcomes] == [1, 1, 1, 1]


async def test_each_send_ends_at_its_own_time_whatever_is_stuck_before_it() -> None:
    client = StuckClient()
    producer = KafkaProducer(
        client, topic_prefix="p.", send_timeout_seconds=0.01, budget=ByteBudget(10**6)
    )
    for value in (b"1", b"2", b"3"):
        with pytest.raises(TransientError, match="no acknowledgement within"):
            await producer.send(Outgoing("letters", b"k", value, ()))
    await producer.finish()


async def test_a_producer_that_ends_answers_everyone() -> None:
    client, budget = StuckClient(), ByteBudget(10**6)
    producer = KafkaProducer(client, topic_prefix="p.", send_timeout_seconds=0.05, budget=budget)
    sending = [
        asyncio.create_task(producer.send(Outgoing("letters", b"k", value, ())))
        for value in (b"1", b"2", b"3")
    ]
    await asyncio.sleep(0)
    await producer.finish()
    outcomes = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TransientError] * 3


class LateClient(StuckClient):
    """One that learns of the partitions of a topic when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.known = asyncio.Event()

    async def partitions_for(self, topic: str) -> set[int]:
        if topic == "p.late":
            await self.known.wait()
        return {0}

    async def send_batch(
        self,
        batch: Batch,
        topic: str,  # noqa: ARG002 - its own is the one name that the other knows
        *,
        partition: int,
    ) -> asyncio.Future[None]:
        return await super().send_batch(batch, "p.letters", partition=partition)


async def test_who_began_first_is_overdue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    client = LateClient()
    producer = KafkaProducer(
        client, topic_prefix="p.", send_timeout_seconds=10, budget=ByteBudget(10**6)
    )
    loop, passed = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed)
    first, second = Told(), Told()
    producer.send_for(Outgoing("late", b"k", b"1", ()), first)
    await asyncio.sleep(0)
    passed += 5
    producer.send_for(Outgoing("letters", b"k", b"2", ()), second)
    async with asyncio.timeout(4):
        await client.under_way.wait()
        client.under_way.clear()
        client.known.set()
        await client.under_way.wait()
    passed += 5
    for _ in range(3):
        await asyncio.sleep(0)
    assert [type(error) for error in first.told] == [TransientError]
    assert second.told == []
    for _, answer in client.batches:
        answer.set_result(None)
    await producer.finish()
    assert second.told == [None]


class KeyedBatch(Batch):
    """A batch for records with any key."""

    def append(self, **record: Any) -> object | None:
        return super().append(**(record | {"key": None}))


class SpreadClient:
    """An aiokafka producer with twelve partitions, and a broker that takes everything."""

    def __init__(self) -> None:
        self.partitions: list[int] = []

    async def partitions_for(self, _topic: str) -> set[int]:
        return set(range(12))

    def create_batch(self) -> Batch:
        return KeyedBatch()

    async def send_batch(
        self, _batch: Batch, _topic: str, *, partition: int
    ) -> asyncio.Future[None]:
        self.partitions.append(partition)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # From the tests of Apache Kafka's own Utils.murmur2, as unsigned numbers.
        (b"21", 0xFFFFFFFF & -973932308),
        (b"foobar", 0xFFFFFFFF & -790332482),
        (b"a-little-bit-long-string", 0xFFFFFFFF & -985981536),
        (b"a-little-bit-longer-string", 0xFFFFFFFF & -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 0xFFFFFFFF & -58897971),
        (b"abc", 479470107),
    ],
)
async def test_a_key_goes_where_every_other_client_sends_it(key: bytes, hashed: int) -> None:
    client = SpreadClient()
    producer = KafkaProducer(
        client, topic_prefix="p.", send_timeout_seconds=60, budget=ByteBudget(10**6)
    )
    for _ in range(2):
        await producer.send(Outgoing("letters", key, b"v", ()))
    await producer.finish()
    assert client.partitions == [(hashed & 0x7FFFFFFF) % 12] * 2


class RebalancingClient:
    """A consumer whose partitions are taken away while the broker is asked for their start."""

    def __init__(self) -> None:
        self.consumer: KafkaConsumer | None = None
        self.moves: list[tuple[TopicPartition, int]] = []

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.consumer is not None:
            await self.consumer.on_partitions_revoked(set(tps))
        return dict.fromkeys(tps, 7)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.moves.append((tp, offset))


async def test_a_rebalance_while_a_start_is_asked_for_breaks_nothing() -> None:
    async def noted(partitions: frozenset[Partition]) -> None:
        assert not partitions

    client = RebalancingClient()
    client.consumer = KafkaConsumer(
        client,
        topic_prefix="p.",
        call_timeout_seconds=5,
        on_assigned=noted,
        on_revoked=noted,
        clock=lambda: 0.0,
    )
    await client.consumer.seek_to_start(HERE)
    assert client.moves == [(TopicPartition("p.letters", 0), 7)]


async def test_bytes_are_given_first_come_first_served() -> None:
    budget = ByteBudget(10)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.take(size)
        order.append(name)

    await take("first", 8)
    waiting = [asyncio.create_task(take("large", 9)), asyncio.create_task(take("small", 1))]
    await asyncio.sleep(0)
    assert order == ["first"], "the small one does not overtake"
    budget.give(8)
    await asyncio.gather(*waiting)
    assert order == ["first", "large", "small"]
    assert budget.free_bytes == 0


async def test_a_cancelled_wait_for_bytes_takes_none() -> None:
    budget = ByteBudget(10)
    await budget.take(10)
    gone = asyncio.create_task(budget.take(10))
    next_one = asyncio.create_task(budget.take(4))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    budget.give(10)
    await next_one
    assert budget.free_bytes == 6


async def test_bytes_given_to_one_who_is_cancelled_at_once_come_back() -> None:
    budget = ByteBudget(10)
    await budget.take(10)
    gone = asyncio.create_task(budget.take(10))
    await asyncio.sleep(0)
    budget.give(10)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert budget.free_bytes == 10


def test_a_budget_below_one_record_is_refused() -> None:
    with pytest.raises(ValueError, match="900000"):
        KafkaBus("127.0.0.1:1", max_bytes_in_flight=MAX_RECORD_BYTES - 1)


async def test_a_record_too_large_reaches_no_client() -> None:
    client = StuckClient()
    producer = KafkaProducer(
        client, topic_prefix="", send_timeout_seconds=1, budget=ByteBudget(10**6)
    )
    with pytest.raises(PermanentError):
        await producer.send(Outgoing("letters", None, b"v" * 900_001, ()))
    assert client.batches == []


def test_the_age_is_that_of_the_oldest_unread_record_at_most() -> None:
    now = 1000.0
    ages = ReadingAges(lambda: now)
    ages.begin([HERE])
    now = 1002.0
    assert ages.lag(HERE, 0, 5) == Lag(5, 2.0), "nothing read: since the assignment"
    ages.read(HERE, 400_000)
    assert ages.lag(HERE, 1, 5) == Lag(4, 602.0), "a backlog: since the last one read"
    ages.read(HERE, 999_000)
    assert ages.lag(HERE, 5, 5) == Lag(0, 0.0)
    now = 5000.0
    assert ages.lag(HERE, 5, 5) == Lag(0, 0.0)
    now = 5003.0
    assert ages.lag(HERE, 5, 6) == Lag(1, 3.0), "after a quiet hour: since it was last caught up"


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, client_log = Lines(), logging.getLogger("aiokafka")
    before = (client_log.handlers, client_log.propagate)
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)
    client_log.handlers, client_log.propagate = before


def test_a_flood_of_one_kind_becomes_a_line_per_interval(lines: list[str]) -> None:
    now = 0.0
    thin_client_logs(10.0, clock=lambda: now)
    client_log = logging.getLogger("aiokafka.client")
    for attempt in range(5):
        client_log.error("Unable to connect: %s", attempt)
    client_log.error("Something else")
    now = 11.0
    client_log.error("Unable to connect: %s", 5)
    assert lines == [
        "Unable to connect: 0",
        "Something else",
        "Unable to connect: 5 (4 more like it)",
    ]


class Connections:
    closed = False

    async def close(self) -> None:
        self.closed = True


class Client:
    def __init__(self) -> None:
        self._client = Connections()


@pytest.mark.parametrize("way", ["hangs", "is cancelled", "fails"])
async def test_a_client_that_does_not_stop_is_cut_off(way: str) -> None:
    async def stop() -> None:
        if way == "fails":
            raise OSError("gone")
        if way == "is cancelled":
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    client = Client()
    await stop_client(client, stop, 0.01)
    assert client._client.closed
