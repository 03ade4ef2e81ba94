"""The bus on Apache Kafka, or on a broker that speaks its protocol, by aiokafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from schemas.errors import Code, PermanentError, TransientError
from schemas.topics import MAX_RECORD_BYTES, Topic
from streams.bus.base import Consumer, OnAssigned, OnRevoked, Producer
from streams.bus.kafka_calls import answered, bus_unavailable, start_client, stop_client
from streams.bus.kafka_consumer import KafkaConsumer
from streams.bus.kafka_producer import BATCH_BYTES, ByteBudget, KafkaProducer
from streams.bus.kafka_unpack import bound_unpacking

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch. A partition that was paused or being read joins only the
next one, and the embedded broker answers a third of it late: a record took 33 ms there, 232 ms at
500. Ten empty fetches a second cost 0.3 % of a core."""

_ADMIN_CALLS = 3
_A_DAY_MS = 86_400_000


class KafkaBus:
    """A cluster of Kafka brokers.

    Topics and groups carry `topic_prefix` in the cluster, and not here. `partitions` overrides
    every topic's count (small tests). `send_timeout_seconds` bounds each send, from its wait for
    free bytes to its acknowledgement; `call_timeout_seconds` bounds each other call.
    `session_timeout_seconds`: after this silence a member is dead to its group; the embedded
    broker lets a group's first join wait half of it, so it wants 6 there.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic_prefix: str = "parsewire.",
        client_id: str = "parsewire",
        send_timeout_seconds: float = 10.0,
        call_timeout_seconds: float = 10.0,
        session_timeout_seconds: float = 10.0,
        max_bytes_in_flight: int = 64 * 1024 * 1024,
        partitions: int | None = None,
        replication_factor: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes_in_flight < MAX_RECORD_BYTES:
            raise ValueError(f"max_bytes_in_flight must be at least {MAX_RECORD_BYTES}")
        self._bootstrap_servers = bootstrap_servers
        self._prefix = topic_prefix
        self._client_id = client_id
        self._send_timeout = send_timeout_seconds
        self._call_timeout = call_timeout_seconds
        self._session_timeout = session_timeout_seconds
        self._budget = ByteBudget(max_bytes_in_flight)
        self._partitions = partitions
        self._replication_factor = replication_factor
        self._clock = clock

    async def cluster_id(self) -> str:
        """Ask the cluster who it is, by new connections: an old one does not see a new broker."""
        async with self._open_admin("cluster id", self._call_timeout) as admin:
            return str((await admin.describe_cluster())["cluster_id"])

    async def ensure_topics(self, topics: Sequence[Topic]) -> frozenset[str]:
        """Make the missing topics and tell their names, once every partition has its leader.

        Raise PermanentError(INVALID_REQUEST) for another partition count, or a refusal.
        """
        async with self._open_admin("topics", self._call_timeout * _ADMIN_CALLS) as admin:
            counts = await _partition_counts(admin)
            missing = [topic for topic in topics if self._prefix + topic.name not in counts]
            made = await self._make(admin, missing)
            while any(self._prefix + topic.name not in counts for topic in topics):
                # Kafka tells of a new topic by its metadata alone, some milliseconds later.
                await asyncio.sleep(0.05)
                counts = await _partition_counts(admin)
        for topic in topics:
            self._check_count(topic, counts[self._prefix + topic.name])
        return made

    async def partition_counts(self, topics: Sequence[Topic]) -> Mapping[str, int]:
        """Count the partitions of those topics that are there, by their names; change nothing."""
        async with self._open_admin("topics", self._call_timeout) as admin:
            counts = await _partition_counts(admin)
        names = {topic.name: self._prefix + topic.name for topic in topics}
        return {name: counts[full] for name, full in names.items() if full in counts}

    @asynccontextmanager
    async def open_producer(self) -> AsyncIterator[Producer]:
        """Open a producer; producers of one bus share its limit of bytes in flight."""
        client = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            # With it batches never expire, and one refusal stops the producer for good.
            enable_idempotence=False,
            request_timeout_ms=_ms(self._send_timeout),
        )
        await start_client(client, "open a producer", self._call_timeout)
        producer = KafkaProducer(
            client,
            topic_prefix=self._prefix,
            send_timeout_seconds=self._send_timeout,
            budget=self._budget,
        )
        try:
            yield producer
        finally:
            await producer.finish()
            await stop_client(client, client.stop, self._send_timeout)

    @asynccontextmanager
    async def open_consumer(
        self,
        group: str,
        topics: Sequence[Topic],
        *,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
    ) -> AsyncIterator[Consumer]:
        """Join `group` on `topics`; no callback comes before the consumer is handed out.

        The callbacks run beside `fetch`, in the client's own task. What they raise is raised by
        the next `fetch`, and no record is handed out until `on_assigned` has ended well; the
        `fetch` after that tries `on_assigned` again. A rebalance ends every pause.
        """
        client = self._consumer_client(group)
        await start_client(client, f"join {group}", self._call_timeout)
        consumer = KafkaConsumer(
            client,
            topic_prefix=self._prefix,
            call_timeout_seconds=self._call_timeout,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
            clock=self._clock,
        )
        try:
            consumer.subscribe([topic.name for topic in topics])
            yield consumer
        finally:
            consumer.prepare_to_leave()
            await stop_client(client, client.stop, self._call_timeout)

    def _consumer_client(self, group: str) -> Any:
        bound_unpacking()
        session_ms = _ms(self._session_timeout)
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            group_id=self._prefix + group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # What a producer has taken back was never said.
            isolation_level="read_committed",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(1000, session_ms // 3),
            # A join is answered when every member has come, which may take a whole session.
            request_timeout_ms=session_ms + 5000,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            # aiokafka never joins again after an idle time longer than this (aiokafka #1187);
            # whether a processor makes progress is its watchdog's to tell.
            max_poll_interval_ms=_A_DAY_MS,
        )

    @asynccontextmanager
    async def _open_admin(self, doing: str, within_seconds: float) -> AsyncIterator[Any]:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            request_timeout_ms=_ms(self._call_timeout),
        )
        try:
            async with answered(doing, within_seconds):
                await client.start()
                yield client
        finally:
            await stop_client(client, client.close, 1)

    async def _make(self, admin: Any, topics: Sequence[Topic]) -> frozenset[str]:
        if not topics:
            return frozenset()
        if (await admin.describe_cluster())["controller_id"] < 0:
            raise bus_unavailable("make topics", "the cluster has no controller yet")
        answer = await admin.create_topics([self._new_topic(topic) for topic in topics])
        made = set()
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                made.add(name.removeprefix(self._prefix))
            elif error is not TopicAlreadyExistsError:
                raise _refused(name, error, message[0] if message else None)
        return frozenset(made)

    def _new_topic(self, topic: Topic) -> Any:
        configs = {"retention.ms": str(topic.retention_hours * 3_600_000)}
        if topic.stamped_on_arrival:
            configs["message.timestamp.type"] = "LogAppendTime"
        if self._replication_factor >= 3:
            # Without it "all in-sync replicas" may be a single one.
            configs["min.insync.replicas"] = "2"
        return NewTopic(
            self._prefix + topic.name,
            self._partitions or topic.partitions,
            self._replication_factor,
            topic_configs=configs,
        )

    def _check_count(self, topic: Topic, found: int) -> None:
        wanted = self._partitions or topic.partitions
        if found != wanted:
            name = self._prefix + topic.name
            raise PermanentError(
                Code.INVALID_REQUEST,
                f"topic {name} has {found} partitions and must have {wanted}: "
                "delete it, or give this deployment another topic prefix",
            )


async def _partition_counts(admin: Any) -> dict[str, int]:
    """Count the partitions of every topic that is fit for use."""
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics()
        if topic["error_code"] == 0 and all(p["leader"] >= 0 for p in topic["partitions"])
    }


def _refused(name: str, error: Any, message: str | None) -> PermanentError | TransientError:
    why = f"make topic {name}: {error.__name__}{f' ({message})' if message else ''}"
    if error.retriable:
        return TransientError(Code.BUS_UNAVAILABLE, why)
    return PermanentError(Code.INVALID_REQUEST, why)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
