"""The gateway's process: its parts opened, its port served, until it is told to stop."""

import asyncio
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from schemas.periods import read_zone
from services import wiring
from services.callback_url import check_callback_url
from services.cluster import enter_cluster
from services.config import Settings
from services.defaults import defaults_of
from services.gateway.app import build_app
from services.gateway.parts import Limits, Parts, WebhookRules
from services.gateway.server import open_server
from services.keys import find_key
from services.process import (
    EXIT_START_ANEW,
    collect_seldom,
    open_relayed,
    stop_on_signals,
    unless_stopped,
)
from services.result_links import result_links
from services.self_hosted import check_self_hosted
from services.webhook_sources import load_sources
from streams.bus.base import Bus, Producer
from streams.metrics import Recorder
from streams.tables.base import Tables, Transaction
from streams.watchdog import ClusterReplacedError, watch_cluster, watch_loop

log = structlog.get_logger(__name__)


async def run_gateway(settings: Settings) -> int:
    """Serve HTTP until SIGTERM or SIGINT, and give the process's exit code."""
    stopping = stop_on_signals()
    check_callback_url(settings)
    check_self_hosted(settings)
    name = wiring.process_name("gateway")
    webhooks = WebhookRules(
        load_sources(settings),
        settings.webhooks_per_second,
        settings.max_webhook_bytes,
        event_source=f"/parsewire/{name}",
    )
    recorder = Recorder(CollectorRegistry())
    async with wiring.open_tables(settings, recorder) as tables:
        bus = wiring.build_bus(settings, name)
        cluster_id = await unless_stopped(enter_cluster(bus, tables), stopping)
        if cluster_id is None:
            return 0
        async with open_relayed(tables, bus, recorder) as producer:
            parts = _parts(settings, tables, bus, producer, webhooks, recorder)
            app, host, port = build_app(parts), settings.gateway_host, settings.gateway_port
            async with open_server(app, host, port, settings.drain_seconds) as addresses:
                log.info("gateway_started", addresses=addresses)
                collect_seldom()
                return await _wait(bus, cluster_id, recorder, stopping)


async def _wait(bus: Bus, cluster_id: str, recorder: Recorder, stopping: asyncio.Event) -> int:
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(watch_cluster(bus, cluster_id)),
                group.create_task(watch_loop(recorder)),
            ]
            await stopping.wait()
            log.info("gateway_stopping")
            for task in watching:
                task.cancel()
    except* ClusterReplacedError as errors:
        log.error("cluster_replaced", error=str(errors.exceptions[0]))
        code = EXIT_START_ANEW
    return code


def _parts(
    settings: Settings,
    tables: Tables,
    bus: Bus,
    producer: Producer,
    webhooks: WebhookRules,
    recorder: Recorder,
) -> Parts:
    blobs = wiring.build_blobs(settings)

    async def check_bus() -> None:
        await bus.cluster_id()

    return Parts(
        tables=tables,
        blobs=blobs,
        producer=producer,
        recorder=recorder,
        timings=settings.timings(),
        limits=Limits(
            settings.max_upload_bytes,
            settings.upload_idle_seconds,
            settings.upload_total_seconds,
            settings.uploads_at_once,
        ),
        webhooks=webhooks,
        links=result_links(settings),
        find_key=partial(find_key, tables),
        defaults=defaults_of(settings),
        tenant_modes=settings.choosing_tenants(),
        zone=read_zone(settings.time_zone),
        checks={"bus": check_bus, "tables": partial(_check_tables, tables), "blobs": blobs.check},
    )


async def _check_tables(tables: Tables) -> None:
    """Make a writer take its turn: a table that only reads cannot take an upload."""

    async def unit(tx: Transaction) -> None:
        await tx.one("jobs.counts")

    await tables.write(unit)
