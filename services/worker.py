"""The worker: the roles and the relay of one process, until it is told to stop."""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from services import wiring
from services.alert_webhook import check_alert_webhook
from services.cluster import enter_cluster, forget_topic
from services.config import Settings
from services.exporter import serve_metrics
from services.llamaparse_settings import check_start
from services.money_settings import read_money
from services.process import (
    EXIT_START_ANEW,
    collect_seldom,
    open_relayed,
    stop_on_signals,
    unless_stopped,
)
from services.roles import open_roles
from services.worker_parts import Process
from streams.leases import Leases
from streams.metrics import Recorder
from streams.processor import Ground, LogReplacedError
from streams.runner import Runner
from streams.speakers import read_speakers
from streams.telemetry import open_telemetry
from streams.watchdog import ClusterReplacedError, Progress

log = structlog.get_logger(__name__)


async def run_worker(settings: Settings, only: frozenset[str], *, metrics_port: int) -> int:
    """Run the roles until SIGTERM or SIGINT, and give the process's exit code."""
    stopping = stop_on_signals()
    check_start(settings)
    money = read_money(settings)
    check_alert_webhook(settings)
    name = wiring.process_name("worker")
    recorder = Recorder(CollectorRegistry())
    with serve_metrics(recorder, settings.metrics_host, metrics_port):
        async with wiring.open_tables(settings, recorder) as tables:
            bus = wiring.build_bus(settings, name)
            entering = enter_cluster(bus, tables, read_speakers(settings.intake).topics())
            cluster_id = await unless_stopped(entering, stopping)
            if cluster_id is None:
                return 0
            source = f"/parsewire/{name}"
            grounds: list[Ground] = []
            is_behind = partial(_is_any_full, grounds)
            async with (
                open_relayed(tables, bus, recorder, is_behind=is_behind) as producer,
                open_telemetry(producer, recorder, source=source) as telemetry,
            ):
                lease_ms = settings.timings().lease_ms
                leases = Leases(tables, name, lease_ms, settings.renew_seconds)
                process = Process(
                    settings,
                    name,
                    recorder,
                    tables,
                    bus,
                    cluster_id,
                    telemetry,
                    leases,
                    money,
                    grounds,
                )
                return await _run_until_replaced(process, only, stopping)


def _is_any_full(grounds: Sequence[Ground]) -> bool:
    """Tell whether a processor holds as much as it may."""
    return any(ground.room() == 0 for ground in grounds)


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
        open_roles(process, only, progresses) as roles,
        # Outside the group: when one of its tasks fails, all are cancelled at once, and the
        # runners go on for as long as they drain.
        process.leases.renewed() as renewing,
        asyncio.TaskGroup() as group,
    ):
        background = [group.create_task(run(), name=name) for name, run in roles.background.items()]
        background.append(group.create_task(_outlive(renewing)))
        for ground, limit in roles.grounds:
            progress = Progress(ground.name, recorder, stall_seconds=settings.stall_seconds)
            progresses.append(progress)
            process.grounds.append(ground)
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
        collect_seldom()
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
