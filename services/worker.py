"""The worker: processors, sweeper and relay of one process, until it is told to stop."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from services import wiring
from services.cluster import enter_cluster, forget_topic
from services.config import Settings
from services.exporter import serve_metrics
from services.process import EXIT_START_ANEW, open_relayed, stop_on_signals
from streams.bus.base import Bus
from streams.dead_letters import DeadLetterLimit
from streams.fold import FoldGround
from streams.gauges import Gauges
from streams.janitor import Janitor
from streams.job_state import JobState
from streams.leases import Leases
from streams.metrics import Recorder
from streams.parse import Parse
from streams.processor import Ground, LogReplacedError
from streams.reactor import ReactorGround
from streams.runner import Runner
from streams.sweeper import Sweeper
from streams.tables.base import Tables
from streams.telemetry import Telemetry, open_telemetry
from streams.watchdog import (
    ClusterReplacedError,
    Progress,
    watch_cluster,
    watch_loop,
    watch_progress,
)

log = structlog.get_logger(__name__)

ROLES = ("parse", "job_state", "sweeper", "janitor", "gauges")
"""What a worker can be told to run with `--only`; the relay runs in every process."""

PROCESSORS = ("parse", "job_state")
"""The roles that read topics, and can be stopped by their dead letters."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the parts of a worker share."""

    settings: Settings
    name: str
    recorder: Recorder
    tables: Tables
    bus: Bus
    cluster_id: str
    telemetry: Telemetry
    leases: Leases


async def run_worker(settings: Settings, only: frozenset[str], *, metrics_port: int) -> int:
    """Run the roles until SIGTERM or SIGINT, and give the process's exit code."""
    stopping = stop_on_signals()
    name = wiring.process_name("worker")
    recorder = Recorder(CollectorRegistry())
    with serve_metrics(recorder, settings.metrics_host, metrics_port):
        async with wiring.open_tables(settings, recorder) as tables:
            bus = wiring.build_bus(settings, name)
            cluster_id = await enter_cluster(bus, tables)
            source = f"/parsewire/{name}"
            async with (
                open_relayed(tables, bus, recorder) as producer,
                open_telemetry(producer, recorder, source=source) as telemetry,
            ):
                lease_ms = settings.timings().lease_ms
                leases = Leases(tables, name, lease_ms, settings.renew_seconds)
                process = Process(
                    settings, name, recorder, tables, bus, cluster_id, telemetry, leases
                )
                return await _run_until_replaced(process, only, stopping)


async def _run_until_replaced(
    process: Process, only: frozenset[str], stopping: asyncio.Event
) -> int:
    code = 0
    try:
        await _run_roles(process, only, stopping)
    except* ClusterReplacedError as errors:
        log.error("cluster_replaced", error=str(errors.exceptions[0]))
        code = EXIT_START_ANEW
    except* LogReplacedError as errors:
        for error in errors.exceptions:
            if isinstance(error, LogReplacedError):
                log.error("log_replaced", topic=error.topic, error=str(error))
                await forget_topic(process.tables, process.cluster_id, error.topic)
        code = EXIT_START_ANEW
    return code


async def _run_roles(process: Process, only: frozenset[str], stopping: asyncio.Event) -> None:
    settings, recorder = process.settings, process.recorder
    runners: list[Runner] = []
    progresses: list[Progress] = []
    async with (
        _open_grounds(process, only) as grounds,
        # Outside the group: when one of its tasks fails, all are cancelled at once, and the
        # runners go on for as long as they drain.
        process.leases.renewed() as renewing,
        asyncio.TaskGroup() as group,
    ):
        background = [
            group.create_task(coroutine, name=name)
            for name, coroutine in _background(process, only, progresses)
        ]
        background.append(group.create_task(_outlive(renewing)))
        for ground, limit in grounds:
            progress = Progress(ground.name, recorder, stall_seconds=settings.stall_seconds)
            progresses.append(progress)
            runners.append(
                Runner(
                    ground,
                    process.bus,
                    limit,
                    progress,
                    recorder,
                    drain_seconds=settings.drain_seconds,
                )
            )
        running = [group.create_task(runner.run()) for runner in runners]
        log.info("worker_started", roles=sorted(only), worker=process.name)
        await stopping.wait()
        log.info("worker_stopping")
        for runner in runners:
            runner.stop()
        if running:
            await asyncio.wait(running)
        for task in background:
            task.cancel()


async def _outlive(renewing: asyncio.Task[None]) -> None:
    """Pass on the defect that ends it; leave it alone when this is cancelled."""
    await asyncio.shield(renewing)


@asynccontextmanager
async def _open_grounds(
    process: Process, only: frozenset[str]
) -> AsyncIterator[list[tuple[Ground, DeadLetterLimit]]]:
    settings, tables, recorder = process.settings, process.tables, process.recorder
    limits = {
        name: DeadLetterLimit(name, version("parsewire"), tables, recorder) for name in PROCESSORS
    }
    grounds: list[tuple[Ground, DeadLetterLimit]] = []
    if "job_state" in only:
        limit = limits["job_state"]
        fold = FoldGround(JobState(settings.timings()), tables, process.cluster_id, limit, recorder)
        grounds.append((fold, limit))
    if "parse" not in only:
        yield grounds
        return
    async with wiring.open_parsers(settings) as choose:
        limit = limits["parse"]
        slots = wiring.slots(settings)
        blobs = wiring.build_blobs(settings)
        reactor = ReactorGround(
            Parse(choose, blobs, process.telemetry, recorder, slots=slots),
            tables,
            process.leases,
            process.cluster_id,
            limit,
            recorder,
            # While one document is verified or its result made durable, another is parsed.
            slots=2 * slots,
        )
        grounds.append((reactor, limit))
        yield grounds


def _background(
    process: Process, only: frozenset[str], progresses: list[Progress]
) -> list[tuple[str, Coroutine[Any, Any, None]]]:
    settings, tables, recorder = process.settings, process.tables, process.recorder
    found: list[tuple[str, Coroutine[Any, Any, None]]] = [
        ("cluster", watch_cluster(process.bus, process.cluster_id)),
        ("loop", watch_loop(recorder)),
        ("progress", watch_progress(progresses)),
    ]
    if "sweeper" in only:
        sweeper = Sweeper(
            tables, settings.timings(), recorder, every_seconds=settings.sweep_seconds
        )
        found.append(("sweeper", sweeper.run()))
    if "janitor" in only:
        found.append(("janitor", Janitor(tables, wiring.build_blobs(settings)).run()))
    if "gauges" in only:
        found.append(("gauges", Gauges(tables, recorder).run()))
    return found
