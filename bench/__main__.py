"""The bench: `python -m bench [--only fold,upload,...] [--repeat N]`."""

import argparse
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from rich.console import Console

from bench.bus_speed import measure_bus
from bench.document_speed import measure_documents
from bench.figures import BenchError, Figure
from bench.fold_speed import measure_fold
from bench.ground import BUILD, Ground, open_ground
from bench.latency import measure_latency
from bench.report import print_table, write_json
from bench.table_growth import measure_growth
from bench.upload_speed import measure_uploads
from bench.webhook_speed import measure_webhooks

Measure = Callable[[Ground], Awaitable[list[Figure]]]

MEASUREMENTS: dict[str, Measure] = {
    "fold": measure_fold,
    "upload": measure_uploads,
    "webhooks": measure_webhooks,
    "documents": measure_documents,
    "bus": measure_bus,
    "latency": measure_latency,
    "growth": measure_growth,
}

WITHOUT_BROKER = frozenset({"growth"})


async def run(names: Sequence[str], repeat: int, console: Console) -> list[Figure]:
    """Make the measurements, one after the other."""
    figures: list[Figure] = []
    broker = not WITHOUT_BROKER.issuperset(names)
    async with open_ground(console, repeat=repeat, broker=broker) as ground:
        for name in names:
            started = time.perf_counter()
            console.rule(name)
            figures += await MEASUREMENTS[name](ground)
            ground.say(f"{name} took {time.perf_counter() - started:.0f} s")
    return figures


def main() -> int:
    """Read the arguments, measure, report; 0 even where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="comma-separated")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the median counts")
    asked = parser.parse_args()
    names = [name.strip() for name in asked.only.split(",") if name.strip()]
    unknown = sorted(set(names) - MEASUREMENTS.keys())
    if unknown or not names or asked.repeat < 1:
        parser.error(f"--only takes {', '.join(MEASUREMENTS)}; --repeat at least 1")
    # A coordinator that is not there yet in the broker's first second is an error to aiokafka.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    try:
        figures = uvloop.run(run(names, asked.repeat, console))
    except BenchError as error:
        console.print(f"[bold red]a measurement broke:[/] {error}")
        return 1
    print_table(console, figures)
    write_json(BUILD / "bench.json", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
