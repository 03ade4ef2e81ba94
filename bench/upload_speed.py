"""Uploads of 20 kB: the gateway against bare aiohttp handlers, by the same load generator."""

import asyncio
import statistics
import uuid
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp

from bench.children import Child, open_child, open_server
from bench.deployment import UPLOAD, open_deployment
from bench.figures import BenchError, Figure, median_ratio
from bench.ground import Ground
from bench.load import Order
from bench.stamps import ONE_PAGE
from services.config import environment_with
from services.embedded_broker import free_port

_CONNECTIONS = 64
_SECONDS = 4.0
_WARM_SECONDS = 1.0
_DOCUMENT_BYTES = 20_000
_MOST_UPLOADS = 1_000_000
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """One of those compared."""

    name: str
    child: Child
    port: int
    path: str
    token: str = "none"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float | None


async def measure_uploads(ground: Ground) -> list[Figure]:
    """Load the three servers in turn, again and again; no worker runs beside them."""
    folder = ground.folder_of("upload")
    kept = folder / "kept"
    kept.mkdir()
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_deployment(ground, folder, worker=False))
        port = free_port()
        arguments = ("bench.bare_server", str(port), str(kept))
        bare = await stack.enter_async_context(
            open_server("bare", *arguments, folder=folder, environment=environment_with({}))
        )
        await until_listening(port)
        load = await stack.enter_async_context(open_child("load", "bench.load", folder=folder))
        servers = (
            Server("gateway", gateway.gateway, gateway.port, UPLOAD, gateway.token),
            Server("bare handler that keeps", bare, port, "/kept"),
            Server("bare handler that drops", bare, port, "/dropped"),
        )
        runs: dict[str, list[Run]] = defaultdict(list)
        for server in servers:
            await _run(load, server, _WARM_SECONDS)
        for number in range(1, ground.repeat + 1):
            for server in servers:
                runs[server.name].append(await _run(load, server, _SECONDS))
            said = ", ".join(f"{name} {r[-1].per_second:,.0f}/s" for name, r in runs.items())
            ground.say(f"upload {number}: {said}")
    return _figures(runs)


async def _run(load: Child, server: Server, seconds: float) -> Run:
    order = Order(
        port=server.port,
        path=server.path,
        token=server.token,
        document=str(ONE_PAGE),
        stamp=uuid.uuid4().hex,
        connections=_CONNECTIONS,
        uploads=_MOST_UPLOADS,
        seconds=seconds,
        pad_to_bytes=_DOCUMENT_BYTES,
    )
    before = server.child.cpu_seconds()
    load.tell(order)
    answer = await load.answer(seconds + _ANSWER_SECONDS)
    after = server.child.cpu_seconds()
    uploads = answer["uploads"]
    if answer["statuses"] != {"202": uploads} or answer["broken"] or not uploads:
        raise BenchError(f"{server.name} should answer 202, and said {answer}")
    cpu_ms = None if before is None or after is None else (after - before) / uploads * 1e3
    return Run(
        uploads / answer["seconds"],
        answer["p50_seconds"] * 1e3,
        answer["p99_seconds"] * 1e3,
        cpu_ms,
    )


def _figures(runs: dict[str, list[Run]]) -> list[Figure]:
    figures = []
    for name, measured in runs.items():
        speed = statistics.median(run.per_second for run in measured)
        figures.append(Figure(f"20 kB uploads, {name}", speed, "uploads/s"))
        p50 = statistics.median(run.p50_ms for run in measured)
        p99 = statistics.median(run.p99_ms for run in measured)
        figures.append(Figure(f"20 kB uploads, {name}: p50", p50, "ms"))
        figures.append(Figure(f"20 kB uploads, {name}: p99", p99, "ms"))
        cpu = [run.cpu_ms for run in measured if run.cpu_ms is not None]
        if cpu:
            figures.append(Figure(f"20 kB uploads, {name}: CPU each", statistics.median(cpu), "ms"))
    gateway, kept, dropped = ([run.per_second for run in part] for part in runs.values())
    figures.append(
        Figure("uploads: gateway / bare that keeps", median_ratio(gateway, kept), "ratio", 0.5)
    )
    figures.append(
        Figure("uploads: gateway / bare that drops", median_ratio(gateway, dropped), "ratio")
    )
    return figures


async def until_listening(port: int) -> None:
    """Wait until a server answers on the port."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
