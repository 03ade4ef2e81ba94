"""Measurements on their way to the bus."""

import asyncio
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from schemas.codec import decode
from schemas.errors import Code, TransientError
from schemas.events import StageTimed
from schemas.topics import METRICS_EVENTS
from streams.bus.base import Outgoing
from streams.metrics import Recorder
from streams.telemetry import BusTelemetry, open_telemetry
from tests.fakes import MemoryBus

STAGE = StageTimed("acme", "gateway", "read", "ok", 0.25)


class StuckProducer:
    """Never answers, and tells how many wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked = asyncio.Event()

    async def send(self, record: Outgoing) -> None:
        assert record.topic == "metrics.events"
        self.waiting += 1
        self.asked.set()
        await asyncio.Event().wait()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(CollectorRegistry())


def dropped(recorder: Recorder) -> float | None:
    return recorder.registry.get_sample_value("parsewire_telemetry_dropped_total")


async def test_a_measurement_goes_to_its_topic_under_its_tenant(
    memory_bus: MemoryBus, recorder: Recorder
) -> None:
    await memory_bus.ensure_topics([METRICS_EVENTS])
    async with open_telemetry(memory_bus, recorder, source="gateway-1") as telemetry:
        telemetry.emit(STAGE, traceparent="00-1-2-01")
    [record] = memory_bus.records("metrics.events")
    event = decode(record.value, record.headers)
    assert record.key == b"acme"
    assert event.body == StageTimed("acme", "gateway", "read", "ok", 0.25)
    assert (event.source, event.traceparent) == ("gateway-1", "00-1-2-01")
    assert dropped(recorder) == 0


async def test_every_one_of_many_is_sent(memory_bus: MemoryBus, recorder: Recorder) -> None:
    await memory_bus.ensure_topics([METRICS_EVENTS])
    async with open_telemetry(memory_bus, recorder, source="s") as telemetry:
        for _ in range(1700):
            telemetry.emit(STAGE)
    assert len(memory_bus.records("metrics.events")) == 1700
    assert dropped(recorder) == 0


async def test_id_and_time_are_those_of_the_call(memory_bus: MemoryBus, recorder: Recorder) -> None:
    await memory_bus.ensure_topics([METRICS_EVENTS])
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    telemetry = BusTelemetry(
        memory_bus, recorder, source="s", clock=lambda: moment, new_id=lambda: "id-1"
    )
    telemetry.emit(STAGE)
    telemetry.close()
    await telemetry.run()
    [record] = memory_bus.records("metrics.events")
    event = decode(record.value, record.headers)
    assert (event.id, event.time) == ("id-1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


async def test_what_does_not_fit_is_dropped_and_counted(recorder: Recorder) -> None:
    telemetry = BusTelemetry(StuckProducer(), recorder, source="s", capacity=3)
    for _ in range(5):
        telemetry.emit(STAGE)
    assert dropped(recorder) == 2
    telemetry.drop()
    assert dropped(recorder) == 5


async def test_a_bus_that_is_away_costs_the_measurement_alone(
    memory_bus: MemoryBus, recorder: Recorder
) -> None:
    await memory_bus.ensure_topics([METRICS_EVENTS])
    memory_bus.set_away(True)
    async with open_telemetry(memory_bus, recorder, source="s") as telemetry:
        telemetry.emit(STAGE)
        telemetry.emit(STAGE)
    assert dropped(recorder) == 2


async def test_a_batch_that_was_cut_off_is_counted(recorder: Recorder) -> None:
    producer = StuckProducer()
    telemetry = BusTelemetry(producer, recorder, source="s")
    telemetry.emit(STAGE)
    running = asyncio.create_task(telemetry.run(gather_seconds=0))
    async with asyncio.timeout(5):
        await producer.asked.wait()
    telemetry.emit(STAGE)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    telemetry.drop()
    assert (producer.waiting, dropped(recorder)) == (1, 2)


async def test_a_send_that_breaks_does_not_end_the_others(recorder: Recorder) -> None:
    class Breaking:
        calls = 0

        async def send(self, record: Outgoing) -> None:
            assert record.value
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            if self.calls == 2:
                raise TransientError(Code.BUS_UNAVAILABLE, "away")

    producer = Breaking()
    async with open_telemetry(producer, recorder, source="s") as telemetry:
        for _ in range(3):
            telemetry.emit(STAGE)
    assert (producer.calls, dropped(recorder)) == (3, 2)
