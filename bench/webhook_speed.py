"""Webhooks: accepted and acknowledged by Kafka, against a bare aiohttp handler."""

import statistics
from collections import defaultdict
from contextlib import AsyncExitStack

from bench.children import Child, open_child, open_server
from bench.comparison import Run, Server, figures_of, joined, measure, said_of, until_listening
from bench.deployment import open_deployment
from bench.figures import Figure, median_ratio
from bench.ground import Ground
from bench.webhook_load import Order
from services.config import environment_with
from services.embedded_broker import free_port
from services.webhook_secret import deployment_secret

_CONNECTIONS = 256
_TURNS = 3
_TURN_SECONDS = 2.0
"""A shared core changes its speed by half from one second to the next: each repetition lets both
servers run in short turns, so that both see the same of it."""
_HALF_SECONDS = 4.0
_WARM_SECONDS = 1.5
_NO_LIMIT_PER_SECOND = 1_000_000.0
_HOOK = "/api/v1/webhooks/llamaparse"


async def measure_webhooks(ground: Ground) -> list[Figure]:
    """Load gateway, both ways, and bare handler in turn, then the gateway at half its speed."""
    folder = ground.folder_of("webhooks")
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            open_deployment(
                ground,
                folder,
                worker=False,
                settings={"webhooks_per_second": _NO_LIMIT_PER_SECOND},
            )
        )
        port = free_port()
        bare = await stack.enter_async_context(
            open_server(
                "bare",
                *("bench.bare_webhooks", str(port)),
                folder=folder,
                environment=environment_with({}),
            )
        )
        await until_listening(port)
        load = await stack.enter_async_context(
            open_child("load", "bench.webhook_load", folder=folder)
        )
        secret = deployment_secret(folder / "data")
        servers = (
            Server("gateway", deployment.gateway, deployment.port, _HOOK, secret),
            Server("bare handler", bare, port, "/hook"),
            # Not exactly the path: its connections are aiohttp's.
            Server("gateway by aiohttp", deployment.gateway, deployment.port, f"{_HOOK}?", secret),
        )
        runs: dict[str, list[Run]] = defaultdict(list)
        for server in servers:
            await _run(load, server, _WARM_SECONDS)
        for number in range(1, ground.repeat + 1):
            turns: dict[str, list[Run]] = defaultdict(list)
            for _ in range(_TURNS):
                for server in servers:
                    turns[server.name].append(await _run(load, server, _TURN_SECONDS))
            for server in servers:
                runs[server.name].append(joined(turns[server.name]))
            half = runs["gateway"][-1].per_second / 2
            runs["gateway at half load"].append(await _run(load, servers[0], _HALF_SECONDS, half))
            ground.say(f"webhooks {number}: {said_of(runs)}")
    return _figures(runs)


async def _run(load: Child, server: Server, seconds: float, per_second: float = 0.0) -> Run:
    order = Order(server.port, server.path, server.secret, _CONNECTIONS, seconds, per_second)
    return await measure(load, server, order, seconds)


def _figures(runs: dict[str, list[Run]]) -> list[Figure]:
    figures = figures_of("webhooks", "webhooks/s", runs, cpu="us")
    gateway, bare = runs["gateway"], runs["bare handler"]
    speeds = median_ratio([r.per_second for r in gateway], [r.per_second for r in bare])
    figures.append(Figure("webhooks: gateway / bare handler", speeds, "ratio", at_least=0.6))
    for name, over, under, at_most in (
        ("gateway / bare handler", gateway, bare, 2.2),
        ("gateway by aiohttp / gateway", runs["gateway by aiohttp"], gateway, None),
    ):
        pairs = [(o.cpu_us, u.cpu_us) for o, u in zip(over, under, strict=True)]
        ratios = [o / u for o, u in pairs if o is not None and u]
        if ratios:
            ratio = statistics.median(ratios)
            figures.append(Figure(f"webhooks: CPU each, {name}", ratio, "ratio", at_most=at_most))
    return figures
