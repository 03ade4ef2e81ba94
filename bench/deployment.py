"""A deployment under measurement: a gateway and a worker as processes on the bench's broker."""

import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from bench.children import Child, open_server
from bench.figures import BenchError
from bench.ground import Ground
from services.config import environment_with
from services.embedded_broker import free_port
from services.keys import create_key
from streams.metrics import Recorder
from streams.tables.sqlite import open_sqlite

UPLOAD = "/api/v1/upload"

_CLI = "services.cli.main"
_READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where it answers, and how it is looked into."""

    folder: Path
    port: int
    token: str
    gateway: Child
    worker: Child | None

    def complete(self) -> int:
        """Count the complete jobs, by the table's own sums."""
        with self._open_reader() as reader:
            return _complete(reader)

    async def wait_complete(self, count: int, within_seconds: float) -> float:
        """Wait until so many jobs are complete, and tell when that was, by perf_counter."""
        ends = time.perf_counter() + within_seconds
        # Opened once: what looking costs is missing to what is looked at.
        with self._open_reader() as reader:
            while (done := _complete(reader)) < count:
                now = time.perf_counter()
                if now > ends:
                    raise BenchError(
                        f"{done} of {count} jobs complete after {within_seconds:g} s; "
                        f"see {self.folder}"
                    )
                for child in (self.gateway, self.worker):
                    if child is not None:
                        child.check_alive()
                await asyncio.sleep(0.025)
        return time.perf_counter()

    def _open_reader(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.folder / "data" / "tables.db", timeout=30))


def _complete(reader: sqlite3.Connection) -> int:
    row = reader.execute("SELECT jobs FROM job_counts WHERE state = 'complete'").fetchone()
    return int(row[0]) if row else 0


@asynccontextmanager
async def open_deployment(
    ground: Ground, folder: Path, *, worker: bool, settings: Mapping[str, object] | None = None
) -> AsyncIterator[Deployment]:
    """Run it for as long as the context lasts, with as many slots as cores."""
    port = free_port()
    environment = environment_with(
        {
            "data_dir": folder / "data",
            "kafka_bootstrap_servers": ground.servers,
            "topic_prefix": f"bench-{uuid.uuid4().hex[:8]}.",
            "gateway_port": port,
            "metrics_port": 0,
            "slots": ground.cores,
            "log_level": "WARNING",
            "log_format": "json",
            **(settings or {}),
        }
    )
    async with open_sqlite(folder / "data" / "tables.db", Recorder(CollectorRegistry())) as tables:
        _, token = await create_key(tables, "bench", "bench")
    async with open_server("gateway", _CLI, "gateway", folder=folder, environment=environment) as g:
        await _until_ready(port, g)
        if not worker:
            yield Deployment(folder, port, token, g, None)
            return
        async with _open_worker(folder, environment) as w:
            yield Deployment(folder, port, token, g, w)


@asynccontextmanager
async def _open_worker(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Child]:
    opened = open_server("worker", _CLI, "worker", folder=folder, environment=environment)
    async with opened as worker:
        yield worker


async def _until_ready(port: int, gateway: Child) -> None:
    ends = time.perf_counter() + _READY_SECONDS
    async with aiohttp.ClientSession() as session:
        while not await _is_ready(session, port):
            gateway.check_alive()
            if time.perf_counter() > ends:
                raise BenchError(f"the gateway was not ready within {_READY_SECONDS:g} s")
            await asyncio.sleep(0.1)


async def _is_ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
