"""A deployment on this machine: broker, gateway, workers and windows, kept running while open."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from prometheus_client import CollectorRegistry

from services.child import Patience
from services.cli.launch import (
    build_launches,
    build_windows_launch,
    child_changes,
    open_health_session,
)
from services.cli.run_file import (
    KEY_FILE,
    Running,
    RunningProcess,
    Target,
    data_directory_lock,
    read_key,
    remove_run_file,
    write_private,
    write_run_file,
)
from services.config import Settings
from services.embedded_broker import start_embedded_broker
from services.keys import create_key, find_key
from services.supervisor import Broker, OutsideBroker, Supervisor
from services.wiring import open_tables
from streams.metrics import Recorder

TENANT = "default"
KEY_NAME = "up"
BROKER_LOG = "broker.log"

_DRAIN_EXTRA_SECONDS = 5.0


class Deployment:
    """What runs, where, and by which key it is spoken to; `settings` are the children's too."""

    def __init__(
        self, settings: Settings, key: str, http: aiohttp.ClientSession, workers: int
    ) -> None:
        self.settings = settings
        self.embedded = not settings.kafka_bootstrap_servers
        self.interrupted = False
        self._ending = False
        changes = child_changes(settings)
        self._awaited = build_launches(settings, http, workers, changes)
        self._launches = [*self._awaited, build_windows_launch(settings, http, changes)]
        self.target = Target(self._awaited[0].url, key)
        patience = Patience(drain_seconds=settings.drain_seconds + _DRAIN_EXTRA_SECONDS)
        self._supervisor = Supervisor(
            [launch.member() for launch in self._launches],
            self._start_broker,
            patience,
            on_change=lambda: write_run_file(self.running()),
        )
        self._supervising = asyncio.create_task(self._supervisor.run(), name="supervisor")

    def running(self) -> Running:
        """Tell what runs at the moment."""
        broker = self._supervisor.broker
        children = zip(self._launches, self._supervisor.children, strict=True)
        return Running(
            pid=os.getpid(),
            gateway_url=self.target.url,
            data_dir=str(self.settings.data_dir),
            cluster="embedded" if self.embedded else "external",
            bootstrap_servers=broker.bootstrap_servers if broker else "",
            broker_pid=broker.pid if broker else None,
            topic_prefix=self.settings.topic_prefix,
            processes=tuple(
                RunningProcess(
                    launch.name,
                    child.process.pid if child.process else None,
                    child.starts,
                    f"{launch.url}/metrics",
                )
                for launch, child in children
            ),
        )

    async def wait_until_ready(self, within_seconds: float) -> bool:
        """Tell whether the gateway was ready, and every worker alive, in time.

        Raise what ended the supervisor, if it ended.
        """
        ready = asyncio.create_task(self._until_ready())
        try:
            await asyncio.wait(
                {ready, self._supervising},
                timeout=within_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ready.cancel()
        if self._supervising.done():
            self._supervising.result()
        return ready.done()

    async def wait_for_end(self) -> None:
        """Wait for the signal that cancels this, or raise what ended the supervisor."""
        await asyncio.wait({self._supervising})
        self._supervising.result()

    async def close(self) -> None:
        """End every process, the broker last."""
        self._ending = True
        self._supervising.cancel()
        await asyncio.wait({self._supervising})

    def interrupt(self, task: "asyncio.Task[object]") -> None:
        """Cancel the task that holds this open; when it ends already, wait no more for children."""
        if self.interrupted or self._ending:
            self._supervisor.kill_children()
            return
        self.interrupted = True
        task.cancel()

    async def _start_broker(self) -> Broker:
        if not self.embedded:
            return OutsideBroker(self.settings.kafka_bootstrap_servers)
        return await start_embedded_broker(self.settings.data_dir / BROKER_LOG)

    async def _until_ready(self) -> None:
        gateway, *workers = self._awaited
        await gateway.wait_for_answer("/ready")
        for worker in workers:
            await worker.wait_for_answer("/metrics")


@asynccontextmanager
async def open_deployment(settings: Settings, *, workers: int) -> AsyncIterator[Deployment]:
    """Start a deployment on the data directory, and end it clean.

    A signal to end cancels the block, and is swallowed here: `interrupted` tells of it.
    """
    settings = settings.model_copy(update=child_changes(settings))
    data_dir = settings.data_dir
    with data_directory_lock(data_dir):
        async with open_health_session() as http:
            key = await _key(settings)
            deployment = Deployment(settings, key, http, workers)
            try:
                with _signals_end(deployment):
                    try:
                        yield deployment
                    finally:
                        await deployment.close()
            finally:
                remove_run_file(data_dir)


@contextmanager
def _signals_end(deployment: Deployment) -> Iterator[None]:
    """Cancel the present task on the first signal, and kill the children on the second."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("a deployment is opened by a task")

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    for number in numbers:
        loop.add_signal_handler(number, deployment.interrupt, task)
    try:
        yield
    except asyncio.CancelledError:
        if not deployment.interrupted:
            raise
        task.uncancel()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _key(settings: Settings) -> str:
    """Give the key kept in the data directory; make one where there is none in use."""
    async with open_tables(settings, Recorder(CollectorRegistry())) as tables:
        known = read_key(settings.data_dir)
        if known and await find_key(tables, known):
            return known
        _, token = await create_key(tables, TENANT, KEY_NAME)
        write_private(settings.data_dir / KEY_FILE, token.encode() + b"\n")
        return token
