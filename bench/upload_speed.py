"""Uploads of 20 kB: the gateway against bare aiohttp handlers, by the same load generator."""

import uuid
from collections import defaultdict
from contextlib import AsyncExitStack

from bench.children import Child, open_child, open_server
from bench.comparison import Run, Server, figures_of, measure, said_of, until_listening
from bench.deployment import UPLOAD, open_deployment
from bench.figures import Figure, median_ratio
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
            ground.say(f"upload {number}: {said_of(runs)}")
    return _figures(runs)


async def _run(load: Child, server: Server, seconds: float) -> Run:
    order = Order(
        port=server.port,
        path=server.path,
        token=server.secret,
        document=str(ONE_PAGE),
        stamp=uuid.uuid4().hex,
        connections=_CONNECTIONS,
        uploads=_MOST_UPLOADS,
        seconds=seconds,
        pad_to_bytes=_DOCUMENT_BYTES,
    )
    return await measure(load, server, order, seconds)


def _figures(runs: dict[str, list[Run]]) -> list[Figure]:
    figures = figures_of("20 kB uploads", "uploads/s", runs, cpu="ms")
    gateway, kept, dropped = ([run.per_second for run in part] for part in runs.values())
    figures.append(
        Figure("uploads: gateway / bare that keeps", median_ratio(gateway, kept), "ratio", 0.5)
    )
    figures.append(
        Figure("uploads: gateway / bare that drops", median_ratio(gateway, dropped), "ratio")
    )
    return figures
