"""The process of the usage windows: one in a deployment, and nothing waits for it."""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from schemas.errors import Code, PermanentError, TransientError
from schemas.periods import read_zone
from services import wiring
from services.cluster import enter_cluster
from services.config import Settings
from services.process import EXIT_START_ANEW, stop_on_signals, unless_stopped
from services.usage_app import (
    SOURCES,
    UsageApp,
    UsagePlaces,
    UsageStoppedError,
    open_usage_app,
)
from services.windows_routes import serve_windows
from streams.bus.base import Bus
from streams.metrics import Recorder
from streams.tables.base import Tables
from streams.usage import Usage
from streams.usage_alarm import UsageAlarm
from streams.usage_report import UsageGauges
from streams.usage_vigil import Vigil
from streams.watchdog import ClusterReplacedError, watch_cluster

log = structlog.get_logger(__name__)

LOCK_FILE = "windows.lock"

_NICENESS = 5
"""Documents come first where processors are few."""

_START_SECONDS = 120.0
_LOOK_SECONDS = 2.0
_LAG_SECONDS = 5.0
_SHOW_SECONDS = 5.0
_FORGET_SECONDS = 60.0


async def run_windows(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, and give the process's exit code.

    Raise PermanentError(CONFLICT) where another process holds the windows of this deployment.
    """
    stopping = stop_on_signals()
    os.nice(_NICENESS)
    recorder = Recorder(CollectorRegistry())
    usage = Usage(read_zone(settings.time_zone), _now_ms)
    vigil = Vigil(start_seconds=_START_SECONDS, stall_seconds=settings.stall_seconds)
    host, port = settings.metrics_host, settings.windows_port
    with _the_only_one(settings.data_dir):
        async with (
            serve_windows(recorder.registry, usage, vigil, host=host, port=port),
            wiring.open_tables(settings, recorder) as tables,
        ):
            counting = _count(settings, tables, usage, vigil, recorder)
            return await unless_stopped(counting, stopping) or 0


async def _count(
    settings: Settings, tables: Tables, usage: Usage, vigil: Vigil, recorder: Recorder
) -> int:
    try:
        await _count_until_ended(settings, tables, usage, vigil, recorder)
    except* (UsageStoppedError, ClusterReplacedError) as errors:
        log.error("windows_start_anew", error=str(errors.exceptions[0]))
    return EXIT_START_ANEW


async def _count_until_ended(
    settings: Settings, tables: Tables, usage: Usage, vigil: Vigil, recorder: Recorder
) -> None:
    bus = wiring.build_bus(settings, wiring.process_name("windows"))
    cluster_id = await enter_cluster(bus, tables)
    places = await _places(settings, bus)
    async with (
        bus.open_producer() as producer,
        open_usage_app(places, usage, recorder) as app,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(app.raise_when_ended())
        group.create_task(watch_cluster(bus, cluster_id))
        group.create_task(_watch(app, bus, vigil))
        await app.recovered.wait()
        log.info("windows_started")
        group.create_task(UsageAlarm(usage, tables, producer, app.keep).run())
        group.create_task(_show(usage, recorder))
        group.create_task(_forget(usage))


async def _places(settings: Settings, bus: Bus) -> UsagePlaces:
    counts = await bus.partition_counts(SOURCES)
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        # A tenant's money and measurements would lie in different partitions of the table.
        raise PermanentError(
            Code.INVALID_REQUEST, f"usage needs topics with one number of partitions, not {found}"
        )
    return UsagePlaces(
        settings.kafka_bootstrap_servers,
        settings.topic_prefix,
        str(settings.data_dir),
        counts[SOURCES[0].name],
        settings.topic_replication,
        settings.kafka_session_timeout_seconds,
    )


async def _watch(app: UsageApp, bus: Bus, vigil: Vigil) -> None:
    while True:
        lag = await _lag(app, bus) if app.recovered.is_set() else None
        vigil.look(recovered=app.recovered.is_set(), handled=app.handled, lag=lag)
        if trouble := vigil.trouble():
            # Whoever watches from outside may start processes anew, and not ask for health.
            raise UsageStoppedError(trouble)
        await asyncio.sleep(_LOOK_SECONDS)


async def _lag(app: UsageApp, bus: Bus) -> int | None:
    """Give the lag, None while the broker is away, 1 where Faust alone does not answer."""
    try:
        async with asyncio.timeout(_LAG_SECONDS):
            return await app.lag()
    except Exception as error:  # noqa: BLE001  # Faust's consumer raises whatever its client does
        log.info("usage_lag_unknown", error=str(error) or type(error).__name__)
    try:
        await bus.cluster_id()
    except TransientError:
        return None
    return 1


async def _show(usage: Usage, recorder: Recorder) -> None:
    gauges = UsageGauges(usage, recorder)
    while True:
        gauges.show()
        await asyncio.sleep(_SHOW_SECONDS)


async def _forget(usage: Usage) -> None:
    while True:
        usage.forget_old()
        await asyncio.sleep(_FORGET_SECONDS)


@contextmanager
def _the_only_one(data_dir: Path) -> Iterator[None]:
    """Hold the windows of a deployment: its budgets need the events of every partition."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise PermanentError(
            Code.CONFLICT,
            f"another `parsewire windows` (or `up`) already counts for {data_dir}: one is all "
            "that a deployment needs",
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
