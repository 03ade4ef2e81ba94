"""Faust's consumer as the usage windows run it, over a log in memory: what a seek leaves behind."""

import asyncio
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from faust.types import TP

from services.usage_consumer import UsageConsumer, UsageTransport

TOPIC = "costs.events"
PLACE = TP(TOPIC, 0)
END = 1_500


class LogThread:
    """One partition of 1,500 records, and a client that takes its time to seek."""

    def __init__(self, committed: int | None) -> None:
        self.committed = committed
        self.position = committed or 0
        self.fetches = 0
        self.third_fetch = asyncio.Event()

    async def getmany(self, _active: Any, _timeout: float) -> Any:
        """Give ten records from where the client stands, and be longer about it than a seek."""
        offsets = range(self.position, min(self.position + 10, END))
        self.position = offsets.stop
        self.fetches += 1
        if self.fetches == 3:
            self.third_fetch.set()
        for _ in range(50):
            await asyncio.sleep(0)
        return {PLACE: [_record(offset) for offset in offsets]}

    async def seek_to_committed(self) -> Any:
        """Go back as the client does: not at all where nothing is committed."""
        for _ in range(20):
            await asyncio.sleep(0)
        self.position = self.committed or self.position
        return {TopicPartition(TOPIC, 0): self.committed}

    async def seek_to_beginning(self, place: Any) -> None:
        """Go back to the first record."""
        assert place == PLACE
        self.position = 0

    def highwater(self, _place: Any) -> int:
        """Tell the log's end."""
        return END


class LogConsumer(UsageConsumer):
    """Reads the log in memory; all else is as it runs."""

    def __init__(self, transport: Any, committed: int | None) -> None:
        self.log_thread = LogThread(committed)
        self.taken: list[int] = []
        self.last = asyncio.Event()
        super().__init__(transport, self._take, None, None, loop=asyncio.get_running_loop())

    def _new_consumer_thread(self) -> Any:
        return self.log_thread

    def add_dependency(self, service: Any) -> Any:
        """Own nothing that would have to be started."""
        return service

    async def _take(self, message: Any) -> None:
        self.taken.append(message.offset)
        self.ack(message)
        if message.offset == END - 1:
            self.last.set()
        await asyncio.sleep(0)

    async def read(self, stopped: asyncio.Event) -> None:
        """Take what comes until it is stopped."""
        await self._drain_messages(SimpleNamespace(_stopped=stopped))  # type: ignore[arg-type]  # all that it asks of a fetcher

    def committable(self) -> int | None:
        """Tell what the next commit would commit."""
        return self._filter_committable_offsets([PLACE]).get(PLACE)


@pytest.fixture
async def transport() -> UsageTransport:
    app = faust.App("log", broker="kafka://127.0.0.1:1", loop=asyncio.get_running_loop())
    app.topics.add(app.topic(TOPIC))
    await app.topics._update_indices()  # type: ignore[attr-defined]  # Faust's own does it at start
    return UsageTransport(app.conf.broker_consumer, app)


@pytest.mark.parametrize("committed", [1_200, None])
async def test_a_seek_among_records_loses_none_and_all_can_be_committed_at_once(
    transport: UsageTransport, committed: int | None
) -> None:
    consumer = LogConsumer(transport, committed)
    consumer._set_active_tps({PLACE})
    stopped = asyncio.Event()
    reading = asyncio.create_task(consumer.read(stopped))
    async with asyncio.timeout(10):
        await consumer.log_thread.third_fetch.wait()
        # As the end of a recovery does it, among records that flow already.
        await consumer.perform_seek()
        consumer.resume_flow()
        await consumer.last.wait()
        stopped.set()
        await reading
    assert set(consumer.taken) == set(range(committed or 0, 1_500))
    assert consumer.committable() == 1_500


def _record(offset: int) -> Any:
    return ConsumerRecord(TOPIC, 0, offset, 0, 0, None, b"{}", None, 0, 2, ())
