"""One worker and one gateway in this loop, LlamaParse's double beside them, time moved by hand.

A second of the tables' time passes at a time, and only when everything that looks at the time has
looked: leases, sweeps and settling work as in years of real time, however fast this machine is.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from schemas.topics import TOPICS
from services import wiring
from services.config import Settings
from services.defaults import defaults_of
from services.gateway.app import build_app
from services.gateway.parts import WebhookRules
from services.gateway.serve import _parts
from services.gateway.server import open_server
from services.money_settings import read_money
from services.process import open_relayed
from services.roles import _ALWAYS_AT_WORK, _ground
from services.webhook_sources import load_sources
from services.wiring import ParserRoom
from services.worker_parts import Process
from streams.dead_letters import DeadLetterLimit
from streams.leases import Leases
from streams.metrics import Recorder
from streams.runner import Runner
from streams.settings import CurrentSettings, close_circuit
from streams.sweeper import Sweeper
from streams.tables.base import Transaction
from streams.tables.sqlite import SqliteTables, open_sqlite
from streams.telemetry import open_telemetry
from streams.vendor_intents import VendorIntents
from streams.vendor_settle import VendorSettle
from streams.vendor_sweep import VendorSweep
from streams.watchdog import Progress
from tests.doubles.llamacloud.behaviour import Behaviour
from tests.doubles.llamacloud.catalogue import ENDS
from tests.doubles.llamacloud.cloud import LlamaCloud
from tests.doubles.llamacloud.server import open_llama_cloud
from tests.fakes import MemoryBus
from tests.harness import FakeClock

SECOND_MS = 1_000
_SECOND_LASTS = 0.01
"""The pace: calls to the double take real time, and something comes of them in each second."""
WORKERS = 3
"""How many sweep and settle at once."""
PERSON_SECONDS = 5
"""After how long somebody closes a circuit that waits for a person."""


def settings_for(folder: Path, cloud: LlamaCloud, url: str) -> Settings:
    """Give a deployment's settings; calls have real seconds, everything else the tables'."""
    values: dict[str, Any] = {
        "mode": "hybrid",
        "tenant_modes": "*",
        "data_dir": folder,
        "slots": 2,
        "webhook_url": url,
        "webhooks_per_second": 1e6,
        "llamaparse_api_key": cloud.api_key,
        "llamaparse_url": cloud.url,
        "llamaparse_requests_per_minute": 1e6,
        "llamaparse_burst": 100_000,
        "llamaparse_call_seconds": 2,
        "llamaparse_job_seconds": 300,
    }
    return Settings(_env_file=None, **values)


class CloudDesk:
    """The deployment, and the hands that move its time."""

    def __init__(
        self, cloud: LlamaCloud, tables: SqliteTables, clock: FakeClock, settings: Settings
    ) -> None:
        self.cloud = cloud
        self.tables = tables
        self.clock = clock
        self.settings = settings
        self.url = settings.webhook_url
        self.blobs = wiring.build_blobs(settings)
        self.opened: Counter[str] = Counter()
        self.seconds = 0
        self._ticks: list[Callable[[], Any]] = []
        self._open_for = 0
        self.runners: list[asyncio.Task[None]] = []

    def tick_by(self, *ticks: Callable[[], Any]) -> None:
        """Do these each second."""
        self._ticks += ticks

    async def pass_second(self) -> None:
        """Let a second pass for the tables, with everything that happens each second."""
        assert not any(runner.done() for runner in self.runners), "a part has broken"
        self.clock.pass_ms(SECOND_MS)
        self.seconds += 1
        await asyncio.gather(*(tick() for tick in self._ticks))
        await self._be_the_person()
        await asyncio.sleep(_SECOND_LASTS)

    async def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Run a statement that changes nothing."""

        async def unit(tx: Transaction) -> list[tuple[Any, ...]]:
            connection: Any = tx
            return [tuple(row) for row in connection._connection.execute(query)]

        return await self.tables.read(unit)

    def running_there(self) -> int:
        """Count the jobs there that have not ended."""
        return sum(job.status not in ENDS for job in self.cloud.jobs.values())

    async def _be_the_person(self) -> None:
        rows = await self.sql(
            "SELECT reason FROM circuits WHERE state = 'open' AND until_ms IS NULL"
        )
        self._open_for = self._open_for + 1 if rows else 0
        if self._open_for > PERSON_SECONDS:
            self.opened[rows[0][0]] += 1
            await self.tables.write(lambda tx: close_circuit(tx, "llamaparse", "a person"))


@asynccontextmanager
async def open_cloud_desk(folder: Path, behaviour: Behaviour) -> AsyncIterator[CloudDesk]:
    """Run everything in this loop."""
    clock, recorder = FakeClock(), Recorder(CollectorRegistry())
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        cloud = await enter(open_llama_cloud(behaviour, clock=clock.seconds))
        tables = await enter(open_sqlite(folder / "tables.db", recorder, clock_ms=clock))
        bus = MemoryBus(partitions=4)
        await bus.ensure_topics(TOPICS)
        settings = settings_for(folder, cloud, "")
        rules = WebhookRules(load_sources(settings), 1e6, settings.max_webhook_bytes)
        app = build_app(_parts(settings, tables, bus, bus, rules, recorder))
        addresses = await enter(open_server(app, "127.0.0.1", 0, 10.0))
        settings = settings_for(folder, cloud, f"http://127.0.0.1:{addresses[0][1]}")
        desk = CloudDesk(cloud, tables, clock, settings)
        current = CurrentSettings(tables, defaults_of(settings), recorder)
        await current.refresh()
        room = await enter(wiring.open_parsers(settings, tables, recorder, current))
        leases = Leases(tables, "w", settings.timings().lease_ms, settings.renew_seconds)
        telemetry = await enter(open_telemetry(bus, recorder, source="/test"))
        process = Process(
            settings, "w", recorder, tables, bus, "c", telemetry, leases, read_money(settings)
        )
        desk.tick_by(leases.renew, current.refresh, *_loops(process, room))
        desk.runners = await enter(_running(process, room))
        yield desk


@asynccontextmanager
async def _running(process: Process, room: ParserRoom) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run the relay, and each processor on its ground."""
    runners: list[Runner] = []
    async with open_relayed(process.tables, process.bus, process.recorder):
        for name in _ALWAYS_AT_WORK:
            limit = DeadLetterLimit(name, "1", process.tables, process.recorder)
            ground = _ground(name, process, limit, room)
            progress = Progress(name, process.recorder, stall_seconds=60)
            runners.append(
                Runner(ground, process.bus, limit, progress, process.recorder, drain_seconds=5)
            )
        tasks = [asyncio.create_task(runner.run()) for runner in runners]
        try:
            yield tasks
        finally:
            for runner in runners:
                runner.stop()
            await asyncio.wait(tasks, timeout=20)


def _loops(process: Process, room: ParserRoom) -> list[Callable[[], Any]]:
    """Give what workers do again and again, once; there are as many of each as do no harm."""
    tables, recorder, timings = process.tables, process.recorder, process.settings.timings()
    job_ms = int(process.settings.llamaparse_job_seconds * 1000)
    vendor: dict[str, Any] = {"job_ms": job_ms, "every_seconds": 1.0}
    found: list[Callable[[], Any]] = []
    for _ in range(WORKERS):
        intents = VendorIntents(tables, room.remote, recorder, timings, process.billing, **vendor)
        found += [
            Sweeper(tables, timings, recorder, every_seconds=1.0).tick,
            VendorSweep(tables, room.remote, recorder, timings, **vendor).tick,
            intents.beat,
            intents.tick,
            VendorSettle(
                tables, room.remote, recorder, process.billing, forget=True, every_seconds=1.0
            ).tick,
        ]
    return found
