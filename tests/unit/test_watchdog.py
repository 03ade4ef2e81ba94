"""The watchdog: lag without progress, a replaced cluster."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import Code, TransientError
from streams.bus.base import Consumer, Lag, Partition
from streams.metrics import METRICS, UPLOADS, Recorder
from streams.watchdog import ClusterReplacedError, Progress, watch_cluster
from tests.fakes import MemoryBus
from tests.harness import FakeClock

P0 = Partition("t", 0)


class Behind:
    """A consumer of which the lag is known."""

    def __init__(self, messages: int) -> None:
        self.messages = messages

    settled = True

    def is_settled(self) -> bool:
        return self.settled

    async def lag(self) -> Mapping[Partition, Lag]:
        if not self.settled:
            return {}
        return {P0: Lag(self.messages, 1.5)}


@asynccontextmanager
async def watched(messages: int) -> AsyncIterator[tuple[Progress, Behind, FakeClock, Recorder]]:
    clock, recorder, consumer = FakeClock(), Recorder(CollectorRegistry()), Behind(messages)
    progress = Progress("p", recorder, stall_seconds=60, clock=clock.seconds)
    progress.begin(cast(Consumer, consumer))
    yield progress, consumer, clock, recorder


async def test_lag_without_progress_is_a_stall() -> None:
    async with watched(5) as (progress, _, clock, _recorder):
        await progress.look()
        progress.raise_if_stalled()
        clock.pass_ms(60_001)
        await progress.look()
        with pytest.raises(TransientError) as caught:
            progress.raise_if_stalled()
        assert caught.value.code is Code.BUS_UNAVAILABLE


async def test_progress_and_a_busy_slot_are_no_stall() -> None:
    async with watched(5) as (progress, _, clock, _recorder):
        clock.pass_ms(59_000)
        progress.handled(1)
        clock.pass_ms(59_000)
        await progress.look()
        progress.waited()
        clock.pass_ms(59_000)
        await progress.look()
        progress.raise_if_stalled()


async def test_progress_after_a_stall_ends_it() -> None:
    async with watched(5) as (progress, _, clock, _recorder):
        clock.pass_ms(60_001)
        await progress.look()
        progress.handled(1)
        progress.raise_if_stalled()


async def test_nothing_to_do_is_no_stall() -> None:
    async with watched(0) as (progress, consumer, clock, _recorder):
        clock.pass_ms(3_600_000)
        await progress.look()
        consumer.messages = 4
        clock.pass_ms(59_000)
        await progress.look()
        progress.raise_if_stalled()


async def test_a_group_that_gives_no_share_is_a_stall() -> None:
    async with watched(0) as (progress, consumer, clock, _recorder):
        consumer.settled = False
        clock.pass_ms(59_000)
        await progress.look()
        progress.raise_if_stalled()
        clock.pass_ms(1_001)
        await progress.look()
        with pytest.raises(TransientError, match="p waits for its group and made no progress"):
            progress.raise_if_stalled()


async def test_a_share_that_comes_at_last_ends_the_wait() -> None:
    async with watched(0) as (progress, consumer, clock, _recorder):
        consumer.settled = False
        clock.pass_ms(59_000)
        await progress.look()
        consumer.settled = True
        await progress.look()
        consumer.settled = False
        clock.pass_ms(59_000)
        await progress.look()
        progress.raise_if_stalled()


async def test_lag_is_shown_and_zeroed_when_the_consumer_ends() -> None:
    async with watched(5) as (progress, _, _clock, recorder):
        labels = {"processor": "p", "topic": "t", "partition": "0"}
        await progress.look()
        name = "parsewire_consumer_lag_messages"
        assert recorder.registry.get_sample_value(name, labels) == 5
        progress.end()
        assert recorder.registry.get_sample_value(name, labels) == 0


@pytest.mark.parametrize("another", [False, True])
async def test_a_consumer_that_ends_while_its_lag_is_asked_for_is_not_judged(
    *, another: bool
) -> None:
    async with watched(5) as (progress, consumer, clock, recorder):
        clock.pass_ms(60_001)
        asked, answered = asyncio.Event(), asyncio.Event()

        async def slow_lag() -> Mapping[Partition, Lag]:
            asked.set()
            await answered.wait()
            return {P0: Lag(5, 1.5)}

        consumer.lag = slow_lag  # type: ignore[method-assign]
        looking = asyncio.create_task(progress.look())
        await asyncio.wait_for(asked.wait(), 10)
        progress.end()
        if another:
            progress.begin(cast(Consumer, Behind(5)))
        answered.set()
        await asyncio.wait_for(looking, 10)
        progress.raise_if_stalled()
        labels = {"processor": "p", "topic": "t", "partition": "0"}
        shown = recorder.registry.get_sample_value("parsewire_consumer_lag_messages", labels)
        assert not shown


async def test_another_cluster_at_the_address_ends_the_process(memory_bus: MemoryBus) -> None:
    known = await memory_bus.cluster_id()
    watching = asyncio.create_task(watch_cluster(memory_bus, known, look_seconds=0.001))
    memory_bus.set_away(True)
    memory_bus.replace()
    memory_bus.set_away(False)
    with pytest.raises(ClusterReplacedError, match=known):
        await asyncio.wait_for(watching, 10)


def test_recording_never_raises() -> None:
    recorder = Recorder(CollectorRegistry())
    wrong: dict[str, Any] = {"no_such_label": "x"}
    recorder.add(UPLOADS, **wrong)
    recorder.add(UPLOADS, -1, outcome="accepted")
    recorder.add(UPLOADS, outcome="accepted")
    sample = recorder.registry.get_sample_value("parsewire_uploads_total", {"outcome": "accepted"})
    assert sample == 1


def test_the_list_of_metrics_keeps_the_rules_of_names() -> None:
    for metric in METRICS:
        assert metric.name.startswith("parsewire_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.meaning.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)
