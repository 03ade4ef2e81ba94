"""The usage application: Faust brings cost and metric events, and keeps what they make of windows.

Its agent calls plain functions. Everything that it holds stands in one table, whose changelog is on
the bus: one, so that the order of what is kept is the order in which it was made.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import faust
import structlog

from schemas.codec import CodecError, decode
from schemas.topics import COSTS_EVENTS, METRICS_EVENTS
from services.usage_consumer import UsageTransport
from streams.metrics import Recorder
from streams.usage import Place, Usage
from streams.usage_metrics import USAGE_EVENTS

log = structlog.get_logger(__name__)

SOURCES = (COSTS_EVENTS, METRICS_EVENTS)

_COMMIT_SECONDS = 1.0
"""How much is counted again at most after a SIGKILL; one write to the changelog each time."""

_SEND_SECONDS = 30.0
_STOP_SECONDS = 8.0

_MARK = b'["m"]'
"""The key of a record that says nothing, and ends what is written to a partition alone.

The embedded broker takes the first record of a log's last batch for the end of the log, and a
recovery stops there: without it up to a whole batch of what was kept would be left out.
"""


@dataclass(frozen=True, slots=True)
class UsagePlaces:
    """Where the application works: brokers, the prefix of its names, and the topics' sizes."""

    bootstrap_servers: str
    topic_prefix: str
    data_dir: str
    partitions: int
    replication: int
    session_seconds: float


class UsageStoppedError(Exception):
    """Faust has ended by itself, or lost what it had to keep: only a new process goes on."""


class UsageApp:
    """Counts what comes, and keeps it; `usage` is whole again once `recovered` is set."""

    def __init__(self, places: UsagePlaces, usage: Usage, recorder: Recorder) -> None:
        self.recovered = asyncio.Event()
        self.handled = 0
        self._usage = usage
        self._recorder = recorder
        self._prefix = places.topic_prefix
        self._keeping = asyncio.Lock()
        self._positions: dict[tuple[str, int], int] = {}
        self._app = _build(places)
        transport = UsageTransport(self._app.conf.broker_consumer, self._app)
        transport.before_commit = self.keep
        self._app.transport = transport
        topic = self._app.topic(
            *(places.topic_prefix + source.name for source in SOURCES),
            key_serializer="raw",
            value_serializer="raw",
        )
        self._table = self._app.Table(
            "state",
            key_type=bytes,
            value_type=bytes,
            partitions=places.partitions,
            on_recover=self._restore,
        )
        self._app.agent(topic, concurrency=1, name="usage")(self._count)

    async def keep(self) -> None:
        """Write what has changed to the table, and return once the bus has it."""
        async with self._keeping:
            changes = self._usage.take_changes()
            touched = {change.partition for change in changes}
            try:
                await asyncio.gather(*[self._put(c.partition, c.key, c.value) for c in changes])
                await asyncio.gather(*[self._put(partition, _MARK, b"0") for partition in touched])
            except Exception as error:
                # What was taken is in memory alone: a commit would now lose it for good.
                raise UsageStoppedError(f"the changelog was not taken: {error!r}") from error

    async def lag(self) -> int:
        """Tell how many events are not yet counted."""
        consumer = self._app.consumer
        partitions = [tp for tp in consumer.assignment() if self._source(tp.topic) is not None]
        ends = await consumer.highwaters(*partitions)
        total = 0
        for tp in partitions:
            handled = self._positions.get((tp.topic, tp.partition), 0)
            total += max(0, ends[tp] - max(handled, consumer.committed(tp)))
        return total

    async def start(self) -> None:
        """Begin; the group is joined, and what was kept is read, in its own time."""
        self._app.finalize()
        await self._app.start()

    async def raise_when_ended(self) -> None:
        """Raise UsageStoppedError once Faust has ended by itself."""
        await self._app.wait_until_stopped()
        raise UsageStoppedError(f"Faust has ended: {self._app.crash_reason!r}")

    async def stop(self) -> None:
        """Keep what was counted, commit, and leave the group."""
        await self._app.stop()

    async def _count(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            self._positions[message.topic, message.partition] = message.offset + 1
            self._recorder.add(USAGE_EVENTS, outcome=self._take(message))
            self.handled += 1

    def _take(self, message: Any) -> str:
        where = {"topic": message.topic, "partition": message.partition, "offset": message.offset}
        try:
            event = decode(message.value, _pairs(message.headers))
            source = self._source(message.topic) or message.topic
            return self._usage.apply(event, Place(source, message.partition, message.offset))
        except CodecError as error:
            log.warning("usage_event_unreadable", error=error.message, **where)
            return "unreadable"
        except Exception:
            # One that escapes would end the agent, and Faust would go on without it.
            log.exception("usage_event_not_counted", **where)
            return "failed"

    def _source(self, topic: str) -> str | None:
        name = topic.removeprefix(self._prefix)
        return name if name in {source.name for source in SOURCES} else None

    def _put(self, partition: int, key: bytes, value: bytes | None) -> "asyncio.Future[Any]":
        sent: asyncio.Future[Any] = self._table.send_changelog(partition, key, value)
        if value is None:
            self._table.data.pop(key, None)
        else:
            self._table.data[key] = value
        return sent

    async def _restore(self) -> None:
        # After a later rebalance what is in memory is newer than the changelog, and nobody
        # else has counted meanwhile.
        if not self.recovered.is_set():
            kept = [(key, value) for key, value in self._table.data.items() if key != _MARK]
            unread = self._usage.restore(kept)
            log.info("usage_restored", kept=len(kept), unread=unread)
            self.recovered.set()


@asynccontextmanager
async def open_usage_app(
    places: UsagePlaces, usage: Usage, recorder: Recorder
) -> AsyncIterator[UsageApp]:
    """Run the application for as long as the context lasts; what was counted is kept at its end."""
    app = UsageApp(places, usage, recorder)
    try:
        await app.start()
        yield app
    finally:
        # Before that there is nothing to keep, and a group that is being joined is not left
        # before the broker answers.
        seconds = _STOP_SECONDS if app.recovered.is_set() else 0
        stopping = asyncio.create_task(app.stop())
        done, _ = await asyncio.wait({stopping}, timeout=seconds)
        if not done:
            log.info("usage_left", after_seconds=seconds)
        elif error := stopping.exception():
            # What is not kept is not committed either, and is counted by the next process.
            log.warning("usage_not_kept", error=str(error))


def _build(places: UsagePlaces) -> Any:
    servers = ";".join(
        f"kafka://{server}" for server in places.bootstrap_servers.replace(" ", "").split(",")
    )
    name = f"{places.topic_prefix}usage"
    return faust.App(
        name,
        broker=servers,
        store="memory://",
        datadir=places.data_dir,
        web_enabled=False,
        topic_partitions=places.partitions,
        topic_replication_factor=places.replication,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=name,
        broker_session_timeout=places.session_seconds,
        broker_heartbeat_interval=places.session_seconds / 4,
        broker_commit_interval=_COMMIT_SECONDS,
        producer_request_timeout=_SEND_SECONDS,
    )


def _pairs(headers: Any) -> Iterable[tuple[str, bytes | None]]:
    pairs: Iterable[tuple[str, bytes | None]] = headers or ()
    return pairs.items() if isinstance(pairs, Mapping) else pairs
