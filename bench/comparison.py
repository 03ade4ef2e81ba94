"""A comparison: servers under the same load in turn, by speed, time of an answer, and CPU."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp

from bench.children import Child
from bench.figures import BenchError, Figure

_ANSWER_SECONDS = 60.0
_LISTEN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """One of those compared."""

    name: str
    child: Child
    port: int
    path: str
    secret: str = "none"
    """Its bearer token, or what signs for it."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured; the CPU time is that of one request."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None


async def measure(load: Child, server: Server, order: object, seconds: float) -> Run:
    """Have an order of so many seconds carried out; raise BenchError unless all were taken."""
    before = server.child.cpu_seconds()
    load.tell(order)
    answer = await load.answer(seconds + _ANSWER_SECONDS)
    after = server.child.cpu_seconds()
    requests = answer["requests"]
    if answer["statuses"] != {"202": requests} or answer["broken"] or not requests:
        raise BenchError(f"{server.name} should answer 202, and said {answer}")
    return Run(
        requests / answer["seconds"],
        answer["p50_seconds"] * 1e3,
        answer["p99_seconds"] * 1e3,
        None if before is None or after is None else (after - before) / requests * 1e6,
    )


def joined(runs: Sequence[Run]) -> Run:
    """Take runs of the same length for one: p50 is their median, p99 the worst of theirs."""
    per_second = statistics.mean(run.per_second for run in runs)
    each = [(run.per_second, run.cpu_us) for run in runs]
    whole = [speed * cpu_us for speed, cpu_us in each if cpu_us is not None]
    return Run(
        per_second,
        statistics.median(run.p50_ms for run in runs),
        max(run.p99_ms for run in runs),
        statistics.mean(whole) / per_second if len(whole) == len(runs) else None,
    )


def figures_of(
    what: str, unit: str, runs: Mapping[str, Sequence[Run]], *, cpu: Literal["ms", "us"]
) -> list[Figure]:
    """Give the medians of each server's runs; its CPU time a request in `cpu`."""
    figures = []
    for name, measured in runs.items():
        speed = statistics.median(run.per_second for run in measured)
        figures.append(Figure(f"{what}, {name}", speed, unit))
        p50 = statistics.median(run.p50_ms for run in measured)
        p99 = statistics.median(run.p99_ms for run in measured)
        figures.append(Figure(f"{what}, {name}: p50", p50, "ms"))
        figures.append(Figure(f"{what}, {name}: p99", p99, "ms"))
        each_us = [run.cpu_us for run in measured if run.cpu_us is not None]
        if each_us:
            each = statistics.median(each_us) / (1e3 if cpu == "ms" else 1)
            figures.append(Figure(f"{what}, {name}: CPU each", each, cpu))
    return figures


def said_of(runs: Mapping[str, Sequence[Run]]) -> str:
    """Tell the speed of each server's last run in one line."""
    return ", ".join(f"{name} {run[-1].per_second:,.0f}/s" for name, run in runs.items())


async def until_listening(port: int) -> None:
    """Wait until a server answers on the port."""
    async with asyncio.timeout(_LISTEN_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
